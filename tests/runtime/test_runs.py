"""common/runtime/runs.py: one process per stage, one config per stage, checkpoints that are whole and complete."""

import argparse
import contextlib
import dataclasses
import io
import json
import os
import re
import subprocess
import sys
import time

import keras
import numpy as np
import pytest

from common.runtime import runs
from common.runtime.cli import UserError


@dataclasses.dataclass(frozen=True)
class Config:
    """A stage's config."""

    steps: int = 100
    rate: float = 1e-3
    hidden: tuple = (1, 2)
    checkpoint_seconds: int = 120


def arguments(folder, fresh=False):
    return argparse.Namespace(run=str(folder), fresh=fresh)


@pytest.fixture
def stage_of(tmp_path, monkeypatch):
    """Opens the stage as one more start of the same command would, the process before having ended."""
    opened = []
    monkeypatch.setattr(runs, "LOCK_SECONDS", 0.1)

    def start(cfg=None, fresh=False, **kwargs):
        for stage in opened:
            stage._lock_file.close()
        try:
            opened.append(runs.Stage(arguments(tmp_path, fresh), "tf_x", "x.json", cfg or Config(), **kwargs))
            return opened[-1]
        except UserError as error:
            refusal = str(error)
        raise UserError(refusal)  # not the error itself, whose traceback would hold the refused stage and its lock

    yield start
    for stage in opened:
        stage._lock_file.close()


SECOND_PROCESS = """
import argparse, sys
from common.runtime import cli, runs
runs.LOCK_SECONDS = 0.1
from tests_config import Config
arguments = argparse.Namespace(run=sys.argv[1], fresh="fresh" in sys.argv)
cli.run_main(lambda: runs.Stage(arguments, "tf_x", "x.json", Config()))
"""


def test_a_second_process_is_refused_while_the_first_lives(tmp_path, stage_of):
    """Catches two trainings that write over each other, --fresh that moves a live one's folder, a lock that stays."""
    (tmp_path / "tests_config.py").write_text(
        "import dataclasses\n@dataclasses.dataclass(frozen=True)\nclass Config:\n"
        "    steps: int = 100\n    rate: float = 1e-3\n    hidden: tuple = (1, 2)\n"
        "    checkpoint_seconds: int = 120\n"
    )

    def second(*flags):
        environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(tmp_path), *sys.path])}
        command = [sys.executable, "-c", SECOND_PROCESS, str(tmp_path), *flags]
        return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60)

    stage = stage_of()
    for flags in ((), ("fresh",)):
        refused = second(*flags)
        assert refused.returncode == 2
        assert "another process" in refused.stderr
        assert refused.stderr.count("\n") == 1
    assert os.path.exists(stage.path("config.json"))
    stage._lock_file.close()
    assert second().returncode == 0


def test_another_config_is_refused_and_named(stage_of):
    """Catches a training that goes on with other values than it began with, and an unchanged one that is refused."""
    stage_of(Config(rate=0.5))
    stage_of(Config(rate=0.5))
    with pytest.raises(UserError, match=re.escape("steps 100 -> 7")) as caught:
        stage_of(Config(steps=7, rate=0.5))
    assert "rate" not in str(caught.value)
    assert "config.json" in str(caught.value)
    stage_of(Config(steps=7, rate=0.5), may_change=("steps",))
    with pytest.raises(UserError, match="rate"):
        stage_of(Config(steps=7), may_change=("steps",))


def test_an_option_younger_than_the_run_had_its_default(stage_of):
    """Catches a newer version of the code that refuses every run of an older one, or that hides a change from it."""
    path = stage_of().path("config.json")

    def forget():
        with open(path) as file:
            about = json.load(file)
        del about["config"]["rate"]
        with open(path, "w") as file:
            json.dump(about, file)

    forget()
    stage_of()
    forget()
    with pytest.raises(UserError, match=re.escape("rate 0.001 -> 0.5")):
        stage_of(Config(rate=0.5))


def test_other_foundations_are_refused(stage_of):
    """Catches C going on with a V or M that it did not grow up with."""
    stage_of(about={"hashes": {"vae": "a"}})
    stage_of(about={"hashes": {"vae": "a"}})
    with pytest.raises(UserError, match="vae a -> b"):
        stage_of(about={"hashes": {"vae": "b"}})


