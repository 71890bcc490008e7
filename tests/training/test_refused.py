"""vae_train.py, series.py and rnn_train.py refuse before they begin, without a trace: another value may follow."""

import dataclasses
import os
import shutil
import subprocess

import commands
import numpy as np
import pytest
from commands import in_this_process  # noqa: F401  a fixture

from common.data import recordings
from common.runtime import files, provenance, settings
from common.training import vae_and_rnn

GAME = commands.GAMES["doomrnn"]
RNN = "--hidden_size", 8, "--streams", 2, "--sequence_length", 8, "--validation_episodes", 2, "--steps", 1


def tree(folder):
    """{path: bytes} of all files in a folder, and the folders."""
    return {str(path): path.read_bytes() if path.is_file() else None for path in sorted(folder.rglob("*"))}


def refused(done, says):
    """Whether the last line on stderr says this; one before it may say that the origin of recordings is not known."""
    return done.code == 2 and says in done.err.strip().splitlines()[-1]


def record(run, seeds=range(2000, 2003), size=None, frames=10):
    (run / "record").mkdir(exist_ok=True)
    for seed in seeds:
        action = np.zeros((frames, size) if size else frames)
        obs, reward = np.zeros((frames, 64, 64, 3), np.uint8), np.zeros(frames)
        recordings.write(str(run / "record"), seed, obs, action, reward, np.arange(frames) == frames - 1)


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    folder = tmp_path_factory.mktemp("models")
    commands.write_models(GAME, str(folder), 1)
    return folder


@pytest.fixture
def run(tmp_path, models):
    """A run with three recordings, models in other/, and a series of 9 episodes, the last two without rewards."""
    record(tmp_path)
    (tmp_path / "series").mkdir()
    shutil.copytree(models, tmp_path / "other")
    shipped = os.path.join(GAME.folder, GAME.config.SHIPPED[0]["vae"])
    files.write_npz(
        str(tmp_path / "series" / "series.npz"),
        **{name: np.zeros((180, 4), np.float16) for name in ("mu", "logvar")},
        action=np.zeros((180, 1), np.float16),
        reward=np.where(np.arange(180) < 140, 1, np.nan).astype(np.float32),
        done=np.arange(180) % 20 == 19,
        length=np.full(9, 20, np.int32),
    )
    path = str(tmp_path / "series" / "series.npz")
    provenance.write(path, "series", GAME.name, {"seed": 1}, {"vae": files.sha256(shipped)}, 1.0, unverified=False)
    return tmp_path


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (("--batch_size", 100_000), "fewer than one batch"),
        (("--start_from", "nowhere.json"), "nowhere.json"),
        (("--start_from", "other/tf_vae/vae.json", "--z_size", 5), "not 5"),
        (("--start_from", "other/tf_rnn/rnn.json", "--z_size", 4), "rnn.json"),
    ],
)
def test_a_refused_vae_may_be_trained_with_another_value(run, words, says):
    """Catches a config.json that is written before the checks, and a VAE that --fresh sets aside for nothing."""
    words = "--run", run, "--steps", 1, "--batch_size", 8, *words
    before = tree(run)
    assert refused(commands.call(vae_and_rnn.train_vae, GAME, *words), says)
    assert tree(run) == before
    shutil.copytree(run / "other" / "tf_vae", run / "tf_vae")
    before = tree(run)
    assert refused(commands.call(vae_and_rnn.train_vae, GAME, *words, "--fresh"), says)
    assert tree(run) == before


