"""An MDN-RNN that predicts one normal and learns it by KL from the VAE's posterior: rnn_train.py --output gaussian."""

import argparse
import dataclasses
import json
import os

import commands
import keras
import numpy as np
import pytest
import tensorflow as tf
import tensorflow_probability as tfp
from commands import in_this_process  # noqa: F401  a fixture

from common.agent import mdnrnn, weights
from common.agent.mdnrnn import MDNRNN, Mixture, Shape
from common.data import series
from common.runtime import files, provenance, runs, settings
from common.training import trainers, vae_and_rnn
from common.worlds import dream

tfd = tfp.distributions
CFG = settings.Rnn(
    output="gaussian", mixtures=1, hidden_size=8, streams=2, sequence_length=5, steps=6, checkpoint_seconds=1000.0
)


def one_normal(rng, rows, z_size):
    return Mixture(*(tf.constant(rng.normal(0, 1, (rows, 1, z_size)), tf.float32) for _ in range(3)))


def test_the_divergence_is_that_of_the_posterior_from_the_prediction(rng):
    """Catches the two exchanged, a log-variance taken for a log standard deviation, and a missing half."""
    predicted = one_normal(rng, 50, 3)
    mu, logvar = (rng.normal(0, 1, (50, 3)).astype(np.float32) for _ in range(2))
    found = mdnrnn.divergence(predicted, mu, logvar)
    oracle = tfd.kl_divergence(tfd.Normal(mu, np.exp(logvar / 2)), tfd.Normal(*(
        part[:, 0].numpy() if part is predicted.mean else np.exp(part[:, 0]) for part in predicted[1:])))  # fmt: skip
    np.testing.assert_allclose(found, oracle, rtol=1e-5, atol=1e-5)
    for n, d in np.ndindex(50, 3):
        sigma, own = np.exp(float(predicted.logstd[n, 0, d])), np.exp(float(logvar[n, d]) / 2)
        apart = float(mu[n, d]) - float(predicted.mean[n, 0, d])
        by_hand = np.log(sigma / own) + (own**2 + apart**2) / (2 * sigma**2) - 0.5
        np.testing.assert_allclose(found[n, d], by_hand, rtol=1e-4, atol=1e-5)
    same = Mixture(predicted.logmix, mu[:, None], logvar[:, None] / 2)
    np.testing.assert_allclose(mdnrnn.divergence(same, mu, logvar), 0, atol=1e-6)


def test_it_is_what_samples_of_the_posterior_would_say_on_average(rng):
    """Catches a loss that another distribution minimises than that of the likelihood of samples."""
    predicted, count = one_normal(rng, 1, 4), 20_000
    mu, logvar = (rng.normal(0, 1, (1, 4)).astype(np.float32) for _ in range(2))
    z = mu + np.exp(logvar / 2) * rng.standard_normal((count, 4), np.float32)
    nats = -mdnrnn.log_prob(Mixture(*(tf.repeat(part, count, axis=0) for part in predicted)), z).numpy()
    entropy = 0.5 * (1 + np.log(2 * np.pi) + logvar[0])
    tolerance = 5 * nats.std(axis=0) / np.sqrt(count)
    assert (np.abs(nats.mean(axis=0) - entropy - mdnrnn.divergence(predicted, mu, logvar)[0]) < tolerance).all()


