"""Recording Doom while its players, its engine, its disk or itself fail. No TensorFlow in any of these processes."""

import contextlib
import ctypes
import json
import os
import pathlib
import resource
import shutil
import signal
import subprocess
import time

import numpy as np
import pytest

import processes

EPISODES = 5
ARGUMENTS = ["--preset", "smoke", "--episodes", EPISODES, "--first_seed", 300000, "--min_frames", 20, "--workers", 2]
SUMMARY = "300000.summary.json"
PR_CAPBSET_DROP, CAP_DAC_OVERRIDE = 24, 1  # of Linux


def extract(run, **options):
    """Starts recording into a folder."""
    return processes.start("doomrnn", "extract", *ARGUMENTS, "--run", run, **options)


def recorded(run):
    """Recordings there so far."""
    return sorted(run.glob("record/*.npz"))


def finish(run, code=0, **options):
    """Records to the end; returns what it printed."""
    ended, output = processes.finish("doomrnn", "extract", *ARGUMENTS, "--run", run, **options)
    assert ended == code, output
    return output


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    """{name: arrays} of all episodes, recorded without a fault."""
    run = tmp_path_factory.mktemp("undisturbed")
    finish(run)
    return arrays_of(run)


def arrays_of(run):
    return {path.name: dict(np.load(path)) for path in recorded(run)}


def assert_equal(run, undisturbed):
    """The same episodes, no others, and nothing half written."""
    found = arrays_of(run)
    assert found.keys() == undisturbed.keys()
    for name, arrays in undisturbed.items():
        for key, array in arrays.items():
            np.testing.assert_array_equal(found[name][key], array, err_msg=f"{name} {key}")
    assert not list(run.glob("record/*.tmp*"))
    summary = json.loads((run / "record" / SUMMARY).read_text())
    assert summary["kept"] == len(undisturbed)
    assert summary["lost"] == 0


@pytest.fixture
def start():
    """Starts recording; whatever it left is killed at the end of the test."""
    started = []

    def begin(run, **options):
        started.append(extract(run, **options))
        return started[-1]

    yield begin
    for process in started:
        processes.end(process)


def engines(process):
    """The games that are being played."""
    return [pid for pid in processes.descendants(process.pid) if processes.name_of(pid) == "vizdoom"]


def players(process):
    """The processes that play them."""
    return {processes._stat(pid)[1] for pid in engines(process)}


@pytest.mark.parametrize("victims", [players, engines])
def test_a_player_or_an_engine_that_is_killed_costs_its_episode(tmp_path, undisturbed, start, table, victims):
    """Catches a recording that breaks off, hangs, or has a hole."""
    process = start(tmp_path, stderr=subprocess.PIPE, text=True)
    for _ in range(2):
        victim = processes.wait_until(lambda: sorted(victims(process)), 300, "a player")[0]
        processes.signalled(victim, signal.SIGKILL)
        processes.wait_until(lambda victim=victim: not processes.works(victim), 60, "its death")
    _, stderr = process.communicate(timeout=600)
    assert process.returncode == 0, stderr
    assert stderr.count("it is given out again") == 2
    assert_equal(tmp_path, undisturbed)
    table(f"recording: kill -9 of {'a player' if victims is players else 'an engine'}", 2, "its episode, played again")


def test_kill_of_the_recorder_leaves_nobody_and_costs_what_was_being_played(tmp_path, undisturbed, start, table):
    """Catches players and engines that play on for nobody, and episodes recorded twice or never."""
    for kill in range(2):
        process = start(tmp_path)
        processes.wait_until(lambda kill=kill: len(recorded(tmp_path)) > kill and engines(process), 300, "an episode")  # noqa: B023
        family = processes.descendants(process.pid)
        assert len(family) >= 3
        processes.signalled(process.pid, signal.SIGKILL)
        processes.wait_until(lambda family=family: not any(map(processes.works, family)), 60, "the players' end")
        done = {path: path.stat().st_mtime_ns for path in recorded(tmp_path)}
    finish(tmp_path)
    assert all(path.stat().st_mtime_ns == when for path, when in done.items())
    assert_equal(tmp_path, undisturbed)
    table("recording: kill -9 of extract.py", 2, "the episodes being played")


