"""What the hardware offers: GPUs for training the models, bfloat16 products, and cores for independent blocks."""

import contextlib
import os
from collections.abc import Iterator, Sequence

from common.runtime import parallel
from common.runtime.cli import UserError

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
os.environ["KERAS_BACKEND"] = "tensorflow"  # whatever the user's other work runs on
if os.environ.get("DISPLAY") and os.environ.get("SDL_VIDEODRIVER", "x11") == "x11":
    # Mesa in software has an LLVM of its own, and beside TensorFlow's a crash: windows are drawn without Mesa
    os.environ.setdefault("SDL_FRAMEBUFFER_ACCELERATION", "0")


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Hides the ten lines that TensorFlow's libraries print as they load, at any log level. Errors are still raised."""
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

    tf.config.list_physical_devices()  # looks for a GPU, and prints many lines when there is none

# the user's keras.json may say otherwise, and the models are written for these
keras.config.set_image_data_format("channels_last")
keras.config.set_floatx("float32")


def _cpu_multiplies_bfloat16() -> bool:
    try:
        with open("/proc/cpuinfo") as file:
            flags = file.read()
    except OSError:
        return False
    return "avx512_bf16" in flags or "amx_bf16" in flags


def check_backend() -> None:
    """UserError if Keras was loaded before, to compute with another library than TensorFlow."""
    if keras.backend.backend() != "tensorflow":
        raise UserError(
            f"Keras runs on {keras.backend.backend()} in this program; import common before keras, or set the "
            "environment variable KERAS_BACKEND=tensorflow"
        )


check_backend()


def product_dtype() -> tf.DType:
    """bfloat16 where the processor multiplies it faster than float32, else, and on a GPU, float32.

    The environment variable WORLDMODELS_DTYPE overrides it.

    Raises:
        UserError: it is neither of the two.
    """
    asked = os.environ.get("WORLDMODELS_DTYPE")
    if asked not in (None, "", "float32", "bfloat16"):
        raise UserError(f"WORLDMODELS_DTYPE={asked}: give float32 or bfloat16, or unset it")
    faster = _cpu_multiplies_bfloat16() and not tf.config.get_visible_devices("GPU")
    return tf.as_dtype(asked or ("bfloat16" if faster else "float32"))


def for_training(seed: int, blocks: bool = False) -> tf.distribute.Strategy:
    """Prepares TensorFlow for training a model: all cores, all GPUs with growing memory.

    Args:
        seed: decides the initial weights of the models that are built next.
        blocks: whether the steps have parts that do not wait for each other, see `blocks_of`; on a CPU, each operation
            then has one thread.

    Returns:
        The strategy: mirrored over several GPUs, else the default one of TensorFlow.
    """
    gpus = tf.config.list_physical_devices("GPU")
    for gpu in gpus:
        tf.config.experimental.set_memory_growth(gpu, True)
    if blocks and not gpus:
        with contextlib.suppress(RuntimeError):  # TensorFlow has its threads already
            _one_thread_per_operation()
    keras.utils.set_random_seed(seed)
    return tf.distribute.MirroredStrategy() if len(gpus) > 1 else tf.distribute.get_strategy()


def for_blocks(gpus: bool = False) -> None:
    """Prepares TensorFlow for independent blocks, one thread each: rollouts, or the parts of a graph.

    With one thread per operation the result of a block does not depend on how many cores or ranks share the work, and
    no thread waits for another.

    Args:
        gpus: whether to use GPUs, with growing memory; rollouts do not.
    """
    tf.get_logger().setLevel("ERROR")  # no warning about each world that compiles its own step
    if not gpus:
        tf.config.set_visible_devices([], "GPU")
    for gpu in tf.config.list_physical_devices("GPU") if gpus else []:
        tf.config.experimental.set_memory_growth(gpu, True)
    _one_thread_per_operation()


def _one_thread_per_operation() -> None:
    tf.config.threading.set_intra_op_parallelism_threads(1)
    tf.config.threading.set_inter_op_parallelism_threads(parallel.cores())


def blocks_of(rows: int) -> int:
    """Parts into which to split the rows of a training step of small operations: 2 on a CPU if they divide, else 1.

    Two threads gain more by a part each than by sharing every small operation. The number is the same on any CPU, so
    that results do not depend on its cores.
    """
    return 1 if rows % 2 or tf.config.list_physical_devices("GPU") else 2


def nan_unless_finite(loss: tf.Tensor, gradients: Sequence[tf.Tensor]) -> tf.Tensor:
    """The loss, or NaN if a gradient is not finite, so that a broken step shows in the reported loss."""
    finite = tf.reduce_all([tf.reduce_all(tf.math.is_finite(gradient)) for gradient in gradients])
    return tf.where(finite, loss, float("nan"))
