"""common/training/trainers.py; and that training on several devices equals training on one (a script for that)."""

import argparse
import dataclasses
import json
import subprocess
import sys
import types

import keras
import numpy as np
import pytest
import tensorflow as tf

from common.agent import mdnrnn, vae
from common.data import series
from common.runtime import devices as devices_of_this_machine
from common.runtime import files, runs, settings
from common.runtime.cli import UserError
from common.runtime.devices import nan_unless_finite
from common.training import trainers


@dataclasses.dataclass(frozen=True)
class Config:
    """What `trainers.adam` reads of a stage's config."""

    learning_rate: float = 1e-3
    schedule: str = "constant"
    steps: int = 5000


def rate_at(cfg, step):
    optimizer = trainers.adam(cfg, [keras.Variable([1.0])])
    optimizer.iterations.assign(step)
    return float(optimizer.learning_rate)


def test_constant_schedule():
    """Catches a learning rate that is not the config's."""
    assert rate_at(Config(), 0) == rate_at(Config(), 4999) == pytest.approx(1e-3)


def test_cosine_schedule_warms_up_and_falls_to_zero():
    """Catches a schedule that ends before or after the last step, or starts at its peak."""
    cfg = Config(schedule="cosine")
    assert rate_at(cfg, 0) == 0
    assert rate_at(cfg, 100) == pytest.approx(5e-4)
    assert rate_at(cfg, 200) == pytest.approx(1e-3)
    assert rate_at(cfg, 2600) == pytest.approx(5e-4)
    assert rate_at(cfg, 4999) < 1e-8
    assert rate_at(cfg, 5000) == pytest.approx(0, abs=1e-9)


@pytest.mark.parametrize("steps", [5, 60, 150])
def test_cosine_schedule_of_a_short_training_reaches_its_peak_and_zero(steps):
    """Catches a warm-up longer than the smoke preset's whole training."""
    rates = [rate_at(Config(schedule="cosine", steps=steps), step) for step in range(steps + 1)]
    assert max(rates) == pytest.approx(1e-3, rel=0.2)
    assert rates[-1] == pytest.approx(0, abs=1e-9)


def test_exponential_schedule():
    """Catches the decay applied to the floor too; the figures are the authors' formula by hand."""
    cfg = Config(schedule="exponential")
    assert rate_at(cfg, 0) == pytest.approx(1e-3)
    assert rate_at(cfg, 24400) == pytest.approx(1e-5 + 9.9e-4 * np.exp(24400 * np.log(0.99999)), rel=1e-3)
    assert rate_at(cfg, 3_000_000) == pytest.approx(1e-5, rel=1e-3)


def test_the_optimizer_is_ready_to_be_restored():
    """Catches an optimizer whose moments do not exist until the first step, so that a checkpoint cannot fill them."""
    variables = [keras.Variable(np.ones((2, 3))), keras.Variable([1.0])]
    optimizer = trainers.adam(Config(), variables, clipvalue=0.5)
    assert sorted(tuple(variable.shape) for variable in optimizer.variables if len(variable.shape)) == [
        *[(1,)] * 2,
        *[(2, 3)] * 2,
    ]
    assert optimizer.clipvalue == 0.5


def test_a_gradient_that_is_not_finite_shows_in_the_loss():
    """Catches a step that breaks the weights while its loss still looks well."""
    good, bad = tf.constant([1.0, -1e30]), tf.constant([[0.0, np.inf]])
    assert float(nan_unless_finite(tf.constant(2.5), [good, good])) == 2.5
    assert np.isnan(nan_unless_finite(tf.constant(2.5), [good, bad]))
    assert np.isnan(nan_unless_finite(tf.constant(2.5), [bad * 0.0, good]))


def test_a_loss_that_is_not_finite_stops_the_training():
    """Catches hours of training on NaN, and a message that does not say where it began."""
    trainer = types.SimpleNamespace(_stage=types.SimpleNamespace(folder="tf_x"))
    assert trainers.Trainer._checked(trainer, 4, (tf.constant(1.0), tf.constant(2.0))) == (1.0, 2.0)
    for bad in (np.nan, np.inf):
        with pytest.raises(UserError, match=r"step 5: .*not finite; the last good checkpoint in tf_x is kept"):
            trainers.Trainer._checked(trainer, 5, (tf.constant(1.0), tf.constant(bad)))


@pytest.fixture
def data(tmp_path, rng):
    """A series of 9 episodes of 20 frames."""
    frames, starts = 180, np.arange(180) % 20
    files.write_npz(
        str(tmp_path / "series.npz"),
        mu=rng.normal(0, 1, (frames, 3)).astype(np.float16),
        logvar=np.full((frames, 3), -4, np.float16),
        action=rng.uniform(-1, 1, (frames, 1)).astype(np.float16),
        reward=np.ones(frames, np.float32),
        done=starts == 19,
        length=np.full(9, 20, np.int32),
    )
    return series.Series(str(tmp_path / "series.npz"))


