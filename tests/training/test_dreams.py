"""common/training/dreams.py: where the dreams of several MDN-RNNs start, and by which rules they are dreamt."""

import argparse
import dataclasses

import numpy as np
import pytest

from common.agent import mdnrnn, models, weights
from common.runtime import files, provenance, settings
from common.runtime.cli import UserError
from common.training import dreams
from common.worlds import tensor_dreams

import toy

LENGTH = np.array([7, 4, 5])


@pytest.fixture
def game(tmp_path):
    """The toy."""
    return toy.game_in(str(tmp_path))


@pytest.fixture
def loaded(rng):
    """What `starts` and `dream_world` read of the models of a run."""
    meta = {"config": {"restart_weight": 7.0}}
    first = tuple(rng.normal(size=(2, 3, toy.Z)).astype(np.float32))
    hashes = {"vae": "a" * 64}
    return models.Models(None, rnn_of(1), first, hashes, {"vae": "vae.json", "rnn": "rnn.json"}, {"rnn": meta})


def rnn_of(seed):
    """An MDN-RNN of random weights."""
    rng, model = np.random.default_rng(seed), mdnrnn.MDNRNN(mdnrnn.Shape(toy.Z, 1, toy.H, restart=True), "float32")
    model.set_weights([rng.normal(0, 0.5, variable.shape) for variable in model.variables])
    return model


@pytest.fixture
def recorded(tmp_path, rng):
    """The arrays of a series of three games."""
    frames, path = LENGTH.sum(), str(tmp_path / "series" / "series.npz")
    mu, logvar = rng.normal(size=(2, frames, toy.Z)).astype(np.float16)
    action, reward = rng.uniform(-1, 1, (frames, 1)).astype(np.float16), rng.choice([0.0, 1.0], frames)
    done = np.isin(np.arange(frames), np.cumsum(LENGTH) - 1)
    arrays = {"mu": mu, "logvar": logvar, "action": action, "reward": reward, "done": done}
    files.write_npz(path, **arrays, length=LENGTH)
    provenance.write(path, "series", "toy", settings.Series(), {"vae": "a" * 64}, 1.0, unverified=False)
    return arrays


def test_each_mdn_rnn_remembers_the_newest_games_by_itself(game, loaded, recorded, tmp_path):
    """Catches the oldest games, the memory of one MDN-RNN given to another, and a seed without effect."""
    arguments = argparse.Namespace(run=str(tmp_path), unverified=False, fresh=False)
    rnns = [loaded.rnn, rnn_of(2)]

    def starts(seed):
        cfg = settings.DreamTrain(starts=40, start_games=2, seed_start=seed)
        return dreams.starts(game, cfg, arguments, loaded, rnns, provenance.Parents({}, False))

    newest = [slice(7, 11), slice(11, 16)]
    games = [tuple(recorded[name][span] for name in ("mu", "logvar", "action")) for span in newest]
    places = tensor_dreams.drawn_places([recorded["reward"][span] for span in newest], 40, 3)
    found = starts(3)
    for rnn, pool in zip(rnns, found, strict=True):
        for one, other in zip(pool, tensor_dreams.at_places(rnn, games, places, 3), strict=True):
            np.testing.assert_allclose(one, other, atol=1e-6)
    np.testing.assert_array_equal(found[0].mu, found[1].mu)
    assert np.abs(found[0].h - found[1].h).max() > 0.01
    assert not np.array_equal(starts(4)[0].mu, found[0].mu)


def test_a_horizon_is_as_long_as_a_game_along_which_dreams_start(game, loaded, recorded, tmp_path):
    """Catches the length of an older game, along which no dream starts."""
    arguments = argparse.Namespace(run=str(tmp_path), unverified=False, fresh=False)

    def starts(games, horizon):
        cfg = settings.DreamTrain(starts=40, start_games=games, horizon=horizon)
        return dreams.starts(game, cfg, arguments, loaded, [loaded.rnn], provenance.Parents({}, False))

    for games, longest in ((1, 5), (2, 5), (3, 7), (9, 7)):
        assert starts(games, longest)
        with pytest.raises(UserError, match=rf"of the last {min(games, 3)} .* the longest has {longest} steps"):
            starts(games, longest + 1)


@pytest.mark.parametrize(("change", "says"), [({"hidden_size": 9}, "9 cells"), ({"heads": True}, "heads")])
def test_an_mdn_rnn_of_another_size_is_refused(game, loaded, tmp_path, change, says):
    """Catches dreams of one MDN-RNN that pay points beside those of another that pay 1 for a step."""
    path, shape = str(tmp_path / "other.json"), dataclasses.replace(loaded.rnn.shape, **change)
    weights.write_rnn(path, mdnrnn.MDNRNN(shape, "float32"), game.config.RNN_FILE_ORDER)
    about = {"vae": "a" * 64, "start_from": "b" * 64}
    provenance.write(path, "rnn", "toy", {"restart_weight": 7.0}, about, 1.0, unverified=False)
    loaded.hashes["rnn"] = "b" * 64
    loaded.metas["rnn"] |= {"sha256": "b" * 64, "parents": {}}
    arguments = argparse.Namespace(run=str(tmp_path), unverified=False)
    with pytest.raises(UserError, match=says):
        dreams.ensemble(game, path, arguments, loaded, provenance.Parents({}, False))


def test_dreams_are_dreamt_by_the_rules_of_the_config(game, loaded):
    """Catches a horizon, a temperature, drawn ends or a start that is ignored."""
    pool, cfg = object(), settings.DreamTrain(temperature=0.7, horizon=6, ends="drawn")
    world = dreams.dream_world(game, cfg, loaded, loaded.rnn, pool, 0.25)
    assert (world.rnn, world.initial_z, world.starts) == (loaded.rnn, loaded.initial_z, pool)
    assert (world.temperature, world.max_steps, world.dropout) == (0.7, toy.ALIVE, 0.25)
    assert (world._horizon, world._end_weight) == (6, 7.0)
    usual = dreams.dream_world(game, settings.DreamTrain(), loaded, loaded.rnn, None)
    assert (usual.dropout, usual._horizon, usual._end_weight) == (0.0, toy.ALIVE, 0.0)
