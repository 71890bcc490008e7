"""Are fireballs and monsters that a person sees in a frame of Doom in the reconstruction of a VAE too?

    python bench/small_objects.py doomrnn/tf_models/vae.json --games 12 --out bench/small_objects.json

The random policy plays validation games, and ViZDoom tells which pixels are of which object. An object is seen where
its pixels differ from the mean color around it, past its edge, by 0.1 or more (root mean square, of 1), and kept where
the same difference in the reconstruction, projected on that in the frame, is at least half of it.

    seen     objects, in all frames that are looked at
    kept     share of them in the reconstruction, ± standard error over games
    chance   the same in the reconstruction of a frame of another game, which can show no more than is in any frame
"""

from common.runtime import devices  # isort: skip  (loads TensorFlow without its banner)
import numpy as np

from common.agent import weights
from common.agent.vae import ConvVAE
from common.play import agents
from common.runtime import cli, files, provenance, runs, seeds

from doomrnn import config
from doomrnn.doomreal import DoomTakeCover
from doomrnn.game import held_actions

FIRST_SEED = seeds.SMALL_OBJECTS  # of the validation games
EVERY = 5  # tics from one frame that is looked at to the next
SEEN, KEPT = 0.1, 0.5  # see the head of this file
SMALL = 12  # pixels of 64 x 64: a small object has fewer
AROUND, EDGE = 9, 3  # pixels, sides of the squares around each pixel of an object: what is around it, what is its edge
KINDS = {"DoomImpBall": "fireball", "DoomImp": "monster"}


def main() -> None:
    """Plays, measures each VAE, prints the table, and writes the figures."""
    parser = cli.OneLineParser(description=__doc__)
    parser.add_argument("vae", nargs="+", help="a vae.json of Doom")
    parser.add_argument("--games", type=cli.number(int, 2), default=20, help="that are played")
    parser.add_argument("--out", type=cli.new_file, metavar="FILE", help="write the figures here, as JSON")
    arguments = parser.parse_args()
    names = [agents.name_of(path) for path in arguments.vae]
    if len(set(names)) < len(names):
        raise cli.UserError(f"{', '.join(names)}: the table would have two files of one name; rename one of them")
    devices.for_blocks()
    vaes = {name: weights.read_vae(path) for name, path in zip(names, arguments.vae, strict=True)}
    games = play(range(FIRST_SEED, FIRST_SEED + arguments.games))
    figures = {name: measured(games, decoded(games, model)) for name, model in vaes.items()}
    print(table(figures))
    if arguments.out:
        hashes = {name: files.sha256(path) for name, path in zip(names, arguments.vae, strict=True)}
        about = {"games": arguments.games, "every": EVERY, "sha256": hashes, **provenance.about_now()}
        files.write_json(arguments.out, about | {"figures": figures}, indent=1)


def play(episodes: range) -> list[list[tuple[np.ndarray, list[tuple[str, np.ndarray]]]]]:
    """For each game [(frame uint8 [64, 64, 3], its objects, see DoomTakeCover.objects)]."""
    seeds.check(episodes, "validation", "--games")
    world, games = DoomTakeCover(labels=True), []
    with runs.progress(len(episodes), 0, "play") as bar:
        for seed in episodes:
            policy, frame, done, tic = (
                held_actions(np.array([seed]), config.EXTRACT["laptop"]),
                world.reset(seed),
                False,
                0,
            )
            games.append([])
            while not done:
                if tic % EVERY == 0:
                    games[-1].append((frame, world.objects()))
                (frame, _, done), tic = world.step(policy.act(frame[None])[0]), tic + 1
            bar.update()
    return games


def decoded(games: list, model: ConvVAE) -> list[np.ndarray]:
    """The reconstructions of a VAE, from the mean of z: for each game float32 [N, 64, 64, 3]."""
    return [np.array(model.decode(model.encode(np.stack([frame for frame, _ in game]))[0])) for game in games]


