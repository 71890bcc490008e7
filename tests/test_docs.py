"""README.md, the READMEs of the games and docs/: messages, links, commands, files and scores are as they say."""

import argparse
import ast
import fnmatch
import glob
import json
import os
import re
import runpy
import shlex
import subprocess
import sys

import nbformat
import pytest

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
GAMES = ("carracing", "doomrnn")
MINUS = "\N{MINUS SIGN}"
PAGES = ["README.md", "CONTRIBUTING.md", "CHANGELOG.md", "log/README.md"]
PAGES += [f"{game}/README.md" for game in GAMES]
PAGES += sorted(os.path.relpath(path, ROOT) for path in glob.glob(f"{glob.escape(ROOT)}/docs/**/*.md", recursive=True))
NOTEBOOKS = sorted(os.path.relpath(path, ROOT) for path in glob.glob(f"{glob.escape(ROOT)}/notebooks/*.ipynb"))
PRESENT = [page for page in PAGES if not page.startswith("docs/history/") and page != "CHANGELOG.md"]
"""pages about what is there now; history is about commands and files that may be gone"""
WITH_COMMANDS = [page for page in PRESENT if page not in ("docs/new_game.md", "docs/site.md")]
"""test_new_game.py runs the commands of new_game.md, in a game that it makes"""


def text_of(page):
    """What a reader sees of a page: no HTML comments."""
    path = os.path.join(ROOT, page)
    if page.endswith(".ipynb"):
        return "\n\n".join(cell.source for cell in nbformat.read(path, 4).cells if cell.cell_type == "markdown")
    with open(path) as file:
        return re.sub(r"<!--.*?-->", "", file.read(), flags=re.S)


def messages():
    """Every text in the programs, with … for what an f-string fills in."""
    for folder in ("common", *GAMES):
        for path in glob.glob(f"{glob.escape(ROOT)}/{folder}/**/*.py", recursive=True):
            with open(path) as file:
                tree = ast.parse(file.read())
            for node in ast.walk(tree):
                if isinstance(node, ast.JoinedStr):
                    yield "".join(part.value if isinstance(part, ast.Constant) else "…" for part in node.values)
                elif isinstance(node, ast.Constant) and isinstance(node.value, str):
                    yield node.value


def test_quoted_messages_are_real():
    """Catches a message reworded in the code and not in the document that users search for it."""
    quoted = re.findall(r"^\| `(.+?)` \|", text_of("docs/troubleshooting.md"), flags=re.M)
    assert len(quoted) > 10
    said = list(messages())
    patterns = {quote: ".*".join(map(re.escape, quote.split("…"))) for quote in quoted}
    assert [quote for quote, pattern in patterns.items() if not any(re.search(pattern, text) for text in said)] == []


def anchors(page):
    """The anchors that GitHub gives to the headings of a page."""
    headings = re.findall(r"^#+ (.+)$", re.sub(r"```.*?```", "", text_of(page), flags=re.S), flags=re.M)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", PAGES + NOTEBOOKS)
def test_links_lead_somewhere(page):
    """Catches a link to a file that moved, or to a heading that was renamed."""
    for target in re.findall(r"\]\(([^)\s]+)\)", text_of(page)):
        if target.startswith("http"):
            continue
        path, _, anchor = target.partition("#")
        linked = os.path.normpath(os.path.join(ROOT, os.path.dirname(page), path)) if path else os.path.join(ROOT, page)
        assert os.path.exists(linked), f"{page}: {target}"
        if anchor:
            assert anchor in anchors(os.path.relpath(linked, ROOT)), f"{page}: {target}"


@pytest.mark.parametrize("page", [*PRESENT, *NOTEBOOKS])
def test_files_of_log_exist(page):
    """Catches a score file, a log or a controller that is named and does not ship."""
    named = re.findall(r"\blog/((?:carracing|doomrnn)\.[\w.]*\w\.jsonl?)", text_of(page))
    ship = [name for name in named if not name.endswith((".log.json", ".picked.json"))]  # of the reader's own run
    assert [name for name in ship if not os.path.exists(os.path.join(ROOT, "log", name))] == []