def test_fresh_sets_the_earlier_result_aside(tmp_path, stage_of, capsys):
    """Catches --fresh that deletes, that leaves the old checkpoint in place, or that keeps the old config."""
    stage = stage_of()
    variable = keras.Variable([1.0])
    stage.save(5, [variable])
    stage.log(5, x__loss=1.0)
    with open(stage.result, "w") as file:
        file.write("[]")
    assert not stage.finished  # its meta is missing: killed in between, the end of the stage comes again
    stage.write_meta("tiny", "x", {}, unverified=False)
    assert stage.finished
    assert "already made" in capsys.readouterr().out
    fresh = stage_of(Config(steps=7), fresh=True)
    assert not fresh.finished
    assert fresh.restore([variable]) == (0, {})
    (aside,) = [name for name in os.listdir(tmp_path) if name.startswith("tf_x.")]
    assert aside in capsys.readouterr().out
    assert {"config.json", "checkpoint.npz", "metrics.jsonl", "x.json"} <= set(os.listdir(tmp_path / aside))
    with pytest.raises(UserError, match="another process"):
        runs.Stage(
            arguments(tmp_path), "tf_x", "x.json", Config(steps=7)
        )  # the new folder is locked as the old one was


def test_fresh_leaves_others_of_a_shared_folder_alone(tmp_path, stage_of):
    """Catches --fresh of one experiment that takes another's log away."""
    stage_of(prefix="a.")
    stage_of(prefix="b.")
    stage_of(fresh=True, prefix="b.")
    assert os.path.exists(tmp_path / "tf_x" / "a.config.json")


def test_a_missing_run_folder_is_the_users_mistake(tmp_path):
    """Catches a mistyped --run that silently starts a new run."""
    with pytest.raises(UserError, match="no such folder"):
        runs.Stage(arguments(tmp_path / "none"), "tf_x", "x.json", Config())
    assert not os.path.exists(tmp_path / "none")


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("file", "is not a folder"),
        ("file/run", "cannot be made"),
        ("new/" + "a" * 300, "cannot be made"),
        ("/proc/run", "cannot be made"),
        ("", "cannot be made"),
    ],
)
def test_a_run_that_cannot_be_made_is_the_users_mistake(tmp_path, monkeypatch, name, says):
    """Catches a traceback, and folders that are left behind."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match=f"--run {name}: {says}"), runs.new_run(name):
        pass
    assert os.listdir() == ["file"]


def trained(model, optimizer, steps, rng):
    for _ in range(steps):
        gradients = [rng.standard_normal(variable.shape, np.float32) for variable in model.trainable_variables]
        optimizer.apply_gradients(zip(gradients, model.trainable_variables, strict=True))


def test_stop_restore_continue_equals_never_stopped(stage_of):
    """Catches optimizer state, step counter or M's state that is not saved, and variables restored in another order."""

    def new():
        model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(4), keras.layers.Dense(3)])
        optimizer = keras.optimizers.Adam(keras.optimizers.schedules.ExponentialDecay(0.1, 3, 0.5))
        optimizer.build(model.trainable_variables)
        return model, optimizer, model.trainable_variables + optimizer.variables

    model, optimizer, variables = new()
    initial = [variable.numpy() for variable in variables]
    trained(model, optimizer, 4, np.random.default_rng(1000))
    stage_of().save(4, variables, state=np.float32([[1, 2]]))
    trained(model, optimizer, 3, np.random.default_rng(1001))

    again, again_optimizer, again_variables = new()
    step, saved = stage_of().restore(again_variables)
    assert step == 4
    assert set(saved) == {"state"}
    np.testing.assert_array_equal(saved["state"], [[1, 2]])
    trained(again, again_optimizer, 3, np.random.default_rng(1001))
    assert int(again_optimizer.iterations) == 7
    for before, whole, resumed in zip(initial, variables, again_variables, strict=True):
        np.testing.assert_array_equal(whole, resumed)
        assert not np.array_equal(before, whole) or before.size == 1  # the learning rate need not move


