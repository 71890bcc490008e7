"""common/runtime/interrupt.py: Ctrl-C, sent to commands that are busy in all the ways that kept a shell waiting."""

import os
import shlex
import shutil
import signal
import subprocess
import sys
import threading
import time

import pytest

from common.runtime import bound

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
LONG = 60  # seconds that the work would take
BUSY = {
    "threads": "parallel.Threads(lambda: time.sleep, 2).map([LONG, LONG, LONG])",
    "swallowed": """
while True:
    try:
        time.sleep(LONG)
    except KeyboardInterrupt:
        pass
""",
    "in C": "ctypes.CDLL(None).usleep(LONG * 10**6)",
    "at exit": "atexit.register(time.sleep, LONG); time.sleep(LONG)",
}
PROGRAM = """
import atexit, ctypes, time
from common.runtime import cli, parallel
LONG = {long}
def main():
    print("ready", flush=True)
    exec({work!r})
cli.run_main(main)
"""


def interrupted(command, times=1, **options):
    """Starts a command, interrupts it once it says that it is ready: (exit code, seconds, stderr)."""
    # pytest may run in the background, where Ctrl-C is ignored by all that it starts
    options |= {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "start_new_session": True, "text": True}
    process = subprocess.Popen(command, preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL), **options)
    try:
        assert process.stdout.readline() == "ready\n"
        time.sleep(0.3)
        began = time.monotonic()
        for _ in range(times):
            os.killpg(process.pid, signal.SIGINT)
            time.sleep(0.1)
        process.wait(LONG / 2)
        return process.returncode, time.monotonic() - began, process.stderr.read()
    finally:
        process.kill()
        process.communicate()


@pytest.mark.parametrize("work", BUSY)
def test_the_shell_is_back_soon(work):
    """Catches threads that finish their games, an exception that is swallowed, and 21 lines at a second Ctrl-C."""
    program = PROGRAM.format(long=LONG, work=BUSY[work])
    code, seconds, error = interrupted([sys.executable, "-c", program], times=3, cwd=ROOT)
    assert code == 130
    assert seconds < 10  # 2 on a machine that has nothing else to do
    assert error.strip().splitlines() == ["-c: interrupted; the same command continues from the last checkpoint"]


@pytest.mark.parametrize("work", ["time.sleep(LONG)", BUSY["swallowed"]])
def test_a_command_that_began_anew_is_not_to_be_given_again_as_it_was(work):
    """Catches the advice to give --fresh again, which sets aside what was made until the interruption."""
    program = PROGRAM.format(long=LONG, work=work)
    code, _, error = interrupted([sys.executable, "-c", program, "--fresh"], cwd=ROOT)
    said = "-c: interrupted; the same command without --fresh continues from the last checkpoint"
    assert (code, error.strip()) == (130, said)


LOADING = f"""
import time
print("ready", flush=True)
try:
    time.sleep({LONG})
except BaseException:
    time.sleep({LONG})
"""


@pytest.mark.parametrize("how", ["script", "module", "gpu_jobs"])
def test_a_program_that_still_loads_ends_at_once(tmp_path, monkeypatch, how):
    """Catches a traceback from within a library, and an import that swallows the exception."""
    if how == "script":  # in the folder of a game
        for name in ("__init__", "config", "game"):
            (tmp_path / f"{name}.py").touch()
        (tmp_path / "model.py").write_text(f"import common\n{LOADING}")
    else:
        (tmp_path / "gymnasium.py").write_text(LOADING)
    command = [sys.executable, *(["model.py"] if how == "script" else ["-m", "common.studio"])]
    if how == "gpu_jobs":
        (tmp_path / "bin").mkdir()
        (tmp_path / "bin" / "python").write_text(f'#!/bin/sh\nexec {shlex.quote(sys.executable)} "$@"\n')
        (tmp_path / "bin" / "python").chmod(0o755)
        monkeypatch.setenv("PATH", str(tmp_path / "bin"), prepend=os.pathsep)
        command = ["bash", shutil.copy(os.path.join(ROOT, "doomrnn", "gpu_jobs.bash"), tmp_path)]
    code, seconds, error = interrupted(command, cwd=tmp_path, env=os.environ | {"PYTHONPATH": ROOT})
    assert (code, error) == (130, "interrupted\n")
    assert seconds < 10


