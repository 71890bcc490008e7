"""Where a file comes from: <file>.meta.json beside every file that others build on, checked whenever that is loaded.

A meta holds the sha256 of its file, the command, the commit, config, seed, versions, dtype, machine and seconds of its
making, and its parents by their sha256. A file that was moved keeps its meta; a file that was edited matches it no
longer. The last entry of a meta is the sha256 of its own text, so that an edited meta shows as well. Nothing is loaded
without a meta that matches, unless the user says `--unverified`; what is made from such a file then says
`"unverified": true` in its own.
"""

import contextlib
import dataclasses
import functools
import hashlib
import importlib.metadata
import json
import os
import platform
import subprocess
import sys
import time
from typing import Any

from common.runtime import files
from common.runtime.cli import UserError

ENDING = ".meta.json"
SEAL = "meta_sha256"
UNKNOWN: dict[str, Any] = {"unverified": True, "config": {}, "parents": {}}
"""the meta of a file that has none, or a wrong one"""
PACKAGES = ("tensorflow", "keras", "numpy", "pillow", "cma", "gymnasium", "gym", "box2d", "envpool", "vizdoom")


@functools.cache
def commit() -> str | None:
    """The commit of this code, with "-dirty" where files differ from it; None without git."""
    git = ["git", "-C", files.ROOT, "describe", "--always", "--dirty", "--exclude=*", "--abbrev=40"]
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


def write(
    path: str,
    kind: str,
    game: str,
    cfg: Any,
    parents: dict[str, Any],
    seconds: float,
    *,
    unverified: bool,
    **more: Any,
) -> None:
    """Writes the meta of a file that has just been written.

    Args:
        path: the file.
        kind: what it is: "vae", "rnn", "initial_z", "series", "controller" or "evolution".
        game: name of the game.
        cfg: the config of the stage, a dataclass or a dict.
        parents: {what: sha256, or a list or dict that says more} of what it was made from.
        seconds: that it took, over all starts.
        unverified: whether one of the parents is, see `any_unverified`.
        **more: what else is to be known of it, such as `score`.
    """
    config = dict(cfg) if isinstance(cfg, dict) else dataclasses.asdict(cfg)
    seed = config.get("seed", config.get("seed_start", config.get("first_seed")))
    meta = {"sha256": files.sha256(path), "kind": kind, "game": game, "seed": seed, "config": config}
    meta |= about_now() | {"seconds": round(seconds, 1), "parents": parents} | more
    save(path, meta | ({"unverified": True} if unverified else {}))


def save(path: str, meta: dict[str, Any]) -> None:
    """Writes a meta as it is, with its own sha256 at its end."""
    with files.atomic(path + ENDING) as file:
        file.write(_text(meta))


def _text(meta: dict[str, Any]) -> bytes:
    """What the file of a meta holds, to the byte."""
    seal = hashlib.sha256(json.dumps(meta, indent=1).encode()).hexdigest()
    return json.dumps(meta | {SEAL: seal}, indent=1).encode() + b"\n"


def read(path: str, kind: str, game: str, unverified: bool = False) -> dict[str, Any]:
    """The meta of a file, once it is sure that it is the meta of this very file.

    Args:
        path: the file.
        kind: what the file must be, see `write`.
        game: the game that it must be of.
        unverified: whether to go on without a valid meta: the result is then UNKNOWN, and a line on stderr says so.

    Raises:
        UserError: no such file, no meta, or one that does not match; unless `unverified`.
    """
    if not os.path.exists(path):
        raise UserError(f"{path}: no such file")
    meta, problem = _checked(path, kind, game)
    if not problem:
        return meta
    pass_over(problem, "get both again from where it was made, or use it all the same with --unverified", unverified)
    return UNKNOWN


def _checked(path: str, kind: str, game: str) -> tuple[dict[str, Any], str]:
    """(meta, what is wrong with it, or nothing)."""
    try:
        meta = files.read_json(path + ENDING)
        with open(path + ENDING, "rb") as file:
            text = file.read()
        if not (isinstance(meta, dict) and all(isinstance(meta.get(name), dict) for name in ("config", "parents"))):
            return {}, f"{path}{ENDING}: not a meta of a file"
        meta.pop(SEAL, None)
        if text != _text(meta):
            return {}, f"{path}{ENDING}: was changed since it was written"
    except FileNotFoundError:
        return {}, f"{path}: has no {os.path.basename(path)}{ENDING} beside it, so nothing tells where it comes from"
    except (ValueError, RecursionError) as error:
        return {}, str(error)
    if meta.get("sha256") != files.sha256(path):
        return {}, f"{path}: is not the file that its {ENDING} was written for; one of the two was changed"
    if (meta.get("kind"), meta.get("game")) != (kind, game):
        return {}, f"{path}: is the {meta.get('kind')} of {meta.get('game')}, not the {kind} of {game}"
    return meta, ""


def pass_over(problem: str, advice: str, unverified: bool) -> None:
    """Raises UserError, or only says the problem on stderr if the user wants to go on with what is unverified."""
    if not unverified:
        raise UserError(f"{problem}; {advice}")
    print(f"unverified: {problem}", file=sys.stderr)


def is_known(meta: dict[str, Any]) -> bool:
    """Whether this is the meta of a file, and not UNKNOWN."""
    return "sha256" in meta


def any_unverified(*metas: dict[str, Any]) -> bool:
    """Whether a file is unverified, or was made from one that is; what is made from these files says so."""
    return any(meta.get("unverified", False) for meta in metas)


class Parents:
    """The files that a file is made from, for its meta.

    Args:
        hashes: {what: sha256} of the known ones.
        unverified: whether one of these is unverified.
    """

    def __init__(self, hashes: dict[str, Any], unverified: bool) -> None:
        self.hashes, self.unverified = dict(hashes), unverified

    def read(self, path: str, kind: str, game: str, unverified: bool) -> dict[str, Any]:
        """The meta of one more, see `read`; what to call it in `hashes` is left to the caller."""
        meta = read(path, kind, game, unverified)
        self.unverified |= any_unverified(meta)
        return meta


def forget(path: str) -> None:
    """Removes the meta of a file that is about to change, so that a kill in between leaves none that is wrong."""
    with contextlib.suppress(FileNotFoundError):
        os.remove(path + ENDING)


def copy(source: str, target: str) -> None:
    """Copies a file together with its meta, each whole."""
    for ending in ("", ENDING):
        with open(source + ending, "rb") as file, files.atomic(target + ending) as copied:
            copied.write(file.read())
