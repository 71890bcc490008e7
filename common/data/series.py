"""series/: the recordings as the VAE encodes them, and the long streams of frames that the MDN-RNN learns from.

series/series.npz, all N frames of E episodes, one after the other:
    mu, logvar float16 [N, Z];  action float16 [N, A];  reward float32 [N];  done bool [N];  length int32 [E]
    recording str [E];  bytes int64 [E]    name (the seed, by which they are in order) and size of each episode's file
"""

import concurrent.futures
import copy
import functools
import glob
import itertools
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from common.data.recordings import FRAME, read
from common.runtime import files
from common.runtime.cli import UserError

if TYPE_CHECKING:
    import tensorflow as tf  # at run time only where it is needed: recorders work without it

    from common.agent.vae import ConvVAE

CUT = 2.0  # the restart flag of a first frame, if the episode before was cut: nobody knows whether it would have ended
MIRRORED = "mirrored_"  # begins the names of the arrays of mirror images
PER_EPISODE = ("length", "recording", "bytes")  # the arrays of a series that do not have a row per frame


def not_encoded(paths: Sequence[str], folder: str) -> tuple[list[str], list[str], int]:
    """Finds the recordings that are neither in the series.npz of a folder nor in a part of it.

    Args:
        paths: list of recordings.
        folder: series/.

    Returns:
        (paths, parts, gone): those recordings; the files with the encoded ones, series.npz first; and how many of the
        encoded recordings are not in the list.

    Raises:
        UserError: the series is damaged or does not say what it holds, or one of its recordings has changed since.
    """
    series = os.path.join(folder, "series.npz")
    parts: list[str] = []
    encoded: dict[str, int] = {}
    for path in [series, *sorted(glob.glob(os.path.join(glob.escape(folder), "part*.npz")))]:
        try:
            files.check_npz(path)
            arrays = files.read_npz(path, only=("recording", "bytes"))
            holds = dict(zip(arrays["recording"].tolist(), arrays["bytes"].tolist(), strict=True))
        except FileNotFoundError:
            continue
        except (ValueError, KeyError) as error:
            if path == series:
                raise UserError(
                    f"{path}: damaged, or of an earlier version ({error}); --fresh sets it aside and encodes all again"
                ) from None
            print(f"encoded again: {path} ({error})")
            os.remove(path)
            continue
        if (
            holds.keys() <= encoded.keys()
        ):  # a run joined this part to the series and was killed before it could remove it
            os.remove(path)
        else:
            parts.append(path)
            encoded |= holds
    for path in paths:
        if encoded.get(_name(path), os.path.getsize(path)) != os.path.getsize(path):
            raise UserError(f"{path}: recorded anew since {folder} was made; --fresh sets that aside and encodes all")
    gone = len(encoded.keys() - {_name(path) for path in paths})
    return [path for path in paths if _name(path) not in encoded], parts, gone


