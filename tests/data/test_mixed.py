"""Mirror images, and the streams of the newest episodes: common/data/recordings.py and series.py."""

import itertools
import os

import commands
import numpy as np
import pytest
from commands import in_this_process  # noqa: F401  a fixture

from common.agent.vae import ConvVAE
from common.data import recordings, series
from common.runtime import files, settings
from common.runtime.cli import UserError
from common.training import vae_and_rnn

from recorded import LENGTHS

FACTORS = (-1.0, 1.0, 0.5)
EPISODES = [10, 25, 5, 40, 13, 31]


@pytest.fixture
def noise(tmp_path, rng):
    """A record/ folder with frames of noise: none is its own mirror image, or that of another."""
    for seed, length in LENGTHS.items():
        obs = rng.integers(0, 256, (length, 64, 64, 3), np.uint8)
        recordings.write(str(tmp_path / "noise"), seed, obs, np.zeros(length), np.zeros(length), np.zeros(length))
    return str(tmp_path / "noise")


def batches(folder, count, start=0, seed=1000, **options):
    stream = recordings.FrameStream(folder, 8, seed, window=40, **options)
    return np.array(list(itertools.islice(stream.batches(start), count)))


def test_half_of_the_frames_are_mirrored(noise):
    """Catches all or none, whole batches, upside down, and frames in another order than without mirror images."""
    plain, seen = batches(noise, 50), batches(noise, 50, mirror=True)
    same = (seen == plain).all(axis=(2, 3, 4))
    flipped = (seen == plain[:, :, :, ::-1]).all(axis=(2, 3, 4))
    assert (same ^ flipped).all()
    assert abs(flipped.mean() - 0.5) < 5 * 0.5 / np.sqrt(flipped.size)
    assert ((flipped.sum(axis=1) > 0) & (same.sum(axis=1) > 0)).mean() > 0.9


def test_which_are_mirrored_follows_from_the_seed(noise):
    """Catches a resumed training that sees another image, and the same images in every pass."""
    whole = batches(noise, 40, mirror=True)
    for start in (1, 7, 14, 31):
        np.testing.assert_array_equal(batches(noise, 40 - start, start, mirror=True), whole[start:])
    assert not np.array_equal(whole, batches(noise, 40, seed=1001, mirror=True))
    frames = {}
    for frame in whole.reshape(-1, 64, 64, 3):
        key = min(frame.tobytes(), frame[:, ::-1].tobytes())
        frames.setdefault(key, set()).add(frame.tobytes())
    assert np.mean([len(images) == 2 for images in frames.values()]) > 0.3


def encode(paths, vae, folder):
    series.encode(*series.not_encoded(paths, folder)[:2], vae, folder, 2, mirror=True)
    return files.read_npz(f"{folder}/series.npz")


def test_the_images_of_mirrored_frames_are_encoded(noise, tmp_path):
    """Catches codes that are flipped instead of frames, the wrong axis, and images out of the order of the episodes."""
    vae, (paths, _) = ConvVAE(4, "float32"), recordings.scan(noise)
    encode(paths[1::2], vae, str(tmp_path / "series"))
    found = encode(paths, vae, str(tmp_path / "series"))  # the others come later, in between
    obs = np.concatenate([recordings.read(path)["obs"] for path in paths])
    for prefix, frames in (("", obs), (series.MIRRORED, obs[:, :, ::-1])):
        for name, wanted in zip(("mu", "logvar"), vae.encode(frames), strict=True):
            np.testing.assert_allclose(found[prefix + name], wanted, atol=2e-3)
    apart = np.abs(found["mu"].astype(float) - found[series.MIRRORED + "mu"]).max(axis=1)
    assert apart.min() > 4e-3, "the noise is too much alike to tell the images apart"


