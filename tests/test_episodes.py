"""common/episodes.py: recordings on disk, frames for V, streams for M."""

import contextlib
import itertools
import os
import pathlib
import shutil

import numpy as np
import pytest

from common.data import recordings, series
from common.runtime import files
from common.runtime.cli import UserError

LENGTHS = {2000: 30, 2001: 7, 2002: 55, 2003: 1, 2004: 22}


def frames_of(seed, length):
    """Frames whose first pixel tells the episode and the step."""
    obs = np.zeros((length, 64, 64, 3), np.uint8)
    obs[:, 0, 0, 0], obs[:, 0, 0, 1] = seed % 100, np.arange(length)
    return obs


def record(folder, lengths=LENGTHS):
    """Writes one episode per seed: action is the step / 64, reward the step, done at the last."""
    for seed, length in lengths.items():
        step = np.arange(length)
        recordings.write(str(folder), seed, frames_of(seed, length), step / 64, step, step == length - 1)
    return str(folder)


def tags(frames):
    """[(episode, step)] of frames."""
    return [tuple(map(int, tag)) for tag in frames[:, 0, 0, :2]]


@pytest.fixture
def folder(tmp_path):
    return record(tmp_path / "record")


def test_an_episode_round_trips(tmp_path, rng):
    """Catches another dtype or a lost array: record/ is read by other people's code too."""
    obs, action = rng.integers(0, 256, (9, 64, 64, 3), np.uint8), rng.uniform(-1, 1, (9, 3))
    reward, done = rng.normal(0, 10, 9), np.arange(9) == 8
    recordings.write(str(tmp_path / "made"), 2000, obs, action, reward, done)
    with np.load(tmp_path / "made" / "2000.npz", allow_pickle=False) as archive:
        dtypes = {name: archive[name].dtype for name in archive.files}
    assert dtypes == {"obs": np.uint8, "action": np.float16, "reward": np.float32, "done": bool}
    episode = recordings.read(str(tmp_path / "made" / "2000.npz"))
    np.testing.assert_array_equal(episode["obs"], obs)
    np.testing.assert_array_equal(episode["action"], action.astype(np.float16))
    np.testing.assert_allclose(episode["reward"], reward, rtol=1e-6)
    np.testing.assert_array_equal(episode["done"], done)


