"""Processes that end when the process that started them ends, for whatever reason. This works on Linux only.

python bound.py PROGRAM [ARGUMENTS]      # becomes that program, bound to the process that started it
"""

import ctypes
import os
import signal
import sys

PR_SET_PDEATHSIG = 1  # of prctl(2); it holds across exec, and for this process alone


def bind() -> None:
    """Has this process killed when the thread that started it ends, even by kill -9."""
    parent = os.getppid()
    if sys.platform == "linux":
        ctypes.CDLL(None, use_errno=True).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != parent:  # it has died in the meantime
            os.kill(os.getpid(), signal.SIGKILL)


def command(*words: str) -> list[str]:
    """A command line that starts a program bound to this process."""
    return [sys.executable, "-S", os.path.abspath(__file__), *words]


if __name__ == "__main__":
    bind()
    os.execv(sys.argv[1], sys.argv[1:])