def write_series(path, mirror=True):
    """A series with (episode, step) as mu, (-1 - episode, step) as that of the images, and the frame's number."""
    total, mu = sum(EPISODES), np.array([(k, step) for k, length in enumerate(EPISODES) for step in range(length)])
    image = np.stack([-1 - mu[:, 0], mu[:, 1]], axis=1)
    arrays = {"mu": mu, "logvar": -mu} | ({"mirrored_mu": image, "mirrored_logvar": -image} if mirror else {})
    action = np.arange(total)[:, None] / 256 * [1, 2, 4]
    files.write_npz(
        str(path),
        **{name: array.astype(np.float16) for name, array in (arrays | {"action": action}).items()},
        reward=np.arange(total, dtype=np.float32),
        done=np.concatenate([np.arange(length) == length - 1 for length in EPISODES]),
        length=np.array(EPISODES, np.int32),
    )
    return series.Series(str(path))


@pytest.fixture
def data(tmp_path):
    return write_series(tmp_path / "series.npz")


def test_mirror_images_double_the_episodes(data):
    """Catches an image with the action of the original, frames that do not belong to an episode, a doubled restart."""
    both, total = data.with_mirror_images(FACTORS), sum(EPISODES)
    assert both.length.tolist() == EPISODES * 2
    assert both.first.tolist() == [*data.first, *(data.first + total)]
    mu, logvar = both.mu[:], both.logvar[:]
    np.testing.assert_array_equal(mu[:total], data.mu)
    np.testing.assert_array_equal(mu[total:, 0], -1 - data.mu[:, 0])
    np.testing.assert_array_equal(mu[total:, 1], data.mu[:, 1])
    np.testing.assert_array_equal(logvar, -mu)
    mixed = np.array([[0, total], [total - 1, 2 * total - 1]])
    np.testing.assert_array_equal(both.mu[mixed], mu[mixed])
    np.testing.assert_array_equal(both.action, np.concatenate([data.action, data.action * np.float16(FACTORS)]))
    for name in ("reward", "done"):
        np.testing.assert_array_equal(getattr(both, name), np.tile(getattr(data, name), 2))
    assert both.action.dtype == mu.dtype == np.float16
    _, restart = both.streams(1, 1000)
    assert restart.sum() == 2 * len(EPISODES)
    assert len(data.mu) == total


def test_a_part_has_its_own_mirror_images(data):
    """Catches the images of the episodes before it, or of all."""
    known, unseen = data.split(2)
    for part, numbers in ((known, range(4)), (unseen, range(4, 6))):
        both = part.with_mirror_images(FACTORS)
        assert sorted(set(both.mu[:][:, 0].astype(int))) == sorted([*numbers, *(-1 - k for k in numbers)])
        assert both.length.tolist() == part.length.tolist() * 2


def test_a_series_without_images_is_the_users_mistake(tmp_path):
    """Catches a traceback, and a training that is not what --mirror says."""
    with pytest.raises(UserError, match=r"--mirror: .*series\.py --mirror --fresh"):
        write_series(tmp_path / "plain.npz", mirror=False).with_mirror_images(FACTORS)


class OfGame:
    class config:  # noqa: N801
        MIRROR = FACTORS


@pytest.mark.parametrize("newest", [0, 2])
def test_no_image_of_a_held_out_episode_is_trained_on(data, newest):
    """Catches episodes held out after their images were added; and newest ones that are not the newest known."""
    known, _ = data.split(2)
    cfg = settings.Rnn(mirror=True, newest=newest, newest_share=0.25, streams=4, sequence_length=5)
    chunks = vae_and_rnn._chunks(OfGame, cfg, known)
    mu = np.concatenate([mu for mu, *_ in itertools.islice(chunks.chunks(), 60)], axis=1)[..., 0].astype(int)
    assert set(mu.ravel()) == {0, 1, 2, 3, -1, -2, -3, -4}
    if newest:
        assert set(mu[3]) == {2, 3, -3, -4}
        assert set(mu[:3].ravel()) == {0, 1, -1, -2}