def truncated(path):
    with open(path, "r+b") as file:
        file.truncate(os.path.getsize(path) // 2)


def not_npz(path):
    with open(path, "w") as file:
        file.write("not an archive")


def flipped(path):
    """One byte of the frames' compressed data is another."""
    content = bytearray(pathlib.Path(path).read_bytes())
    content[300] ^= 0xFF
    pathlib.Path(path).write_bytes(content)


def rewritten(**change):
    def damage(path):
        episode = recordings.read(path)
        files.write_npz(
            path, **{name: change[name](array) if name in change else array for name, array in episode.items()}
        )

    return damage


DAMAGES = {
    "truncated": truncated,
    "empty": lambda path: open(path, "w").close(),
    "not npz": not_npz,
    "float frames": rewritten(obs=lambda obs: obs.astype(np.float32)),
    "small frames": rewritten(obs=lambda obs: obs[:, ::2]),
    "no frames": rewritten(obs=lambda obs: obs[:0]),
}
HIDDEN_DAMAGES = {  # which only reading the whole file shows
    "flipped": flipped,
    "nan action": rewritten(action=lambda action: action * np.nan),
    "text action": rewritten(action=lambda action: action.astype(str)),
    "short action": rewritten(action=lambda action: action[:-1]),
    "no action": lambda path: files.write_npz(path, obs=recordings.read(path)["obs"]),
}


@pytest.mark.parametrize("damage", [*DAMAGES, *HIDDEN_DAMAGES])
def test_a_damaged_recording_is_a_value_error_that_names_it(folder, damage):
    """Catches any other exception (a traceback in the middle of a training) and damage that goes unnoticed."""
    path = os.path.join(folder, "2002.npz")
    (DAMAGES | HIDDEN_DAMAGES)[damage](path)
    with pytest.raises(ValueError, match=r"2002\.npz"):
        recordings.read(path)


def test_whatever_byte_is_wrong_reading_raises_nothing_but_value_error(folder, rng):
    """Catches the exceptions of zlib, zipfile and struct getting through; all of the archive's directory is tried."""
    path = os.path.join(folder, "2004.npz")
    whole = pathlib.Path(path).read_bytes()
    directory = range(whole.index(b"PK\x01\x02"), len(whole))
    for position in [*directory, *rng.integers(0, len(whole), 300)]:
        content = bytearray(whole)
        content[position] ^= 1 << rng.integers(8)
        pathlib.Path(path).write_bytes(content)
        for reader in (recordings.read, recordings._frame_count):
            with contextlib.suppress(ValueError):
                reader(path)


@pytest.mark.parametrize("damage", DAMAGES)
def test_scan_names_counts_and_skips_bad_recordings(folder, capsys, damage):
    """Catches a bad file that ends the scan, is skipped in silence, or is deleted."""
    path = os.path.join(folder, "2001.npz")
    DAMAGES[damage](path)
    open(os.path.join(folder, "2000.summary.json"), "w").close()
    paths, lengths = recordings.scan(folder)
    assert [os.path.basename(path) for path in paths] == ["2000.npz", "2002.npz", "2003.npz", "2004.npz"]
    assert lengths.tolist() == [30, 55, 1, 22]
    out = capsys.readouterr().out
    assert path in out
    assert "1 of 5" in out
    assert os.path.exists(path)


@pytest.mark.parametrize("damage", DAMAGES)
def test_bad_recordings_are_set_aside_and_missing(folder, capsys, damage):
    """Catches a torn file that counts as recorded for ever, one that is deleted, and a good one played again."""
    path = os.path.join(folder, "2001.npz")
    DAMAGES[damage](path)
    content = pathlib.Path(path).read_bytes()
    assert recordings.set_bad_aside(folder, range(1999, 2004)) == [1999, 2001]
    assert pathlib.Path(path + ".bad").read_bytes() == content
    assert "set aside as 2001.npz.bad" in capsys.readouterr().out
    assert recordings.bad_ones(folder, range(2000, 2005)) == 1
    assert recordings.set_bad_aside(folder, range(2000, 2004)) == [2001]


def test_an_episode_too_long_for_memory_is_a_value_error(folder, monkeypatch):
    """Catches a recording of some kB that unpacks to more than there is memory."""
    monkeypatch.setattr(episodes, "MOST_BYTES", 30 * 64 * 64 * 3)
    with pytest.raises(ValueError, match=r"2000\.npz.*would take"):
        recordings.read(os.path.join(folder, "2000.npz"))
    assert len(recordings.read(os.path.join(folder, "2004.npz"))["obs"]) == 22


def test_scan_orders_by_number(tmp_path):
    """Catches 10.npz before 9.npz: the held-out episodes are the last by seed."""
    paths, _ = recordings.scan(record(tmp_path / "record", {9: 1, 10: 1, 2: 1}))
    assert [os.path.basename(path) for path in paths] == ["2.npz", "9.npz", "10.npz"]


def test_no_recordings_are_the_users_mistake(tmp_path):
    """Catches a traceback, or a training that waits for frames for ever."""
    with pytest.raises(UserError, match="no such folder"):
        recordings.scan(str(tmp_path / "record"))
    os.makedirs(tmp_path / "record")
    with pytest.raises(UserError, match="no readable recording"):
        recordings.scan(str(tmp_path / "record"))
    record(tmp_path / "record", {1: 5})
    with pytest.raises(UserError, match="fewer than one batch"):
        recordings.FrameStream(str(tmp_path / "record"), 6, seed=1)


def epoch_of(stream, number=0):
    """The batches of one pass, and how many windows it has."""
    counts = [sum(count for _, count in stream._windows(epoch)) for epoch in range(number + 1)]
    return list(itertools.islice(stream.batches(sum(counts[:-1])), int(counts[-1]))), len(stream._windows(number))


@pytest.mark.parametrize("window", [8, 40, 1000])
def test_every_pass_covers_the_frames_once(folder, window):
    """Catches frames seen twice or never, beyond each window's remainder, and passes in the same order."""
    stream = recordings.FrameStream(folder, 8, seed=1000, window=window)
    everything = {(seed - 2000, step) for seed, length in LENGTHS.items() for step in range(length)}
    orders = []
    for epoch in (0, 1):
        batches, windows = epoch_of(stream, epoch)
        assert all(batch.shape == (8, 64, 64, 3) for batch in batches)
        seen = [tag for batch in batches for tag in tags(batch)]
        assert len(seen) == len(set(seen))
        assert set(seen) <= everything
        assert len(seen) > len(everything) - 8 * windows
        orders.append(seen)
    assert orders[0] != orders[1]
    first, second = ([episode for group, _ in stream._windows(epoch) for episode in group] for epoch in (0, 1))
    assert first != second


@pytest.mark.parametrize("window", [8, 40, 1000])
def test_a_resumed_frame_stream_is_an_uninterrupted_one(folder, window):
    """Catches an order that depends on how far the stream had come, for starts within and beyond the first pass."""
    whole = [tags(batch) for batch in itertools.islice(recordings.FrameStream(folder, 8, 1000, window).batches(), 50)]
    assert whole != [
        tags(batch) for batch in itertools.islice(recordings.FrameStream(folder, 8, 1001, window).batches(), 50)
    ]
    for start in (1, 3, 7, 13, 14, 31, 49):
        resumed = recordings.FrameStream(folder, 8, 1000, window).batches(start)
        assert [tags(batch) for batch in itertools.islice(resumed, 50 - start)] == whole[start:]


def test_the_frame_dataset_yields_the_same_batches(folder):
    """Catches a dataset that starts elsewhere or converts the frames."""
    stream = recordings.FrameStream(folder, 8, 1000)
    for found, wanted in zip(stream.dataset(5).take(3), stream.batches(5), strict=False):
        np.testing.assert_array_equal(found, wanted)


def test_the_frame_dataset_reads_no_further_than_it_is_asked_to(folder, monkeypatch):
    """Catches a program that cannot end while its background reader unpacks a window that nobody wants."""
    stream = recordings.FrameStream(folder, 8, 1000, window=40)
    first = next(int(count) for _, count in stream._windows(0) if count)
    loaded, load = [], stream._load
    monkeypatch.setattr(stream, "_load", lambda *window: (loaded.append(window), load(*window))[1])
    assert len(list(stream.dataset(0, first))) == first
    assert len(loaded) == 1


@pytest.mark.parametrize("damage", ["truncated", *HIDDEN_DAMAGES])
def test_a_recording_going_bad_after_the_scan_moves_no_other_window(folder, capsys, damage):
    """Catches batch counts that shift, so that a resumed training would see other frames; and a bad frame used."""
    stream = recordings.FrameStream(folder, 8, 1000, window=40)
    before = [tags(batch) for batch in itertools.islice(stream.batches(), 40)]
    (DAMAGES | HIDDEN_DAMAGES)[damage](os.path.join(folder, "2001.npz"))
    after = [tags(batch) for batch in itertools.islice(stream.batches(), 40)]
    assert all(len(batch) == 8 for batch in after)
    assert not any(episode == 1 for batch in after for episode, _ in batch)
    groups = [(group, count) for epoch in range(4) for group, count in stream._windows(epoch)]
    untouched, start = 0, 0
    for group, count in groups:
        if 1 not in group:
            untouched += len(before[start : start + count])
            assert after[start : start + count] == before[start : start + count]
        start += count
    assert untouched > 10
    assert capsys.readouterr().out.count("2001.npz") == 1


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
def series(tmp_path):
    return write_series(tmp_path / "series.npz", [10, 25, 5, 40, 13, 31])


def test_chunks_are_contiguous_overlap_by_one_and_flag_first_frames(series):
    """Catches a frame skipped at a seam (the authors' 499 of 500), a flag on another frame, columns out of step."""
    batches = series.StreamBatches(series, streams=3, steps=6, seed=1000)
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
            np.testing.assert_array_equal(action[..., 0] * 256, series.first[mu[..., 0].astype(int)] + mu[..., 1])
        for (mu, *_), (next_mu, *_) in itertools.pairwise(chunks):
            np.testing.assert_array_equal(mu[:, -1], next_mu[:, 0])
        stream = np.concatenate([chunks[0][0][:, :1], *(chunk[0][:, 1:] for chunk in chunks)], axis=1)
        assert stream.shape == (3, 37, 2)
        for row in stream:
            for (episode, step), (next_episode, next_step) in itertools.pairwise(row.astype(int)):
                goes_on = next_episode == episode and next_step == step + 1
                ended = step == series.length[episode] - 1 and next_step == 0 and next_episode != episode
                assert goes_on or ended
        assert len({tuple(frame) for frame in stream.reshape(-1, 2)}) == 3 * 37


def test_resumed_chunks_are_uninterrupted_ones(series):
    """Catches a shuffle that depends on how far the stream had come, and one that is the same in every epoch."""
    whole = list(itertools.islice(series.StreamBatches(series, 3, 6, 1000).chunks(), 20))
    assert not np.array_equal(whole[0][0], whole[6][0])
    for start in (1, 5, 6, 7, 13):
        resumed = series.StreamBatches(series, 3, 6, 1000).chunks(start)
        for found, wanted in zip(resumed, whole[start:], strict=False):
            for found_part, wanted_part in zip(found, wanted, strict=True):
                np.testing.assert_array_equal(found_part, wanted_part)


def test_the_chunk_dataset_yields_the_same(series):
    """Catches a dataset that starts elsewhere or whose signature is not what chunks yield."""
    batches = series.StreamBatches(series, 3, 6, 1000)
    for found, wanted in zip(batches.dataset(4).take(4), batches.chunks(4), strict=False):
        for found_part, wanted_part in zip(found, wanted, strict=True):
            np.testing.assert_array_equal(found_part, wanted_part)


def test_too_few_frames_for_one_chunk_are_the_users_mistake(series):
    """Catches an endless loop over no chunk at all."""
    with pytest.raises(UserError, match="do not fill"):
        series.StreamBatches(series, streams=50, steps=2, seed=1)


def test_split_keeps_episodes_apart(series):
    """Catches validation frames in training, frames lost at the border, first frames counted from the old start."""
    known, unseen = series.split(2)
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
    assert len(series.mu) == 124
    assert len(series.split(0)[0].mu) == 124


def test_split_refuses_to_hold_out_every_episode(series):
    """Catches a negative border, by which Python would quietly cut somewhere else."""
    for held_out in (6, 7, 50):
        with pytest.raises(UserError, match="6 episodes"):
            series.split(held_out)


def test_initial_z_is_of_first_frames(series):
    """Catches dreams that start in the middle of an episode."""
    mu, logvar = series.initial_z(8)
    assert mu[:, 0].astype(int).tolist() == [0, 1, 2, 3, 4, 5, 0, 1]
    assert (mu[:, 1] == 0).all()
    np.testing.assert_array_equal(logvar, -mu)


def test_a_wrong_series_is_named(tmp_path, series):
    """Catches arrays that do not belong together being trained on, and a traceback."""
    path = str(tmp_path / "series.npz")
    with np.load(path) as archive:
        arrays = dict(archive)
    for change in ({"length": arrays["length"][1:]}, {"mu": arrays["mu"][1:]}):
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


def test_a_series_that_is_not_finite_is_named(tmp_path, series):
    """Catches NaN that a bad V left in the series, found only when M's loss is NaN."""
    path = str(tmp_path / "series.npz")
    with np.load(path) as archive:
        arrays = {name: archive[name] for name in archive.files}
    arrays["mu"][-1, 0] = np.nan
    files.write_npz(path, **arrays)
    with pytest.raises(UserError, match=rf"mu of episode {len(arrays['length']) - 1} is not finite"):
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
    series.encode(*series.not_encoded(paths, folder), vae, folder, episodes_per_part)


def test_encode_keeps_frames_actions_and_lengths_together(tmp_path, folder):
    """Catches episodes out of order, actions of another frame, parts left behind or joined in another order."""
    paths, _ = recordings.scan(folder)
    truncated(paths[1])
    encode(paths, CountingV(), str(tmp_path / "series"), 2)
    assert os.listdir(tmp_path / "series") == ["series.npz"]
    series = series.Series(str(tmp_path / "series" / "series.npz"))
    assert series.length.tolist() == [30, 55, 1, 22]
    step = series.mu[:, 1]
    assert series.mu[series.first].tolist() == [[0, 0], [2, 0], [3, 0], [4, 0]]
    np.testing.assert_array_equal(series.action[:, 0], step / 64)
    np.testing.assert_array_equal(series.reward, step)
    assert np.flatnonzero(series.done).tolist() == (series.first + series.length - 1).tolist()
    np.testing.assert_array_equal(series.logvar, -series.mu)


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
    """Catches all of them encoded again, a later episode out of its place, one doubled that a killed run had joined."""
    paths, _ = recordings.scan(folder)
    series, early = str(tmp_path / "series"), [paths[k] for k in (0, 3)]
    os.makedirs(series)
    encode(early, CountingV(), series, 1)
    assert series.not_encoded(early, series) == ([], [os.path.join(series, "series.npz")])
    shutil.copy(os.path.join(series, "series.npz"), os.path.join(series, "part0.npz"))
    assert series.not_encoded(paths, series)[0] == [paths[k] for k in (1, 2, 4)]
    vae = CountingV()
    encode(paths, vae, series, 2)
    lengths = list(LENGTHS.values())
    assert vae.frames == lengths[1] + lengths[2] + lengths[4]
    assert os.listdir(series) == ["series.npz"]
    encode(paths, CountingV(), str(tmp_path / "at_once"), 2)
    grown, at_once = (files.read_npz(str(tmp_path / name / "series.npz")) for name in ("series", "at_once"))
    assert grown["recording"].tolist() == [os.path.basename(path)[:-4] for path in paths]
    for name, array in at_once.items():
        np.testing.assert_array_equal(grown[name], array)


def test_a_series_to_which_nothing_comes_is_not_written_again(tmp_path, folder):
    """Catches a series joined anew at every start, for ever, because one recording is bad inside."""
    paths, _ = recordings.scan(folder)
    flipped(paths[1])
    series = tmp_path / "series" / "series.npz"
    encode(paths, CountingV(), str(series.parent), 2)
    before = os.stat(series)
    encode(paths, CountingV(), str(series.parent), 2)
    assert os.stat(series).st_ino == before.st_ino
    assert os.listdir(series.parent) == ["series.npz"]


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
    series = tmp_path / "series" / "series.npz"
    encode(paths, CountingV(), str(series.parent), 2)
    damage(str(series))
    before = series.read_bytes()
    with pytest.raises(UserError, match=r"series\.npz: damaged, or of an earlier version"):
        encode(paths, CountingV(), str(series.parent), 2)
    assert series.read_bytes() == before


def test_recordings_that_are_all_bad_make_no_series(tmp_path, folder):
    """Catches an empty series, and a damaged recording that stops the encoding of those around it."""
    paths, _ = recordings.scan(folder)
    (tmp_path / "series").mkdir()
    truncated(paths[0])
    with pytest.raises(UserError, match="every recording is bad"):
        encode(paths[:1], CountingV(), str(tmp_path / "series"), 1)
    encode(paths, CountingV(), str(tmp_path / "series"), 1)
    assert series.Series(str(tmp_path / "series" / "series.npz")).length.tolist() == list(LENGTHS.values())[1:]
