"""What the benches that train and play share: a command of a game, its result, and a table in a page."""

import os
import re
import subprocess
import sys
from collections.abc import Iterable
from typing import Any

import numpy as np

from common.game import Game
from common.runtime import bound, cli, files, provenance


class NotFinite(cli.UserError):
    """A training stopped because a loss or a gradient is not finite."""


def command(game: Game, script: str, *flags: Any) -> None:
    """A command of the game, which ends when this process does; UserError if it fails, NotFinite if that is why."""
    words, error = [f"{script}.py", *map(str, flags)], cli.UserError
    pipe = subprocess.PIPE if "--gan" in flags else None  # of others a terminal shows the progress as it goes on
    child = {"cwd": game.folder, "stderr": pipe, "text": True, "errors": "replace"}
    with subprocess.Popen(bound.command(sys.executable, *words), **child) as process:
        for line in process.stderr or ():
            print(line, end="", file=sys.stderr, flush=True)
            if re.search(r"\.py: step \d+: .* is not finite", line):
                error = NotFinite
    if process.returncode:
        raise error(f"{' '.join(words)}: failed, see above; the same command continues")


def returns(game: Game, controller: str, first_seed: int, count: int, backend: str = "") -> np.ndarray:
    """The returns of a controller in the real game, float64 [G], the same games for all; "" is the first backend.

    What this commit has played already is not played again.
    """
    run, backend = os.path.dirname(os.path.dirname(controller)), game.backend_here(backend or game.backends[0])
    player = files.sha256(controller)[:12]  # it may have evolved on
    out = os.path.join(run, f"scores.{first_seed}.{count}.{backend}.{player}.json")
    if not (os.path.exists(out) and files.read_json(out).get("commit") == provenance.commit()):
        world = [game.world_names["real"]] if game.world_names else []
        flags = ["--episodes", count, "--run", run, "--out", out]
        flags += ["--backend", backend] if len(game.backends) > 1 else []
        command(game, "model", *world, "norender", controller, first_seed, *flags)
    return np.array([row["return"] for row in files.read_json(out)["episodes"]])


def share(source: str, target: str, parts: Any) -> None:
    """Links folders of one run into another, which has none of these yet."""
    os.makedirs(target, exist_ok=True)
    for part in parts:
        if not os.path.lexists(os.path.join(target, part)):
            os.symlink(os.path.join(source, part), os.path.join(target, part))


def chosen(only: str, names: Iterable[str]) -> list[str]:
    """The names that --only gives, "a; b", in the order of all of them; "" means all. UserError for an unknown one."""
    wanted, known = {part.strip() for part in only.split(";") if part.strip()}, list(names)
    if not wanted <= set(known):
        raise cli.UserError(f"--only {only}: there are {'; '.join(known)}")
    return [name for name in known if name in wanted or not wanted]


def merged(path: str, about: dict[str, Any], figures: dict[str, Any], names: Iterable[str]) -> dict[str, Any]:
    """What a file of figures is to hold: those of this start, and of earlier ones what it has not measured.

    Args:
        path: the file, which may be missing.
        about: what is true of this start, such as its commit.
        figures: {name: row} that it has measured.
        names: of all rows, in their order; others are left out.

    Returns:
        `about`, and under "figures" the rows; each says with which budget, at which commit and when it was measured.
    """

    def rows(about: dict[str, Any], figures: dict[str, Any]) -> dict[str, Any]:
        own = {key: about[key] for key in ("budget", "commit", "made")}
        return {name: own | row for name, row in figures.items()}

    found = rows(about, figures)
    if os.path.exists(path):
        earlier = files.read_json(path)
        found = rows(earlier, earlier["figures"]) | found
    return about | {"figures": {name: found[name] for name in names if name in found}}


def score_cell(found: dict[str, Any]) -> str:
    """The score ± its standard error of a setting, with the means of its seeds where there are several."""
    means = f" ({', '.join(f'{mean:.0f}' for mean in found['means'])})" if len(found["means"]) > 1 else ""
    return f"{found['score']:.0f} ± {found['stderr']:.0f}{means}"


def standard_error(returns: np.ndarray) -> float:
    """Of the mean return of controllers of S seeds that play the same G games: float [S, G].

    The variance is that of drawing other seeds plus that of drawing other games; one seed alone tells of games only.
    """
    seeds, count = returns.shape
    variance = returns.mean(axis=0).var(ddof=1) / count
    if seeds > 1:
        variance += returns.mean(axis=1).var(ddof=1) / seeds
    return float(np.sqrt(variance))


def insert(path: str, mark: str, text: str) -> None:
    """Puts a table between its two marks in a Markdown file."""
    before, after = around(path, mark)
    with files.atomic(path, "w") as file:
        file.write(f"{before}\n{text}\n{after}")


def around(path: str, mark: str) -> tuple[str, str]:
    """What a Markdown file has before a table and after it, with the two marks; UserError without these marks."""
    begins, ends = f"<!-- table {mark} -->", f"<!-- end {mark} -->"
    with open(path) as file:
        text = file.read()
    before, _, rest = text.partition(begins)
    _, _, after = rest.partition(ends)
    if (text.count(begins), text.count(ends), rest.count(ends)) != (1, 1, 1):
        raise cli.UserError(f"{path}: must have {begins} once, and {ends} once below it; put both where the table goes")
    return before + begins, ends + after
