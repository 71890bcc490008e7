"""record/: the file of an episode, how it is written and verified, and how its frames stream to the VAE.

record/<seed>.npz, one episode of T frames; row t holds the frame, action and reward of step t:
    obs     uint8   [T, 64, 64, 3]
    action  float16 [T] or [T, A]     the action taken on seeing obs[t], as the MDN-RNN reads it
    reward  float32 [T]               what that action brought
    done    bool    [T]               whether it ended the episode; nowhere if the recording was cut, or time was up
"""

import collections
import contextlib
import hashlib
import itertools
import math
import os
import re
import sys
import zipfile
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike

from common.runtime import files, provenance, seeds
from common.runtime.cli import UserError

if TYPE_CHECKING:
    import tensorflow as tf  # at run time only where it is needed: recorders work without it

FRAME = (64, 64, 3)
MOST_BYTES = 2**31  # of an episode in memory: 170,000 frames


def write(folder: str, seed: int, obs: ArrayLike, action: ArrayLike, reward: ArrayLike, done: ArrayLike) -> None:
    """Writes one episode atomically; see the head of this file for shapes and dtypes."""
    arrays = {
        "obs": np.asarray(obs, np.uint8),
        "action": np.asarray(action, np.float16),
        "reward": np.asarray(reward, np.float32),
        "done": np.asarray(done, bool),
    }
    files.write_npz(os.path.join(folder, f"{seed}.npz"), **arrays)


def read(path: str) -> dict[str, np.ndarray]:
    """Reads and verifies one episode.

    Returns:
        {name: array}, see the head of this file; recordings made by the authors' code have no `reward` and `done`.

    Raises:
        ValueError: the file is truncated, not an npz, or does not hold an episode.
    """
    try:
        episode = files.read_npz(path, MOST_BYTES)
    except FileNotFoundError as error:
        raise ValueError(f"{path}: no such file") from error
    missing = {"obs", "action"} - episode.keys()
    if missing:
        raise ValueError(f"{path}: holds no {' and no '.join(sorted(missing))}")
    frames = episode["obs"].shape[0] if episode["obs"].ndim else 0
    if episode["obs"].shape[1:] != FRAME or episode["obs"].dtype != np.uint8 or frames == 0:
        raise ValueError(f"{path}: obs is {episode['obs'].dtype}{list(episode['obs'].shape)}, not uint8[T, 64, 64, 3]")
    for name, array in episode.items():
        if array.shape[:1] != (frames,):
            raise ValueError(f"{path}: {name} has shape {list(array.shape)} beside {frames} frames")
    if episode["action"].dtype.kind not in "fiu":
        raise ValueError(f"{path}: action is {episode['action'].dtype}, not numbers")
    if not np.isfinite(episode["action"]).all():
        raise ValueError(f"{path}: an action is not finite")
    return episode


def _frame_count(path: str) -> int:
    """The number of frames of a recording by its header alone, a thousand times faster than reading it."""
    try:
        with zipfile.ZipFile(path) as archive, archive.open("obs.npy") as entry:
            shape, _, dtype = files.npy_header(entry)
    except Exception as error:  # zipfile, zlib and NumPy report damage by ten kinds of exception
        raise ValueError(f"{path}: not readable as npz ({error})") from error
    if len(shape) != 4 or shape[1:] != FRAME or dtype != np.uint8 or shape[0] == 0:
        raise ValueError(f"{path}: obs is {dtype}{list(shape)}, not uint8[T, 64, 64, 3]")
    return shape[0]


def action_size(path: str) -> int:
    """The numbers in an action of a recording by its header alone; 0 where it is damaged, which `read` will name."""
    try:
        with zipfile.ZipFile(path) as archive, archive.open("action.npy") as entry:
            shape, _, _ = files.npy_header(entry)
    except Exception:
        return 0
    return shape[1] if len(shape) > 1 else 1


def has_reward(path: str) -> bool:
    """Whether a recording holds rewards; those of the authors' code do not."""
    with zipfile.ZipFile(path) as archive:
        return "reward.npy" in archive.namelist()


