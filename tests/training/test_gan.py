"""VAE-GAN: who learns from what, when one side rests, and vae_train.py --gan from its first step to its vae.json."""

import argparse
import dataclasses
import json
import types

import commands
import keras
import numpy as np
import pytest
import tensorflow as tf
from commands import in_this_process  # noqa: F401  a fixture

from common.agent import vae, weights
from common.agent.discriminator import Discriminator
from common.data import recordings
from common.runtime import devices, files, runs, settings
from common.runtime.cli import UserError
from common.training import gan, vae_and_rnn

Z = 4
CFG = settings.Vae(z_size=Z, gan=True, batch_size=4, steps=4, learning_rate=1e-3, checkpoint_seconds=1000.0)


@pytest.fixture(autouse=True)
def float32_products(monkeypatch):
    """Products in float32, whatever the processor."""
    monkeypatch.setenv("WORLDMODELS_DTYPE", "float32")


def frames_of(rng, count=4):
    """Frames with a square at a random place."""
    frames = np.zeros((count, 64, 64, 3), np.uint8)
    for k, (row, column) in enumerate(rng.integers(0, 32, (count, 2))):
        frames[k, row : row + 32, column : column + 32] = rng.integers(100, 256, 3)
    return frames


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_the_discriminator_judges_a_frame_alike_in_any_batch(dtype, rng):
    """Catches batch normalization, features of another layer, a logit per feature, and eyes shut to brightness.

    And units that are dead below zero, through which the decoder would learn nothing.
    """
    judge = Discriminator(dtype)
    for conv in judge.convs:
        conv.set_weights([rng.normal(0, 0.3, part.shape) for part in conv.get_weights()])
    frames = frames_of(rng).astype(np.float32) / 255
    features, logits = judge.judge(frames)
    shapes = [(4, 64, 64, 3), (4, 32, 32, 32), (4, 16, 16, 64), (4, 8, 8, 128)]
    assert ([layer.shape for layer in features], logits.shape) == (shapes, (4,))
    assert {np.array(part).dtype for part in (*features, logits)} == {np.dtype(np.float32)}
    np.testing.assert_allclose(features[0], 2 * frames - 1, atol=1e-6)
    np.testing.assert_array_equal(features[1], tf.cast(judge.convs[0](features[0]), tf.float32))  # also below 0
    before = tf.nn.leaky_relu(tf.cast(judge.convs[3](tf.nn.leaky_relu(features[3])), tf.float32))
    np.testing.assert_allclose(logits, judge.fc_logit(tf.reshape(before, [4, -1]))[:, 0], rtol=1e-3)
    darker, _ = judge.judge(0.5 * frames + 0.1)
    alone, logit = judge.judge(frames[:1])
    np.testing.assert_allclose(logit[0], logits[0], atol=1e-4 if dtype == "float32" else 0.1)
    for layer, dark, one in zip(features, darker, alone, strict=True):
        assert np.abs(dark - layer).mean() > 0.1
        np.testing.assert_allclose(one[0], layer[0], atol=1e-4 if dtype == "float32" else 0.1)
        assert np.abs(layer[0] - layer[1]).mean() > 0.1


def test_all_pixels_are_seen():
    """Catches convolutions without padding: what the decoder draws in the last rows and columns would not be judged."""
    judge = Discriminator("float32")
    for conv in judge.convs:
        conv.set_weights([np.ones_like(conv.kernel) * 1e-2, np.zeros_like(conv.bias)])
    judge.fc_logit.set_weights([np.ones_like(judge.fc_logit.kernel), np.zeros(1)])
    frames = tf.constant(np.full((1, 64, 64, 3), 0.7, np.float32))
    with tf.GradientTape() as tape:
        tape.watch(frames)
        _, logit = judge.judge(frames)
    assert tape.gradient(logit, frames).numpy().min() > 0


@pytest.mark.parametrize(
    ("real", "unreal", "decoder", "discriminator"),
    [
        (0.69, 0.69, True, True),
        (0.32, 0.69, True, False),  # it knows the real ones too well
        (0.69, 0.32, True, False),  # or those that are made
        (1.04, 0.69, False, True),
        (0.69, 1.04, False, True),
        (0.32, 1.04, True, True),  # both would rest
        (0.34, 1.02, True, True),
    ],
)
def test_who_is_far_ahead_rests(real, unreal, decoder, discriminator):
    """Catches the two sides exchanged, one loss that is not looked at, and a training in which nothing moves."""
    found = gan.learners(tf.constant(real), tf.constant(unreal))
    assert tuple(map(bool, found)) == (decoder, discriminator)