def measured(games: list, made: list[np.ndarray]) -> dict[str, dict[str, float]]:
    """{kind of object: its figures}, see the head of this file.

    Args:
        games: as `play` returns them.
        made: as `decoded` returns them.
    """
    found = [[] for _ in games]
    for number, game in enumerate(games):
        other = made[number - 1]
        for k, (frame, objects) in enumerate(game):
            for kind, mask, around in seen_objects(frame / 255, objects):
                kept = [
                    share_kept(frame / 255, picture, mask, around) >= KEPT
                    for picture in (made[number][k], other[k % len(other)])
                ]
                found[number].append((kind, *kept))
    kinds = [f"{size} {kind}" for kind in KINDS.values() for size in ("small", "large")]
    return {kind: _figures([[row[1:] for row in rows if row[0] == kind] for rows in found]) for kind in kinds}


def _figures(games: list[list[tuple[bool, bool]]]) -> dict[str, float]:
    """Figures of the objects of one kind: for each game [(kept, kept by chance)]."""
    games = [rows for rows in games if rows]
    rows = np.concatenate([np.zeros((0, 2)), *games])
    kept, chance = rows.mean(axis=0) if len(rows) else (0.0, 0.0)
    # of a ratio of sums over games, for objects of one game are much alike
    off = [np.sum([row[0] for row in game]) - kept * len(game) for game in games]
    stderr = np.sqrt(len(games) * np.var(off, ddof=1)) / len(rows) if len(games) > 1 else 0.0
    return {"seen": len(rows), "kept": float(kept), "stderr": float(stderr), "chance": float(chance)}


def seen_objects(frame: np.ndarray, objects: list[tuple[str, np.ndarray]]) -> list[tuple[str, np.ndarray, np.ndarray]]:
    """[(kind, its pixels, those around it, each bool [64, 64])] of the objects that a person sees in a frame."""
    # pixels at the edge are partly the object's
    any_object = np.any([np.zeros((64, 64), bool), *(grown(mask, EDGE) for _, mask in objects)], axis=0)
    found = []
    for name, mask in objects:
        around = grown(mask, AROUND) & ~any_object
        if name not in KINDS or not mask.any() or not around.any():
            continue
        if np.sqrt(np.mean(difference(frame, mask, around) ** 2)) >= SEEN:
            found.append((f"{'small' if mask.sum() < SMALL else 'large'} {KINDS[name]}", mask, around))
    return found


def grown(mask: np.ndarray, side: int) -> np.ndarray:
    """The pixels in the squares of this side around those of a mask, bool [64, 64]."""
    squares = np.lib.stride_tricks.sliding_window_view(np.pad(mask, side // 2), (side, side))
    return squares.any(axis=(2, 3))


def difference(picture: np.ndarray, mask: np.ndarray, around: np.ndarray) -> np.ndarray:
    """What the pixels of an object differ by from the mean color around it, float [N, 3]."""
    return picture[mask] - picture[around].mean(axis=0)


def share_kept(frame: np.ndarray, picture: np.ndarray, mask: np.ndarray, around: np.ndarray) -> float:
    """The share of an object's difference in a frame that a reconstruction shows: 0 without it, 1 if it is the same."""
    wanted, made = difference(frame, mask, around), difference(picture, mask, around)
    return float(np.sum(wanted * made) / np.sum(wanted**2))


def table(figures: dict[str, dict[str, dict[str, float]]]) -> str:
    """The figures of all VAEs as a table of Markdown."""
    lines = ["| VAE | object | seen | kept | chance |", "|---|---|---|---|---|"]
    for name, kinds in figures.items():
        for kind, row in kinds.items():
            kept = f"{100 * row['kept']:.0f} ± {100 * row['stderr']:.0f} %"
            lines.append(f"| `{name}` | {kind} | {row['seen']} | {kept} | {100 * row['chance']:.0f} % |")
    return "\n".join(lines)


if __name__ == "__main__":
    cli.run_main(main)
