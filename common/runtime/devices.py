"""What the hardware offers: GPUs for V and M training, bfloat16 products, and cores for independent blocks."""

import contextlib
import os

from common.runtime import parallel

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")


@contextlib.contextmanager
def _quiet():
    """Hides what TensorFlow's libraries print as they load, ten lines no log level silences; errors still raise."""
    stderr, nowhere = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 2)
    try:
        yield
    finally:
        os.dup2(stderr, 2)
        os.close(stderr)
        os.close(nowhere)


with _quiet():
    import keras
    import tensorflow as tf

    tf.config.list_physical_devices()  # looks for a GPU, and says at length when there is none


def _cpu_multiplies_bfloat16():
    try:
        with open("/proc/cpuinfo") as file:
            flags = file.read()
    except OSError:
        return False
    return "avx512_bf16" in flags or "amx_bf16" in flags


def product_dtype():
    """bfloat16 where the processor multiplies it faster than float32, else, and on a GPU, float32.

    The environment variable WORLDMODELS_DTYPE overrides it.
    """
    faster = _cpu_multiplies_bfloat16() and not tf.config.get_visible_devices("GPU")
    return tf.as_dtype(os.environ.get("WORLDMODELS_DTYPE") or ("bfloat16" if faster else "float32"))


def for_training(seed):
    """Readies TensorFlow for V or M training: all cores, all GPUs with growing memory.

    Args:
        seed: int, decides the initial weights of what is built next.

    Returns:
        tf.distribute.Strategy: mirrored over several GPUs, else TensorFlow's default.
    """
    gpus = tf.config.list_physical_devices("GPU")
    for gpu in gpus:
        tf.config.experimental.set_memory_growth(gpu, True)
    keras.utils.set_random_seed(seed)
    return tf.distribute.MirroredStrategy() if len(gpus) > 1 else tf.distribute.get_strategy()


def for_blocks():
    """Readies TensorFlow for independent blocks of rollouts, one thread each, never on a GPU.

    One thread per operation makes a block's result independent of how many cores or ranks share the work, and costs no
    waiting of threads for each other.
    """
    tf.get_logger().setLevel("ERROR")  # each world compiles its own step, once, of which it would warn at length
    tf.config.set_visible_devices([], "GPU")
    tf.config.threading.set_intra_op_parallelism_threads(1)
    tf.config.threading.set_inter_op_parallelism_threads(parallel.cores())


def nan_unless_finite(loss, gradients):
    """The loss, or NaN if a gradient is not finite: so that a broken step shows in what it reports."""
    finite = tf.reduce_all([tf.reduce_all(tf.math.is_finite(gradient)) for gradient in gradients])
    return tf.where(finite, loss, float("nan"))
