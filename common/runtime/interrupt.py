"""Ctrl-C: the shell is back within two seconds, with exit code 130, whatever a program is doing."""

import atexit
import contextlib
import os
import signal
import sys
import threading
import time
from collections.abc import Iterator

GRACE = 1.0  # seconds between Ctrl-C and the end
_interrupted = threading.Event()


def same_command() -> str:
    """How to name the command with which stopped work continues: given again, --fresh would set it aside."""
    return "the same command" + " without --fresh" * ("--fresh" in sys.argv)


def message() -> str:
    """What is said after Ctrl-C."""
    return f"interrupted; {same_command()} continues from the last checkpoint"


@atexit.register  # this module is imported before others: it is called after what they register
def _leave() -> None:
    """After Ctrl-C, ends the program at once: libraries may take long to shut down."""
    if _interrupted.is_set():
        for stream in (sys.stdout, sys.stderr):
            with contextlib.suppress(OSError, ValueError):
                stream.flush()
        os._exit(130)


def _is_usual() -> bool:
    """Whether Ctrl-C does what Python has it do: not in the background, nor in a thread, nor in a debugger."""
    handler = signal.getsignal(signal.SIGINT)
    return threading.current_thread() == threading.main_thread() and handler in (signal.default_int_handler, _end)


def _end(*_: object) -> None:
    os.write(2, b"interrupted\n")
    os._exit(130)


def ends_at_once() -> None:
    """Has Ctrl-C end this program, while it loads its libraries."""
    if _is_usual():
        signal.signal(signal.SIGINT, _end)


@contextlib.contextmanager
def not_for_children() -> Iterator[None]:
    """Within, processes are started to which Ctrl-C is not given, which a terminal sends to all of a command."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})  # they inherit it
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


@contextlib.contextmanager
def ends_soon() -> Iterator[threading.Event]:
    """Within, Ctrl-C raises KeyboardInterrupt once, and ends this process after GRACE seconds if that did not.

    Threads finish their block of games before Python ends, and a library may be deep in a computation, or swallow the
    exception. So the byte that a signal writes to the wake-up descriptor is read by a thread that waits for nothing.

    Yields:
        An event to be set when the main thread says that it was interrupted; else the other thread does.
    """
    noticed = threading.Event()
    if not _is_usual():
        yield noticed
        return
    reader, writer = os.pipe()
    os.set_blocking(writer, False)

    def end() -> None:
        heard = b"any"
        while heard and heard[0] != signal.SIGINT:
            heard = os.read(reader, 1)
        os.close(reader)
        if heard:
            time.sleep(GRACE)
            if not noticed.is_set():
                os.write(2, f"\n{sys.argv[0]}: {message()}\n".encode())
            os._exit(130)

    def interrupt(*_: object) -> None:
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # a second one would only disturb the end
        _interrupted.set()
        raise KeyboardInterrupt

    threading.Thread(target=end, daemon=True).start()
    handler, descriptor = signal.signal(signal.SIGINT, interrupt), signal.set_wakeup_fd(writer)
    try:
        yield noticed
    finally:
        if not _interrupted.is_set():
            signal.set_wakeup_fd(descriptor)
            signal.signal(signal.SIGINT, handler)
            os.close(writer)
