"""The weight files of the authors: a JSON list of arrays in the order of creation, each value round(w * 10000)."""

import dataclasses
from collections.abc import Iterable, Sequence

import numpy as np
from numpy.typing import ArrayLike

from common.agent import mdnrnn, vae
from common.runtime import files
from common.runtime.cli import UserError

SCALE = 10000


def write(path: str, arrays: Iterable[ArrayLike]) -> None:
    """Writes float arrays to a weight file, atomically.

    Raises:
        UserError: a value is not finite; nothing is written.
    """
    values = [np.asarray(array) for array in arrays]
    if not all(np.isfinite(array).all() for array in values):
        raise UserError(f"{path}: not written, because a weight is not finite; continue from an earlier checkpoint")
    files.write_json(path, [np.rint(array * SCALE).astype(int).tolist() for array in values], separators=(",", ":"))


def read(path: str) -> list[np.ndarray]:
    """The arrays of a weight file, float32.

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


def _verify(path: str, arrays: Sequence[np.ndarray], shapes: Iterable[Sequence[int]], what: str) -> None:
    """UserError if the arrays do not have these shapes; `what` says what the file should be."""
    found, wanted = [tuple(array.shape) for array in arrays], [tuple(shape) for shape in shapes]
    if found == wanted:
        return
    odd = next((k for k, (f, w) in enumerate(zip(found, wanted, strict=False)) if f != w), None)
    detail = (
        f"{len(found)} arrays, not {len(wanted)}" if odd is None else f"array {odd} is {found[odd]}, not {wanted[odd]}"
    )
    raise UserError(f"{path}: not {what} ({detail}); was it made for the other game?")


def _length(path: str, arrays: Sequence[np.ndarray], position: int, what: str) -> int:
    """The length of a bias, which tells the sizes of the model in a file."""
    if len(arrays) <= position or arrays[position].ndim != 1:
        raise UserError(f"{path}: not {what} (no bias at position {position} of {len(arrays)} arrays)")
    return len(arrays[position])


def read_vae(path: str) -> vae.ConvVAE:
    """A VAE with the weights of a vae.json, and the z_size of that file.

    Raises:
        UserError: no such file, or not the weights of a VAE of 64x64 frames.
    """
    arrays, what = read(path), "a VAE of 64x64 frames"
    model = vae.ConvVAE(_length(path, arrays, 9, what))
    _verify(path, arrays, [variable.shape for variable in model.paper_weights], what)
    for variable, array in zip(model.paper_weights, arrays, strict=True):
        variable.assign(array)
    return model


def vae_start_from(path: str, model: vae.ConvVAE) -> None:
    """Gives a VAE the weights of an earlier one of the same z_size.

    Raises:
        UserError: as `read_vae`, or the z_size differs.
    """
    earlier = read_vae(path)
    if earlier.z_size != model.z_size:
        raise UserError(f"{path}: has a z of {earlier.z_size}, not {model.z_size}")
    model.set_weights(earlier.get_weights())


def write_vae(path: str, model: vae.ConvVAE) -> None:
    """Writes the weights of a VAE as a vae.json."""
    write(path, [variable.numpy() for variable in model.paper_weights])


def action_size_of(path: str, order: Sequence[str], z_size: int, restart: bool) -> int:
    """How many numbers in an action the MDN-RNN of a file reads, by the rows of its kernel; arguments as `read_rnn`.

    Raises:
        UserError: no such file, or not the weights of an MDN-RNN.
    """
    arrays = read(path)
    hidden_size = _length(path, arrays, order.index("bias"), "an MDN-RNN") // 4
    rows, *_ = *arrays[order.index("kernel")].shape, 0
    return rows - hidden_size - z_size - restart


def read_rnn(path: str, order: Sequence[str], z_size: int, action_size: int, restart: bool) -> mdnrnn.MDNRNN:
    """An MDN-RNN with the weights of an rnn.json, and the numbers of cells and mixtures of that file.

    Args:
        path: the file.
        order: names of the four arrays in the order of this game's file, see mdnrnn.Shape.arrays; those of the heads
            come last, where the file has them.
        z_size: dimensions of z that the MDN-RNN must read.
        action_size: numbers in an action that it must read.
        restart: whether it must read the restart flag.

    Raises:
        UserError: no such file, or not the weights of such an MDN-RNN.
    """
    arrays, what = read(path), f"an MDN-RNN for z_size {z_size} and {action_size} action(s)"
    hidden_size = _length(path, arrays, order.index("bias"), what) // 4
    mixtures = (_length(path, arrays, order.index("output_b"), what) - restart) // (3 * z_size)
    heads = len(arrays) == len(order) + len(mdnrnn.HEADS)
    shape = mdnrnn.Shape(z_size, action_size, hidden_size, restart, mixtures, heads)
    order = _order(order, shape)
    _verify(path, arrays, [shape.arrays[name] for name in order], what)
    model = mdnrnn.MDNRNN(shape)
    for name, array in zip(order, arrays, strict=True):
        getattr(model, name).assign(array)
    return model


def write_rnn(path: str, model: mdnrnn.MDNRNN, order: Sequence[str]) -> None:
    """Writes the weights of an MDN-RNN as an rnn.json, with its arrays in this order."""
    write(path, [getattr(model, name).numpy() for name in _order(order, model.shape)])


def _order(order: Sequence[str], shape: mdnrnn.Shape) -> tuple[str, ...]:
    return (*order, *(mdnrnn.HEADS if shape.heads else ()))


def rnn_start_from(path: str, model: mdnrnn.MDNRNN, order: Sequence[str]) -> None:
    """Gives an MDN-RNN the weights of an earlier one of the same sizes; `order` as in `read_rnn`.

    Heads that only one of the two has are left as they are.

    Raises:
        UserError: as `read_rnn`, or the sizes differ.
    """
    shape = model.shape
    earlier = read_rnn(path, order, shape.z_size, shape.action_size, shape.restart)
    if dataclasses.replace(earlier.shape, heads=shape.heads) != shape:
        raise UserError(
            f"{path}: has {earlier.shape.hidden_size} cells and {earlier.shape.mixtures} mixtures, "
            f"not {shape.hidden_size} and {shape.mixtures}"
        )
    for name in earlier.shape.arrays.keys() & shape.arrays.keys():
        getattr(model, name).assign(getattr(earlier, name))


def read_initial_z(path: str, z_size: int) -> tuple[np.ndarray, np.ndarray]:
    """(mu, logvar), each float32 [frames, Z], of first frames, from an initial_z.json.

    Raises:
        UserError: no such file, or not that.
    """
    arrays = read(path)
    if [array.shape[1:] for array in arrays] != [(z_size,)] * 2 or len(arrays[0]) != len(arrays[1]):
        raise UserError(
            f"{path}: not [mu, logvar] of first frames with z_size {z_size}; was it made for the other game?"
        )
    mu, logvar = arrays
    return mu, logvar


def write_initial_z(path: str, mu: ArrayLike, logvar: ArrayLike) -> None:
    """Writes [mu, logvar] of first frames as an initial_z.json: integers x 10000, truncated as in the authors' file."""
    truncated = [np.trunc(np.asarray(part, np.float64) * SCALE).astype(int).tolist() for part in (mu, logvar)]
    files.write_json(path, truncated, separators=(",", ":"))