def encode(
    missing: Sequence[str],
    parts: Sequence[str],
    vae: "ConvVAE",
    folder: str,
    episodes_per_part: int,
    mirror: bool = False,
    z_noise: float = 1.0,
) -> None:
    """Encodes recordings with the VAE and joins them to the encoded ones, in the order of their seeds.

    The work is done in parts, each written whole, so that a killed run continues from the last one.

    Args:
        missing: the recordings to encode, from `not_encoded`.
        parts: the files of encoded ones, from `not_encoded`.
        vae: ConvVAE.
        folder: where series.npz goes, and the parts until it is complete.
        episodes_per_part: recordings encoded between two writes.
        mirror: whether the mirror image of every frame is encoded as well.
        z_noise: by which the standard deviation of z around its mean is multiplied, > 0.

    Raises:
        UserError: no recording can be read, or the VAE gives values that are not finite.
    """
    import tensorflow as tf

    from common.runtime import runs

    encode_batch = tf.function(vae.encode, input_signature=[tf.TensorSpec((None, *FRAME), tf.uint8)])
    groups = [missing[k : k + episodes_per_part] for k in range(0, len(missing), episodes_per_part)]
    paths = (os.path.join(folder, f"part{k}.npz") for k in itertools.count())
    series, parts, frames = os.path.join(folder, "series.npz"), list(parts), 0
    # the next group is read while this one is encoded
    with runs.progress(len(missing), 0, "encode") as bar, concurrent.futures.ThreadPoolExecutor(1) as reader:
        ahead = [reader.submit(_read_group, group) for group in groups[:1]]
        for group, following in itertools.zip_longest(groups, groups[1:]):
            recorded = ahead.pop().result()
            if following is not None:
                ahead.append(reader.submit(_read_group, following))
            if recorded:
                coded = _encode_group(recorded, encode_batch, mirror, z_noise)
                parts.append(next(path for path in paths if path not in parts))
                files.write_npz(parts[-1], **coded)
                frames += len(coded["mu"])
            bar.update(len(group))
            bar.set_postfix(frames=frames, refresh=False)
    if not parts:
        raise UserError("every recording is bad (named above); record again with: bash extract.bash")
    if parts != [series]:
        _join(parts, series)
    for part in parts:
        if part != series:
            os.remove(part)


def _check_actions(sizes: Iterable[int]) -> None:
    """UserError if recordings have different numbers in an action."""
    if len(found := sorted(set(sizes))) > 1:
        raise UserError(
            f"the recordings have {' and '.join(map(str, found))} numbers in an action, so no MDN-RNN can learn from "
            "all of them; keep them in different runs"
        )


def _join(parts: Sequence[str], path: str) -> None:
    """Writes the arrays of several parts as those of one, with the episodes in the order of their seeds.

    One array is in memory at a time: all of them can take gigabytes.
    """

    def of_all(name: str) -> np.ndarray:
        return np.concatenate([files.read_npz(part, only=[name])[name] for part in parts])

    _check_actions(files.read_npz(part, only=["action"])["action"].shape[1] for part in parts)
    length = of_all("length")
    episodes = np.argsort(of_all("recording").astype(int), kind="stable")
    first = np.cumsum(length) - length
    frames = np.concatenate([np.arange(first[k], first[k] + length[k]) for k in episodes])

    def in_order(name: str) -> np.ndarray:
        return of_all(name)[episodes if name in PER_EPISODE else frames]

    files.write_npz(path, **{name: functools.partial(in_order, name) for name in files.check_npz(parts[0])})


def _name(path: str) -> str:
    """The name of a recording in the series: the name of its file without .npz, which is its seed."""
    return os.path.basename(path)[:-4]


def _read_group(paths: Sequence[str]) -> dict[str, np.ndarray]:
    """The readable ones of some recordings, joined: {name: array}, see the head of this file; {} if there are none."""
    good, sizes = {}, []
    for path in paths:
        try:
            good[_name(path)] = read(path)
            sizes.append(os.path.getsize(path))
        except ValueError as error:
            print(f"\nskipped: {error}")
    for episode in good.values():  # recordings made by the authors' code hold neither
        frames = len(episode["obs"])
        episode.setdefault("reward", np.full(frames, np.nan, np.float32))
        episode.setdefault("done", np.arange(1, frames + 1) == frames)
    if not good:
        return {}
    _check_actions(episode["action"].reshape(len(episode["obs"]), -1).shape[1] for episode in good.values())
    names = ("obs", "action", "reward", "done")
    arrays = {name: np.concatenate([episode[name] for episode in good.values()]) for name in names}
    length = np.array([len(episode["obs"]) for episode in good.values()], np.int32)
    return arrays | {"length": length, "recording": np.array(list(good)), "bytes": np.array(sizes, np.int64)}