class Parts:
    """A VAE-GAN with plain gradient descent, so that what a part moved by is its gradient."""

    def __init__(self):
        keras.utils.set_random_seed(1000)
        self.vae, self.judge = vae.ConvVAE(Z, "float32"), Discriminator("float32")
        groups = gan.encoder_of(self.vae), self.vae.decoder.trainable_variables, self.judge.trainable_variables
        self.groups, self.optimizers = groups, [keras.optimizers.SGD(1.0) for _ in groups]
        for optimizer, variables in zip(self.optimizers, groups, strict=True):
            optimizer.build(variables)
        self.step = gan.train_step_of(self.vae, self.judge, self.optimizers)

    def moved(self, frames, judgment):
        """[the gradient of each variable] of the encoder, the decoder and the discriminator, and the losses."""
        before = [[variable.numpy() for variable in group] for group in self.groups]
        losses = self.step(frames, np.array([1000, 1], np.int32), tf.constant(judgment, tf.float32))
        moved = [
            [old - variable.numpy() for old, variable in zip(olds, group, strict=True)]
            for olds, group in zip(before, self.groups, strict=True)
        ]
        for olds, group in zip(before, self.groups, strict=True):
            for old, variable in zip(olds, group, strict=True):
                variable.assign(old)
        return moved, [float(loss) for loss in losses]


def nats(logits, label):
    """Cross-entropy of a discriminator that says `logits` where the truth is `label`, float64."""
    p = 1 / (1 + np.exp(-np.asarray(logits, np.float64)))
    return -np.mean(np.log(p if label else 1 - p))


@pytest.mark.parametrize("judgment", [0.0, 3.0])
def test_losses_and_gradients_are_those_written_down(judgment, rng, monkeypatch):
    """Catches a gradient of the judgment in the encoder, one too long or too short, signs, and a layer left out."""
    parts, frames = Parts(), frames_of(rng)
    parts.judge.fc_logit.kernel.assign(rng.normal(0, 6, (4096, 1)))
    dense = parts.vae.decoder.trainable_variables[0]
    dense.assign(30 * dense)  # so that z shows
    monkeypatch.setattr(gan, "learners", lambda real, unreal: (tf.constant(True), tf.constant(True)))
    moved, (pixels, kl, feature_loss, real, unreal, *_) = parts.moved(frames, judgment)
    noise, prior = tf.random.stateless_normal([2, 4, Z], [1000, 1])
    target = frames / np.float32(255)

    def losses(made, drawn):
        (seen, says_real), (made_seen, says_made), (_, says_drawn) = map(parts.judge.judge, (target, made, drawn))
        shares = [
            tf.reduce_mean((one - other) ** 2) / (float(np.mean(np.var(one, axis=0))) + 1e-6)
            for one, other in zip(seen, made_seen, strict=True)
        ]
        assert len(shares) == 4
        return 25 * tf.add_n(shares), says_real, tf.concat([says_made, says_drawn], axis=0)

    with tf.GradientTape(persistent=True) as tape:
        mu, logvar = parts.vae.encode(frames)
        made, drawn = parts.vae.decode(vae.sample(mu, logvar, noise)), parts.vae.decode(prior)
        apart, says_real, says_unreal = losses(made, drawn)
        floor = tf.reduce_mean(tf.maximum(vae.kl_to_standard_normal(mu, logvar), Z / 2))
        fooled = tf.reduce_mean(tf.nn.softplus(-says_unreal))
        judged = (tf.reduce_mean(tf.nn.softplus(-says_real)) + tf.reduce_mean(tf.nn.softplus(says_unreal))) / 2
    np.testing.assert_allclose(pixels, np.sum((target - made) ** 2) / 4, rtol=1e-4)
    np.testing.assert_allclose([kl, feature_loss], [floor, apart], rtol=1e-4)
    np.testing.assert_allclose([real, unreal], [nats(says_real, 1), nats(says_unreal, 0)], rtol=1e-4)
    lengths = []
    for loss in (apart, fooled):
        pulls = [pull for pull in tape.gradient(loss, [made, drawn]) if pull is not None]
        lengths.append(np.sqrt(sum(np.sum(np.square(pull)) for pull in pulls)))
    weight = judgment * lengths[0] / lengths[1]
    for_encoder = [
        a + b for a, b in zip(*(tape.gradient(loss, parts.groups[0]) for loss in (floor, apart)), strict=True)
    ]
    of_decoder = [tape.gradient(loss, parts.groups[1]) for loss in (apart, fooled)]
    for_decoder = [a + weight * b for a, b in zip(*of_decoder, strict=True)]
    wanted = for_encoder, for_decoder, tape.gradient(judged, parts.groups[2])
    for which in range(3):
        for found, true in zip(moved[which], wanted[which], strict=True):
            np.testing.assert_allclose(found, true, rtol=2e-3, atol=2e-3 * np.abs(true).max() + 1e-6)
    if judgment:
        for kept_from_it, loss in ((wanted[0], 0), (wanted[1], 1)):
            pull = max(np.abs(weight * part).max() for part in tape.gradient(fooled, parts.groups[loss]))
            assert pull > 0.1 * max(np.abs(part).max() for part in kept_from_it)


