"""common/data/recordings.py: recordings on disk, and frames for the VAE."""

import contextlib
import itertools
import os
import pathlib

import commands
import numpy as np
import pytest

from common.data import recordings
from common.runtime import files
from common.runtime.cli import UserError
from common.training import vae_and_rnn

from recorded import LENGTHS, flipped, not_npz, record, tags, truncated


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
    monkeypatch.setattr(recordings, "MOST_BYTES", 30 * 64 * 64 * 3)
    with pytest.raises(ValueError, match=r"2000\.npz.*would take"):
        recordings.read(os.path.join(folder, "2000.npz"))
    assert len(recordings.read(os.path.join(folder, "2004.npz"))["obs"]) == 22


@pytest.mark.parametrize(("size", "other"), [(3, (9,)), (3, (9, 1)), (1, (9, 3)), (3, (9, 4))])
def test_recordings_of_another_game_are_named_and_skipped(tmp_path, capsys, size, other):
    """Catches a VAE of two games, and a traceback from the actions of both when they are encoded."""
    folder, frames = str(tmp_path / "record"), np.zeros((9, 64, 64, 3), np.uint8)
    for seed, shape in ((2000, other), (2001, (9, size)), (2002, (9,) if size == 1 else (9, size))):
        recordings.write(folder, seed, frames, np.zeros(shape), np.zeros(9), np.arange(9) == 8)
    paths, _ = recordings.scan(folder, (size,))
    assert [os.path.basename(path) for path in paths] == ["2001.npz", "2002.npz"]
    out = capsys.readouterr().out
    assert f"skipped: {folder}/2000.npz: its actions" in out
    assert recordings.FrameStream(folder, 4, 1, action_sizes=(size,)).paths == paths
    assert len(recordings.scan(folder)[0]) == 3


def test_recordings_of_another_game_with_the_same_actions_are_skipped(tmp_path, capsys):
    """Catches a VAE of two games where only the summaries tell them apart, and doubt where no summary tells."""
    folder = record(tmp_path, {2000: 3, 3000: 4, 3001: 4, 4000: 5, 5000: 6})
    for first, about in ((2000, {"game": "doomrnn"}), (3000, {"game": "catchdot"}), (4000, {})):
        config = {"config": {"first_seed": first, "episodes": 2}}
        files.write_json(os.path.join(folder, f"{first}.summary.json"), about | config)
    (tmp_path / "5000.summary.json").write_text("[")
    paths = recordings.FrameStream(folder, 4, 1, action_sizes=(1,), game="doomrnn").paths
    assert [os.path.basename(path) for path in paths] == ["2000.npz", "4000.npz", "5000.npz"]
    assert f"skipped: {folder}/3001.npz: was recorded in catchdot" in capsys.readouterr().out
    assert len(recordings.scan(folder, (1,))[0]) == 5


@pytest.mark.parametrize("sizes", [(3, 2, 2), (2, 3, 3, 2), (2, 2, 3)])
def test_actions_of_the_size_of_most_are_taken(tmp_path, sizes):
    """Catches a VAE of both, and the first file, or the usual size, against all others."""
    for seed, size in enumerate(sizes, 2000):
        zeros = np.zeros(4)
        recordings.write(str(tmp_path), seed, np.zeros((4, 64, 64, 3)), np.zeros((4, size)), zeros, zeros)
    taken, _ = recordings.scan(str(tmp_path), (3, 2))
    assert {recordings.action_size(path) for path in taken} == {2}
    assert len(taken) == 2


@pytest.mark.parametrize("stage", [vae_and_rnn.train_vae, vae_and_rnn.encode])
@pytest.mark.parametrize(("name", "shape"), [("carracing", (99,)), ("doomrnn", (99, 3))])
def test_stages_do_not_learn_from_another_game(tmp_path, stage, name, shape):
    """Catches a stage that does not say which game it is for."""
    frames = np.zeros((99, 64, 64, 3), np.uint8)
    recordings.write(str(tmp_path / "record"), 2000, frames, np.zeros(shape), np.zeros(99), np.arange(99) == 98)
    done = commands.call(stage, commands.GAMES[name], "--preset", "smoke", "--run", tmp_path, "--unverified")
    assert "is it another's?" in done.out
    assert done.refused("no readable recording")


@pytest.mark.parametrize("stage", [vae_and_rnn.train_vae, vae_and_rnn.encode])
def test_stages_do_not_learn_from_another_game_with_the_same_actions(tmp_path, stage):
    """Catches a stage that looks at the actions alone, where only the summary tells the games apart."""
    folder = record(tmp_path / "record", {2000: 9})
    about = {"game": "catchdot", "config": {"first_seed": 2000, "episodes": 1}}
    files.write_json(os.path.join(folder, "2000.summary.json"), about)
    done = commands.call(stage, commands.GAMES["doomrnn"], "--preset", "smoke", "--run", tmp_path, "--unverified")
    assert "was recorded in catchdot" in done.out
    assert done.refused("no readable recording")


def test_recordings_are_of_the_agent_that_played_them_or_of_a_random_policy(tmp_path):
    """Catches games of an agent that count as random ones in the meta of what was learned from them."""
    folder = record(tmp_path, {2000: 3, 3000: 3})
    for first, who in (
        (2000, {"controller": "agent.json", "policy": ""}),
        (3000, {"controller": "", "policy": "walk"}),
    ):
        config = {"first_seed": first, "episodes": 1} | who
        files.write_json(os.path.join(folder, f"{first}.summary.json"), {"game": "doomrnn", "config": config})
    one, two = recordings.sources(folder, recordings.scan(folder)[0])
    assert (one["controller"], two["policy"]) == ("agent.json", "walk")
    assert "policy" not in one
    assert "controller" not in two