@pytest.mark.parametrize("restarts", [True, False])
def test_its_loss_is_of_the_posterior_one_step_ahead(rng, restarts):
    """Catches the posterior of the same step, one in another order than the predictions, and seams that count."""
    rnn = MDNRNN(Shape(3, 2, 4, restarts, mixtures=1), "float32")
    rnn.set_weights([rng.normal(0, 0.5, variable.shape) for variable in rnn.variables])
    mu, logvar, noise = (rng.normal(0, 1, (5, 7, 3)).astype(np.float16) for _ in range(3))
    action, restart = rng.uniform(-1, 1, (5, 7, 2)).astype(np.float16), np.zeros((5, 7), np.float32)
    restart[:, 4] = 1
    state, nats, weights_now = rnn.initial_state(5), [], rnn.prepared()
    for t in range(6):
        z = mu[:, t].astype(np.float32) + np.exp(logvar[:, t].astype(np.float32) / 2) * noise[:, t]
        inputs = mdnrnn.inputs_of(z, action[:, t], restart[:, t] if restarts else None)
        state = rnn.step(weights_now, inputs, tuple(part * (1 - restart[:, t, None]) for part in state))
        mixture, _ = rnn.predict(weights_now, state[0])
        if restarts or t != 3:
            nats.append(mdnrnn.divergence(mixture, *(part[:, t + 1].astype(np.float32) for part in (mu, logvar))))
    batch = mu, logvar, action, restart, np.ones(5, np.float32)
    options = {"gaussian": True, "restart_z": restarts}
    z_loss, *_ = mdnrnn.losses_of(rnn, batch, rnn.initial_state(5), noise.astype(np.float32), 1.0, **options)
    np.testing.assert_allclose(z_loss, np.sum(np.mean(nats, axis=(1, 2))) / 6, rtol=1e-5)  # a step left out counts as 0


def test_it_recovers_a_posterior_that_follows_from_the_action(rng):
    """Catches a gradient that does not reach mean or sigma: the loss, in nats above the entropy, falls to zero."""
    rnn = MDNRNN(Shape(1, 1, 8, False, mixtures=1), "float32")
    optimizer = keras.optimizers.Adam(1e-2, clipvalue=1.0)
    step, _ = mdnrnn.train_step_of(rnn, optimizer, tf.distribute.get_strategy(), 1.0, gaussian=True)

    def batch(rows=32, steps=16):
        action, zeros = rng.choice([-1.0, 1.0], (rows, steps + 1, 1)), np.zeros((rows, steps + 1), np.float32)
        mu, logvar = np.zeros_like(action), np.full_like(action, -2.0)
        mu[:, 1:], logvar[:, 1:] = action[:, :-1], -2 + action[:, :-1]
        return *(part.astype(np.float16) for part in (mu, logvar, action)), zeros, zeros[:, 0] + 1

    for k in range(300):
        (z_loss, _), _ = step(batch(), rnn.initial_state(32), np.array([1000, k], np.int32))
    assert 0 <= z_loss < 0.01
    mu, logvar, action, *_ = batch(4)
    h = rnn.initial_state(4)
    h, _ = rnn.step(rnn.prepared(), mdnrnn.inputs_of(mu[:, 0], action[:, 0]), h)
    mixture, _ = rnn.predict(rnn.prepared(), h)
    np.testing.assert_allclose(mixture.mean[:, 0], mu[:, 1], atol=0.1)
    np.testing.assert_allclose(2 * mixture.logstd[:, 0], logvar[:, 1], atol=0.2)


def series_in(folder, rng):
    """A series of 9 episodes of 20 frames."""
    path = str(folder / "series.npz")
    arrays = {name: rng.normal(0, 1, (180, 3)).astype(np.float16) for name in ("mu", "logvar")}
    action, done = rng.uniform(-1, 1, (180, 1)).astype(np.float16), np.arange(180) % 20 == 19
    length = np.full(9, 20, np.int32)
    files.write_npz(path, **arrays, action=action, reward=np.ones(180, np.float32), done=done, length=length)
    return series.Series(path)


def trainer_in(folder, data, cfg=CFG):
    """One start of rnn_train.py, the process before having ended."""
    folder.mkdir(exist_ok=True)
    stage = runs.Stage(argparse.Namespace(run=str(folder), fresh=False), "tf_rnn", "rnn.json", cfg)
    trainer = trainers.RnnTrainer(cfg, Shape(3, 1, cfg.hidden_size, True, cfg.mixtures), 1.0)
    trainer.resume(stage, series.StreamBatches(data, cfg.streams, cfg.sequence_length, cfg.seed), "a")
    stage._lock_file.close()
    return trainer


