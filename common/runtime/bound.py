"""Processes that end when the process that started them ends, for whatever reason. This works on Linux only.

python bound.py PID PROGRAM [ARGUMENTS]      # becomes that program, bound to its parent, the process PID
"""

import ctypes
import os
import signal
import sys

PR_SET_PDEATHSIG = 1  # of prctl(2); it holds across exec, and for this process alone


def bind(parent: int) -> None:
    """Has this process killed when the thread that started it ends, even by kill -9.

    Args:
        parent: pid of the process that started it, as that process knew it: it may have died since.
    """
    if sys.platform == "linux":
        ctypes.CDLL(None, use_errno=True).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != parent:
            os.kill(os.getpid(), signal.SIGKILL)


def command(*words: str) -> list[str]:
    """A command line that starts a program bound to this process, if this process itself starts it."""
    return [sys.executable, "-S", os.path.abspath(__file__), str(os.getpid()), *words]


if __name__ == "__main__":
    bind(int(sys.argv[1]))
    os.execv(sys.argv[2], sys.argv[2:])