def test_a_discriminator_that_says_nothing_pulls_nowhere(rng, monkeypatch):
    """Catches a division by the length of no gradient."""
    monkeypatch.setattr(gan, "learners", lambda real, unreal: (tf.constant(True), tf.constant(True)))
    parts, frames = Parts(), frames_of(rng)
    parts.judge.fc_logit.kernel.assign(np.zeros((4096, 1)))
    (judged, _), (plain, _) = (parts.moved(frames, judgment) for judgment in (0.3, 0.0))
    for one, other in zip(judged[1], plain[1], strict=True):
        np.testing.assert_allclose(one, other, atol=1e-6)


def test_a_gradient_that_is_not_finite_shows_in_a_loss(rng):
    """Catches an infinite gradient of the decoder that no loss tells of: it would reach the checkpoint."""
    _, losses = Parts().moved(frames_of(rng), np.inf)
    assert np.isnan(losses[0])
    assert np.isfinite(losses[1:]).all()


def test_what_to_draw_is_learned_before_how_sharp():
    """Catches a judgment from the first step on, and one that never weighs in full."""
    found = [gan.ramp(step, 300) for step in (0, 100, 150, 200, 299)]
    assert found == pytest.approx([0, 0, 0.5, 1, 1])


@pytest.mark.parametrize(("decoder", "critic"), [(True, False), (False, True)])
def test_who_rests_does_not_move(rng, monkeypatch, decoder, critic):
    """Catches a rest in which Adam goes on by what it remembers, and a rule that is computed but not followed."""
    parts = Parts()
    parts.optimizers[:] = [keras.optimizers.Adam(1e-3) for _ in parts.groups]
    for optimizer, variables in zip(parts.optimizers, parts.groups, strict=True):
        optimizer.build(variables)
    rule = tf.Variable([True, True])
    monkeypatch.setattr(gan, "learners", lambda real, unreal: (rule[0], rule[1]))
    step = gan.train_step_of(parts.vae, parts.judge, parts.optimizers)
    step(frames_of(rng), np.array([1, 1], np.int32), 0.3)  # so that Adam remembers
    rule.assign([decoder, critic])
    every = [[*group, *optimizer.variables] for group, optimizer in zip(parts.groups, parts.optimizers, strict=True)]
    before = [[variable.numpy() for variable in group] for group in every]
    losses = step(frames_of(rng), np.array([1, 2], np.int32), 0.3)
    assert [bool(part) for part in losses[-2:]] == [decoder, critic]
    moved = [
        any((old != variable.numpy()).any() for old, variable in zip(olds, group, strict=True))
        for olds, group in zip(before, every, strict=True)
    ]
    assert moved == [True, decoder, critic]


def recorded(folder, rng):
    (folder / "record").mkdir(parents=True)
    for seed in (2000, 2001):
        none = np.zeros(8)
        recordings.write(str(folder / "record"), seed, frames_of(rng, 8), none, none, none)
    return folder


def trainer_in(run, cfg=CFG, plain=None):
    """One start of vae_train.py --gan, the process before having ended: (trainer, stage)."""
    stage = runs.Stage(argparse.Namespace(run=str(run), fresh=False), "tf_vae", "vae.json", cfg)
    stream = recordings.FrameStream(str(run / "record"), cfg.batch_size, cfg.seed)
    trainer = gan.GanTrainer(cfg, plain)
    trainer.resume(stage, stream, "a" * 64)
    stage._lock_file.close()
    return trainer, stage