def test_torn_recordings_are_set_aside_and_made_again(tmp_path, undisturbed, table):
    """Catches a torn file that counts as an episode, and one that vanishes."""
    finish(tmp_path)
    (tmp_path / "record" / SUMMARY).unlink()  # as if it had been stopped before its end
    for path, keep in zip(recorded(tmp_path), (0, 5000), strict=False):
        path.write_bytes(path.read_bytes()[:keep])
    (tmp_path / "record" / "300001.npz.tmp12345").write_bytes(b"torn")
    output = finish(tmp_path)
    assert output.count("set aside as") == 2
    assert json.loads((tmp_path / "record" / SUMMARY).read_text())["set_aside"] == 2
    assert len(list(tmp_path.glob("record/*.npz.bad"))) == 2
    assert_equal(tmp_path, undisturbed)
    table("recording: truncated file", 2, "that episode, played again")


def test_a_file_that_may_not_grow_ends_in_one_line(tmp_path, undisturbed, start, table):
    """Catches a traceback, a torn recording that counts."""
    process = start(tmp_path, stderr=subprocess.PIPE, text=True)
    for pid in processes.wait_until(lambda: len(players(process)) == 2 and players(process), 300, "two players"):
        resource.prlimit(pid, resource.RLIMIT_FSIZE, (100_000, 100_000))
    _, stderr = process.communicate(timeout=600)
    assert process.returncode == 2, stderr
    assert "too large" in stderr.splitlines()[-1]
    finish(tmp_path)  # which also removes what the other player was writing when it was ended
    assert_equal(tmp_path, undisturbed)
    table("recording: file size limit", 1, "the episodes being played")


@contextlib.contextmanager
def mounted(folder, *options):
    """A file system of its own at a folder; skips the test where that is not allowed."""
    command = ["mount", "-t", "tmpfs", "-o", ",".join(options), "none", str(folder)]
    if not shutil.which("mount") or subprocess.run(command, stderr=subprocess.DEVNULL).returncode:
        pytest.skip("mounting a small disk needs root")
    try:
        yield
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True)


def test_a_full_disk_ends_in_one_line(tmp_path, undisturbed, table):
    """Catches the same on a disk that is really full."""
    with mounted(tmp_path, "size=700k"):
        output = finish(tmp_path, code=2)
        assert "No space left on device" in output.splitlines()[-1]
        assert not list(tmp_path.glob("record/*.tmp*"))
        subprocess.run(["mount", "-o", "remount,size=50m", str(tmp_path)], check=True)
        finish(tmp_path)
        assert_equal(tmp_path, undisturbed)
    table("recording: disk full (tmpfs of 700 kB)", 1, "the episodes being played")


def test_a_read_only_disk_ends_in_one_line(tmp_path, table):
    """Catches a traceback before a single episode is played."""
    with mounted(tmp_path, "size=1m,ro"):
        output = finish(tmp_path, code=2)
    assert "Read-only file system" in output.splitlines()[-1]
    table("recording: read-only disk", 1, "nothing: it refuses to start")


def test_a_folder_without_permission_ends_in_one_line(tmp_path, table):
    """Catches the same where the folder may not be written."""
    (tmp_path / "record").mkdir()
    (tmp_path / "record").chmod(0o555)
    options = {}
    if os.geteuid() == 0:  # who may write anywhere, unless this power is taken from what it starts
        options = {"preexec_fn": lambda: ctypes.CDLL(None).prctl(PR_CAPBSET_DROP, CAP_DAC_OVERRIDE, 0, 0, 0)}
    output = finish(tmp_path, code=2, **options)
    assert output.splitlines()[-1].endswith("continues")
    assert "Permission denied" in output.splitlines()[-1]
    table("recording: no permission to write", 1, "nothing: it refuses to start")


def test_a_second_recorder_refuses(tmp_path, undisturbed, start, table):
    """Catches two that play the same episodes into one folder."""
    process = start(tmp_path)
    processes.wait_until(lambda: pathlib.Path(tmp_path / "record" / "lock").exists(), 300, "the start")
    time.sleep(0.5)
    process.send_signal(signal.SIGSTOP)  # or it may end while the second one waits for it
    output = finish(tmp_path, code=2)
    assert "another process is at work" in output
    process.send_signal(signal.SIGCONT)
    assert process.wait(600) == 0
    assert_equal(tmp_path, undisturbed)
    table("recording: a second run in the folder", 1, "nothing: it refuses to start")