RNN = settings.RestartRnn(hidden_size=8, streams=2, sequence_length=5, steps=6, clip=0.5, checkpoint_seconds=1000.0)


def start_rnn(folder, data, cfg=RNN, source="a" * 64):
    """One start of rnn_train.py, the process before having ended: (trainer, stage, steps done)."""
    stage = runs.Stage(argparse.Namespace(run=str(folder), fresh=False), "tf_rnn", "rnn.json", cfg)
    trainer = trainers.RnnTrainer(cfg, mdnrnn.Shape(3, 1, cfg.hidden_size, True), cfg.restart_weight)
    batches = series.StreamBatches(data, cfg.streams, cfg.sequence_length, cfg.seed)
    try:
        return trainer, stage, trainer.resume(stage, batches, source)
    finally:
        stage._lock_file.close()


@pytest.mark.parametrize("save", ["save", "save_if_due"])
def test_a_resumed_training_is_an_uninterrupted_one(tmp_path, data, save):
    """Catches a memory, an optimizer, an order of chunks or a noise that is not the same after a stop, or a kill."""
    for name in ("whole", "parts"):
        (tmp_path / name).mkdir()
    whole, _, _ = start_rnn(tmp_path / "whole", data)
    losses = [whole.step(step) for step in range(1, 7)]
    cfg = dataclasses.replace(RNN, checkpoint_seconds=0.0)
    trainer, _, _ = start_rnn(tmp_path / "parts", data, cfg)
    assert [trainer.step(step) for step in range(1, 4)] == losses[:3]
    getattr(trainer, save)(3)
    with pytest.raises(UserError, match="its training began on other data"):
        start_rnn(tmp_path / "parts", data, source="b" * 64)
    trainer, _, done = start_rnn(tmp_path / "parts", data)
    assert done == 3
    assert [trainer.step(step) for step in range(4, 7)] == losses[3:]
    for found, wanted in zip(trainer.model.get_weights(), whole.model.get_weights(), strict=True):
        np.testing.assert_array_equal(found, wanted)
    assert trainer._optimizer.clipvalue == 0.5


def test_training_does_not_go_on_with_other_data(tmp_path, data):
    """Catches episodes that come from the validation into the training when it is resumed."""
    trainer, _, _ = start_rnn(tmp_path, data)
    trainer.step(1)
    trainer.save(1)
    with pytest.raises(UserError, match=r"tf_rnn: its training began on other data .aaaaaaaaaaaa, now bbbbbbbbbbbb"):
        start_rnn(tmp_path, data, source="b" * 64)


def test_memory_is_carried_from_chunk_to_chunk(tmp_path, data):
    """Catches a memory that is dropped between chunks, in training or in validation, and a loss that is a sum."""
    trainer, _, _ = start_rnn(tmp_path, data)
    given = []

    def counting(batch, memory, seed):
        given.append((float(np.sum(memory)), tuple(seed.tolist())))
        return (len(given), 3.0), (memory[0] + 1, memory[1] * 0)

    trainer._train = trainer._evaluate = counting
    rows = 2 * 8
    assert [trainer.step(step)[0] for step in (1, 2, 3)] == [1, 2, 3]
    assert given == [(0, (1, 1)), (rows, (1, 2)), (2 * rows, (1, 3))]
    given.clear()
    chunks = (180 - 1) // 5
    assert trainer.losses_on(data).tolist() == [(1 + chunks) / 2, 3]
    assert [memory for memory, _ in given] == [8.0 * k for k in range(chunks)]
    assert len({seed for _, seed in given}) == chunks


def test_what_is_dreamt_is_shown_below_what_was_seen(tmp_path, data):
    """Catches a picture of another episode, and rows of another size."""
    trainer, _, _ = start_rnn(tmp_path, data)
    shown = []

    def decode(z):
        shown.append(np.array(z))
        return np.zeros((len(z), 64, 64, 3), np.float32)

    assert trainer.dreams(data, decode, steps=12, every=3).shape == (128, 4 * 64, 3)
    seen, dreamt = shown
    np.testing.assert_array_equal(seen, data.mu[[0, 3, 6, 9]])
    np.testing.assert_array_equal(dreamt[0], seen[0])
    assert np.abs(dreamt[1:] - seen[1:]).max() > 1e-3


