"""From a stage's frozen dataclass to its command line, and from a user's mistake to one line and exit code 2."""

import argparse
import dataclasses
import errno
import io
import math
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NoReturn, TypeVar

from common.runtime import interrupt

UNVERIFIED = "use files without a valid .meta.json, such as those of the authors; the results say so"
Config = TypeVar("Config")
LARGEST = 2**31 - 1  # of any int: seeds and sizes are int32 to one library or another
LARGEST_FLOAT = 1_000_000  # of any float: far beyond all meaning, and its square is finite as a float32
# errors of the system that are no fault of the program: a disk, what lies in the way of a file, the limits of a process
OUTSIDE = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EACCES, errno.EPERM, errno.EIO, errno.ESTALE}
OUTSIDE |= {errno.EISDIR, errno.ENOTDIR, errno.EEXIST, errno.ENAMETOOLONG, errno.ELOOP}
OUTSIDE |= {errno.EMFILE, errno.ENFILE, errno.EAGAIN, errno.ENOMEM}


class UserError(Exception):
    """A mistake that the user can correct: the message says what is wrong, with which file or value, and what to do."""


class DiedError(RuntimeError):
    """A process that the work needs has ended: the message says which. It is no mistake of the user."""


def number(kind: type[int] | type[float], least: float, most: float = math.inf) -> Callable[[str], Any]:
    """An argparse type: an int or a float from `least` to `most`."""

    def read(text: str) -> Any:
        value, limit = kind(text), min(most, LARGEST if kind is int else LARGEST_FLOAT)
        if not least <= value <= limit:  # NaN is neither
            upper = "up" if math.isinf(most) and value < least else f"to {limit}"
            raise argparse.ArgumentTypeError(f"{text}: give a number from {least} {upper}")
        return value

    read.__name__ = kind.__name__  # what argparse calls it where the text is no number
    return read


def new_file(path: str) -> str:
    """An argparse type: a file that can be written. An error comes before the work, not at its end."""
    if not path or path.endswith(os.sep) or os.path.isdir(path):
        raise argparse.ArgumentTypeError(f"{path!r}: is no name of a file; give one")
    if os.path.exists(path) and not os.path.isfile(path):  # such as /dev/null, which the new file would replace
        raise argparse.ArgumentTypeError(f"{path}: is there, and is no ordinary file; give another name")
    folder, name = os.path.split(os.path.abspath(path))
    names = [name]
    while not os.path.exists(folder):  # it will be made
        folder, name = os.path.split(folder)
        names.append(name)
    trial = os.path.join(folder, f"{max(names, key=len)}.tmp{os.getpid()}")  # as files.atomic names it
    try:
        with open(trial, "xb"):
            os.remove(trial)
    except OSError as error:
        raise argparse.ArgumentTypeError(f"{path}: cannot be written ({error.strerror}); give another name") from None
    return path


def option(
    default: Any,
    help: str,
    *short: str,
    choices: Sequence[str] | None = None,
    least: float | None = None,
    most: float = math.inf,
) -> Any:
    """A dataclass field that is also a command-line flag.

    Args:
        default: value of the field when neither preset nor flag sets it; its type is the type of the flag.
        help: one line for `--help`: meaning and unit.
        *short: the authors' names for the same flag, such as "-n".
        choices: the allowed values; by default all.
        least: lower limit of a number; by default 1 for an int and 0 for a float.
        most: upper limit of a number; by default `LARGEST` for an int, and `LARGEST_FLOAT` for a float.

    Returns:
        A dataclasses.field.
    """
    metadata = {"help": help, "short": short, "choices": choices, "least": least, "most": most}
    return dataclasses.field(default=default, metadata=metadata)


class _Help(argparse.RawDescriptionHelpFormatter):
    """Help that tells the defaults, and leaves the lines of a docstring as they are."""

    def _get_help_string(self, action: argparse.Action) -> str:
        text = action.help or ""
        tells = action.default not in (None, "", False, argparse.SUPPRESS) and "default" not in text
        return text + " (default: %(default)s)" * tells