def _of_this_game(path: str, sizes: Collection[int], game: str, spans: Iterable[tuple[range, str]]) -> int:
    """The numbers in an action of a recording; ValueError if it is of another game by them or by its summary."""
    seed, size = int(os.path.basename(path)[:-4]), action_size(path)
    other = next((owner for span, owner in spans if seed in span), game)
    if game and other != game:
        raise ValueError(f"{path}: was recorded in {other}, as its summary says, not in {game}")
    if sizes and size and size not in sizes:
        known = " or ".join(map(str, sizes))
        raise ValueError(f"{path}: its actions are of {size} numbers, those of this game of {known}; is it another's?")
    return size


def owners(folder: str, *endings: str) -> list[tuple[range, str]]:
    """Which seeds belong to which recording of a folder.

    Args:
        folder: a record/ folder, or none.
        *endings: of the files to read: "summary" for finished recordings, "begun" for those that were interrupted.

    Returns:
        [(seeds, the name of the game they are of)], by first seed; without the files that are damaged.
    """
    found = []
    for name in _by_seed(folder, *endings):
        with contextlib.suppress(ValueError, KeyError, TypeError):  # damaged, as `sources` will say
            about = files.read_json(os.path.join(folder, name))
            found.append((_span_of(about), str(about["game"])))
    return found


def _by_seed(folder: str, *endings: str) -> list[str]:
    """The names of the files <first_seed>.<ending>.json of a folder, by first seed; those without one come last."""

    def place(name: str) -> tuple[float, str]:
        seed = name.split(".")[0]
        return int(seed) if re.fullmatch("[0-9]+", seed) else math.inf, name

    names = os.listdir(folder) if os.path.isdir(folder) else []
    return sorted((name for name in names if name.endswith(tuple(f".{end}.json" for end in endings))), key=place)


def _span_of(about: Mapping[str, Any]) -> range:
    """The seeds of a summary; KeyError or TypeError if it is none."""
    config = about["config"]
    return range(config["first_seed"], config["first_seed"] + config["episodes"])


def _usual(sizes: Sequence[int]) -> int:
    """The size of most actions, the first of equals; 0, which stands for damage, only if there is no other."""
    counts = collections.Counter(size for size in sizes if size)
    return counts.most_common(1)[0][0] if counts else 0


def set_bad_aside(folder: str, seeds: Iterable[int]) -> list[int]:
    """Renames the bad recordings of these seeds to <seed>.npz.bad, so that they can be made again, and prints them.

    Returns:
        The seeds that have no good recording.
    """
    missing = []
    for seed in seeds:
        path = os.path.join(folder, f"{seed}.npz")
        if os.path.exists(path):
            try:
                _frame_count(path)
                continue
            except ValueError as error:
                os.replace(path, f"{path}.bad")
                print(f"set aside as {seed}.npz.bad: {error}")
        missing.append(seed)
    return missing


def bad_ones(folder: str, seeds: Iterable[int]) -> int:
    """How many recordings of these seeds have been set aside."""
    return sum(os.path.exists(os.path.join(folder, f"{seed}.npz.bad")) for seed in seeds)


def are_in(folder: str) -> bool:
    """Whether a folder holds a recording, good or bad; there may be no such folder."""
    return os.path.isdir(folder) and any(name.endswith(".npz") for name in os.listdir(folder))