def test_a_run_or_recordings_that_are_not_there(tmp_path):
    """Catches tf_vae/ in a run without recordings, and a folder of a run made by a stage that does not begin it."""
    words = "--steps", 1, "--run"
    assert commands.call(vae_and_rnn.train_vae, GAME, *words, tmp_path).refused("record", "no such folder")
    assert commands.call(vae_and_rnn.train_vae, GAME, *words, tmp_path / "x").refused("--run", "x: no such folder")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (("--streams", 90), "--streams"),
        (("--newest", 8), "--newest 8"),
        (("--newest", 1, "--newest_share", 0.9, "--sequence_length", 25), "--streams"),
        (("--mirror",), "--mirror"),
        (("--heads",), "--heads"),
    ],
)
def test_a_refused_mdn_rnn_may_be_trained_with_another_value(run, monkeypatch, words, says):
    """Catches the same of tf_rnn/ and tf_initial_z/; and rewards that only the validation episodes lack."""
    monkeypatch.setattr(GAME.config, "PAY", commands.GAMES["carracing"].config.PAY, raising=False)
    before = tree(run)
    done = commands.call(vae_and_rnn.train_rnn, GAME, "--run", run, *RNN, *words)
    assert refused(done, says), done
    assert tree(run) == before


def test_an_mdn_rnn_that_nobody_could_read_is_refused(run, monkeypatch):
    """Catches a training of hours that ends with a file that every later stage refuses."""
    count = (4 + 1 + 1 + 8 + 1) * 4 * 8 + (8 + 1) * (1 + 3 * 4 * 5)  # kernel and output, with their biases
    before = tree(run)
    for missing, code in ((1, 2), (0, 0)):
        monkeypatch.setattr(files, "JSON_LIMIT", 5 * count - missing)
        done = commands.call(vae_and_rnn.train_rnn, GAME, "--run", run, *RNN)
        assert done.code == code, done.err
        if missing:
            assert refused(done, f"--hidden_size 8, --mixtures 5: an rnn.json of {count} weights")
            assert tree(run) == before


@pytest.mark.parametrize(
    ("stage", "folder"),
    [(vae_and_rnn.train_vae, "tf_vae"), (vae_and_rnn.encode, "series"), (vae_and_rnn.train_rnn, "tf_rnn")],
)
@pytest.mark.parametrize("emptied", [True, False])
def test_what_is_made_needs_nothing_more(run, stage, folder, emptied):
    """Catches models and a series, done, that ask for the recordings or the series that were removed since."""
    shutil.rmtree(run / "record")
    if emptied:
        (run / "record").mkdir()
    if folder != "series":
        shutil.rmtree(run / "series")
        shutil.copytree(run / "other" / folder, run / folder)
    own = ("--z_size", 4) if folder == "tf_vae" else ()
    for _ in range(2):
        done = commands.call(stage, GAME, "--run", run, *own)
        assert (done.code, "already made" in done.out) == (0, True), done
    others = {"tf_vae": ("--z_size", 5), "series": ("--no-mirror",), "tf_rnn": ("--hidden_size", 7)}
    assert commands.call(stage, GAME, "--run", run, *others[folder]).refused("started with other values")
    assert commands.call(stage, GAME, "--run", run, *own, "--fresh").code == 2


def test_a_series_remembers_the_vae_without_its_recordings(run):
    """Catches a config.json from which the VAE is gone, so that a series of two of them can come about."""
    shutil.rmtree(run / "record")
    assert commands.call(vae_and_rnn.encode, GAME, "--run", run).code == 0
    shutil.copytree(run / "other" / "tf_vae", run / "tf_vae")
    assert commands.call(vae_and_rnn.encode, GAME, "--run", run).refused("started with other values")


def test_gpu_jobs_that_are_done_need_no_recordings(run):
    """Catches a check ahead of stages that are finished, and one that is left out though they begin anew."""
    shutil.rmtree(run / "record")
    ahead = lambda own, _: vae_and_rnn.check_ahead(own)  # noqa: E731
    assert refused(commands.call(ahead, GAME, "--run", run), "no such folder")
    shutil.copytree(run / "other" / "tf_rnn", run / "tf_rnn")
    before = tree(run)
    assert commands.call(ahead, GAME, "--run", run).code == 0
    assert refused(commands.call(ahead, GAME, "--run", run, "--fresh"), "no such folder")
    assert tree(run) == before


