"""docs/troubleshooting.md: what it quotes is what the programs say."""

import ast
import glob
import os
import re

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))


def messages():
    """Every text in the programs, with … for what an f-string fills in."""
    for path in [path for folder in ("common", "carracing", "doomrnn") for path in glob.glob(f"{ROOT}/{folder}/*.py")]:
        with open(path) as file:
            tree = ast.parse(file.read())
        for node in ast.walk(tree):
            if isinstance(node, ast.JoinedStr):
                yield "".join(part.value if isinstance(part, ast.Constant) else "…" for part in node.values)
            elif isinstance(node, ast.Constant) and isinstance(node.value, str):
                yield node.value


def test_quoted_messages_are_real():
    """Catches a message reworded in the code and not in the document that users search for it."""
    with open(os.path.join(ROOT, "docs", "troubleshooting.md")) as file:
        quoted = re.findall(r"^\| `(.+?)` \|", file.read(), flags=re.M)
    assert len(quoted) > 10
    said = list(messages())
    patterns = {quote: ".*".join(map(re.escape, quote.split("…"))) for quote in quoted}
    assert [quote for quote, pattern in patterns.items() if not any(re.search(pattern, text) for text in said)] == []
