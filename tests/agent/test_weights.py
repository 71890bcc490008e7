"""common/agent/weights.py: the paper's files, read back by hand and broken in every way."""

import json
import os
import pathlib

import numpy as np
import pytest
import tensorflow as tf

from common.agent import mdnrnn, vae, weights
from common.runtime import files
from common.runtime.cli import UserError

DOOM_ORDER = ("kernel", "bias", "output_w", "output_b")
CARRACING_ORDER = ("output_w", "output_b", "kernel", "bias")


@pytest.fixture(autouse=True)
def float32_products(monkeypatch):
    """What is read from a file computes in float32 here, whatever the machine."""
    monkeypatch.setenv("WORLDMODELS_DTYPE", "float32")


def random_rnn(rng, shape):
    rnn = mdnrnn.MDNRNN(shape, "float32")
    rnn.set_weights([rng.normal(0, 0.5, variable.shape) for variable in rnn.variables])
    return rnn


def text_of(path):
    return pathlib.Path(path).read_text()


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


@pytest.mark.parametrize(("order", "restart"), [(DOOM_ORDER, True), (CARRACING_ORDER, False)])
def test_one_step_by_hand_from_the_file(tmp_path, rng, order, restart):
    """Catches any change of the paper's layout: rows, gates, forget bias, restart column, columns of the mixtures."""
    path, z_size, action_size, hidden_size, rows = str(tmp_path / "rnn.json"), 3, 2, 4, 5
    weights.write_rnn(path, random_rnn(rng, mdnrnn.Shape(z_size, action_size, hidden_size, restart)), order)
    arrays = dict(zip(order, (np.array(array) / 10000 for array in json.loads(text_of(path))), strict=True))
    z, action, flag = rng.normal(0, 1, (rows, 3)), rng.uniform(-1, 1, (rows, 2)), np.float64([1, 0, 1, 0, 0])
    h, c = rng.normal(0, 0.5, (2, rows, hidden_size))

    x = np.concatenate([z, action, flag[:, np.newaxis], h] if restart else [z, action, h], axis=1)
    gates = x @ arrays["kernel"] + arrays["bias"]
    i, j, f, o = gates[:, 0:4], gates[:, 4:8], gates[:, 8:12], gates[:, 12:16]
    new_c = sigmoid(f + 1.0) * c + sigmoid(i) * np.tanh(j)
    new_h = sigmoid(o) * np.tanh(new_c)
    output = new_h @ arrays["output_w"] + arrays["output_b"]
    logit, output = (output[:, 0], output[:, 1:]) if restart else (None, output)
    by_dimension = output.reshape(rows, z_size, 15)

    model = weights.read_rnn(path, order, z_size, action_size, restart)
    inputs = mdnrnn.inputs_of(*(tf.constant(part) for part in (z, action)), tf.constant(flag) if restart else None)
    found_h, found_c = model.step(model.prepared(), inputs, (tf.cast(h, tf.float32), tf.cast(c, tf.float32)))
    mixture, found_logit = model.predict(model.prepared(), found_h)
    np.testing.assert_allclose(found_h, new_h, atol=1e-6)
    np.testing.assert_allclose(found_c, new_c, atol=1e-6)
    for k, part in enumerate((mixture.logmix, mixture.mean, mixture.logstd)):
        columns = by_dimension[:, :, 5 * k : 5 * k + 5]
        np.testing.assert_allclose(part, np.swapaxes(columns, 1, 2), atol=1e-5)
    if restart:
        np.testing.assert_allclose(found_logit, logit, atol=1e-5)
    else:
        assert found_logit is None


def test_v_round_trip_and_layout(tmp_path, rng):
    """Catches arrays in another order, values that are truncated instead of rounded, floats in the file."""
    path, model = str(tmp_path / "tf_vae" / "vae.json"), vae.ConvVAE(32, "float32")
    for variable in model.paper_weights:
        variable.assign(rng.normal(0, 0.05, variable.shape))
    weights.write_vae(path, model)
    content = json.loads(text_of(path))
    assert len(content) == 22
    assert np.shape(content[0]) == (4, 4, 3, 32)
    assert isinstance(content[0][0][0][0][0], int)
    again = weights.read_vae(path)
    assert again.z_size == 32
    for before, after in zip(model.paper_weights, again.paper_weights, strict=True):
        assert np.abs(before.numpy() - after.numpy()).max() <= 0.5001e-4
    frames = rng.integers(0, 256, (2, 64, 64, 3), np.uint8)
    for before, after in zip(model.encode(frames), again.encode(frames), strict=True):
        np.testing.assert_allclose(after, before, atol=0.01 * np.std(before))


@pytest.mark.parametrize(
    ("order", "shape", "shapes"),
    [
        (DOOM_ORDER, mdnrnn.Shape(64, 1, 8, True), [(74, 32), (32,), (8, 961), (961,)]),
        (CARRACING_ORDER, mdnrnn.Shape(32, 3, 8, False), [(8, 480), (480,), (43, 32), (32,)]),
    ],
)
def test_m_round_trip_in_each_games_order(tmp_path, rng, order, shape, shapes):
    """Catches one game's order used for the other, and an M whose number of cells is not the file's."""
    path, model = str(tmp_path / "rnn.json"), random_rnn(rng, shape)
    weights.write_rnn(path, model, order)
    assert [np.shape(array) for array in json.loads(text_of(path))] == shapes
    again = weights.read_rnn(path, order, shape.z_size, shape.action_size, shape.restart)
    assert again.shape == shape
    for name in order:
        assert np.abs(getattr(model, name).numpy() - getattr(again, name).numpy()).max() <= 0.5001e-4