def test_a_damaged_vae_leaves_no_series(run):
    """Catches series/config.json of an encoding that never began."""
    shutil.rmtree(run / "series")
    (run / "tf_vae").mkdir()
    (run / "tf_vae" / "vae.json").write_text("[1")
    before = tree(run)
    assert commands.call(vae_and_rnn.encode, GAME, "--run", run, "--unverified").code == 2
    assert tree(run) == before


def outlined(run, lengths, size=None, authors=()):
    """Recordings of these lengths; those of `authors` hold no rewards and ends."""
    for seed, length in enumerate(lengths, 2000):
        record(run, [seed], size, length)
        if seed in authors:
            path = str(run / "record" / f"{seed}.npz")
            files.write_npz(path, **{name: recordings.read(path)[name] for name in ("obs", "action")})


@pytest.mark.parametrize(
    ("name", "lengths", "change", "says"),
    [
        ("doomrnn", [30] * 4, {"validation_episodes": 4}, "--validation_episodes 4"),
        ("doomrnn", [30] * 4, {"sequence_length": 30}, "--validation_episodes 1"),
        ("doomrnn", [30] * 4, {"streams": 11}, "--streams"),
        ("doomrnn", [30] * 4, {"newest": 3}, "--newest 3"),
        ("doomrnn", [30] * 4, {"mirror": True}, "--mirror"),
        ("carracing", [30] * 4, {"heads": True}, "--heads"),
        ("carracing", [30] * 4, {}, ""),
        ("doomrnn", [30] * 4, {}, ""),
    ],
)
def test_what_the_mdn_rnn_refuses_is_known_before_the_vae_is_trained(
    tmp_path, monkeypatch, name, lengths, change, says
):
    """Catches gpu_jobs.bash, which found out after hours: it checked the words of the command only."""
    game = commands.GAMES[name]
    outlined(tmp_path, lengths, 3 if name == "carracing" else None, authors=[2003])
    usual = {"streams": 2, "sequence_length": 8, "validation_episodes": 1, "heads": False, "mirror": False}
    presets = {"laptop": dataclasses.replace(game.config.RNN["smoke"], **usual | change)}
    monkeypatch.setattr(game.config, "RNN", presets)
    monkeypatch.setattr(game.config, "SERIES", {"laptop": game.config.SERIES["smoke"]})
    before = tree(tmp_path)
    done = commands.call(lambda own, _: vae_and_rnn.check_ahead(own), game, "--run", tmp_path)
    assert refused(done, says) if says else done.code == 0, done
    assert tree(tmp_path) == before


@pytest.mark.parametrize("name", commands.GAMES)
def test_gpu_jobs_checks_the_recordings_first(name, tmp_path):
    """Catches a script that leaves the check out; the presets need more than these three episodes."""
    record(tmp_path, size=3 if name == "carracing" else None)
    script = os.path.join(commands.GAMES[name].folder, "gpu_jobs.bash")
    done = subprocess.run(["bash", script, "--run", tmp_path], capture_output=True, text=True, timeout=300)
    assert (done.returncode, len(done.stderr.splitlines())) == (2, 1), done.stderr
    assert "--validation_episodes" in done.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["record"]


def test_the_origin_of_removed_recordings_stays_in_the_meta(tmp_path):
    """Catches a series that names only recordings that are still there, and one of unknown origin that is trusted."""
    path, here = str(tmp_path / "series.npz"), {"first_seed": 9000, "episodes": 5}
    assert vae_and_rnn._of_the_gone(GAME, path, [here], 7) == [{"unknown": 7, "unverified": True}]
    before = [{"first_seed": 2000, "episodes": 7, "policy": "random"}, here]
    files.write_npz(path, length=np.ones(7, int))
    provenance.write(path, "series", GAME.name, settings.Series(), {"recordings": before}, 1.0, unverified=False)
    assert vae_and_rnn._of_the_gone(GAME, path, [here], 7) == before[:1]
