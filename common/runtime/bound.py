"""Processes that end when the process that started them ends, for whatever reason. This works on Linux only.

python bound.py PID PROGRAM [ARGUMENTS]      # becomes that program, bound to its parent, the process PID

With --deaf before the PID, it does not get Ctrl-C, which a terminal sends to all processes of a command.
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


def command(*words: str, deaf: bool = False) -> list[str]:
    """A command line that starts a program bound to this process, if this process itself starts it.

    Args:
        *words: the program and its arguments.
        deaf: whether Ctrl-C is not for it.
    """
    return [sys.executable, "-S", os.path.abspath(__file__), *["--deaf"] * deaf, str(os.getpid()), *words]


if __name__ == "__main__":
    words = sys.argv[1:]
    if words[0] == "--deaf":
        words = words[1:]
        signal.signal(signal.SIGINT, signal.SIG_IGN)
    bind(int(words[0]))
    os.execv(words[1], words[1:])