def test_the_time_of_earlier_starts_counts(stage_of, monkeypatch):
    """Catches a meta that tells the seconds of the last start only, as of a training that took an hour."""
    clock = [1000.0]
    monkeypatch.setattr(time, "monotonic", lambda: clock[0])
    stage = stage_of()
    clock[0] += 50
    assert stage.seconds == 50
    stage.save(1, [])
    stage = stage_of()
    assert stage.seconds == 0
    stage.restore([])
    clock[0] += 7
    assert stage.seconds == 57
    with open(stage.result, "w") as file:
        file.write("[]")
    stage.write_meta("tiny", "x", {}, unverified=False)
    with open(stage.result + ".meta.json") as file:
        assert json.load(file)["seconds"] == 57


def test_metrics_after_the_checkpoint_are_forgotten(stage_of):
    """Catches steps reported twice after a resume, and a line torn by the kill that breaks every reader."""
    stage, variable = stage_of(), keras.Variable([1.0])
    for step in (1, 2, 3):
        stage.log(step, x__loss=step / 3)
        if step == 2:
            stage.save(step, [variable])
    with open(stage.path("metrics.jsonl"), "a") as file:
        file.write('{"step": 4, "x/lo{"step": 1}\n\n3\n{"step": 1, "x/lo')
    stage = stage_of()
    stage.restore([variable])
    stage.log(3, x__loss=0.5)
    with open(stage.path("metrics.jsonl")) as file:
        rows = [json.loads(line) for line in file]
    assert rows == [{"step": 1, "x/loss": 0.333333}, {"step": 2, "x/loss": 0.666667}, {"step": 3, "x/loss": 0.5}]


def test_a_start_without_checkpoint_forgets_all_metrics(stage_of):
    """Catches the lines of a run killed before its first checkpoint."""
    stage_of().log(1, x__loss=1)
    stage = stage_of()
    assert stage.restore([]) == (0, {})
    assert os.path.getsize(stage.path("metrics.jsonl")) == 0


def test_what_is_not_finite_is_never_saved(stage_of):
    """Catches a checkpoint of NaN weights that replaces the last good one."""
    stage, variable = stage_of(), keras.Variable([1.0])
    stage.save(1, [variable])
    for bad in (np.nan, np.inf):
        variable.assign([bad])
        with pytest.raises(UserError, match="step 2: variable0 is not finite"):
            stage.save(2, [variable])
    variable.assign([3.0])
    with pytest.raises(UserError, match="state"):
        stage.save(2, [variable], state=np.array([np.nan]))
    assert stage.restore([variable])[0] == 1
    assert variable.numpy() == [1.0]