def test_in_the_background_a_command_is_not_interrupted():
    """Catches a run behind `nohup ... &` that a Ctrl-C in its terminal ends."""
    program = "import signal; from common.runtime import cli; cli.run_main(lambda: print(signal.getsignal(2)))"
    done = subprocess.run(
        [sys.executable, "-c", f"import signal; signal.signal(2, signal.SIG_IGN)\n{program}"],
        cwd=ROOT, capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert done.stdout == f"{signal.SIG_IGN!s}\n"


def test_after_a_command_ctrl_c_is_as_before():
    """Catches a handler and a wake-up descriptor that stay behind in a process that calls commands."""
    from common.runtime import cli

    before = signal.getsignal(signal.SIGINT), signal.set_wakeup_fd(-1)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    within = []
    try:
        cli.run_main(lambda: within.append(signal.getsignal(signal.SIGINT)))
        assert within != [signal.default_int_handler]
        assert signal.getsignal(signal.SIGINT) == signal.default_int_handler
        assert signal.set_wakeup_fd(-1) == -1
    finally:
        signal.signal(signal.SIGINT, before[0])
        signal.set_wakeup_fd(before[1])


@pytest.mark.parametrize("deaf", [True, False])
def test_the_engine_of_a_game_does_not_hear_ctrl_c(deaf):
    """Catches engines that a terminal ends with everything else, under a library that then crashes."""
    words = bound.command(
        sys.executable, "-c", "import signal; print(signal.getsignal(2) == signal.SIG_IGN)", deaf=deaf
    )
    usual = {"preexec_fn": lambda: signal.signal(signal.SIGINT, signal.SIG_DFL)}
    done = subprocess.run(words, capture_output=True, text=True, check=True, **usual)
    assert done.stdout == f"{deaf}\n"


LAUNCHING = """
import os, sys
from common.runtime import cli, mpi
sys.executable = os.path.join({here!r}, "python")  # mpirun is looked for beside it
sys.argv = ["train.py"]
cli.run_main(lambda: mpi.launch(2, "none"))
"""


def test_ctrl_c_is_not_for_mpirun(tmp_path):
    """Catches the 14 lines of mpirun about ranks that "terminated badly", above the one line that counts."""
    os.symlink(sys.executable, tmp_path / "python")
    (tmp_path / "mpirun").write_text("#!/bin/sh\ntrap 'echo BAD TERMINATION >&2' INT\necho ready\nsleep 60 & wait\n")
    (tmp_path / "mpirun").chmod(0o755)
    code, seconds, error = interrupted([sys.executable, "-c", LAUNCHING.format(here=str(tmp_path))], cwd=ROOT)
    assert code == 130
    assert error.splitlines() == ["train.py: interrupted; the same command continues from the last checkpoint"]
    assert seconds < 10


def test_a_command_that_is_called_in_a_thread_runs():
    """Catches a ValueError where a notebook or another program calls a command in a thread: signals are not its own."""
    from common.runtime import cli

    done = []
    thread = threading.Thread(target=lambda: cli.run_main(lambda: done.append(True)))
    thread.start()
    thread.join()
    assert done == [True]


OTHER_SIGNAL = """
import os, signal, threading
from common.runtime import cli, interrupt
interrupt.GRACE = 0
def main():
    signal.signal(signal.SIGUSR1, lambda *_: None)
    os.kill(os.getpid(), signal.SIGUSR1)
    [listening] = [thread for thread in threading.enumerate() if thread is not threading.main_thread()]
    listening.join(0.3)
    print("alive", listening.is_alive())
cli.run_main(main)
"""


def test_another_signal_does_not_end_a_command():
    """Catches a run that is "interrupted" by any signal that a library handles, and loses its work."""
    done = subprocess.run([sys.executable, "-c", OTHER_SIGNAL], cwd=ROOT, capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (0, "alive True\n"), done.stderr


def test_ctrl_c_is_kept_from_processes_only_while_they_are_started():
    """Catches an engine that Ctrl-C ends, and a command that can no longer be interrupted."""
    from common.runtime import interrupt

    blocked = "import signal; print(signal.SIGINT in signal.pthread_sigmask(signal.SIG_BLOCK, ()))"
    with interrupt.not_for_children():
        done = subprocess.run([sys.executable, "-c", blocked], capture_output=True, text=True, check=True)
    assert done.stdout == "True\n"
    assert signal.SIGINT not in signal.pthread_sigmask(signal.SIG_BLOCK, ())