def _encode_group(
    group: dict[str, np.ndarray],
    encode_batch: Callable[[np.ndarray], Any],
    mirror: bool,
    z_noise: float,
    batch: int = 256,
) -> dict[str, np.ndarray]:
    """Joined recordings with their frames replaced by mu and logvar, and those of their mirror images."""
    obs = group.pop("obs")
    coded = {**group, "action": group["action"].reshape(len(obs), -1)}
    for prefix, frames in (("", obs), *([(MIRRORED, obs[:, :, ::-1])] if mirror else [])):
        parts = [encode_batch(frames[k : k + batch]) for k in range(0, len(obs), batch)]
        mu, logvar = (np.concatenate(part) for part in zip(*parts, strict=True))
        mu, logvar = mu.astype(np.float16), (logvar + 2 * np.log(z_noise)).astype(np.float16)
        if not (np.isfinite(mu).all() and np.isfinite(logvar).all()):
            raise UserError("the VAE gives values that are not finite; train it again with: vae_train.py --fresh")
        coded |= {prefix + "mu": mu, prefix + "logvar": logvar}
    return coded


class Series:
    """series.npz in memory, and the long streams of frames that the MDN-RNN learns from.

    Args:
        path: a series.npz.

    Raises:
        UserError: no such file, or not a series.
    """

    def __init__(self, path: str) -> None:
        try:
            arrays = files.read_npz(path)
            names = ("mu", "logvar", "action", "reward", "done", "length")
            self._mirrored = tuple(arrays.get(MIRRORED + name) for name in ("mu", "logvar"))
            arrays = {name: arrays[name] for name in names}
        except FileNotFoundError:
            raise UserError(f"{path}: no such file; make it first with: python series.py") from None
        except (ValueError, KeyError) as error:
            raise UserError(
                f"{path}: not a series file ({error}); make it again with: python series.py --fresh"
            ) from None
        self.mu: Any
        self.logvar: Any
        self.mu, self.logvar, self.action = arrays["mu"], arrays["logvar"], arrays["action"]
        self.reward, self.done, self.length = arrays["reward"], arrays["done"], arrays["length"]
        per_frame = self.mu, self.logvar, self.action, self.reward, self.done
        if {len(array) for array in per_frame} != {self.length.sum()}:
            raise UserError(
                f"{path}: the lengths of its arrays do not match; make it again with: python series.py --fresh"
            )
        self.first = np.cumsum(self.length) - self.length
        """index of each episode's first frame"""
        for name in ("mu", "logvar", "action"):
            for k, first in enumerate(self.first):
                if not np.isfinite(getattr(self, name)[first : first + self.length[k]]).all():
                    raise UserError(
                        f"{path}: {name} of episode {k} is not finite; make it again with: python series.py --fresh"
                    )

    @classmethod
    def outline(cls, length: np.ndarray, action_size: int, paid: Sequence[bool], mirrored: bool) -> "Series":
        """What recordings will be as a series, by their headers: a z without dimensions, and actions of zeros.

        Args:
            length: int [E], frames of each episode.
            action_size: numbers in an action.
            paid: [E], whether an episode holds rewards.
            mirrored: whether the series is to hold mirror images.
        """
        outline, frames = cls.__new__(cls), int(np.sum(length))
        outline.mu = outline.logvar = np.zeros((frames, 0), np.float16)
        outline.action, outline.done = np.zeros((frames, action_size), np.float16), np.zeros(frames, bool)
        outline.reward = np.repeat(np.where(paid, 0, np.nan).astype(np.float32), length)
        outline.length, outline.first = np.asarray(length), np.cumsum(length) - length
        outline._mirrored = (outline.mu, outline.mu) if mirrored else (None, None)
        return outline

    @property
    def z_size(self) -> int:
        """Dimensions of z."""
        return self.mu.shape[1]

    def split(self, episodes: int, flag: str = "--validation_episodes") -> tuple["Series", "Series"]:
        """Splits off the last episodes.

        Args:
            episodes: how many of them.
            flag: by which the user says so, named in the error.

        Returns:
            (all other episodes, the last ones), two Series that share the arrays of this one.

        Raises:
            UserError: that would leave no episode to train on.
        """
        if episodes >= len(self.length):
            raise UserError(
                f"{flag} {episodes}: these leave none of {len(self.length)} episodes to train on; record more, or "
                f"lower {flag}"
            )
        border = len(self.length) - episodes
        frames = self.first[border] if episodes else len(self.mu)
        return self._part(slice(0, border), slice(0, frames)), self._part(slice(border, None), slice(frames, None))

    def _part(self, which: slice, frames: slice) -> "Series":
        part = copy.copy(self)
        part._mirrored = tuple(None if array is None else array[frames] for array in self._mirrored)
        part.length, part.first = self.length[which], self.first[which] - (self.first[which][:1].sum())
        for name in ("mu", "logvar", "action", "reward", "done"):
            setattr(part, name, getattr(self, name)[frames])
        return part

    def with_mirror_images(self, factors: Sequence[float]) -> "Series":
        """These episodes, followed by their mirror images.

        Args:
            factors: [A], what each part of an action is multiplied by in a mirror.

        Raises:
            UserError: the series holds no mirror images.
        """
        mu, logvar = self._mirrored
        if mu is None or logvar is None:
            raise UserError(
                "--mirror: the series holds no mirror images; encode them first with: series.py --mirror --fresh"
            )
        both = copy.copy(self)
        both.mu, both.logvar = _InTurn(self.mu, mu), _InTurn(self.logvar, logvar)
        both.action = np.concatenate([self.action, (self.action * np.array(factors)).astype(self.action.dtype)])
        both.reward, both.done, both.length = (np.tile(array, 2) for array in (self.reward, self.done, self.length))
        both.first, both._mirrored = np.cumsum(both.length) - both.length, (None, None)
        return both

    def initial_z(self, count: int = 1000) -> tuple[np.ndarray, np.ndarray]:
        """(mu, logvar), each float16 [count, Z], of `count` first frames, repeated if there are fewer episodes."""
        chosen = np.resize(self.first, count)
        return self.mu[chosen], self.logvar[chosen]

    def streams(self, count: int, seed: int | list[int]) -> tuple[np.ndarray, np.ndarray]:
        """All episodes in random order, one after the other, cut into `count` streams of equal length.

        Returns:
            (index int64 [count, L] of the frames, restart float32 [count, L], 1 on the first frame of an episode, or
            CUT if the episode before it was cut, not ended).
        """
        order = np.random.default_rng(seed).permutation(len(self.length))
        index = np.concatenate([np.arange(self.first[k], self.first[k] + self.length[k]) for k in order])
        restart = np.zeros(len(self.mu), np.float32)
        restart[self.first] = 1
        ended = self.done[self.first + self.length - 1]
        after_cut = order[1:][~ended[order[:-1]]]
        restart[self.first[after_cut]] = CUT
        index = index[: len(index) // count * count].reshape(count, -1)
        return index, restart[index]


class _InTurn:
    """The rows of two arrays of the same shape, one array after the other, without a copy of them, which is large."""

    def __init__(self, first: np.ndarray, second: np.ndarray) -> None:
        self._first, self._second = first, second
        self.shape = (2 * len(first), *first.shape[1:])

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, index: Any) -> np.ndarray:
        """Rows by a slice, or by an array of indices from 0 up."""
        if isinstance(index, slice):
            index = np.arange(*index.indices(len(self)))
        rows = self._first[index % len(self._first)]
        second = index >= len(self._first)
        rows[second] = self._second[index[second] - len(self._first)]
        return rows