def test_a_dream_has_the_actions_of_the_episode_it_is_shown_below(tmp_path, data, monkeypatch):
    """Catches one action for the whole dream, actions a step late, and a dream that does not begin as an episode."""
    trainer, _, _ = start_rnn(tmp_path, data)
    steps = []

    def next_of(model, weights, state, start, action, *noise):
        steps.append((float(start[0]), action[0]))
        return *state, None

    monkeypatch.setattr(trainers.dream, "next_of", next_of)
    trainer.dreams(data, lambda z: np.zeros((len(z), 64, 64, 3), np.float32), steps=12)
    assert [start for start, _ in steps] == [1.0] + [0.0] * 10
    np.testing.assert_array_equal([action for _, action in steps], data.action[:11])


def test_frames_are_shown_above_their_reconstructions():
    """Catches rows exchanged, and the noise of z in the pictures."""
    trainer = trainers.VaeTrainer(settings.Vae(z_size=4))
    trainer._frames = tf.constant(np.random.default_rng(1).integers(0, 256, (5, 64, 64, 3), np.uint8))
    seen, made = trainer.reconstructions(3).reshape(2, 64, 3, 64, 3).swapaxes(1, 2)
    np.testing.assert_array_equal(seen, trainer._frames[:3].numpy() / np.float32(255))
    mu, _ = trainer.model.encode(trainer._frames[:3])
    np.testing.assert_allclose(made, trainer.model.decode(mu), atol=1e-6)


def test_what_ended_the_reading_is_raised_not_what_tensorflow_makes_of_it():
    """Catches a traceback of thirty lines for recordings that were removed while the VAE learns from them."""

    def broken():
        yield from ()
        raise tf.errors.UnknownError(None, None, "the long one")

    trainer = trainers.VaeTrainer(settings.Vae(z_size=4))
    trainer._data = types.SimpleNamespace(failure=UserError("all recordings of a window are bad"))
    trainer._batches = broken()
    with pytest.raises(UserError, match="all recordings of a window are bad"):
        trainer.step(1)
    trainer._data.failure, trainer._batches = None, broken()
    with pytest.raises(tf.errors.UnknownError):
        trainer.step(1)


def test_the_seed_decides_the_initial_weights():
    """Catches runs of different seeds that begin with the same weights."""

    def new(seed):
        cfg = dataclasses.replace(RNN, seed=seed)
        return trainers.Trainer(cfg, lambda: mdnrnn.MDNRNN(mdnrnn.Shape(3, 1, 8, True))).model.get_weights()

    one, same, other = (new(seed) for seed in (1, 1, 2))
    np.testing.assert_array_equal(one[0], same[0])
    assert (one[0] != other[0]).all()


def test_a_training_step_has_the_options_of_the_config(monkeypatch):
    """Catches --rare_pixels, --dropout, --output or --restart_z without effect."""
    given = []

    def noted(model, optimizer, strategy, *options):
        given.append(options)
        return None, None

    monkeypatch.setattr(trainers.vae, "train_step_of", noted)
    monkeypatch.setattr(trainers.mdnrnn, "train_step_of", noted)
    trainers.VaeTrainer(settings.Vae(z_size=4, rare_pixels=0.5))
    shape, pay = mdnrnn.Shape(3, 1, 8, True), settings.Pay(-1, 6, -50, 10, 100, 0.1)
    for output, restart_z in (("mixture", False), ("gaussian", True)):
        cfg = dataclasses.replace(RNN, dropout=0.25, output=output, restart_z=restart_z, streams=4)
        trainers.RnnTrainer(cfg, shape, 7.0, pay)
    blocks = devices_of_this_machine.blocks_of(4)
    rnn = [(7.0, 0.25, pay, gaussian, blocks, gaussian) for gaussian in (False, True)]
    assert given == [(0.5,), *rnn]


def test_rows_that_do_not_divide_are_the_users_mistake():
    """Catches a traceback of NumPy's when three streams are to be shared by two devices."""
    strategy = types.SimpleNamespace(num_replicas_in_sync=2)
    with pytest.raises(UserError, match="3 rows do not divide among 2 devices"):
        trainers.to_replicas(strategy, np.zeros((2, 3, 4), np.float32))


def test_replicas_round_trip_on_one_device(rng):
    """Catches h and c swapped on the way to the devices or back."""
    strategy, state = tf.distribute.get_strategy(), rng.standard_normal((2, 4, 3), np.float32)
    h, c = trainers.to_replicas(strategy, state)
    np.testing.assert_array_equal(h, state[0])
    np.testing.assert_array_equal(c, state[1])
    np.testing.assert_array_equal(trainers.from_replicas(strategy, (h, c)), state)


@pytest.fixture(scope="module")
def devices():
    """What `compare_devices` reports, in a process of its own: TensorFlow splits a CPU in two only before it starts."""
    finished = subprocess.run([sys.executable, __file__], capture_output=True, text=True, timeout=300, check=True)
    return json.loads(finished.stdout.splitlines()[-1])