def scan(folder: str, action_sizes: Collection[int] = (), game: str = "") -> tuple[list[str], np.ndarray]:
    """Lists the recordings of a folder by seed. The bad ones are printed and skipped, but not deleted.

    No MDN-RNN can learn from actions of several sizes: the recordings with the size of most are taken.

    Args:
        folder: a record/ folder.
        action_sizes: of the game; recordings with other actions are bad. () means any.
        game: its name; recordings of another, by their summaries, are bad. "" means any.

    Returns:
        (paths, lengths): the files, and the frames of each, int [E].

    Raises:
        UserError: no folder, or no good recording in it.
    """
    if not os.path.isdir(folder):
        raise UserError(f"{folder}: no such folder; record episodes first with: bash extract.bash")
    found = [name for name in os.listdir(folder) if name.endswith(".npz")]
    names = [name for name in found if re.fullmatch(r"[0-9]+\.npz", name)]
    for name in sorted(set(found) - set(names)):
        print(f"skipped: {os.path.join(folder, name)}: a recording is named by its seed; rename it, such as 2000.npz")
    spans = owners(folder, "summary") if game else []
    good: list[tuple[str, int, int]] = []
    bad = 0
    for name in sorted(names, key=lambda name: int(name[:-4])):
        try:
            path = os.path.join(folder, name)
            good.append((path, _frame_count(path), _of_this_game(path, action_sizes, game, spans)))
        except ValueError as error:
            bad += 1
            print(f"skipped: {error}")
    usual = _usual([size for _, _, size in good])
    for path, _, size in good if action_sizes else ():
        if size not in (usual, 0):
            bad += 1
            print(f"skipped: {path}: has {size} numbers in an action, most others here {usual}; give it another --run")
    if action_sizes:
        good = [row for row in good if row[2] in (usual, 0)]
    if bad:
        print(f"{bad} of {len(names)} recordings in {folder} are bad and were skipped")
    if not good:
        raise UserError(f"{folder}: holds no readable recording; record episodes first with: bash extract.bash")
    return [path for path, _, _ in good], np.array([frames for _, frames, _ in good])


def sources(folder: str, paths: Iterable[str]) -> list[dict[str, Any]]:
    """Where recordings come from, by the summaries that extract.py wrote beside them.

    Args:
        folder: a record/ folder.
        paths: its recordings.

    Returns:
        One dict per command, {first_seed, episodes, policy, parents, commit, ..., count}, where `count` is the number
        of its recordings; at last {"unknown": count, "unverified": True} if some recordings have no summary.
    """
    left = {int(os.path.basename(path)[:-4]) for path in paths}
    found: list[dict[str, Any]] = []
    for name in _by_seed(folder, "summary"):
        try:
            about = files.read_json(os.path.join(folder, name))
            config, span_of = about["config"], _span_of(about)
            own = {seed for seed in left if seed in span_of}
        except (ValueError, KeyError, TypeError):
            print(f"{os.path.join(folder, name)}: damaged; the origin of its recordings counts as unknown")
            continue
        if own:
            kept = {key: about.get(key) for key in ("game", "command", "commit", "made", "parents")}
            kept |= {"unverified": True} if about.get("unverified") else {}
            who = {"controller": config["controller"]} if config.get("controller") else {"policy": config.get("policy")}
            span = {"first_seed": config["first_seed"], "episodes": config["episodes"], "count": len(own)}
            found.append(span | who | kept)
            left -= own
    if left:
        print(f"unverified: {folder}: no summary tells who played {len(left)} of the recordings", file=sys.stderr)
    return found + ([{"unknown": len(left), "unverified": True}] if left else [])


def training_sources(folder: str, paths: Iterable[str], unverified: bool) -> list[dict[str, Any]]:
    """Where recordings that are to be learned from come from, see `sources`.

    Args:
        folder: a record/ folder.
        paths: its recordings.
        unverified: go on with seeds that are not for training; the sources then say so.

    Raises:
        UserError: one of them is of a validation or test seed, or of no seed that extract.py records.
    """
    paths = list(paths)
    found = sources(folder, paths)
    try:
        seeds.check([int(os.path.basename(path)[:-4]) for path in paths], "training", folder)
    except UserError as error:
        provenance.pass_over(str(error), "take the others out, or go on with --unverified", unverified)
        found.append({"other_seeds": str(error), "unverified": True})
    return found