@pytest.mark.parametrize(("share", "rows"), [(0.25, 2), (0.5, 4), (0.01, 1), (0.99, 7)])
def test_the_newest_have_their_share_of_the_streams(data, share, rows):
    """Catches a share of the frames in place of streams, none for one of the two, and columns that are mixed up."""
    old, new = data.split(3)
    for rewards in (False, True):
        mixed = series.MixedBatches(old, new, share, 8, 3, 1000, rewards)
        for mu, logvar, action, restart, fresh, *reward in itertools.islice(mixed.chunks(), 12):
            assert mu.shape == (8, 4, 2)
            assert set(mu[: 8 - rows, :, 0].ravel()) <= {0, 1, 2}
            assert set(mu[8 - rows :, :, 0].ravel()) <= {3, 4, 5}
            np.testing.assert_array_equal(logvar, -mu)
            frame = data.first[mu[..., 0].astype(int)] + mu[..., 1]
            np.testing.assert_array_equal(action[..., 0] * 256, frame)
            np.testing.assert_array_equal(restart, mu[..., 1] == 0)
            assert fresh.shape == (8,)
            assert len(reward) == rewards
            for found in reward:
                np.testing.assert_array_equal(found, frame)


def test_each_part_is_fresh_in_its_own_time(data):
    """Catches the memory of all rows emptied where one part begins a new pass, or kept where it does."""
    old, new = data.split(1)
    mixed = series.MixedBatches(old, new, 0.25, 4, 5, 1000)
    fresh = np.array([chunk[4] for chunk in itertools.islice(mixed.chunks(), 30)])
    passes = [(93 // 3 - 1) // 5, (31 - 1) // 5]
    for row in range(4):
        np.testing.assert_array_equal(fresh[:, row], np.arange(30) % passes[row == 3] == 0)


def test_resumed_mixed_chunks_are_uninterrupted_ones(data):
    """Catches an order that depends on how far the stream had come, and a dataset that is not what chunks yield."""
    old, new = data.split(2)
    whole = list(itertools.islice(series.MixedBatches(old, new, 0.5, 4, 5, 1000).chunks(), 20))
    other = next(series.MixedBatches(old, new, 0.5, 4, 5, 1001).chunks())
    assert not np.array_equal(whole[0][0], other[0])
    for start in (1, 3, 4, 9, 13):
        resumed = series.MixedBatches(old, new, 0.5, 4, 5, 1000)
        for source in (resumed.chunks(start), resumed.dataset(start, 20)):
            found = list(itertools.islice(source, 20 - start))
            assert len(found) == 20 - start
            for chunk, wanted in zip(found, whole[start:], strict=True):
                for part, wanted_part in zip(chunk, wanted, strict=True):
                    np.testing.assert_array_equal(part, wanted_part)


@pytest.mark.parametrize("mirror", [False, True])
def test_series_py_encodes_the_images_that_are_asked_for(noise, tmp_path, monkeypatch, mirror):
    """Catches --mirror or --episodes_per_part without effect, and images that nobody has asked for."""
    game, run, parts, write = commands.GAMES["doomrnn"], tmp_path / "run", [], files.write_npz
    commands.write_models(game, str(run), 1)
    os.rename(noise, run / "record")

    def noted(path, **arrays):
        write(path, **arrays)
        parts.append(len(files.read_npz(path)["length"]))

    monkeypatch.setattr(files, "write_npz", noted)
    words = "--run", run, "--unverified", "--episodes_per_part", 2, "--mirror" if mirror else "--no-mirror"
    done = commands.call(vae_and_rnn.encode, game, *words)
    assert done.code == 0, done.err
    assert parts == [2, 2, 1, 5]
    found = files.read_npz(str(run / "series" / "series.npz"))
    assert (series.MIRRORED + "mu" in found) == mirror


@pytest.mark.parametrize("mirror", [False, True])
def test_vae_train_py_hands_on_what_it_is_to_see(noise, tmp_path, monkeypatch, mirror):
    """Catches --mirror, --batch_size or --seed without effect on the frames that the VAE learns from."""

    class EnoughError(Exception):
        """The frames are known."""

    def stream(folder, batch_size, seed, **options):
        raise EnoughError(folder, batch_size, seed, options["mirror"])

    os.rename(noise, tmp_path / "record")
    monkeypatch.setattr(recordings, "FrameStream", stream)
    words = "--run", tmp_path, "--unverified", "--batch_size", 7, "--seed", 5, "--mirror" if mirror else "--no-mirror"
    with pytest.raises(EnoughError) as seen:
        commands.call(vae_and_rnn.train_vae, commands.GAMES["doomrnn"], *words)
    assert seen.value.args == (str(tmp_path / "record"), 7, 5, mirror)