def test_state_is_split_over_the_devices_and_joined_again(devices):
    """Catches every device being given all rows, and rows joined in another order."""
    assert devices["replicas"] == 2
    assert devices["rows"] == [[2, 6], [2, 6]]
    assert devices["state"] == 0


@pytest.mark.parametrize("case", ["v", "m", "m_clipped"])
def test_two_devices_train_as_one_does(devices, case):
    """Catches gradients that are not divided by the devices, not added up over them, or clipped before they are."""
    assert devices[case]["losses"] < 1e-5
    assert devices[case]["weights"] < 1e-4  # of the largest step
    assert devices[case]["state"] < 1e-6


def trained(strategy, new, batches, carried, options):
    """Trains a new model for one step per batch; returns (losses, how far its weights moved, M's last state)."""
    keras.utils.set_random_seed(1000)
    with strategy.scope():
        model = new()
        # not Adam, whose first steps are as large for gradients that are mere rounding as for any other
        optimizer = keras.optimizers.SGD(**options)
        optimizer.build(model.trainable_variables)
    before = [variable.numpy() for variable in model.trainable_variables]
    signature = tf.nest.map_structure(tf.type_spec_from_value, batches[0])
    dataset = tf.data.Dataset.from_generator(lambda: iter(batches), output_signature=signature)
    distributed, losses = strategy.experimental_distribute_dataset(dataset), []
    if carried is None:
        train_step = vae.train_step_of(model, optimizer, strategy)
        for k, batch in enumerate(distributed):
            losses.append(train_step(batch, np.array([1000, k], np.int32)))
        state = np.zeros(1)
    else:
        train_step, _ = mdnrnn.train_step_of(model, optimizer, strategy, 10.0)
        state = trainers.to_replicas(strategy, carried)
        for k, batch in enumerate(distributed):
            loss, state = train_step(batch, state, np.array([1000, k], np.int32))
            losses.append(loss)
        state = trainers.from_replicas(strategy, state)
    after = [variable.numpy() for variable in model.trainable_variables]
    return np.array(losses), [a - b for a, b in zip(after, before, strict=True)], state


def silent_v():
    """A V whose noise does not matter, as every device draws its own: log-variance is -40 whatever it sees."""
    model = vae.ConvVAE(4, "float32")
    model.fc_logvar.kernel.assign(tf.zeros((1024, 4)))
    model.fc_logvar.bias.assign([-40.0] * 4)
    return model


def small_m():
    return mdnrnn.MDNRNN(mdnrnn.Shape(3, 1, 6, True), "float32")


def random_chunk(rng):
    """A chunk for `small_m`, without noise; two of its rows on each device."""
    mu, action = rng.normal(0, 1, (4, 9, 3)), rng.uniform(-1, 1, (4, 9, 1))
    half = (tf.constant(part, tf.float16) for part in (mu, np.full_like(mu, -40), action))
    return *half, tf.constant(rng.random((4, 9)) < 0.2, tf.float32), tf.zeros([4])


def compare_devices():
    """Trains V and M on one device and on two, and prints how far the results are apart."""
    cpu, half = tf.config.list_physical_devices("CPU")[0], tf.config.LogicalDeviceConfiguration()
    tf.config.set_logical_device_configuration(cpu, [half, half])
    rng = np.random.default_rng(1000)
    one, two = tf.distribute.get_strategy(), tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"])

    state = rng.standard_normal((2, 4, 6)).astype(np.float32)
    there = trainers.to_replicas(two, state)
    report = {
        "replicas": two.num_replicas_in_sync,
        "rows": [rows.shape.as_list() for rows in two.experimental_local_results(there[0])],
        "state": float(np.abs(trainers.from_replicas(two, there) - state).max()),
    }
    frames = [tf.constant(rng.integers(0, 256, (4, 64, 64, 3), np.uint8)) for _ in range(2)]
    chunks = [random_chunk(rng) for _ in range(3)]
    for name, *case in (
        ("v", silent_v, frames, None, {"learning_rate": 1e-6}),
        ("m", small_m, chunks, state, {"learning_rate": 0.1}),
        ("m_clipped", small_m, chunks, state, {"learning_rate": 0.1, "clipvalue": 0.02}),
    ):
        (losses, moved, end), (losses2, moved2, end2) = trained(one, *case), trained(two, *case)
        largest = max(np.abs(array).max() for array in moved)
        apart = max(np.abs(a - b).max() for a, b in zip(moved, moved2, strict=True))
        report[name] = {
            "losses": float(np.abs(losses2 / losses - 1).max()),
            "weights": float(apart / largest),
            "state": float(np.abs(end - end2).max()),
        }
    print(json.dumps(report))


if __name__ == "__main__":
    compare_devices()
