"""What the unit tests share: one source of chance."""

import keras
import numpy as np
import pytest

TEST_SEED = 1000  # 1000-1999 are for tests only


@pytest.fixture(autouse=True)
def rng():
    """A fresh random generator for every test; Keras's initial weights and TensorFlow's draws are seeded alike."""
    keras.utils.set_random_seed(TEST_SEED)
    return np.random.default_rng(TEST_SEED)
