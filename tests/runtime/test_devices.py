"""common/runtime/devices.py: what the user's surroundings say of Keras and of precision."""

import json
import logging
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


@pytest.fixture
def told(monkeypatch):
    """(names of GPUs) -> what TensorFlow is told from now on, on a machine that has these and 8 cores."""

    def on(*gpus):
        calls = []
        monkeypatch.setattr(tf.config, "list_physical_devices", lambda kind: list(gpus))
        monkeypatch.setattr(tf.config, "get_visible_devices", lambda kind: list(gpus))
        monkeypatch.setattr(tf.config, "set_visible_devices", lambda seen, kind: calls.append(("sees", *seen)))
        growth = tf.config.experimental
        monkeypatch.setattr(growth, "set_memory_growth", lambda gpu, grows: calls.append(("grows", gpu, grows)))
        for name in ("intra", "inter"):
            setter = f"set_{name}_op_parallelism_threads"
            monkeypatch.setattr(tf.config.threading, setter, lambda threads, name=name: calls.append((name, threads)))
        monkeypatch.setattr(devices.parallel, "cores", lambda: 8)
        monkeypatch.setattr(tf.distribute, "MirroredStrategy", lambda: "mirrored")
        monkeypatch.setattr(tf, "get_logger", lambda: logging.getLogger("nobody"))
        return calls

    return on


BLOCKS = [("intra", 1), ("inter", 8)]


def test_training_uses_all_gpus_and_leaves_their_memory_to_others(told):
    """Catches one process that takes all memory of a GPU, a second GPU left idle, and slow steps on many cores."""
    calls = told()
    assert devices.for_training(1) is devices.for_training(1, blocks=True) is tf.distribute.get_strategy()
    assert calls == BLOCKS
    calls = told("a")
    assert devices.for_training(1, blocks=True) is tf.distribute.get_strategy()
    assert calls == [("grows", "a", True)]
    calls = told("a", "b")
    assert devices.for_training(1) == "mirrored"
    assert calls == [("grows", "a", True), ("grows", "b", True)]


def test_rollouts_leave_the_gpus_alone(told):
    """Catches rollouts that take the memory of a GPU from a training, and results that depend on the cores."""
    calls = told("a")
    devices.for_blocks()
    assert calls == [("sees",), *BLOCKS]
    calls = told("a")
    devices.for_blocks(gpus=True)
    assert calls == [("grows", "a", True), *BLOCKS]


def test_products_and_parts_on_a_gpu(told, monkeypatch):
    """Catches what is faster on a processor done on a GPU, where it is slower."""
    monkeypatch.delenv("WORLDMODELS_DTYPE", raising=False)
    monkeypatch.setattr(devices, "_cpu_multiplies_bfloat16", lambda: True)
    told()
    assert (devices.product_dtype(), devices.blocks_of(100)) == (tf.bfloat16, 2)
    told("a")
    assert (devices.product_dtype(), devices.blocks_of(100)) == (tf.float32, 1)