def test_a_resumed_training_is_an_uninterrupted_one_and_nan_is_not_saved(tmp_path, rng):
    """Catches a discriminator, or one of the three Adams, that begins anew; and NaN that reaches the checkpoint."""
    recorded(tmp_path / "run", rng)
    whole, _ = trainer_in(tmp_path / "run")
    losses = [whole.step(step) for step in range(1, 5)]
    assert len(losses[0]) == len(whole.names) == 7
    first, _ = trainer_in(tmp_path / "run")
    assert [first.step(step) for step in (1, 2)] == losses[:2]
    first.save(2)
    resumed, stage = trainer_in(tmp_path / "run")
    assert resumed.step(3) == losses[2]
    resumed.discriminator.convs[1].kernel.assign(resumed.discriminator.convs[1].kernel * np.nan)
    with pytest.raises(UserError, match=r"step 4: .* not finite; the last good checkpoint"):
        resumed.step(4)
    with pytest.raises(UserError, match="not finite; the last good checkpoint is kept"):
        resumed.save(4)
    assert int(files.read_npz(stage.path("checkpoint.npz"))["step"]) == 2
    again, _ = trainer_in(tmp_path / "run")
    assert [again.step(step) for step in (3, 4)] == losses[2:]
    for one, other in zip(again._variables, whole._variables, strict=True):
        np.testing.assert_array_equal(one.numpy(), other.numpy())


def test_pictures_are_frames_the_plain_vae_this_one_and_the_prior(tmp_path, rng):
    """Catches a row of another VAE, and a comparison that needs a plain one."""
    recorded(tmp_path / "run", rng)
    other = vae.ConvVAE(2 * Z, "float32")
    for plain, rows in ((None, 3), (other, 4)):
        trainer, _ = trainer_in(tmp_path / "run", plain=plain)
        trainer._frames = tf.constant(frames_of(rng))
        picture = trainer.reconstructions(3).reshape(rows, 64, 3, 64, 3).swapaxes(1, 2)
        frames = trainer._frames[:3]
        np.testing.assert_array_equal(picture[0], frames / np.float32(255))
        for row, model in ((-3, plain), (-2, trainer.model)):
            if model:
                np.testing.assert_allclose(picture[row], model.decode(model.encode(frames)[0]), atol=1e-6)
        assert np.abs(picture[-1] - picture[-2]).max() > 0


def test_the_learning_rate_of_a_side_that_rests_falls_on(tmp_path, rng, monkeypatch):
    """Catches a schedule over the steps that a side learned in: at the end of the training its rate is still high."""
    monkeypatch.setattr(gan, "learners", lambda real, unreal: (tf.constant(False), tf.constant(True)))
    cfg = dataclasses.replace(CFG, schedule="cosine", steps=30)  # the first three steps warm up
    trainer, _ = trainer_in(recorded(tmp_path / "run", rng), cfg)
    rates = []
    for step in range(1, 5):
        encoder = float(trainer.optimizers[0].learning_rate)
        trainer.step(step)
        rates.append([encoder, *(float(optimizer.learning_rate) for optimizer in trainer.optimizers[1:])])
    assert [int(optimizer.iterations) for optimizer in trainer.optimizers] == [4, 0, 4]
    np.testing.assert_allclose(rates, np.outer([0, 1, 2, 3], [1e-3 / 3] * 3), rtol=0.01)


def test_the_trainer_follows_its_config(tmp_path, rng, monkeypatch):
    """Catches --gan_judgment without effect, the same noise in all steps, adversaries that remember as the encoder."""
    given = []

    def train_step_of(*parts):
        return lambda frames, seed, judgment: given.append((*seed.tolist(), judgment.numpy())) or (0.0,) * 7

    monkeypatch.setattr(gan, "train_step_of", train_step_of)
    cfg = dataclasses.replace(CFG, gan_judgment=0.6, learning_rate=2e-4, steps=12, seed=7)
    trainer, _ = trainer_in(recorded(tmp_path / "run", rng), cfg)
    for step in range(1, 13):
        trainer.step(step)
    pulls = [0, 0, 0, 0, 0, 0.15, 0.3, 0.45, 0.6, 0.6, 0.6, 0.6]
    np.testing.assert_allclose(given, [(7, k, pull) for k, pull in enumerate(pulls, 1)], atol=1e-6)
    assert [optimizer.beta_1 for optimizer in trainer.optimizers] == [0.9, 0.5, 0.5]
    rates = [float(optimizer.learning_rate) for optimizer in trainer.optimizers]
    assert rates == pytest.approx([2e-4] * 3)


