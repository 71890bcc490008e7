"""train.py --world dream and -o ppo in CarRacing: commands on tiny models, and a linear controller under a network."""

import argparse
import json
import os
import shutil
import subprocess
import sys
import types

import numpy as np
import pytest
import tensorflow as tf

from common.agent import controller, mdnrnn, models, network, vae, weights
from common.game import find
from common.play import agents, play
from common.runtime import files, provenance, settings
from common.runtime.cli import UserError
from common.runtime.files import ROOT
from common.training import evolve, ppo, vae_and_rnn
from common.worlds import candidates, tensor_dreams

CARRACING = find("carracing")
SHAPE = mdnrnn.Shape(32, 3, 8, restart=False, heads=True)
FEATURES = 40
SMOKE = "--preset", "smoke", "--world", "dream", "--starts", 40, "--horizon", 10


@pytest.fixture(autouse=True)
def float32_products(monkeypatch):
    """Products in float32, whatever the processor."""
    monkeypatch.setenv("WORLDMODELS_DTYPE", "float32")


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A run whose models are random, and whose one recorded game is noise, with metas."""
    folder, rng = tmp_path_factory.mktemp("run"), np.random.default_rng(1000)
    paths = {name: str(folder / file) for name, file in CARRACING.config.TRAINED.items()}
    paths["series"] = str(folder / "series" / "series.npz")
    weights.write_vae(paths["vae"], vae.ConvVAE(32, "float32"))
    rnn = mdnrnn.MDNRNN(SHAPE, "float32")
    rnn.set_weights([rng.normal(0, 0.3, variable.shape) for variable in rnn.variables])
    weights.write_rnn(paths["rnn"], rnn, CARRACING.config.RNN_FILE_ORDER)
    mu, logvar = rng.normal(0, 1, (120, 32)), np.full((120, 32), -3.0)
    weights.write_initial_z(paths["initial_z"], mu[:5], logvar[:5])
    files.write_npz(
        paths["series"],
        mu=mu.astype(np.float16),
        logvar=logvar.astype(np.float16),
        action=rng.uniform(0, 1, (120, 3)).astype(np.float16),
        reward=rng.choice([-0.1, 3.2], 120).astype(np.float32),
        done=np.zeros(120, bool),
        length=np.array([60, 60], np.int32),
        recording=np.array(["2000", "2001"]),
        bytes=np.array([1, 1]),
    )
    parents = {"vae": files.sha256(paths["vae"]), "recordings": []}
    for name, path in paths.items():
        provenance.write(path, name, "carracing", settings.Rnn(), parents, 1.0, unverified=False)
    return folder


def train(folder, *words, code=0):
    """train.py of CarRacing; returns what it printed on stderr."""
    command = [sys.executable, "train.py", "--run", folder, *words]
    done = subprocess.run(list(map(str, command)), cwd=os.path.join(ROOT, "carracing"), capture_output=True, text=True)
    assert done.returncode == code, done.stderr
    return done.stderr


@pytest.mark.parametrize(
    ("name", "flags"),
    [
        ("cma.4.8", ()),
        ("openes.4.8", ("-o", "openes", "--directions", 0)),
    ],
)
def test_what_is_resumed_ends_with_the_same_files(run, tmp_path, name, flags):
    """Bit for bit. Catches starts, noise or directions drawn anew, and states that a checkpoint lacks."""
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    for folder in (whole, parts):
        shutil.copytree(run, folder)
    train(whole, *SMOKE, *flags, "--generations", 4)
    train(parts, *SMOKE, *flags, "--generations", 2)
    train(parts, *SMOKE, *flags, "--generations", 4)
    base = f"log/carracing.dream.{name}"
    for ending in ("best.json", "json", "log.json"):
        assert (whole / f"{base}.{ending}").read_text() == (parts / f"{base}.{ending}").read_text()
    one, other = (files.read_npz(str(folder / f"{base}.checkpoint.npz")) for folder in (whole, parts))
    for key in one.keys() - {"logs"}:
        np.testing.assert_array_equal(one[key], other[key], err_msg=key)
    meta = json.loads((whole / f"{base}.best.json.meta.json").read_text())
    assert meta["parents"]["series"] == files.sha256(str(run / "series" / "series.npz"))
    assert meta["score"]["of"] == "dream"


def test_a_policy_gradient_in_paying_dreams_is_resumed_bit_for_bit():
    """Catches survival, or the steps that are left, which are not part of the state of a run."""
    rng = np.random.default_rng(1000)
    rnn = mdnrnn.MDNRNN(SHAPE, "float32")
    rnn.set_weights([rng.normal(0, 0.3, variable.shape) for variable in rnn.variables])
    games = [(rng.normal(size=(30, 32)), np.full((30, 32), -3.0), rng.uniform(size=(30, 3)))]
    pool = tensor_dreams.at_places(rnn, games, np.array([[0, 0], [0, 9], [0, 29]]), 1000)
    cfg = settings.Ppo(steps=8, minibatch=64, value_updates=1, value_hidden="8", reward_scale=0.05, seed_start=1000)

    def new():
        world = tensor_dreams.Dreams([rnn] * 2, [pool] * 2, 1.0, 1000, 16, 0.1, "zh", CARRACING.config.PAY, horizon=5)
        return ppo.PPO(world, network.policy_for(CARRACING.config, FEATURES, "8"), cfg)

    whole = new()
    whole.update()
    halfway = whole.arrays()
    for _ in range(2):
        whole.update()
    resumed = new()
    resumed.restore(halfway)
    for _ in range(2):
        resumed.update()
    for name, array in whole.arrays().items():
        np.testing.assert_array_equal(resumed.arrays()[name], array, err_msg=name)
    assert len(np.unique(whole.arrays()["world5"])) > 2  # steps left


@pytest.mark.parametrize(
    ("words", "culprit"),
    [
        (("--world", "dream", "--patience", "5"), "--patience"),
        (("--world", "game", "--horizon", "5"), "--horizon"),
        (("--world", "moon"), "moon"),
        (("-o", "ppo", "--world", "game", "--horizon", "5"), "--horizon"),
        (("-o", "ppo", "--patience", "5"), "--patience"),
        (("--preset", "smoke", "--world", "dream", "--horizon", "61"), "the longest has"),
    ],
)
def test_flags_are_those_of_the_world(run, words, culprit):
    """Catches a flag of the other world that is ignored; one line, and nothing is written."""
    said = train(run, *words, code=2)
    assert culprit in said
    assert len(said.strip().splitlines()) == 1
    assert not (run / "log").exists()


@pytest.mark.parametrize("heads", [True, False])
def test_the_losses_of_the_heads_are_trained_and_told_by_name(run, tmp_path, monkeypatch, heads):
    """Catches a config that is not handed on, names that stand for another loss, and a validation without the heads."""
    folder = tmp_path / "run"
    shutil.copytree(run, folder)
    shutil.rmtree(folder / "tf_rnn")
    flags = "--streams 2 --sequence_length 10 --validation_episodes 1 --steps 40 --learning_rate 0.02 --hidden_size 8"
    flags += " --schedule constant --validate_every 40 --report_every 1" + " --no-heads" * (not heads)
    monkeypatch.setattr(sys, "argv", ["rnn_train.py", "--run", str(folder), "--preset", "smoke", *flags.split()])
    vae_and_rnn.train_rnn(CARRACING, "What it does.")
    rows = [json.loads(line) for line in (folder / "tf_rnn" / "metrics.jsonl").read_text().splitlines()]
    names = ["z_loss", *(["reward_loss", "fall_loss"] * heads)]
    assert list(rows[0]) == ["step", *(f"rnn/{name}" for name in names)]
    assert list(rows[-1]) == ["step", *(f"rnn/validation_{name}" for name in names)]
    assert len(json.loads((folder / "tf_rnn" / "rnn.json").read_text())) == (6 if heads else 4)
    if heads:  # half of the steps pay 3.2, the others -0.1, and none is the end that costs
        assert rows[0]["rnn/reward_loss"] > 3
        assert rows[-2]["rnn/reward_loss"] < 0.8 * rows[0]["rnn/reward_loss"]
        assert rows[-1]["rnn/validation_reward_loss"] > 1
        assert rows[-1]["rnn/validation_fall_loss"] < 0.1


def test_a_validation_without_a_chunk_is_known_before_the_training(run, tmp_path, monkeypatch):
    """Catches a last episode that is shorter than a chunk, of which the first validation says so, after every start."""
    folder = tmp_path / "run"
    shutil.copytree(run, folder)
    shutil.rmtree(folder / "tf_rnn")
    flags = "--streams 1 --sequence_length 80 --validation_episodes 1 --steps 1 --hidden_size 8"
    monkeypatch.setattr(sys, "argv", ["rnn_train.py", "--run", str(folder), "--preset", "smoke", *flags.split()])
    with pytest.raises(UserError, match=r"--validation_episodes 1: their \d+ frames do not fill a chunk of 81"):
        vae_and_rnn.train_rnn(CARRACING, "What it does.")
    assert not (folder / "tf_rnn").exists()


def test_the_head_steers_and_accelerates_as_the_game_does_and_raises_the_brake_to_a_power(rng):
    """Catches a car that half-brakes wherever its policy is undecided, and a brake that is cut off."""
    raw = rng.normal(0, 2, (200, 3)).astype(np.float32)
    action = network.policy_for(CARRACING.config, FEATURES, "4").head.action_of(raw).numpy()
    np.testing.assert_allclose(action[:, :2], CARRACING.action_of(np.tanh(raw))[:, :2], atol=1e-6)
    np.testing.assert_allclose(action[:, 2], ((np.tanh(raw[:, 2]) + 1) / 2) ** 3, atol=1e-6)


def test_a_network_on_a_linear_controller_begins_as_that(rng):
    """Catches a bias lost or a weight transposed under the network, and standard deviations that it sets."""
    shape = controller.Controller("zh", 32, 8, 3, bias=True)
    flat = rng.normal(0, 0.3, shape.parameters).astype(np.float32)
    policy = network.policy_for(CARRACING.config, FEATURES, "16", flat)
    assert network.base_size(CARRACING.config, FEATURES) == shape.parameters
    assert policy.parameters == policy.network.parameters + shape.parameters
    z, h, c = rng.normal(size=(7, 32)), rng.normal(size=(7, 8)), np.zeros((7, 8))
    state = tuple(tf.constant(part, tf.float32) for part in (z, h, c))
    layers = policy.network.unpack(policy.network.initial(rng))
    mean = policy.outputs(layers, shape.features(*state))[:, :3]
    action = policy.head.action_of(mean)  # to play the expected action is not quite the same
    wanted = CARRACING.action_of(shape.act(np.tile(flat, (7, 1)), shape.features(*state)).numpy())
    np.testing.assert_allclose(action, wanted, atol=1e-5)


@pytest.mark.parametrize("on_linear", [False, True])
def test_a_network_is_read_back_as_it_was_written(tmp_path, rng, on_linear):
    """Catches the linear part of a CarRacing network taken for a file of another size."""
    base = rng.normal(0, 0.3, 3 * (FEATURES + 1)).round(4).astype(np.float32) if on_linear else None
    policy = network.policy_for(CARRACING.config, FEATURES, "16", base)
    flat = policy.network.initial(rng, last=1.0).round(4)
    path = str(tmp_path / "c.json")
    controller.write(path, np.concatenate([flat, base if on_linear else []]))
    meta = {"config": {"controller_mode": "zh", "hidden": "16"}}
    loaded = types.SimpleNamespace(rnn=types.SimpleNamespace(shape=SHAPE))
    read, parameters = agents.read_network(CARRACING, path, meta, loaded)
    features = rng.normal(size=(5, FEATURES)).astype(np.float32)
    found = read.outputs(read.network.unpack(parameters), features)
    np.testing.assert_allclose(found, policy.outputs(policy.network.unpack(flat), features), atol=1e-5)


def test_directions_are_those_of_what_was_read_in_the_recorded_games():
    """Catches directions of a dream that a controller which does nothing yet has played."""
    rng = np.random.default_rng(1000)
    pool = tensor_dreams.Starts(
        *(rng.normal(size=(50, size)).astype(np.float32) for size in (32, 32, 8, 8)), np.zeros(50, int)
    )
    shape = controller.Controller("zh", 32, 8, 3, bias=True)
    cfg = types.SimpleNamespace(block_rows=8, dropout=0.0)
    arena = evolve.DreamArena(lambda *_: types.SimpleNamespace(starts=pool), 1, shape, CARRACING.action_of, cfg, 1)
    found = shape.principal_directions(arena.features(np.zeros(shape.parameters)), 5)
    wanted = shape.principal_directions(np.concatenate([pool.mu, pool.h], axis=1), 5)
    np.testing.assert_allclose(found, wanted, atol=1e-5)
    arena.close()


def test_candidates_dream_with_dropout_and_the_mean_is_evaluated_without(rng):
    """Catches evaluations that the dreams of model.py, and those of the policy gradient, would not repeat."""
    rnn = mdnrnn.MDNRNN(SHAPE, "float32")
    rnn.set_weights([rng.normal(0, 0.5, variable.shape) for variable in rnn.variables])
    first_frames = rng.normal(size=(5, 32)).astype(np.float32), np.full((5, 32), -3, np.float32)
    loaded = models.Models(None, rnn, first_frames, {}, {}, {})
    shape = agents.controller_on(CARRACING, rnn)
    cfg = settings.DreamTrain(n=1, t=3, dropout=0.5, horizon=6, block_rows=4, num_episode=4, eval_episodes=4)
    made_of = types.SimpleNamespace(hashes={}, unverified=False)
    arena = evolve._dream_arena(CARRACING, cfg, argparse.Namespace(run="."), loaded, shape, made_of)
    population, seeds = rng.normal(0, 0.3, (3, shape.parameters)), np.arange(1000, 1004)

    def returns(dropout):
        world = play.dreams(CARRACING, loaded, 1.0, dropout=dropout, horizon=6)
        return candidates.evaluate(world, shape, population, seeds, CARRACING.action_of)[0]

    np.testing.assert_allclose(arena.play(population, seeds)[0], returns(0.5), atol=1e-4)
    for mean, wanted in zip(population, returns(0.0), strict=True):
        np.testing.assert_allclose(arena.evaluate(mean, seeds), wanted, atol=1e-4)
    assert np.abs(returns(0.0) - returns(0.5)).min() > 1e-2
    arena.close()
