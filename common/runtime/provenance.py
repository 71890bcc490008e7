"""Where a file comes from: <file>.meta.json beside every file that others build on, checked whenever that is loaded.

A meta holds the sha256 of its file, the command, the commit, config, seed, versions, dtype, machine and seconds of its
making, and its parents by their sha256. A file that was moved keeps its meta; a file that was edited matches it no longer.
Nothing is loaded without a meta that matches, unless the user says `--unverified`.
"""

import contextlib
import dataclasses
import functools
import importlib.metadata
import os
import platform
import subprocess
import sys
import time
from typing import Any

from common.runtime import files
from common.runtime.cli import UserError

ENDING = ".meta.json"
PACKAGES = ("tensorflow", "keras", "numpy", "pillow", "cma", "gymnasium", "gym", "box2d", "envpool", "vizdoom")
ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))


@functools.cache
def commit() -> str | None:
    """The commit of this code, with "-dirty" where files differ from it; None without git."""
    git = ["git", "-C", ROOT, "describe", "--always", "--dirty", "--exclude=*", "--abbrev=40"]
    with contextlib.suppress(OSError):  # no git here
        return subprocess.run(git, capture_output=True, text=True).stdout.strip() or None
    return None


@functools.cache
def versions() -> dict[str, str]:
    """{package: version} of the packages that a result can depend on, and of Python."""
    found = {"python": platform.python_version()}
    for name in PACKAGES:
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            found[name] = importlib.metadata.version(name)
    return found


def command() -> list[str]:
    """This command as the user typed it, without the path of Python."""
    return [os.path.basename(sys.argv[0]), *sys.argv[1:]]


@functools.cache
def machine() -> str:
    """The processor and how many cores of it, as far as the system tells."""
    with contextlib.suppress(OSError), open("/proc/cpuinfo") as file:
        for line in file:
            if line.startswith("model name"):
                return f"{line.split(':', 1)[1].strip()}, {os.cpu_count()} cores"
    return f"{platform.machine()}, {os.cpu_count()} cores"


def about_now() -> dict[str, Any]:
    """What is true of everything that this process writes: {command, commit, versions, machine, made, dtype}."""
    about = {
        "command": command(),
        "commit": commit(),
        "versions": versions(),
        "machine": machine(),
        "made": time.strftime("%Y-%m-%d %H:%M:%S%z"),
    }
    if "tensorflow" in sys.modules:
        from common.runtime import devices

        about["dtype"] = devices.product_dtype().name
    return about


def write(path: str, kind: str, game: str, cfg: Any, parents: dict[str, Any], seconds: float, **more: Any) -> None:
    """Writes the meta of a file that has just been written.

    Args:
        path: the file.
        kind: what it is: "vae", "rnn", "initial_z", "series" or "controller".
        game: name of the game.
        cfg: the config of the stage, a dataclass.
        parents: {what: sha256, or a list or dict that says more} of what it was made from.
        seconds: that it took, over all starts.
        **more: what else is to be known of it, such as `score`.
    """
    config = dataclasses.asdict(cfg)
    seed = config.get("seed", config.get("seed_start", config.get("first_seed")))
    meta = {"sha256": files.sha256(path), "kind": kind, "game": game, "seed": seed, "config": config}
    files.write_json(
        path + ENDING, meta | about_now() | {"seconds": round(seconds, 1), "parents": parents} | more, indent=1
    )


def read(path: str, kind: str, game: str, unverified: bool = False) -> dict[str, Any]:
    """The meta of a file, once it is sure that it is the meta of this very file.

    Args:
        path: the file.
        kind, game: what the file must be, see `write`.
        unverified: bool, go on without: the result is then {} and it is said once on stderr.

    Raises:
        UserError: no such file, no meta, or one that does not match; unless `unverified`.
    """
    if not os.path.exists(path):
        raise UserError(f"{path}: no such file")
    problem = None
    try:
        meta = files.read_json(path + ENDING)
        if not isinstance(meta, dict) or not all(isinstance(meta.get(name), dict) for name in ("config", "parents")):
            problem = f"{path}{ENDING}: not a meta of a file"
        elif meta.get("sha256") != files.sha256(path):
            problem = f"{path}: is not the file that its {ENDING} was written for; one of the two was changed"
        elif (meta.get("kind"), meta.get("game")) != (kind, game):
            problem = f"{path}: is the {meta.get('kind')} of {meta.get('game')}, not the {kind} of {game}"
    except FileNotFoundError:
        problem = f"{path}: has no {os.path.basename(path)}{ENDING} beside it, so nothing tells where it comes from"
    except ValueError as error:
        problem = str(error)
    if problem is None:
        return meta
    if not unverified:
        raise UserError(f"{problem}; get both again from where it was made, or use it all the same with --unverified")
    print(f"unverified: {problem}", file=sys.stderr)
    return {}


def copy(source: str, target: str) -> None:
    """Copies a file together with its meta, each whole."""
    for ending in ("", ENDING):
        with open(source + ending, "rb") as file, files.atomic(target + ending) as copied:
            copied.write(file.read())