def test_a_damaged_or_foreign_checkpoint_is_named(stage_of, rng):
    """Catches any damage that loads or shows a traceback, and a checkpoint of another model."""
    stage = stage_of()
    variables = [keras.Variable(rng.standard_normal((20, 20), np.float32)), keras.Variable([1.0, 2.0])]
    path = stage.path("checkpoint.npz")
    stage.save(1, variables)
    with open(path, "rb") as file:
        whole = file.read()
    for others in ([keras.Variable([1.0])], variables[:1] + [keras.Variable([1.0])], variables + variables[:1]):
        with pytest.raises(UserError, match="not a checkpoint of this stage"):
            stage.restore(others)
    with open(path, "wb") as file:
        file.write(whole[: len(whole) // 2])
    with pytest.raises(UserError, match=r"checkpoint\.npz"):
        stage.restore(variables)
    refused = 0
    for _ in range(200):
        content = bytearray(whole)
        content[rng.integers(len(content))] ^= 1 << rng.integers(8)
        with open(path, "wb") as file:
            file.write(content)
        try:
            stage.restore(variables)
        except UserError:
            refused += 1
    assert refused > 150  # the rest hit dates and other idle bytes of the archive's directory
    with open(path, "wb") as file:
        file.write(whole)
    with pytest.raises(UserError, match="not a checkpoint of this stage"):
        stage.restore(variables[:1])  # a smaller model


def test_what_a_killed_process_was_writing_is_removed(tmp_path, stage_of):
    """Catches a folder that fills with torn temporary files, and the removal of another's in a shared folder."""
    (tmp_path / "tf_x").mkdir()
    for name in ("a.checkpoint.npz.tmp123", "b.checkpoint.npz.tmp123", "a.tmp", "a.tmp12x"):
        (tmp_path / "tf_x" / name).write_text("torn")
    stage_of(prefix="a.")
    left = set(os.listdir(tmp_path / "tf_x"))
    assert left == {"b.checkpoint.npz.tmp123", "a.tmp", "a.tmp12x", "a.lock", "a.config.json", "a.run.json"}


def test_a_damaged_run_json_is_set_aside(stage_of, capsys):
    """Catches a run that cannot go on because the record of its starts is torn."""
    path = stage_of().path("run.json")
    with open(path, "w") as file:
        file.write("[{")
    stage_of()
    with open(path) as file:
        assert len(json.load(file)) == 1
    assert "run.json" in capsys.readouterr().out


def test_fresh_twice_at_one_time_keeps_both(tmp_path, stage_of, monkeypatch):
    """Catches an earlier result that is lost, or an error, when the clock stands still or is set back."""
    monkeypatch.setattr(runs.time, "strftime", lambda _: "20260101-000000")
    for fresh in (False, True, True):
        stage = stage_of(fresh=fresh)
        with open(stage.result, "w") as file:
            file.write("[]")
    aside = {name for name in os.listdir(tmp_path) if name.startswith("tf_x.")}
    assert aside == {"tf_x.20260101-000000", "tf_x.20260101-000000.2"}
    assert all("x.json" in os.listdir(tmp_path / name) for name in aside)


def test_two_recorders_in_one_folder(tmp_path, monkeypatch):
    """Catches two that record the same episodes beside each other, and a lock that --fresh leaves behind."""
    monkeypatch.setattr(runs, "LOCK_SECONDS", 0.1)

    def refuses(fresh):
        with pytest.raises(UserError, match="another process"), runs.recording_folder(arguments(tmp_path, fresh)):
            pass

    with runs.recording_folder(arguments(tmp_path)):
        refuses(False)
        refuses(True)
    assert os.listdir(tmp_path) == ["record"]
    (tmp_path / "record" / "2000.npz").touch()
    with runs.recording_folder(arguments(tmp_path, fresh=True)) as folder:
        assert os.listdir(folder) == ["lock"]
        refuses(False)


def test_a_recorder_that_fails_leaves_no_torn_file(tmp_path):
    """Catches what a killed player was writing, left for good on a disk that is full."""
    with contextlib.suppress(OSError), runs.recording_folder(arguments(tmp_path)) as folder:
        (tmp_path / "record" / "2000.npz.tmp123").touch()
        raise OSError("full")
    assert os.listdir(folder) == ["lock"]


def test_a_damaged_config_is_named(stage_of):
    """Catches a traceback of JSON's after a disk has damaged what every start reads first."""
    stage = stage_of()
    for text in ("{", "[1, 2]", '{"config": 3}', "[" * 100_000):
        with open(stage.path("config.json"), "w") as file:
            file.write(text)
        with pytest.raises(UserError, match=r"config\.json: damaged"):
            stage_of()
    stage_of(fresh=True)


def test_save_if_due_waits(stage_of):
    """Catches a checkpoint at every step, none at all, and an interval that a later start may not change."""
    stage = stage_of(Config(checkpoint_seconds=1000))
    stage.save_if_due(1, [])
    assert not os.path.exists(stage.path("checkpoint.npz"))
    stage = stage_of(Config(checkpoint_seconds=0))
    stage.save_if_due(1, [])
    assert os.path.exists(stage.path("checkpoint.npz"))


def test_a_stages_folder_tells_every_start(stage_of, tmp_path, monkeypatch):
    """Catches a start that is not noted, or one refused because its command or its versions are not the last one's."""
    stage_of()
    monkeypatch.setattr(sys, "argv", ["/anywhere/x.py", "--run", "elsewhere"])
    stage_of()
    first, second = json.loads((tmp_path / "tf_x" / "run.json").read_text())
    assert second["command"] == ["x.py", "--run", "elsewhere"]
    assert first["command"] != second["command"]
    assert second["versions"]["numpy"] == np.__version__
    assert re.fullmatch(r"[0-9a-f]{40}(-dirty)?", second["commit"])


def test_a_checkpoint_is_due_again_only_after_the_interval(stage_of, monkeypatch):
    """Catches a checkpoint at every step once the first was due, which costs more than the training."""
    clock, saved = [1000.0], []
    monkeypatch.setattr(time, "monotonic", lambda: clock[0])
    monkeypatch.setattr(runs.files, "write_npz", lambda path, **arrays: saved.append(arrays["step"]))
    stage = stage_of(Config(checkpoint_seconds=10))
    for step in range(1, 31):
        clock[0] += 1
        stage.save_if_due(step, [])
    assert saved == [11, 22]


def test_a_report_that_is_made_again_is_there_once(stage_of):
    """Catches two evaluations of one generation, and other reports that are lost with the earlier one."""
    stage = stage_of()
    for step, metrics in ((25, {"es__evaluation": 1.0}), (25, {"es__best": 2.0}), (50, {"es__evaluation": 3.0})):
        stage.log(step, **metrics)
    stage.forget_metric(25, "es/evaluation")
    with open(stage.path("metrics.jsonl")) as file:
        assert [json.loads(line) for line in file] == [{"step": 25, "es/best": 2.0}, {"step": 50, "es/evaluation": 3.0}]


def test_a_result_is_made_when_its_meta_is_there_too(tmp_path):
    """Catches a stage that a kill ended before its meta and that never ends again, and --fresh without effect."""
    (tmp_path / "tf_x").mkdir()
    made = []
    for ending in ("", ".meta.json"):
        (tmp_path / "tf_x" / f"x.json{ending}").touch()
        made.append(runs.is_made(arguments(tmp_path), "tf_x", "x.json"))
    assert made == [False, True]
    (tmp_path / "tf_x" / "x.json").rename(tmp_path / "tf_x" / "y.json")
    assert not runs.is_made(arguments(tmp_path), "tf_x", "x.json")
    (tmp_path / "tf_x" / "y.json").rename(tmp_path / "tf_x" / "x.json")
    assert not runs.is_made(arguments(tmp_path, fresh=True), "tf_x", "x.json")


def test_a_result_that_was_copied_without_its_meta_is_refused(tmp_path, stage_of):
    """Catches a file of unknown origin that gets the meta of a stage that never made it."""
    (tmp_path / "tf_x").mkdir()
    (tmp_path / "tf_x" / "x.json").write_text("[]")
    with pytest.raises(UserError, match=r"x\.json: was not made in this folder"):
        stage_of()
    stage_of(fresh=True)
    assert not (tmp_path / "tf_x" / "x.json").exists()


def test_a_start_waits_for_a_process_that_is_about_to_end(tmp_path, monkeypatch):
    """Catches a job that is started again and refused, because ranks of the one before take a moment to die."""
    held = runs.lock(str(tmp_path / "lock"))
    monkeypatch.setattr(runs.time, "sleep", lambda _: held.close())
    runs.lock(str(tmp_path / "lock")).close()


def test_peak_memory_is_in_gigabytes():
    """Catches kilobytes taken for bytes, or the reverse."""
    block = np.ones(25_000_000)
    machine = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1e9
    for peak in (runs.peak_memory(), runs.peak_memory_of(os.getpid())):
        assert block.nbytes / 1e9 <= peak <= machine


@pytest.mark.parametrize("live", [True, False])
def test_progress_counts_what_was_done_before(monkeypatch, live):
    """Catches a resumed run that seems to begin anew, and a log file with two lines of progress every second."""
    monkeypatch.setattr(sys, "stderr", io.StringIO())
    monkeypatch.setattr(sys.stderr, "isatty", lambda: live)
    bar = runs.progress(10, 4, "try")
    assert (bar.n, bar.total) == (4, 10)
    assert (bar.mininterval < 1) == live
    bar.close()


def test_a_result_that_was_removed_is_made_again(stage_of):
    """Catches a stage that its meta alone calls done, so that the next one asks for a file that never comes."""
    stage = stage_of()
    with open(stage.result, "w") as file:
        file.write("[]")
    stage.write_meta("tiny", "x", {}, unverified=False)
    assert stage.finished
    os.remove(stage.result)
    assert not stage.finished