@pytest.mark.parametrize("page", ["docs/results.md", *(f"{game}/README.md" for game in GAMES)])
def test_scores_are_those_of_the_files(page):
    """Catches a score that was not updated when another agent came to ship, or a mistyped one."""
    rows = re.findall(r"^\|(.*± .*)\| `(log/[\w.]+\.json)` \|$", text_of(page), flags=re.M)
    assert len(rows) > 1
    for cells, name in rows:
        assert score_in(name) in cells.replace(MINUS, "-"), f"{page}: {name}"


def test_scores_of_the_readme_are_those_of_the_files():
    """Catches the same in the table that everybody reads."""
    table = text_of("README.md").replace(MINUS, "-")
    for name in ("doomrnn.laptop.4", "doomrnn.doomreal", "doomrnn.doomreal.random", "carracing", "carracing.random"):
        assert score_in(f"log/{name}.scores.json") in table, name


def score_in(name):
    """ "mean ± standard error" of a score file."""
    with open(os.path.join(ROOT, name)) as file:
        scores = json.load(file)
    return f"{scores['mean']:.1f} ± {scores['stderr']:.1f}"


def commands(page):
    """(folder, command) of every command in the blocks and in the `inline code` of a page."""
    text, home = text_of(page), os.path.dirname(page) if os.path.dirname(page) in GAMES else ""
    for language, block in re.findall(r"^```(\w*)\n(.*?)^```", text, flags=re.M | re.S):
        folder = home
        if language not in ("", "bash"):
            continue
        for line in block.replace("\\\n", " ").splitlines():
            for command in line.split("#")[0].split("&&"):
                if command.strip().startswith("cd "):
                    folder = os.path.normpath(os.path.join(folder, command.split()[1]))
                elif command.strip():
                    yield folder, command
    for command in re.findall(r"`((?:python|bash|make) [^`…]+)`", re.sub(r"```.*?```", "", text, flags=re.S)):
        yield home, command


class ParsedError(Exception):
    """Raised where a script has understood its arguments and would begin."""


@pytest.fixture
def parses(monkeypatch):
    """(folder, words after python) -> whether a script is there and understands these arguments; it does not begin."""
    parse = argparse.ArgumentParser.parse_args

    def only_parse(self, *arguments):
        parse(self, *arguments)
        raise ParsedError

    monkeypatch.setattr(argparse.ArgumentParser, "parse_args", only_parse)

    def run(folder, words):
        monkeypatch.chdir(os.path.join(ROOT, folder))
        module = words[0] == "-m"
        name, arguments = (words[1], words[2:]) if module else (words[0], words[1:])
        if not module and not os.path.exists(name):
            return False
        monkeypatch.setattr(sys, "argv", [name, *arguments])
        try:
            runpy.run_module(name, run_name="__main__") if module else runpy.run_path(name, run_name="__main__")
        except ParsedError:
            return True
        except Exception as error:  # a script that does not start
            print(f"{folder}: {words}: {error!r}")
        except SystemExit as end:
            return end.code == 0  # it was asked for --help
        return False

    return run


@pytest.mark.parametrize("page", WITH_COMMANDS)
def test_commands_exist(page, parses):
    """Catches a script or make target that is gone, a flag that was renamed, an argument that is missing."""
    with open(os.path.join(ROOT, "Makefile")) as file:
        targets = set(re.findall(r"^(\w+):", file.read(), flags=re.M))
    wrong = []
    for folder, command in commands(page):
        words = shlex.split(re.sub(r"\[[^\[\]]*\]", "", re.sub(r"\[[^\[\]]*\]", "", command)))
        words = [word for word in words if not re.fullmatch(r"[A-Z]+=.*", word)]
        homes = [folder] if folder else ["", *GAMES]
        python = next((k for k, word in enumerate(words) if word.endswith("python")), None)
        if not words or "..." in words:
            continue
        if words[0] == "make":
            right = set(words[1:]) <= targets
        elif words[0] == "bash":
            right = any(os.path.exists(os.path.join(ROOT, home, words[1])) for home in homes)
        elif python is not None and words[0] != "until":
            right = any(parses(home, words[python + 1 :]) for home in homes)
        else:
            right = words[0] in ("source", "mkdir", "git", "pip", "tensorboard", "until", "ruff")
        if not right:
            wrong.append(command.strip())
    assert wrong == []


