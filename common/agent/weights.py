"""The paper's weight files: a JSON list of arrays in creation order, each value round(w * 10000)."""

import numpy as np

from common.agent import mdnrnn, vae
from common.runtime import files
from common.runtime.cli import UserError

SCALE = 10000


def write(path, arrays):
    """Writes arrays as paper JSON, whole.

    Args:
        path: the file to write.
        arrays: list of float arrays.

    Raises:
        UserError: a value is not finite; nothing is written.
    """
    arrays = [np.asarray(array) for array in arrays]
    if not all(np.isfinite(array).all() for array in arrays):
        raise UserError(f"{path}: not written, because a weight is not finite; go on from an earlier checkpoint")
    files.write_json(path, [np.rint(array * SCALE).astype(int).tolist() for array in arrays], separators=(",", ":"))


def read(path):
    """The arrays of a paper JSON file, float32.

    Raises:
        UserError: no such file, not JSON arrays, or a value that is not finite.
    """
    try:
        arrays = [np.asarray(array, np.float32) / SCALE for array in files.read_json(path)]
    except FileNotFoundError:
        raise UserError(f"{path}: no such file") from None
    except (OSError, ValueError, TypeError) as error:
        raise UserError(f"{path}: not a weights file ({error})") from None
    if not all(np.isfinite(array).all() for array in arrays):
        raise UserError(f"{path}: holds a value that is not finite")
    return arrays


def _verify(path, arrays, shapes, what):
    found, wanted = [tuple(array.shape) for array in arrays], [tuple(shape) for shape in shapes]
    if found == wanted:
        return
    odd = next((k for k, (f, w) in enumerate(zip(found, wanted, strict=False)) if f != w), None)
    detail = (
        f"{len(found)} arrays, not {len(wanted)}" if odd is None else f"array {odd} is {found[odd]}, not {wanted[odd]}"
    )
    raise UserError(f"{path}: not {what} ({detail}); was it made for the other game?")


def _length(path, arrays, position, what):
    """The length of a bias, from which a file tells its own sizes."""
    if len(arrays) <= position or arrays[position].ndim != 1:
        raise UserError(f"{path}: not {what} (no bias at position {position} of {len(arrays)} arrays)")
    return len(arrays[position])


def read_vae(path):
    """A V with the weights of a paper vae.json; its z_size is the file's."""
    arrays, what = read(path), "a V of 64x64 frames"
    model = vae.ConvVAE(_length(path, arrays, 9, what))
    _verify(path, arrays, [variable.shape for variable in model.paper_weights], what)
    for variable, array in zip(model.paper_weights, arrays, strict=True):
        variable.assign(array)
    return model


def vae_start_from(path, model):
    """Gives a V the weights of an earlier V of the same z_size."""
    earlier = read_vae(path)
    if earlier.z_size != model.z_size:
        raise UserError(f"{path}: has a z of {earlier.z_size}, not {model.z_size}")
    model.set_weights(earlier.get_weights())


def write_vae(path, model):
    """Writes V as a paper vae.json."""
    write(path, [variable.numpy() for variable in model.paper_weights])


def read_rnn(path, order, z_size, action_size, restart):
    """An M with the weights of a paper rnn.json; its numbers of cells and mixtures are the file's.

    Args:
        path: the file.
        order: names of the four arrays as they stand in this game's file, see mdnrnn.Shape.arrays.
        z_size, action_size, restart: what the M must read.
    """
    arrays, what = read(path), f"an M for z_size {z_size} and {action_size} action(s)"
    hidden_size = _length(path, arrays, order.index("bias"), what) // 4
    mixtures = (_length(path, arrays, order.index("output_b"), what) - restart) // (3 * z_size)
    shape = mdnrnn.Shape(z_size, action_size, hidden_size, restart, mixtures)
    _verify(path, arrays, [shape.arrays[name] for name in order], what)
    model = mdnrnn.MDNRNN(shape)
    for name, array in zip(order, arrays, strict=True):
        getattr(model, name).assign(array)
    return model


def write_rnn(path, model, order):
    """Writes M as a paper rnn.json with its arrays in this order."""
    write(path, [getattr(model, name).numpy() for name in order])


def rnn_start_from(path, model, order):
    """Gives an M the weights of an earlier M of the same shape; `order` as in `read_rnn`."""
    shape = model.shape
    earlier = read_rnn(path, order, shape.z_size, shape.action_size, shape.restart)
    if earlier.shape != shape:
        raise UserError(f"{path}: has {earlier.shape.hidden_size} cells and {earlier.shape.mixtures} mixtures, "
                        f"not {shape.hidden_size} and {shape.mixtures}")  # fmt: skip
    model.set_weights(earlier.get_weights())


def read_initial_z(path, z_size):
    """(mu, logvar), each float32 [frames, Z], of first frames, from an initial_z.json."""
    arrays = read(path)
    if [array.shape[1:] for array in arrays] != [(z_size,)] * 2 or len(arrays[0]) != len(arrays[1]):
        raise UserError(
            f"{path}: not [mu, logvar] of first frames with z_size {z_size}; was it made for the other game?"
        )
    return tuple(arrays)


def write_initial_z(path, mu, logvar):
    """Writes [mu, logvar] of first frames as an initial_z.json: integers x 10000, truncated as the authors' are."""
    truncated = [np.trunc(np.asarray(part, np.float64) * SCALE).astype(int).tolist() for part in (mu, logvar)]
    files.write_json(path, truncated, separators=(",", ":"))
