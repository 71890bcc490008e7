"""The list of tests/mutants.py fits the code, so that `make mutants` tries what it says."""

import json
import os
import pathlib
import signal
import subprocess
import sys
import time

import mutants
import pytest

TINY = """
import sys
sys.path.insert(0, {tests!r})
import mutants
from common.runtime import cli
mutants.ROOT, mutants.PATIENCE = {root!r}, {patience}
mutants.TESTS = {{"thing.py": "test_thing.py"}}
mutants.MUTANTS = [("thing.py", "VALUE = 1", new) for new in {news}]
cli.run_main(mutants.main)
"""
TEST = """
import subprocess, time
import thing
def test_that_counts():
    with open({counted!r}, "a") as file:
        file.write("x")
def test_value():
    for words in (["ls-files", "test_thing.py"], ["describe", "--always"]):
        assert subprocess.run(["git", *words], capture_output=True, text=True).stdout
    time.sleep({slow})
    assert thing.VALUE == {wanted}
"""


@pytest.fixture
def tiny(tmp_path):
    """(words, ...) -> the process of `make mutants` on a repository of one module, which holds 1."""

    def begin(*words, news=("VALUE = 2",), wanted=1, slow=0, patience=600):
        (tmp_path / "thing.py").write_text("VALUE = 1\n")
        (tmp_path / "test_thing.py").write_text(
            TEST.format(wanted=wanted, slow=slow, counted=str(tmp_path / "counted"))
        )
        for command in (["init", "-q"], ["add", "thing.py", "test_thing.py"]):
            subprocess.run(["git", "-C", tmp_path, *command], check=True)
        here = os.path.dirname(mutants.__file__)
        script = TINY.format(tests=here, root=str(tmp_path), patience=patience, news=news)
        environment = os.environ | {"PYTHONPATH": mutants.ROOT, "TMPDIR": str(tmp_path)}
        pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
        return subprocess.Popen([sys.executable, "-c", script, *words], env=environment, **pipes)

    return begin


def test_each_change_has_its_verdict(tiny):
    """Catches a copy without git or a commit, in which tests are red whatever is changed; no verdict taken for red."""
    news = {"VALUE = 2": "red", "VALUE = 1.0": "GREEN", "VALUE = ": "CODE 2"}
    out, error = tiny(news=tuple(news)).communicate()
    *lines, last = out.splitlines()
    wanted = [f"{verdict:<7}thing.py: VALUE = 1  ->  {' '.join(new.split())}" for new, verdict in news.items()]
    assert sorted(lines) == sorted(wanted), error
    assert last == "1 of 3 changes turn a test red (33 %)"


def test_the_same_command_goes_on_until_the_code_changes(tiny, tmp_path):
    """Catches hours of trials made again, verdicts of other code that count on, and a file that is no list of them."""
    out, words = tmp_path / "verdicts.json", ("--out", str(tmp_path / "verdicts.json"))
    first, _ = tiny(*words, news=("VALUE = 2", "VALUE = 3")).communicate()
    known = json.loads(out.read_text())
    known["verdicts"] |= dict.fromkeys((name for name in known["verdicts"] if "VALUE = 2" in name), "green")
    out.write_text(json.dumps(known))
    again, _ = tiny(*words, news=("VALUE = 2", "VALUE = 3")).communicate()
    assert first.count("red  ") == 2
    assert again.splitlines()[0] == "GREEN  thing.py: VALUE = 1  ->  VALUE = 2"
    assert again.splitlines()[-1] == "1 of 2 changes turn a test red (50 %)"
    other, _ = tiny(*words, news=("VALUE = 2", "VALUE = 3"), slow=0.01).communicate()
    assert other.count("red  ") == 2
    out.write_text("[]")
    process = tiny(*words)
    assert "holds no verdicts" in process.communicate()[1]
    assert process.returncode == 2


def test_verdicts_depend_on_all_but_what_is_to_be_read(tmp_path, monkeypatch):
    """Catches verdicts that outlive a change of a page or of golden numbers, and trials anew for a word in a guide."""
    monkeypatch.setattr(mutants, "ROOT", str(tmp_path))
    names = {"a.py": True, "page/a.js": True, "golden.json": True, "README.md": False, "docs/a.png": False}
    subprocess.run(["git", "init", "-q", tmp_path], check=True)
    for name in names:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("1")
    subprocess.run(["git", "-C", tmp_path, "add", "-A"], check=True)
    for name, matters in names.items():
        before = mutants.code_here()
        (tmp_path / name).write_text("2")
        assert (mutants.code_here() != before) == matters, name


def test_the_test_that_saw_a_change_is_tried_first(tiny, tmp_path):
    """Catches all tests run again where one is enough, and a change counted as green by a test that saw it once."""
    out, counted = tmp_path / "verdicts.json", tmp_path / "counted"

    def begin(slow):
        counted.write_text("")
        return tiny("--out", str(out), slow=slow).communicate()[0].startswith("red  "), len(counted.read_text())

    assert begin(0) == (True, 2)  # without the change, and with it
    known = json.loads(out.read_text())
    assert list(known["seen_by"].values()) == ["test_thing.py::test_value"]
    assert begin(0.01) == (True, 1)  # the code is another: without the change
    for other in ("test_thing.py::test_that_counts", "test_thing.py::test_that_is_gone"):
        known["seen_by"] = dict.fromkeys(known["seen_by"], other)
        out.write_text(json.dumps(known | {"code": "other"}))
        assert begin(0) == (True, 3 if "counts" in other else 2)
    assert list(json.loads(out.read_text())["seen_by"].values()) == ["test_thing.py::test_value"]