def test_recordings_of_other_names_are_named_and_skipped(tmp_path, capsys):
    """Catches a folder of rollout_0.npz that is said to be empty."""
    folder = record(tmp_path / "record", {2000: 3})
    for name in ("rollout_0.npz", "2001 (copy).npz", "\u0662.npz", "-1.npz"):
        (tmp_path / "record" / name).write_bytes((tmp_path / "record" / "2000.npz").read_bytes())
    assert [os.path.basename(path) for path in recordings.scan(folder)[0]] == ["2000.npz"]
    out = capsys.readouterr().out
    assert out.count("named by its seed") == 4
    assert f"{folder}/rollout_0.npz" in out


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


def test_what_ends_reading_ahead_is_kept(folder):
    """Catches TensorFlow's long traceback where all recordings were removed or damaged while a training reads them."""
    stream = recordings.FrameStream(folder, 8, 1000)
    for path in stream.paths[:-1]:
        os.remove(path)
    os.truncate(stream.paths[-1], 100)
    with pytest.raises(Exception, match="all recordings of a window are bad"):
        next(iter(stream.dataset()))
    assert isinstance(stream.failure, UserError)


def test_recordings_made_anew_are_another_source(folder):
    """Catches a training that goes on with other games of the same lengths, as if nothing had happened."""
    before = recordings.FrameStream(folder, 8, 1000).source
    assert recordings.FrameStream(folder, 8, 1001, window=40).source == before
    noise = np.random.default_rng(1000).integers(0, 256, (7, 64, 64, 3), np.uint8)
    recordings.write(folder, 2001, noise, np.zeros(7), np.zeros(7), np.zeros(7))
    assert recordings.FrameStream(folder, 8, 1000).source != before


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
    assert len(list(stream.dataset(1, first))) == first - 1


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


def test_half_of_the_frames_are_seen_in_a_mirror(folder):
    """Catches an image that is not one (rows flipped, colors swapped), all frames or none, another order of frames."""
    plain, mirroring = (recordings.FrameStream(folder, 8, 1000, mirror=mirror) for mirror in (False, True))
    flipped = total = 0
    for frames, seen in itertools.islice(zip(plain.batches(), mirroring.batches(), strict=True), 40):
        # the tag of a frame, in its first pixel, is in the last pixel of the row in a mirror
        in_mirror = frames[:, :, ::-1]
        for frame, image, shown in zip(frames, in_mirror, seen, strict=True):
            is_image, is_frame = (shown == image).all(), (shown == frame).all()
            assert is_image or is_frame
            if not (is_image and is_frame):  # a black frame is its own image
                flipped, total = flipped + is_image, total + 1
    assert total > 250
    assert abs(flipped / total - 0.5) < 5 * 0.5 / np.sqrt(total)
    again = next(recordings.FrameStream(folder, 8, 1000, mirror=True).batches(39))
    np.testing.assert_array_equal(again, seen)


def test_recordings_are_counted_once_and_by_their_own_summary(tmp_path, capsys):
    """Catches the seed after the last of a command, recordings counted twice, and an unverified origin that is lost."""
    folder = record(tmp_path, {2000: 3, 2001: 3, 2002: 3, 2003: 3})
    for first, more in ((2000, {"unverified": True}), (2001, {})):
        config = {"first_seed": first, "episodes": 2, "policy": "walk"}
        files.write_json(os.path.join(folder, f"{first}.summary.json"), {"game": "doomrnn", "config": config} | more)
    one, two, rest = recordings.sources(folder, recordings.scan(folder)[0])
    assert [(about["first_seed"], about["count"], about.get("unverified")) for about in (one, two)] == [
        (2000, 2, True), (2001, 1, None),
    ]  # fmt: skip
    assert rest == {"unknown": 1, "unverified": True}
    assert "who played 1 of the recordings" in capsys.readouterr().err
    assert recordings.owners(folder, "summary") == [(range(2000, 2002), "doomrnn"), (range(2001, 2003), "doomrnn")]


def test_only_training_seeds_are_learned_from(tmp_path, capsys):
    """Catches a model that has learned from test games, and one that has, on request, but does not say so."""
    folder = record(tmp_path, {2000: 3, 1000: 3})
    paths, _ = recordings.scan(folder)
    with pytest.raises(UserError, match="1000 to 2000 are not all for training"):
        recordings.training_sources(folder, paths, unverified=False)
    found = recordings.training_sources(folder, paths, unverified=True)
    assert "1000 to 2000" in found[-1]["other_seeds"]
    assert found[-1]["unverified"] is True
    assert recordings.training_sources(folder, paths[1:], unverified=False) == [{"unknown": 1, "unverified": True}]
    assert "not all for training" in capsys.readouterr().err


def test_a_batch_may_be_larger_than_a_window(folder):
    """Catches a training that waits for ever for a batch, because no window holds one."""
    stream = recordings.FrameStream(folder, 100, 1000, window=8)
    assert sum(count for _, count in stream._windows(0)) == 1


def test_frames_are_shuffled_anew_in_every_window_and_pass(tmp_path):
    """Catches one shuffle for all windows of a pass, or for a window in all passes."""
    stream = recordings.FrameStream(record(tmp_path / "record", {2000: 40, 2001: 40}), 40, 1000, window=40)
    assert len(stream._windows(0)) == 2
    orders = [tuple(step for _, step in tags(batch)) for batch in itertools.islice(stream.batches(), 4)]
    assert len(set(orders)) == 4