class FrameStream:
    """Shuffled batches of single frames from all episodes of a folder, in memory that does not grow with their number.

    Each pass reads the episodes in a new random order, a window of about `window` frames at a time. The frames of a
    window are shuffled and cut into batches; the remainder is left for another pass. The order follows from the seed
    alone, so that a stream started at batch k yields what an uninterrupted one would.

    Args:
        folder: a record/ folder.
        batch_size: frames per batch.
        seed: decides the order.
        window: frames in memory at once, 12 kB each; a second window is read in the background.
        mirror: whether half of the frames are seen as a mirror shows them, left and right exchanged.
        action_sizes, game: see `scan`.

    Raises:
        UserError: no readable recording, or fewer frames than one batch.
    """

    def __init__(
        self,
        folder: str,
        batch_size: int,
        seed: int,
        window: int = 16384,
        mirror: bool = False,
        action_sizes: Collection[int] = (),
        game: str = "",
    ) -> None:
        self.mirror = mirror
        self.paths, self.lengths = scan(folder, action_sizes, game)
        names = [
            f"{os.path.basename(path)} {length} {os.path.getsize(path)}"
            for path, length in zip(self.paths, self.lengths, strict=True)
        ]
        self.source = hashlib.sha256("\n".join(names).encode()).hexdigest()
        """identifies the recordings, by their seeds, lengths and sizes"""
        self.batch_size, self.seed, self.window = batch_size, seed, max(window, batch_size)
        if self.lengths.sum() < batch_size:
            raise UserError(f"{folder}: {self.lengths.sum()} frames are fewer than one batch of {batch_size}")
        self.bad: set[int] = set()
        self.failure: Exception | None = None
        """what ended reading ahead in the background, where TensorFlow makes another error of it"""

    def _windows(self, epoch: int) -> list[tuple[np.ndarray, int]]:
        """[(episode indices, batches)] of one pass."""
        order = np.random.default_rng([self.seed, epoch]).permutation(len(self.paths))
        edges = np.cumsum(self.lengths[order]) // self.window
        groups = [order[edges == edge] for edge in np.unique(edges)]
        if len(groups) > 1 and self.lengths[groups[-1]].sum() < self.batch_size:
            groups[-2:] = [np.concatenate(groups[-2:])]
        return [(group, self.lengths[group].sum() // self.batch_size) for group in groups]

    def _load(self, group: np.ndarray, epoch: int, number: int) -> np.ndarray:
        """The frames of a window, shuffled, uint8 [frames, 64, 64, 3]; bad episodes are replaced by others."""
        loaded = []
        for index in group:
            try:
                loaded.append(read(self.paths[index])["obs"])
            except (ValueError, FileNotFoundError) as error:
                if index not in self.bad:
                    print(f"\nskipped: {error}")
                self.bad.add(index)
        if not loaded:
            raise UserError("all recordings of a window are bad (named above); record them again")
        frames = np.concatenate(loaded)
        rng = np.random.default_rng([self.seed, epoch, number])
        order = rng.permutation(int(self.lengths[group].sum()))
        frames = frames[order % len(frames)]
        if self.mirror:
            flipped = rng.random(len(frames)) < 0.5
            frames[flipped] = frames[flipped, :, ::-1]
        return frames

    def batches(self, start: int = 0) -> Iterator[np.ndarray]:
        """Yields uint8 [batch_size, 64, 64, 3] without end, beginning with batch number `start`."""
        epoch = 0
        while True:
            for number, (group, count) in enumerate(self._windows(epoch)):
                if start >= count:
                    start -= count
                    continue
                frames = self._load(group, epoch, number)
                for batch in range(start, count):
                    yield frames[batch * self.batch_size : (batch + 1) * self.batch_size]
                start = 0
            epoch += 1

    def dataset(self, start: int = 0, stop: int | None = None) -> "tf.data.Dataset":
        """The same batches, up to number `stop`, as a tf.data.Dataset that reads ahead in the background."""
        import tensorflow as tf

        signature = tf.TensorSpec((self.batch_size, *FRAME), tf.uint8)

        def batches() -> Iterator[np.ndarray]:
            last = None if stop is None else stop - start  # reading on would delay the end of the program
            try:
                yield from itertools.islice(self.batches(start), last)
            except Exception as error:
                self.failure = error
                raise

        return tf.data.Dataset.from_generator(batches, output_signature=signature).prefetch(64)