def test_a_resumed_training_is_an_uninterrupted_one(tmp_path, rng):
    """Catches an output that is forgotten at the second start, and one that makes no difference."""
    data = series_in(tmp_path, rng)
    whole = trainer_in(tmp_path / "whole", data)
    losses = [whole.step(step) for step in range(1, 7)]
    for steps in (range(1, 4), range(4, 7)):
        keras.utils.set_random_seed(5)
        trainer = trainer_in(tmp_path / "parts", data)
        assert [trainer.step(step) for step in steps] == [losses[step - 1] for step in steps]
        trainer.save(steps[-1])
    for one, other in zip(trainer._variables, whole._variables, strict=True):
        np.testing.assert_array_equal(one.numpy(), other.numpy())
    likelihood = trainer_in(tmp_path / "other", data, dataclasses.replace(CFG, output="mixture"))
    assert abs(likelihood.step(1)[0] - losses[0][0]) > 0.1


def test_its_file_is_that_of_a_mixture_of_one_and_dreams(tmp_path, rng):
    """Catches a file that the dream, the studio or a controller cannot read."""
    data = series_in(tmp_path, rng)
    trainer = trainer_in(tmp_path / "run", data)
    order, path = ("kernel", "bias", "output_w", "output_b"), str(tmp_path / "rnn.json")
    weights.write_rnn(path, trainer.model, order)
    again = weights.read_rnn(path, order, 3, 1, True)
    assert again.shape.mixtures == 1
    world = dream.DreamWorld(again, data.initial_z(4), 1.0, 5)
    world.reset([1, 2, 3])
    state, *_ = world.step(np.zeros((3, 1), np.float32))
    assert np.isfinite(state[0]).all()


@pytest.fixture
def recorded_run(tmp_path, rng):
    """A run of Doom with a VAE and a series, and an earlier MDN-RNN of a mixture."""
    game = commands.GAMES["doomrnn"]
    sha = commands.write_models(game, str(tmp_path), 1)
    path = str(tmp_path / "series" / "series.npz")
    (tmp_path / "series").mkdir()
    frames, length = 180, np.full(9, 20, np.int32)
    arrays = {name: rng.normal(0, 1, (frames, 4)).astype(np.float16) for name in ("mu", "logvar")}
    action, done = rng.uniform(-1, 1, (frames, 1)).astype(np.float16), np.arange(frames) % 20 == 19
    files.write_npz(path, **arrays, action=action, reward=np.ones(frames, np.float32), done=done, length=length)
    provenance.write(path, "series", game.name, {"seed": 1}, {"vae": sha["vae"]}, 1.0, unverified=False)
    os.rename(tmp_path / "tf_rnn", tmp_path / "earlier")
    return tmp_path


WORDS = ("--preset", "smoke", "--hidden_size", 8, "--steps", 2, "--streams", 2, "--sequence_length", 5,
         "--validation_episodes", 2)  # fmt: skip


def rnn_train(run, *words):
    return commands.call(vae_and_rnn.train_rnn, commands.GAMES["doomrnn"], *WORDS, "--run", run, *words)


def test_the_command_trains_one_normal_and_says_so_in_its_meta(recorded_run):
    """Catches --output that changes nothing, five normals of which four are never trained, and a kind that is lost."""
    assert rnn_train(recorded_run, "--output", "gaussian").code == 0
    meta = json.loads((recorded_run / "tf_rnn" / "rnn.json.meta.json").read_text())
    assert (meta["config"]["output"], meta["config"]["mixtures"]) == ("gaussian", 1)
    order = commands.GAMES["doomrnn"].config.RNN_FILE_ORDER
    assert weights.read_rnn(str(recorded_run / "tf_rnn" / "rnn.json"), order, 4, 1, True).shape.mixtures == 1
    again = rnn_train(recorded_run, "--output", "gaussian")
    assert (again.code, "nothing to do" in again.out) == (0, True)
    assert rnn_train(recorded_run).refused("output gaussian -> mixture")


def test_one_kind_is_not_taken_for_the_other(recorded_run):
    """Catches a mixture that goes on as a normal, and a number of mixtures that is passed over in silence."""
    start = "--start_from", recorded_run / "earlier" / "rnn.json"
    refused = rnn_train(recorded_run, "--output", "gaussian", *start)
    assert refused.refused("earlier/rnn.json", "predicts a mixture", "--output mixture")
    assert rnn_train(recorded_run, "--output", "gaussian", "--mixtures", 3).refused("--mixtures 3", "one normal")