def test_m_with_another_number_of_mixtures_round_trips(tmp_path, rng):
    """Catches a reader that takes five mixtures for granted: nobody could load what --mixtures 3 trains."""
    path, shape = str(tmp_path / "rnn.json"), mdnrnn.Shape(4, 1, 8, True, mixtures=3)
    weights.write_rnn(path, random_rnn(rng, shape), DOOM_ORDER)
    assert weights.read_rnn(path, DOOM_ORDER, 4, 1, True).shape == shape


def rnn_file(path, rng, shape, order):
    weights.write_rnn(path, random_rnn(rng, shape), order)


def read_doom(path):
    return weights.read_rnn(path, DOOM_ORDER, 64, 1, True)


def corrupt(path, change):
    """Rewrites a file of JSON arrays after `change` has been at them."""
    arrays = json.loads(text_of(path))
    change(arrays)
    files.write_json(path, arrays)


def set_nan(arrays):
    arrays[1][0] = float("nan")


def make_ragged(arrays):
    arrays[0][0].pop()


def test_a_wrong_m_is_named(tmp_path, rng):
    """Catches the other game's M, a lost array and a damaged file being loaded, or reported by a traceback."""
    path, shape = str(tmp_path / "rnn.json"), mdnrnn.Shape(64, 1, 8, True)

    def refused():
        with pytest.raises(UserError) as caught:
            read_doom(path)
        assert path in str(caught.value)
        assert "\n" not in str(caught.value)

    refused()  # missing
    for other in (mdnrnn.Shape(32, 3, 8, False), mdnrnn.Shape(32, 1, 8, True), mdnrnn.Shape(64, 1, 8, False)):
        rnn_file(path, rng, other, DOOM_ORDER)
        refused()
    rnn_file(path, rng, mdnrnn.Shape(32, 3, 8, False), CARRACING_ORDER)
    refused()
    for change in (set_nan, make_ragged, list.pop, lambda arrays: arrays.append([1]), list.clear):
        rnn_file(path, rng, shape, DOOM_ORDER)
        corrupt(path, change)
        refused()
    rnn_file(path, rng, shape, DOOM_ORDER)
    read_doom(path)
    with open(path, "r+") as file:
        file.truncate(os.path.getsize(path) // 2)
    refused()
    files.write_json(path, 5)
    refused()


def test_a_wrong_v_is_named(tmp_path, rng):
    """Catches an M, a V with a layer of another size or a NaN being loaded as V."""
    path, model = str(tmp_path / "vae.json"), vae.ConvVAE(4, "float32")

    def refused():
        with pytest.raises(UserError) as caught:
            weights.read_vae(path)
        assert path in str(caught.value)

    refused()  # missing
    rnn_file(path, rng, mdnrnn.Shape(32, 3, 8, False), CARRACING_ORDER)
    refused()
    for change in (set_nan, lambda arrays: arrays[3].pop()):
        weights.write_vae(path, model)
        corrupt(path, change)
        refused()


def test_a_weight_that_is_not_finite_is_never_written(tmp_path):
    """Catches a diverged model written over a good one: the old file must still be there, whole."""
    path = str(tmp_path / "rnn.json")
    weights.write(path, [np.ones(3)])
    before = text_of(path)
    for bad in (np.nan, np.inf):
        with pytest.raises(UserError, match=r"rnn\.json"):
            weights.write(path, [np.ones(3), np.array([1, bad])])
    assert text_of(path) == before
    assert os.listdir(tmp_path) == ["rnn.json"]


def test_initial_z_round_trip(tmp_path, rng):
    """Catches rounding where the authors truncate, mu and log-variance swapped, the other game's file accepted."""
    path = str(tmp_path / "initial_z.json")
    mu, logvar = rng.normal(0, 1, (7, 4)).astype(np.float16), rng.normal(-3, 1, (7, 4)).astype(np.float16)
    weights.write_initial_z(path, mu, logvar)
    found = weights.read_initial_z(path, 4)
    for before, after in zip((mu, logvar), found, strict=True):
        assert after.shape == (7, 4)
        np.testing.assert_allclose(after, np.trunc(before.astype(np.float64) * 10000) / 10000, rtol=1e-6)
    with pytest.raises(UserError, match=r"initial_z\.json"):
        weights.read_initial_z(path, 5)
    corrupt(path, list.pop)
    with pytest.raises(UserError, match=r"initial_z\.json"):
        weights.read_initial_z(path, 4)


def test_training_starts_from_earlier_weights(tmp_path, rng):
    """Catches a V or an M that keeps its random weights, and one of another size that is taken over in part."""
    path, shape = str(tmp_path / "rnn.json"), mdnrnn.Shape(3, 2, 4, False)
    earlier, model = random_rnn(rng, shape), random_rnn(rng, shape)
    weights.write_rnn(path, earlier, CARRACING_ORDER)
    weights.rnn_start_from(path, model, CARRACING_ORDER)
    for new, old in zip(model.get_weights(), earlier.get_weights(), strict=True):
        np.testing.assert_allclose(new, old, atol=5.1e-5)
    with pytest.raises(UserError, match="has 4 cells"):
        weights.rnn_start_from(path, random_rnn(rng, mdnrnn.Shape(3, 2, 5, False)), CARRACING_ORDER)

    path, earlier, model = str(tmp_path / "vae.json"), vae.ConvVAE(4), vae.ConvVAE(4)
    weights.write_vae(path, earlier)
    weights.vae_start_from(path, model)
    for new, old in zip(model.get_weights(), earlier.get_weights(), strict=True):
        np.testing.assert_allclose(new, old, atol=5.1e-5)
    with pytest.raises(UserError, match="a z of 4, not 5"):
        weights.vae_start_from(path, vae.ConvVAE(5))
