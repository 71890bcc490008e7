"""common/runtime/devices.py: what the user's surroundings say of Keras and of precision."""

import json
import os
import subprocess
import sys

import keras
import numpy as np
import pytest
import tensorflow as tf

from common.runtime import devices
from common.runtime.cli import UserError
from common.runtime.files import ROOT

SHAPES = """
from common.agent import vae
import keras, numpy as np
mu, _ = vae.ConvVAE(4).encode(np.zeros((1, 64, 64, 3), np.uint8))
print(keras.backend.backend(), mu.shape, keras.config.floatx())
"""


def test_a_keras_of_other_work_does_not_matter(tmp_path):
    """Catches tracebacks where KERAS_BACKEND is jax, or keras.json has channels first or half floats."""
    (tmp_path / "keras.json").write_text(
        json.dumps({"floatx": "float16", "epsilon": 1e-7, "backend": "jax", "image_data_format": "channels_first"})
    )
    env = os.environ | {"KERAS_HOME": str(tmp_path), "KERAS_BACKEND": "jax", "WORLDMODELS_DTYPE": "float32"}
    done = subprocess.run([sys.executable, "-c", SHAPES], cwd=ROOT, env=env, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout == "tensorflow (1, 4) float32\n"


def test_a_keras_that_computes_elsewhere_is_named(monkeypatch):
    """Catches a riddle from within a layer where a program has loaded Keras on jax before."""
    devices.check_backend()
    monkeypatch.setattr(keras.backend, "backend", lambda: "jax")
    with pytest.raises(UserError, match=r"Keras runs on jax.*KERAS_BACKEND=tensorflow"):
        devices.check_backend()


def test_the_precision_of_products_is_one_of_two(monkeypatch):
    """Catches a traceback for fp16, and products in whole numbers."""
    for name in ("float32", "bfloat16"):
        monkeypatch.setenv("WORLDMODELS_DTYPE", name)
        assert devices.product_dtype() == tf.as_dtype(name)
    monkeypatch.setenv("WORLDMODELS_DTYPE", "")
    assert devices.product_dtype() in (tf.float32, tf.bfloat16)
    for wrong in ("fp16", "float16", "int32", "half"):
        monkeypatch.setenv("WORLDMODELS_DTYPE", wrong)
        with pytest.raises(UserError, match=f"WORLDMODELS_DTYPE={wrong}: give float32 or bfloat16"):
            devices.product_dtype()


def test_the_seed_decides_the_initial_weights():
    """Catches --seed without effect on the models that are built next: two runs would begin with the same weights."""

    def weights(seed):
        devices.for_training(seed)
        return keras.layers.Dense(4)(np.eye(3, dtype=np.float32)).numpy()

    one, other, again = (weights(seed) for seed in (3, 4, 3))
    assert (one == again).all()
    assert (one != other).all()


def test_rows_are_split_in_two_where_they_can_be():
    """Catches a number of parts that depends on the machine, and one that leaves a row out."""
    assert [devices.blocks_of(rows) for rows in (1, 2, 5, 100)] == [1, 2, 1, 2]