class OneLineParser(argparse.ArgumentParser):
    """An argparse parser with errors of one line, which never guesses an abbreviated flag; its help tells defaults."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(allow_abbrev=False, formatter_class=_Help, **kwargs)

    def error(self, message: str) -> NoReturn:
        """Prints the message and exits with code 2."""
        print(f"{self.prog}: {message} (see {self.prog} --help)", file=sys.stderr)
        sys.exit(2)


def add_options(parser: argparse.ArgumentParser, instance: Any, preset: str) -> None:
    """Gives `parser` one flag for every `option` of a dataclass instance, which is the preset of that name."""
    for field in dataclasses.fields(instance):
        value = getattr(instance, field.name)
        flags = [f"--{field.name}", *field.metadata["short"]]
        kind: dict[str, Any] = {"type": type(value), "choices": field.metadata["choices"]}
        if isinstance(value, bool):
            kind = {"action": argparse.BooleanOptionalAction}
        elif not isinstance(value, str):
            least = field.metadata["least"]
            least = (1 if isinstance(value, int) else 0) if least is None else least
            kind["type"] = number(type(value), least, field.metadata["most"])
        usual = "on" if value is True else "off" if value is False else value
        text = field.metadata["help"] + f" ({preset}: {usual})" * (usual != "")
        # no default here: an absent flag must not overwrite what the preset says
        parser.add_argument(*flags, dest=field.name, default=argparse.SUPPRESS, help=text, **kind)


def parse(
    presets: Mapping[str, Config], description: str | None, argv: Sequence[str] | None = None
) -> tuple[Config, argparse.Namespace]:
    """Reads `--preset`, `--run`, `--fresh` and one flag per config field.

    Args:
        presets: {name: config instance}, all of one dataclass; "laptop" is the default.
        description: docstring of the stage, shown by `--help`.
        argv: the command line, by default sys.argv.

    Returns:
        (config, arguments): the preset with the flags applied, and a namespace with `preset`, `run`, `fresh`,
        `unverified` and those options that the user gave.
    """
    parser = OneLineParser(description=description)
    parser.add_argument("--preset", choices=sorted(presets), default="laptop", help="which set of values to start from")
    parser.add_argument("--run", default=".", metavar="DIR", help="folder that holds record/, series/, tf_*/ and log/")
    parser.add_argument("--fresh", action="store_true", help="set an earlier result of this stage aside and start anew")
    parser.add_argument("--unverified", action="store_true", help=UNVERIFIED)
    add_options(parser, presets["laptop"], "laptop")
    arguments = parser.parse_args(argv)
    chosen = {k: v for k, v in vars(arguments).items() if k not in ("preset", "run", "fresh", "unverified")}
    preset: Any = presets[arguments.preset]
    return dataclasses.replace(preset, **chosen), arguments


def check(stages: Mapping[str, Mapping[str, Any]], argv: Sequence[str] | None = None) -> dict[str, Any]:
    """Reads a command line that several stages are to be given. It ends with code 2 where one of them would refuse it.

    Args:
        stages: {name of the script: its presets}.
        argv: the command line, by default sys.argv.

    Returns:
        {name of the script: what `parse` makes of the command line}.
    """
    words, parsed, program = sys.argv[1:] if argv is None else argv, {}, sys.argv[0]
    for name, presets in stages.items():
        sys.argv[0] = f"{name}.py"  # what the parser calls itself
        parsed[name] = parse(presets, None, words)
    sys.argv[0] = program
    return parsed


def words(flags: Mapping[str, Any]) -> list[str]:
    """The flags {name: value} as a command line has them."""
    found = []
    for flag, value in flags.items():
        if isinstance(value, bool):
            found.append(f"--{flag}" if value else f"--no-{flag}")
        else:
            found += [f"--{flag}", str(value)]
    return found


def run_main(main: Callable[[], None]) -> None:
    """Calls main(). An error that the user can correct is one line on stderr and exit code 2; Ctrl-C is code 130."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")  # a terminal of ASCII only shows ? for ±
    with interrupt.ends_soon() as noticed:
        try:
            main()
        except UserError as error:
            sys.exit(_said(error, 2))
        except OSError as error:
            if error.errno not in OUTSIDE:
                raise
            file = error.filename or "a file"
            then = f"complete files are kept; correct this, and {interrupt.same_command()} continues"
            sys.exit(_said(f"{file}: {error.strerror}; {then}", 2))
        except (MemoryError, DiedError) as error:
            what = f"out of memory ({error})" if isinstance(error, MemoryError) else error
            then = f"{interrupt.same_command()} continues from the last checkpoint, if there is one"
            sys.exit(_said(f"{what}; {then}", 1))
        except KeyboardInterrupt:
            noticed.set()
            sys.exit(_said(interrupt.message(), 130))
        except Exception as error:
            if type(error).__name__ != "ResourceExhaustedError":  # TensorFlow's, which is not loaded for its name
                raise
            what = str(error).partition("\n")[0]
            sys.exit(_said(f"out of memory ({what}); give smaller sizes, or a machine with more", 1))


def _said(message: object, code: int) -> int:
    """Prints the last line of a program; returns its exit code."""
    print(f"{sys.argv[0]}: {message}", file=sys.stderr)
    return code
