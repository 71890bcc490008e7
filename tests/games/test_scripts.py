"""The scripts that users type, in carracing/ and doomrnn/: each hands its game to the command of its name."""

import ast
import os
import shutil
import subprocess

import commands
import pytest
from commands import GAMES, in_this_process  # noqa: F401  a fixture

from common.play import fidelity, play, record, select
from common.runtime.files import ROOT
from common.training import evolve, iterate, planet, vae_and_rnn

BOTH = {
    "extract": (record, "main"),
    "vae_train": (vae_and_rnn, "train_vae"),
    "series": (vae_and_rnn, "encode"),
    "rnn_train": (vae_and_rnn, "train_rnn"),
    "train": (evolve, "main"),
    "iterate": (iterate, "main"),
    "model": (play, "main"),
    "dream_model": (play, "watch_dream"),
    "pick_best": (select, "main"),
    "planet": (planet, "main"),
    "fidelity": (fidelity, "main"),
}
SCRIPTS = {
    "carracing": BOTH | {"dream_env": (play, "play_dream")},
    "doomrnn": BOTH | {"doomrnn": (play, "play_dream"), "doomreal": (play, "play_game")},
}
OTHERS = {"__init__", "config", "game", "env", "ppo_train"}  # no scripts, and two with a main of their own


@pytest.mark.parametrize(("name", "script"), [(name, script) for name, all_of in SCRIPTS.items() for script in all_of])
def test_a_script_hands_its_game_to_its_command(name, script, monkeypatch):
    """Catches a script of one game that plays the other, and one that does what another script is for."""
    asked = []
    for module, main in {*SCRIPTS[name].values(), *BOTH.values()}:
        monkeypatch.setattr(module, main, lambda *given, told=(module, main): asked.append((told, *given)))
    done = commands.script(name, script)
    assert (done.code, done.err) == (0, "")
    with open(os.path.join(ROOT, name, f"{script}.py"), encoding="utf-8") as file:
        description = ast.get_docstring(ast.parse(file.read()), clean=False)
    assert asked == [(SCRIPTS[name][script], GAMES[name], description)]


@pytest.mark.parametrize("name", SCRIPTS)
def test_every_script_is_known_here(name):
    """Catches a new script that nobody looks at."""
    found = {file[:-3] for file in os.listdir(os.path.join(ROOT, name)) if file.endswith(".py")}
    assert found - OTHERS == SCRIPTS[name].keys()


NOTES = """#!/bin/sh
printf '%s|' "$PWD" "$@" >> "$NOTES"
echo >> "$NOTES"
case "$*" in *"$FAILS"*) exit 7;; esac
"""


@pytest.fixture
def bash(tmp_path):
    """(game, script, words, what fails) -> (exit code, the commands of Python), in a copy with a Python that notes."""
    python, notes = tmp_path / ".venv" / "bin" / "python", tmp_path / "notes"
    python.parent.mkdir(parents=True)
    python.write_text(NOTES)
    python.chmod(0o755)

    def run(name, script, *words, fails="nothing"):
        (tmp_path / name).mkdir(exist_ok=True)
        notes.write_text("")
        path = shutil.copy(os.path.join(ROOT, name, script), tmp_path / name)
        environment = os.environ | {"NOTES": str(notes), "FAILS": fails}
        done = subprocess.run(["bash", path, *map(str, words)], env=environment, capture_output=True, text=True)
        ran = [line.split("|")[:-1] for line in notes.read_text().splitlines()]
        assert all(folder == str(tmp_path / name) for folder, *_ in ran)
        assert len(done.stderr.splitlines()) == (done.returncode == 2)
        return done.returncode, [words for _, *words in ran]

    return run


@pytest.mark.parametrize("name", SCRIPTS)
def test_extract_bash_hands_on_what_it_is_given(bash, name):
    """Catches workers taken for episodes, flags that are lost behind numbers, and an exit code that is swallowed."""
    for words, wanted in (
        ((), ()),
        ((3,), ("--workers", "3")),
        ((3, 20), ("--workers", "3", "--episodes", "20")),
        ((3, 20, "--run", "my run"), ("--workers", "3", "--episodes", "20", "--run", "my run")),
        ((3, "--run", "my run"), ("--workers", "3", "--run", "my run")),
        (("--run", "my run"), ("--run", "my run")),
    ):
        assert bash(name, "extract.bash", *words) == (0, [["extract.py", *wanted]])
    assert bash(name, "extract.bash", fails="extract.py")[0] == 7


def test_gce_train_bash_shares_the_population_out(bash):
    """Catches another population than 64, ranks that do not divide it, and flags that are lost behind the number."""
    for words, wanted in (
        ((), ()),
        ((16, "--run", "my run"), ("-n", "16", "-t", "4", "--run", "my run")),
        ((64,), ("-n", "64", "-t", "1")),
        (("--preset", "smoke"), ("--preset", "smoke")),
    ):
        assert bash("carracing", "gce_train.bash", *words) == (0, [["train.py", *wanted]])
    assert bash("carracing", "gce_train.bash", 5) == (2, [])
    assert bash("carracing", "gce_train.bash", 16, fails="train.py")[0] == 7


@pytest.mark.parametrize("name", SCRIPTS)
def test_gpu_jobs_bash_ends_with_the_first_stage_that_fails(bash, name):
    """Catches an MDN-RNN of an old series after an error, a stage that is left out, and flags for the first alone."""
    flags = "--run", "my run"
    ahead = ["-m", "common.training.ahead", name, *flags]
    stages = [[f"{stage}.py", *flags] for stage in ("vae_train", "series", "rnn_train")]
    assert bash(name, "gpu_jobs.bash", *flags) == (0, [ahead, *stages])
    for done, fails in enumerate(("ahead", "vae_train.py", "series.py", "rnn_train.py"), 1):
        assert bash(name, "gpu_jobs.bash", *flags, fails=fails) == (7, [ahead, *stages][:done])