@pytest.mark.parametrize("page", [*(page for page in PAGES if page != "docs/new_game.md"), *NOTEBOOKS])
def test_parts_of_the_agent_have_names(page):
    """Catches the letters of the paper in the place of a name: the VAE, the MDN-RNN, the controller."""
    assert re.findall(r"\b[VMC]'s?\b", text_of(page)) == []


def test_a_script_does_not_hide_the_package_of_its_name():
    """Catches bench/carracing.py importing itself as carracing: Python looks in the folder of a script first."""
    command = [sys.executable, os.path.join(ROOT, "bench", "carracing.py"), "--help"]
    assert subprocess.run(command, capture_output=True, text=True, check=True).stdout.startswith("usage: carracing.py")


def test_minutes_and_memory_of_a_whole_run_are_those_of_its_rounds():
    """Catches a table of docs/performance.md that is of another run than the one that ships, or a mistyped number."""
    stages = {
        "record": ("random", "own"),
        "train the VAE": ("vae",),
        "encode": ("series",),
        "train the MDN-RNN": ("rnn",),
        "train the network, four of them in round 4": ("train", "train2", "train3", "train4"),
        "choose by real games": ("pick",),
        "report": ("score", "fidelity"),
    }
    with open(os.path.join(ROOT, "log", "doomrnn.laptop.4.rounds.json")) as file:
        rounds = json.load(file)
    table = text_of("docs/performance.md")
    for stage, names in stages.items():
        minutes = [sum(line["seconds"].get(name, 0) for name in names) / 60 for line in rounds]
        memory = max(line["memory_gb"].get(name, 0) for line in rounds for name in names)
        row = f"| {stage} | " + " | ".join(f"{part:.1f}" if part else "" for part in minutes) + f" | {memory:.2f} |"
        assert re.sub(" +", " ", row) in table, row
    passed = next(line for line in rounds if line["real"]["mean"] > 750)
    assert (
        f"after {passed['minutes']:.0f} minutes ({passed['real']['mean']:.0f} ± {passed['real']['stderr']:.0f}" in table
    )
    assert f"finished after {rounds[-1]['minutes']:.0f}" in table


def test_every_module_has_a_line():
    """Catches a module that was added, renamed or deleted, and a page that says nothing of it."""
    modules = glob.glob(f"{glob.escape(ROOT)}/common/*/*.py")
    there = {"/".join(path.split(os.sep)[-2:]) for path in modules if not os.path.basename(path).startswith("__")}
    said = set()
    for layer, rows in re.findall(
        r"^## common/(\w+)/.*?\n(.*?)(?=^## )", text_of("docs/modules.md"), flags=re.M | re.S
    ):
        said |= {
            f"{layer}/{name}"
            for row in re.findall(r"^\| (`.*?`) \|", rows, flags=re.M)
            for name in row[1:-1].split("`, `")
        }
    assert said == there


def test_every_file_of_log_has_a_line():
    """Catches a file in log/ of which nobody knows what it is, and a line of one that is gone."""
    names = subprocess.run(["git", "-C", ROOT, "ls-files", "log"], capture_output=True, text=True, check=True).stdout
    there = [name.removeprefix("log/") for name in names.split() if not name.endswith((".meta.json", "README.md"))]
    said = re.findall(r"`((?:carracing|doomrnn)[\w.*]+)`", text_of("log/README.md"))
    assert [name for name in there if not any(fnmatch.fnmatch(name, pattern) for pattern in said)] == []
    assert [pattern for pattern in said if not fnmatch.filter(there, pattern)] == []