class StreamBatches:
    """Chunks of streams, in order, so that the state of the MDN-RNN can be carried over; a new shuffle every epoch.

    The order follows from the seed alone: started at chunk k it yields what an uninterrupted one would.

    Args:
        series: Series.
        streams: rows of a chunk, B.
        steps: of the MDN-RNN in a chunk, T.
        seed: decides the order.
        rewards: whether chunks hold the rewards as well.

    Raises:
        UserError: the series is too short for one chunk, or its recordings lack the rewards.
    """

    def __init__(self, series: Series, streams: int, steps: int, seed: int, rewards: bool = False) -> None:
        self.series, self.streams, self.steps, self.seed, self.rewards = series, streams, steps, seed, rewards
        unpaid = ~np.isfinite(series.reward) if rewards else np.zeros(0, bool)
        if unpaid.any():
            raise UserError(
                f"--heads: {unpaid.sum()} of {len(unpaid)} recorded steps hold no reward, as in recordings of the "
                "authors' code; record anew with extract.py, or train with --no-heads"
            )
        self.per_epoch = (len(series.mu) // streams - 1) // steps
        if self.per_epoch < 1:
            raise UserError(
                f"{len(series.mu)} frames do not fill {streams} streams of {steps + 1} steps; record more, or lower "
                "--streams or --sequence_length"
            )

    def chunks(self, start: int = 0) -> Iterator[tuple[np.ndarray, ...]]:
        """Yields (mu, logvar, action, restart, fresh) without end, from chunk `start` on; with rewards also those.

        mu, logvar and action are float16 [B, T + 1, ...], restart and reward are float32 [B, T + 1], fresh float32 [B].
        The MDN-RNN reads columns 0..T-1 and predicts columns 1..T; consecutive chunks overlap by that one column.
        `fresh` is 1 on the first chunk of an epoch, where the state of the MDN-RNN starts at zero.
        """
        data = self.series
        epoch, first = divmod(start, self.per_epoch)
        while True:
            index, restart = data.streams(self.streams, [self.seed, epoch])
            for k in range(first, self.per_epoch):
                cut = slice(k * self.steps, (k + 1) * self.steps + 1)
                rows, fresh = index[:, cut], np.full(self.streams, k == 0, np.float32)
                chunk = data.mu[rows], data.logvar[rows], data.action[rows], restart[:, cut], fresh
                yield (*chunk, data.reward[rows]) if self.rewards else chunk
            epoch, first = epoch + 1, 0

    def dataset(self, start: int = 0, stop: int | None = None) -> "tf.data.Dataset":
        """The same chunks, up to number `stop`, as a tf.data.Dataset that reads ahead in the background."""
        import tensorflow as tf

        rows = (self.streams, self.steps + 1)
        signature = (
            tf.TensorSpec((*rows, self.series.z_size), tf.float16),
            tf.TensorSpec((*rows, self.series.z_size), tf.float16),
            tf.TensorSpec((*rows, self.series.action.shape[1]), tf.float16),
            tf.TensorSpec(rows, tf.float32),
            tf.TensorSpec((self.streams,), tf.float32),
            *([tf.TensorSpec(rows, tf.float32)] * self.rewards),
        )

        def chunks() -> Iterator[tuple[np.ndarray, ...]]:
            return itertools.islice(self.chunks(start), None if stop is None else stop - start)

        return tf.data.Dataset.from_generator(chunks, output_signature=signature).prefetch(4)


class MixedBatches:
    """Chunks in which the newest episodes have separate streams, beside those of all others; see StreamBatches.

    The new episodes thus have a fixed share of the training, however many old ones there are.

    Args:
        old: the other episodes.
        new: the newest episodes.
        share: of the streams that the new ones have.
        streams: see StreamBatches, like steps and seed.
    """

    def __init__(
        self, old: Series, new: Series, share: float, streams: int, steps: int, seed: int, rewards: bool = False
    ) -> None:
        count = min(streams - 1, max(1, round(share * streams)))
        self._parts = [
            StreamBatches(old, streams - count, steps, seed, rewards),
            StreamBatches(new, count, steps, seed + 1, rewards),
        ]
        self.series, self.streams, self.steps, self.rewards = old, streams, steps, rewards

    def chunks(self, start: int = 0) -> Iterator[tuple[np.ndarray, ...]]:
        """As StreamBatches.chunks; rows of the old episodes come first."""
        for pair in zip(*(part.chunks(start) for part in self._parts), strict=True):
            yield tuple(np.concatenate(arrays) for arrays in zip(*pair, strict=True))

    dataset = StreamBatches.dataset
