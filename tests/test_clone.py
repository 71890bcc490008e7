"""A clone in a folder with a space and brackets in its path: it is one word, and no pattern, wherever it is read."""

import ast
import pathlib
import re
import shutil
import subprocess

import pytest

ROOT = pathlib.Path(__file__).parent.parent
NOTES = """#!/bin/sh
printf '%s\\n' "$PWD" "$@" >>"$(dirname "$0")/notes"
"""


LINT = "-m ruff check .", "-m ruff format --check .", "-m mypy"
DOES = {
    "run": ("model.py doomreal norender random 1000", "model.py norender random 1000", "iterate.py --preset smoke"),
    "play": ("-m common.studio",),
    "site": ("-m common.studio.export --out site",),
    "test": (*LINT, "-m pytest -n 2 --dist loadfile"),
    "faults": ("-m pytest tests/faults -m slow or not slow",),
    "soak": ("tests/faults/soak.py --out log/doomrnn.soak.jsonl",),
    "mutants": ("tests/mutants.py --out runs/mutants.json",),
    "lint": LINT,
    "bench": ("bench/dream.py", "bench/carracing.py", "bench/ppo.py", "bench/planner.py"),
}


@pytest.mark.parametrize("target", DOES)
def test_make_works_in_a_path_with_a_space_and_brackets(tmp_path, target):
    """Catches a Makefile that takes such a path for two words, or for a pattern; and a check that is left out."""
    clone = tmp_path / "my clone [1]"
    for folder in (".venv/bin", "doomrnn", "carracing"):
        (clone / folder).mkdir(parents=True)
    for name in ("Makefile", "requirements.txt", "pyproject.toml"):
        shutil.copy(ROOT / name, clone)
    python = clone / ".venv" / "bin" / "python"
    python.write_text(NOTES)
    python.chmod(0o755)
    (clone / ".venv" / "installed").touch()
    done = subprocess.run(["make", target], cwd=clone, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    noted = (clone / ".venv" / "bin" / "notes").read_text().splitlines()
    places = {line for line in noted if line.startswith(str(tmp_path))}
    assert places <= {str(clone), f"{clone}/", f"{clone}/doomrnn", f"{clone}/carracing"}
    assert not any(word in noted for word in ("clone", "[1]"))
    assert [words for words in DOES[target] if words not in " ".join(noted)] == []


@pytest.mark.parametrize("folder", ["common", "doomrnn", "carracing", "bench", "tests"])
def test_no_folder_is_read_as_a_pattern(folder):
    """Catches recordings and controllers that are not found in a run called "x [1]"."""
    for path in (ROOT / folder).rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call) and ast.unparse(node.func) in ("glob.glob", "glob.iglob"):
                source = ast.unparse(node)
                assert "glob.escape" in source or "{place}" in source, f"{path}:{node.lineno}: {source}"


def test_scripts_of_a_game_quote_their_paths():
    """Catches the same in a bash script: a run or a Python with a space in its path."""
    scripts = [*ROOT.glob("*/*.bash"), ROOT / ".ci" / "run"]
    assert len(scripts) > 4
    for script in scripts:
        for line in script.read_text().splitlines():
            bare = re.sub(r'"[^"]*"|#.*|\(\([^)]*\)\)', "", line.replace('"$(dirname "$0")', '"'))
            assert not re.search(r"\$[\w{@(*]", bare.replace("$tool", "")), f"{script}: {line}"