def test_what_saw_a_change_is_remembered(tiny, tmp_path):
    """Catches hours on every new machine, tests of changes that are no longer listed, and a short run that forgets."""
    counted, file = tmp_path / "counted", tmp_path / "tests" / "seen_by.json"
    file.parent.mkdir()
    first, second, gone = (f"thing.py\nVALUE = 1\nVALUE = {k}" for k in (2, 3, 4))
    file.write_text(json.dumps({second: "test_thing.py::test_value", gone: "test_thing.py::test_value"}))
    tiny("--only", "VALUE = 2", "--remember", news=("VALUE = 2", "VALUE = 3")).communicate()
    assert json.loads(file.read_text()) == dict.fromkeys((first, second), "test_thing.py::test_value")
    counted.write_text("")
    out, _ = tiny(news=("VALUE = 2", "VALUE = 3")).communicate()
    assert out.count("red  ") == 2
    assert counted.read_text() == "x"  # without the changes; with each, only the test that sees it


@pytest.mark.parametrize(("named", "said", "code"), [(True, "hangs", False), (False, "HANGS", True)])
def test_a_test_that_does_not_end_counts_where_it_is_expected(monkeypatch, capsys, named, said, code):
    """Catches a machine that is too busy for the tests, taken for tests that see the change."""
    mutant = mutants.MUTANTS[0]
    verdicts = iter([mutants.Verdict("green"), mutants.Verdict("hangs")])
    monkeypatch.setattr(mutants, "MUTANTS", [mutant])
    monkeypatch.setattr(mutants, "HANGS", {mutant[::2]} if named else set())
    monkeypatch.setattr(mutants, "copy_repository", lambda folder: None)
    monkeypatch.setattr(mutants.Trials, "verdict", lambda *_: next(verdicts))
    monkeypatch.setattr(mutants.Trials, "changed", mutants.Trials.verdict)
    monkeypatch.setattr(sys, "argv", ["mutants.py"])
    with pytest.raises(SystemExit) as end:
        mutants.main()
    assert end.value.code is code
    assert capsys.readouterr().out.startswith(f"{said}  {mutant[0]}")


@pytest.mark.parametrize("how", [{"wanted": 3}, {"slow": 60, "patience": 3}])
def test_tests_that_are_red_without_any_change_prove_nothing(tiny, how):
    """Catches changes that count as red because their tests are always red, or never end."""
    process = tiny(**how)
    out, error = process.communicate()
    assert (process.returncode, out, len(error.splitlines())) == (2, "", 1)
    assert "test_thing.py" in error
    assert "without any change" in error


def test_ctrl_c_ends_it_at_once(tiny, tmp_path):
    """Catches a Ctrl-C that waits for the tests, is printed as a green change, or leaves copies behind."""
    process = tiny("--workers", "1", slow=20, patience=100)
    until = time.monotonic() + 60
    while not list(tmp_path.glob("tmp*/0/.git/index")):
        assert time.monotonic() < until
        time.sleep(0.1)
    time.sleep(1)
    process.send_signal(signal.SIGINT)
    began = time.monotonic()
    out, error = process.communicate()
    assert time.monotonic() - began < 5
    assert (process.returncode, out) == (130, "")
    assert "interrupted" in error
    assert not list(tmp_path.glob("tmp*"))


@pytest.mark.parametrize(
    ("script", "words", "said"),
    [
        ("mutants.py", "--only nosuch", "--only nosuch"),
        ("mutants.py", "--workers 0", "--workers"),
        ("faults/soak.py", "--out {} --faults 0", "--faults"),
        ("faults/soak.py", "--out {} --minutes nan", "--minutes"),
        ("faults/soak.py", "--out {} --seed -1", "--seed"),
        ("faults/soak.py", "--out .", "--out"),
    ],
)
def test_a_mistake_is_one_line(tmp_path, script, words, said):
    """Catches "0 of 0, 100 %" of a name that is nowhere, and a traceback of an option out of its range."""
    command = [sys.executable, pathlib.Path(mutants.__file__).parent / script, *words.format(tmp_path / "out").split()]
    done = subprocess.run(command, capture_output=True, text=True, env=os.environ | {"PYTHONPATH": mutants.ROOT})
    assert (done.returncode, done.stdout, len(done.stderr.splitlines())) == (2, "", 1), done.stderr
    assert said in done.stderr


@pytest.mark.parametrize(("path", "old", "new"), mutants.MUTANTS)
def test_a_change_can_be_made(path, old, new):
    """Catches a change to code that is no longer there, which would be tried on nothing."""
    assert mutants.texts_of(path, old) == 1
    assert old != new
    assert all(os.path.exists(os.path.join(mutants.ROOT, test)) for test in mutants.TESTS[path].split())