def test_it_learns_to_tell_frames_apart(rng):
    """Catches a decoder that is only judged, or an encoder without a gradient: all frames would be decoded alike."""
    frames, parts = np.zeros((4, 64, 64, 3), np.uint8), Parts()
    for k in range(4):  # a square in each corner
        frames[k, k // 2 * 32 :, k % 2 * 32 :][:32, :32] = rng.integers(100, 256, 3)
    optimizers = [keras.optimizers.Adam(1e-3, beta_1=beta) for beta in (0.9, 0.5, 0.5)]
    for optimizer, variables in zip(optimizers, parts.groups, strict=True):
        optimizer.build(variables)
    step = gan.train_step_of(parts.vae, parts.judge, optimizers)
    losses = np.array([step(frames, np.array([1000, k], np.int32), 0.3) for k in range(60)])
    assert losses[-5:, 2].mean() < 50  # half of what features vary by; one picture for all frames is at 100
    decoded = parts.vae.decode(parts.vae.encode(frames)[0]).numpy()
    apart = ((decoded[:, None] - frames / 255) ** 2).sum(axis=(2, 3, 4))
    assert apart.argmin(axis=1).tolist() == [0, 1, 2, 3]
    assert 0.02 < losses[:, 6].mean() < 1  # the discriminator learns too, and rests


def test_the_command_makes_a_vae_like_any_other(tmp_path, rng):
    """Catches a discriminator in vae.json or lost from the checkpoint, a kind that its meta hides, lost metrics."""
    run, game = recorded(tmp_path / "run", rng), commands.GAMES["doomrnn"]
    words = "--preset", "smoke", "--run", run, "--z_size", Z, "--batch_size", 4, "--steps", 2, "--report_every", 1

    def vae_train(*more):
        return commands.call(vae_and_rnn.train_vae, game, *words, "--unverified", *more)

    assert vae_train("--gan_judgment", 0.5).refused("--gan_judgment", "--gan")
    assert vae_train("--gan", "--batch_size", 1).refused("--gan", "--batch_size of 2")
    assert vae_train("--rare_pixels", 1, "--batch_size", 1).refused("--rare_pixels", "--batch_size of 2")
    assert vae_train("--gan", "--rare_pixels", 1).refused("--rare_pixels", "with --gan")
    done = vae_train("--gan")
    assert done.code == 0, done.err
    assert len(json.loads((run / "tf_vae" / "vae.json").read_text())) == 22
    assert weights.read_vae(str(run / "tf_vae" / "vae.json")).z_size == Z
    assert json.loads((run / "tf_vae" / "vae.json.meta.json").read_text())["config"]["gan"] is True
    metrics = [json.loads(line) for line in (run / "tf_vae" / "metrics.jsonl").read_text().splitlines()]
    assert [line["step"] for line in metrics] == [1, 2]
    named = "feature_loss", "real_loss", "unreal_loss", "decoder_learns", "discriminator_learns"
    assert list(metrics[0]) == ["step", "vae/recon_loss", "vae/kl_loss", *(f"gan/{name}" for name in named)]
    held = files.read_npz(str(run / "tf_vae" / "checkpoint.npz"))
    judge = sum(np.prod(variable.shape) for variable in Discriminator().trainable_variables)
    assert sum(array.size for array in held.values()) > 3 * (vae.ConvVAE(Z).count_params() + judge)
    assert vae_train().refused("gan True -> False")


def test_several_devices_are_the_users_mistake(monkeypatch):
    """Catches a rest of one side that only one of two devices takes."""
    strategy = types.SimpleNamespace(num_replicas_in_sync=2, scope=tf.distribute.get_strategy().scope)
    monkeypatch.setattr(devices, "for_training", lambda *_: strategy)
    with pytest.raises(UserError, match="--gan trains on one device"):
        gan.GanTrainer(dataclasses.replace(CFG))
