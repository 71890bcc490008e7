"""common/agent/controller.py against numpy, from the layout of the flat vector that the files document."""

import json

import numpy as np
import pytest

from common.agent import controller
from common.agent.controller import Controller
from common.runtime import settings
from common.runtime.cli import UserError

CARRACING = Controller("zh", 32, 256, 3, bias=True)
DOOM = Controller("zch", 64, 512, 1, bias=False)


@pytest.mark.parametrize(
    ("shape", "parameters"),
    [
        (CARRACING, 867),
        (DOOM, 1088),
        (Controller("z", 32, 256, 3, bias=True), 99),
        (Controller("z_hidden", 32, 256, 3, bias=True), 32 * 40 + 40 + 40 * 3 + 3),
        (Controller("zc", 32, 256, 3, bias=True), 867),
    ],
)
def test_parameter_count(shape, parameters):
    """Catches a bias counted in Doom's controller, a mode that reads too much, a hidden layer of another size."""
    assert shape.parameters == parameters


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("mode", settings.CONTROLLER_MODES)
def test_act_is_each_rows_own_product(rng, mode, bias):
    """Catches c and h swapped, the bias after the weight, columns before rows, one row acting for another, no tanh."""
    shape = Controller(mode, 4, 5, 3, bias)
    parameters = rng.normal(0, 0.5, (6, shape.parameters)).astype(np.float32)
    z, h, c = (rng.standard_normal((6, size), np.float32) for size in (4, 5, 5))
    actions = shape.act(parameters, shape.features(z, h, c)).numpy()
    assert actions.shape == (6, 3)
    for row in range(6):
        read = {"z": [z], "z_hidden": [z], "zc": [z, c], "zh": [z, h], "zch": [z, c, h]}[mode]
        x, left = np.concatenate([part[row] for part in read]), parameters[row]
        for outputs in (40, 3) if mode == "z_hidden" else (3,):
            b, left = (left[:outputs], left[outputs:]) if bias else (0, left)
            weight, left = left[: len(x) * outputs].reshape(len(x), outputs), left[len(x) * outputs :]
            x = np.tanh(x @ weight + b)
        assert len(left) == 0
        np.testing.assert_allclose(actions[row], x, atol=1e-6)


@pytest.mark.parametrize("bias", [True, False])
def test_a_step_along_any_principal_direction_counts_the_same(rng, bias):
    """Catches components that are not scaled, not centered where there is a bias, or not laid out as weights are."""
    shape = Controller("zh", 3, 5, 2, bias)
    mixing = rng.standard_normal((8, 8)) * np.geomspace(1, 100, 8)
    features = rng.standard_normal((500, 8)) @ mixing + 3 * rng.standard_normal(8)
    directions = shape.principal_directions(features, 6)
    assert directions.shape == (shape.parameters, (6 + bias) * 2)
    read = np.concatenate([np.ones((500, int(bias))), features], axis=1)
    # [T, A, directions]: how much a step along each of them changes the parts of the action at every time
    change = np.einsum("tf,fad->tad", read, directions.reshape(8 + bias, 2, -1))
    together = np.einsum("tad,tae->de", change, change) / 500
    np.testing.assert_allclose(together, np.eye(len(together)), atol=1e-8)
    about = features - features.mean(axis=0) * bias
    first = change[:, 0, 2 * bias]  # after the biases, the strongest component, in the first part of the action
    assert np.square(about.T @ first).sum() / 500**2 == pytest.approx(np.linalg.norm(about, 2) ** 2 / 500)


@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("scale", [1e-3, 1.0, 1e3])
def test_directions_in_which_nothing_varies_are_refused(rng, bias, scale):
    """Catches candidates of NaN, or of lengths near 1e8, along components that are rounding errors."""
    shape = controller.Controller("zh", 30, 20, 3, bias)
    features = (scale * rng.normal(1, 1, (30, 50))).astype(np.float32)  # 30 rows; their deviations have rank 29
    most = 30 - bias
    assert np.abs(shape.principal_directions(features, most)).max() < 100 / min(scale, 1)
    says = f"--directions {most + 1}: what the controller read varies in {most} directions only; give fewer"
    with pytest.raises(UserError, match=says):
        shape.principal_directions(features, most + 1)
    with pytest.raises(UserError, match="in 0 directions only"):
        shape.principal_directions(np.zeros((30, 50)), 1)


def test_files_of_both_forms_round_trip(tmp_path, rng):
    """Catches parameters not rounded to 4 decimals, a score in the wrong place, integers instead of floats."""
    path, parameters = tmp_path / "log" / "x.best.json", rng.normal(0, 1, 867)
    controller.write(str(path), parameters)
    assert json.loads(path.read_text()) == [np.round(parameters, 4).tolist()]
    controller.write(str(path), parameters, np.float64(906.5))
    assert json.loads(path.read_text()) == [np.round(parameters, 4).tolist(), 906.5]
    found = controller.read(str(path), CARRACING)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, np.round(parameters, 4), rtol=1e-6)


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        (json.dumps([[0.1] * 1088]), "holds 1088 parameters"),
        (json.dumps([[0.1] * 867])[:500], "not a controller file"),
        (json.dumps({"parameters": [0.1] * 867}), "not a controller file, which is"),
        ("[]", "not a controller file, which is"),
        (json.dumps(867), "not a controller file"),
        (json.dumps([[[0.1] * 867]]), "holds 867 parameters"),
        (json.dumps([[0.1] * 866 + [float("nan")]]), "not finite"),
        (None, "no such file"),
    ],
)
def test_a_wrong_file_is_named(tmp_path, text, complaint):
    """Catches a controller of the other game, a truncated file or a NaN that is loaded, or reported by a traceback."""
    path = tmp_path / "x.json"
    if text is not None:
        path.write_text(text)
    with pytest.raises(UserError, match=complaint) as caught:
        controller.read(str(path), CARRACING)
    assert str(path) in str(caught.value)
