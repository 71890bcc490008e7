"""common/data/series.py: what the VAE makes of recordings, and the streams that the MDN-RNN learns from."""

import itertools
import os
import shutil
import tracemalloc

import numpy as np
import pytest

from common.data import recordings, series
from common.runtime import files
from common.runtime.cli import UserError

from recorded import LENGTHS, flipped, truncated


def write_series(path, lengths, z_size=2):
    """A series whose mu holds (episode, step), its action the frame's number / 256."""
    total = sum(lengths)
    mu = np.array([(episode, step) for episode, length in enumerate(lengths) for step in range(length)], np.float16)
    files.write_npz(
        str(path),
        mu=mu,
        logvar=-mu,
        action=(np.arange(total)[:, np.newaxis] / 256).astype(np.float16),
        reward=np.ones(total, np.float32),
        done=np.concatenate([np.arange(length) == length - 1 for length in lengths]),
        length=np.array(lengths, np.int32),
    )
    return series.Series(str(path))


@pytest.fixture
def data(tmp_path):
    return write_series(tmp_path / "series.npz", [10, 25, 5, 40, 13, 31])


def test_chunks_are_contiguous_overlap_by_one_and_flag_first_frames(data):
    """Catches a frame skipped at a seam (the authors' 499 of 500), a flag on another frame, columns out of step."""
    batches = series.StreamBatches(data, streams=3, steps=6, seed=1000)
    assert batches.per_epoch == (124 // 3 - 1) // 6 == 6
    for epoch in range(2):
        chunks = list(itertools.islice(batches.chunks(epoch * 6), 6))
        for k, (mu, logvar, action, restart, fresh) in enumerate(chunks):
            assert mu.shape == logvar.shape == (3, 7, 2)
            assert action.shape == (3, 7, 1)
            assert mu.dtype == logvar.dtype == action.dtype == np.float16
            assert fresh.tolist() == [float(k == 0)] * 3
            np.testing.assert_array_equal(logvar, -mu)
            np.testing.assert_array_equal(restart, mu[..., 1] == 0)
            np.testing.assert_array_equal(action[..., 0] * 256, data.first[mu[..., 0].astype(int)] + mu[..., 1])
        for (mu, *_), (next_mu, *_) in itertools.pairwise(chunks):
            np.testing.assert_array_equal(mu[:, -1], next_mu[:, 0])
        stream = np.concatenate([chunks[0][0][:, :1], *(chunk[0][:, 1:] for chunk in chunks)], axis=1)
        assert stream.shape == (3, 37, 2)
        for row in stream:
            for (episode, step), (next_episode, next_step) in itertools.pairwise(row.astype(int)):
                goes_on = next_episode == episode and next_step == step + 1
                ended = step == data.length[episode] - 1 and next_step == 0 and next_episode != episode
                assert goes_on or ended
        assert len({tuple(frame) for frame in stream.reshape(-1, 2)}) == 3 * 37


def test_resumed_chunks_are_uninterrupted_ones(data):
    """Catches a shuffle that depends on how far the stream had come, and one that is the same in every epoch."""
    whole = list(itertools.islice(series.StreamBatches(data, 3, 6, 1000).chunks(), 20))
    assert not np.array_equal(whole[0][0], whole[6][0])
    for start in (1, 5, 6, 7, 13):
        resumed = series.StreamBatches(data, 3, 6, 1000).chunks(start)
        for found, wanted in zip(resumed, whole[start:], strict=False):
            for found_part, wanted_part in zip(found, wanted, strict=True):
                np.testing.assert_array_equal(found_part, wanted_part)


def test_the_chunk_dataset_yields_the_same(data):
    """Catches a dataset that starts elsewhere or whose signature is not what chunks yield."""
    batches = series.StreamBatches(data, 3, 6, 1000)
    for found, wanted in zip(batches.dataset(4).take(4), batches.chunks(4), strict=False):
        for found_part, wanted_part in zip(found, wanted, strict=True):
            np.testing.assert_array_equal(found_part, wanted_part)


def test_too_few_frames_for_one_chunk_are_the_users_mistake(data):
    """Catches an endless loop over no chunk at all."""
    with pytest.raises(UserError, match="do not fill"):
        series.StreamBatches(data, streams=50, steps=2, seed=1)


def test_split_keeps_episodes_apart(data):
    """Catches validation frames in training, frames lost at the border, first frames counted from the old start."""
    known, unseen = data.split(2)
    assert known.length.tolist() == [10, 25, 5, 40]
    assert unseen.length.tolist() == [13, 31]
    assert (len(known.mu), len(unseen.mu)) == (80, 44)
    for part, episode_numbers in ((known, {0, 1, 2, 3}), (unseen, {4, 5})):
        assert set(part.mu[:, 0].astype(int)) == episode_numbers
        assert (part.mu[part.first, 1] == 0).all()
        for name in ("mu", "logvar", "action", "reward", "done"):
            assert len(getattr(part, name)) == part.length.sum()
        _, restart = part.streams(1, 1000)
        assert restart.sum() == len(part.length)
    assert len(data.mu) == 124
    assert len(data.split(0)[0].mu) == 124


def test_after_a_cut_a_start_is_told_from_one_after_an_end(data):
    """Catches an episode that was cut, from which the MDN-RNN would learn that the player died there."""
    data.done[data.first[[1, 3]] + data.length[[1, 3]] - 1] = False
    index, restart = data.streams(1, 1000)
    assert (restart[0] > 0).tolist() == (data.mu[index[0], 1] == 0).tolist()
    starts = np.flatnonzero(restart[0])
    before = data.mu[index[0, starts[1:] - 1], 0]
    assert restart[0, starts].tolist() == [1, *np.where(np.isin(before, [1, 3]), series.CUT, 1)]
    assert (restart == series.CUT).sum() == 2


def test_split_refuses_to_hold_out_every_episode(data):
    """Catches a negative border, by which Python would quietly cut somewhere else."""
    for held_out in (6, 7, 50):
        with pytest.raises(UserError, match="6 episodes"):
            data.split(held_out)


def test_initial_z_is_of_first_frames(data):
    """Catches dreams that start in the middle of an episode."""
    mu, logvar = data.initial_z(8)
    assert mu[:, 0].astype(int).tolist() == [0, 1, 2, 3, 4, 5, 0, 1]
    assert (mu[:, 1] == 0).all()
    np.testing.assert_array_equal(logvar, -mu)


def test_a_wrong_series_is_named(tmp_path, data):
    """Catches arrays that do not belong together being trained on, and a traceback."""
    path = str(tmp_path / "series.npz")
    with np.load(path) as archive:
        arrays = dict(archive)
    for name in ("length", "mu", "logvar", "action", "reward", "done"):
        change = {name: arrays[name][1:]}
        files.write_npz(path, **(arrays | change))
        with pytest.raises(UserError, match=r"series\.npz"):
            series.Series(path)
    files.write_npz(path, mu=arrays["mu"])
    with pytest.raises(UserError, match=r"series\.npz"):
        series.Series(path)
    files.write_npz(path, **arrays)
    truncated(path)
    with pytest.raises(UserError, match=r"series\.npz"):
        series.Series(path)
    with pytest.raises(UserError, match=r"python series\.py"):
        series.Series(str(tmp_path / "none.npz"))


@pytest.mark.parametrize("name", ["mu", "logvar", "action"])
def test_a_series_that_is_not_finite_is_named(tmp_path, data, name):
    """Catches NaN that a bad VAE left in the series, found only when the loss of the MDN-RNN is NaN."""
    path = str(tmp_path / "series.npz")
    with np.load(path) as archive:
        arrays = {name: archive[name] for name in archive.files}
    arrays[name][-1, 0] = np.nan
    files.write_npz(path, **arrays)
    with pytest.raises(UserError, match=rf"{name} of episode {len(arrays['length']) - 1} is not finite"):
        series.Series(path)


class CountingV:
    """A V whose mu is the frame's (episode, step)."""

    def __init__(self):
        self.frames = 0

    def encode(self, frames):
        import tensorflow as tf

        def count(n):
            self.frames += int(n)
            return n

        tf.py_function(count, [tf.shape(frames)[0]], tf.int32)
        mu = tf.cast(frames[:, 0, 0, :2], tf.float32)
        return mu, -mu


def encode(paths, vae, folder, episodes_per_part):
    """As series.py does it."""
    series.encode(*series.not_encoded(paths, folder)[:2], vae, folder, episodes_per_part)


def test_encode_keeps_frames_actions_and_lengths_together(tmp_path, folder):
    """Catches episodes out of order, actions of another frame, parts left behind or joined in another order."""
    paths, _ = recordings.scan(folder)
    truncated(paths[1])
    encode(paths, CountingV(), str(tmp_path / "series"), 2)
    assert os.listdir(tmp_path / "series") == ["series.npz"]
    data = series.Series(str(tmp_path / "series" / "series.npz"))
    assert data.length.tolist() == [30, 55, 1, 22]
    step = data.mu[:, 1]
    assert data.mu[data.first].tolist() == [[0, 0], [2, 0], [3, 0], [4, 0]]
    np.testing.assert_array_equal(data.action[:, 0], step / 64)
    np.testing.assert_array_equal(data.reward, step)
    assert np.flatnonzero(data.done).tolist() == (data.first + data.length - 1).tolist()
    np.testing.assert_array_equal(data.logvar, -data.mu)


def test_z_noise_is_a_share_of_the_standard_deviation(tmp_path, folder):
    """Catches a share of the variance, one that mirror images do not have, and one that moves the mean."""
    paths, _ = recordings.scan(folder)
    missing = series.not_encoded(paths, str(tmp_path / "series"))[:2]
    series.encode(*missing, CountingV(), str(tmp_path / "series"), 2, mirror=True, z_noise=0.2)
    arrays = files.read_npz(str(tmp_path / "series" / "series.npz"))
    for kind in "", "mirrored_":
        mu, logvar = arrays[kind + "mu"].astype(float), arrays[kind + "logvar"].astype(float)
        np.testing.assert_allclose(np.exp(logvar / 2), 0.2 * np.exp(-mu / 2), rtol=0.02)
    assert np.unique(arrays["mu"]).size > 3


def test_an_interrupted_encoding_goes_on_from_its_last_part(tmp_path, folder):
    """Catches hours of encoding done again, and a part that is encoded twice."""
    paths, _ = recordings.scan(folder)

    class DyingV(CountingV):
        def encode(self, frames):
            import tensorflow as tf

            def die_later(n):
                if self.frames >= 37:
                    raise KeyboardInterrupt
                return n

            tf.py_function(die_later, [0], tf.int32)
            return super().encode(frames)

    with pytest.raises(BaseException):  # noqa: B017, PT011  TensorFlow wraps it as it likes
        encode(paths, DyingV(), str(tmp_path / "series"), 2)
    assert os.listdir(tmp_path / "series") == ["part0.npz"]
    second = CountingV()
    encode(paths, second, str(tmp_path / "series"), 2)
    assert second.frames == 55 + 1 + 22
    assert series.Series(str(tmp_path / "series" / "series.npz")).length.tolist() == list(LENGTHS.values())


def test_parts_are_joined_one_array_at_a_time(tmp_path):
    """Catches a join that holds all arrays: in Doom's `laptop` run encoding took 3.2 GB."""

    def part(episodes, first_seed):
        names = "mu", "logvar", "mirrored_mu", "mirrored_logvar"
        rows = {name: np.full((episodes * 100, 64), k, np.float16) for k, name in enumerate(names)}
        rows["action"] = np.zeros((episodes * 100, 1), np.float16)
        rows["mu"] += np.arange(first_seed, first_seed + episodes).repeat(100)[:, np.newaxis]
        seeds = np.array([str(first_seed + k) for k in range(episodes)])
        path = str(tmp_path / f"part{first_seed}.npz")
        files.write_npz(path, **rows, length=np.full(episodes, 100, np.int32), recording=seeds)
        return path

    parts, path = [part(60, 1000), part(60, 100)], str(tmp_path / "series.npz")
    tracemalloc.start()
    try:
        series._join(parts, path)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    joined = files.read_npz(path)
    assert joined["recording"].tolist() == [str(seed) for seed in (*range(100, 160), *range(1000, 1060))]
    assert joined["mu"][::100, 0].tolist() == [*range(100, 160), *range(1000, 1060)]
    assert (joined["mirrored_logvar"] == 3).all()
    assert peak < 2.5 * joined["mu"].nbytes  # an array, and the same in another order


def test_a_damaged_part_is_encoded_again(tmp_path, folder, capsys):
    """Catches a series that ends in a traceback, for ever, because the disk damaged one of its parts."""
    paths, _ = recordings.scan(folder)
    part = tmp_path / "series" / "part0.npz"
    files.write_npz(str(part), mu=np.zeros(3))
    truncated(str(part))
    files.write_npz(str(tmp_path / "series" / "part3.npz"), mu=np.zeros(3))  # of an earlier version
    vae = CountingV()
    encode(paths, vae, str(tmp_path / "series"), 2)
    assert vae.frames == sum(LENGTHS.values())
    assert "encoded again" in capsys.readouterr().out
    assert os.listdir(tmp_path / "series") == ["series.npz"]


def test_recordings_that_come_later_are_added(tmp_path, folder):
    """Catches all of them encoded again, a later episode out of its place, one doubled that a killed run had joined.

    And recordings that are gone, of which nobody would then ask where they came from.
    """
    paths, _ = recordings.scan(folder)
    data, early = str(tmp_path / "series"), [paths[k] for k in (0, 3)]
    os.makedirs(data)
    encode(early, CountingV(), data, 1)
    assert series.not_encoded(early, data) == ([], [os.path.join(data, "series.npz")], 0)
    shutil.copy(os.path.join(data, "series.npz"), os.path.join(data, "part0.npz"))
    assert series.not_encoded(paths, data)[0] == [paths[k] for k in (1, 2, 4)]
    vae = CountingV()
    encode(paths, vae, data, 2)
    lengths = list(LENGTHS.values())
    assert vae.frames == lengths[1] + lengths[2] + lengths[4]
    assert os.listdir(data) == ["series.npz"]
    encode(paths, CountingV(), str(tmp_path / "at_once"), 2)
    assert series.not_encoded(paths[:3], data) == ([], [os.path.join(data, "series.npz")], 2)  # two are gone
    grown, at_once = (files.read_npz(str(tmp_path / name / "series.npz")) for name in ("series", "at_once"))
    assert grown["recording"].tolist() == [os.path.basename(path)[:-4] for path in paths]
    for name, array in at_once.items():
        np.testing.assert_array_equal(grown[name], array)


def test_a_series_to_which_nothing_comes_is_not_written_again(tmp_path, folder):
    """Catches a series joined anew at every start, for ever, because one recording is bad inside."""
    paths, _ = recordings.scan(folder)
    flipped(paths[1])
    data = tmp_path / "series" / "series.npz"
    encode(paths, CountingV(), str(data.parent), 2)
    before = os.stat(data)
    encode(paths, CountingV(), str(data.parent), 2)
    assert os.stat(data).st_ino == before.st_ino
    assert os.listdir(data.parent) == ["series.npz"]


def test_a_recording_made_anew_is_not_taken_for_the_encoded_one(tmp_path, folder):
    """Catches an M that learns from the games before `extract.py --fresh`, and a mixture of both."""
    paths, _ = recordings.scan(folder)
    encode(paths, CountingV(), str(tmp_path / "series"), 2)
    shutil.copy(paths[0], paths[2])
    with pytest.raises(UserError, match=r"2002\.npz: recorded anew"):
        series.not_encoded(paths, str(tmp_path / "series"))


@pytest.mark.parametrize("error", [MemoryError, PermissionError])
def test_a_series_that_cannot_be_read_now_is_kept(tmp_path, folder, monkeypatch, error):
    """Catches hours of encoding removed because memory is short today."""
    paths, _ = recordings.scan(folder)
    encode(paths, CountingV(), str(tmp_path / "series"), 2)
    monkeypatch.setattr(np, "load", lambda *_, **__: raise_(error))
    with pytest.raises(error):
        series.not_encoded(paths, str(tmp_path / "series"))
    assert os.listdir(tmp_path / "series") == ["series.npz"]


def raise_(error):
    raise error


@pytest.mark.parametrize("damage", [lambda path: write_series(path, [10, 25]), truncated])
def test_a_series_that_does_not_say_what_it_holds_is_kept(tmp_path, folder, damage):
    """Catches a series of an earlier version, or a damaged one, overwritten by what recordings are still there."""
    paths, _ = recordings.scan(folder)
    data = tmp_path / "series" / "series.npz"
    encode(paths, CountingV(), str(data.parent), 2)
    damage(str(data))
    before = data.read_bytes()
    with pytest.raises(UserError, match=r"series\.npz: damaged, or of an earlier version"):
        encode(paths, CountingV(), str(data.parent), 2)
    assert data.read_bytes() == before


def test_recordings_that_are_all_bad_make_no_series(tmp_path, folder):
    """Catches an empty series, and a damaged recording that stops the encoding of those around it."""
    paths, _ = recordings.scan(folder)
    (tmp_path / "series").mkdir()
    truncated(paths[0])
    with pytest.raises(UserError, match="every recording is bad"):
        encode(paths[:1], CountingV(), str(tmp_path / "series"), 1)
    encode(paths, CountingV(), str(tmp_path / "series"), 1)
    assert series.Series(str(tmp_path / "series" / "series.npz")).length.tolist() == list(LENGTHS.values())[1:]


class LeftRightV:
    """A VAE whose mu is what the first and the last column of a frame show."""

    def encode(self, frames):
        import tensorflow as tf

        mu = tf.cast(frames[:, 0, :: frames.shape[2] - 1, 1], tf.float32)
        return mu, -mu


def test_mirror_images_are_encoded_and_follow_the_episodes(tmp_path, folder):
    """Catches an image of another frame, an action that is not reversed or all of it, and a split that mixes them."""
    paths, _ = recordings.scan(folder)
    encoded = series.not_encoded(paths, str(tmp_path / "series"))
    series.encode(*encoded[:2], LeftRightV(), str(tmp_path / "series"), 2, mirror=True)
    data = series.Series(str(tmp_path / "series" / "series.npz"))
    known, unseen = data.split(2)
    assert unseen.length.tolist() == [1, 22]
    both = known.with_mirror_images([-1])
    frames = 30 + 7 + 55
    assert both.length.tolist() == [30, 7, 55] * 2
    assert both.first.tolist() == [0, 30, 37, 92, 122, 129]
    np.testing.assert_array_equal(both.mu[:frames], data.mu[:frames])
    np.testing.assert_array_equal(both.mu[frames:], data.mu[:frames, ::-1])
    np.testing.assert_array_equal(both.logvar[:], -both.mu[:])
    np.testing.assert_array_equal(both.action[frames:], -data.action[:frames])
    for name in ("reward", "done"):
        np.testing.assert_array_equal(getattr(both, name), np.tile(getattr(data, name)[:frames], 2))
    assert data.mu[:frames, 1].any() != data.mu[:frames, 0].any()  # the two columns of a frame differ
    np.testing.assert_array_equal(unseen.with_mirror_images([-1]).mu[23:], data.mu[frames:, ::-1])


def test_a_series_without_mirror_images_says_so(data):
    """Catches a training on images that are not there, and a traceback."""
    with pytest.raises(UserError, match=r"--mirror: .*series\.py --mirror --fresh"):
        data.with_mirror_images([-1])


def test_the_newest_episodes_have_streams_of_their_own(data):
    """Catches new episodes among the old streams, a share that is not kept, and a seed that both parts share."""
    old, new = data.split(2)  # episodes 4 and 5 are the new ones
    batches = series.MixedBatches(old, new, share=0.5, streams=4, steps=4, seed=1000)
    whole = list(itertools.islice(batches.chunks(), 12))
    for mu, logvar, _, restart, fresh in whole:
        assert mu.shape == (4, 5, 2)
        assert set(mu[:2, :, 0].ravel()) <= {0, 1, 2, 3}
        assert set(mu[2:, :, 0].ravel()) <= {4, 5}
        np.testing.assert_array_equal(logvar, -mu)
        np.testing.assert_array_equal(restart, mu[..., 1] == 0)
        assert fresh.shape == (4,)
    for found, wanted in zip(batches.chunks(7), whole[7:], strict=False):
        for found_part, wanted_part in zip(found, wanted, strict=True):
            np.testing.assert_array_equal(found_part, wanted_part)
    for found_part, wanted_part in zip(next(iter(batches.dataset(7, 8))), whole[7], strict=True):
        np.testing.assert_array_equal(found_part, wanted_part)
    (mu, *_) = next(series.MixedBatches(data, data, 0.5, 4, 4, 1000).chunks())
    assert not np.array_equal(mu[:2], mu[2:])
    for share, rows in ((0.01, 1), (0.99, 3)):
        (mu, *_) = next(series.MixedBatches(old, new, share, 4, 4, 1000).chunks())
        assert (mu[:, 0, 0] >= 4).sum() == rows


@pytest.mark.parametrize("flag", ["--validation_episodes", "--newest"])
def test_the_flag_that_takes_all_episodes_is_named(data, flag):
    """Catches the blame on --validation_episodes for a --newest that leaves no other episodes."""
    with pytest.raises(UserError, match=f"{flag} 6: these leave none of 6 .* lower {flag}$"):
        data.split(6, flag)


@pytest.mark.parametrize("which", [0, 1])
def test_what_half_precision_does_not_hold_is_not_encoded(tmp_path, folder, which):
    """Catches a series of infinite numbers, by a VAE that is broken, which only the next stage would find."""

    class BrokenV:
        def encode(self, frames):
            import tensorflow as tf

            return [tf.fill([tf.shape(frames)[0], 2], 1e5 if k == which else 0.0) for k in range(2)]

    paths, _ = recordings.scan(folder)
    with pytest.raises(UserError, match="the VAE gives values that are not finite"):
        encode(paths, BrokenV(), str(tmp_path / "series"), 2)
    assert not (tmp_path / "series").exists()
