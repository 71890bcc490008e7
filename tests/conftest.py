"""What the unit tests share: one source of chance, and a Ctrl-C that is not ignored."""

import signal

import keras
import numpy as np
import pytest

if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:  # as in the background of a shell; tests send Ctrl-C to commands
    signal.signal(signal.SIGINT, signal.default_int_handler)

TEST_SEED = 1000  # 1000-1999 are for tests only


@pytest.fixture(autouse=True)
def rng():
    """A fresh random generator for every test; Keras's initial weights and TensorFlow's draws are seeded alike."""
    keras.utils.set_random_seed(TEST_SEED)
    return np.random.default_rng(TEST_SEED)
