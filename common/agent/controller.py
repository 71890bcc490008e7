"""The controller (C in the paper): a linear map, or one hidden layer, and a tanh, for a batch at once.

Source: Ha & Schmidhuber 2018, section 2.3 and appendix A.3.
"""

import dataclasses
import itertools
from typing import Protocol

from common.runtime import devices  # noqa: F401  isort: skip  (loads TensorFlow without its banner)
import numpy as np
import tensorflow as tf
from numpy.typing import ArrayLike

from common.runtime import files
from common.runtime.cli import UserError

HIDDEN_UNITS = 40  # of mode z_hidden, as in the paper


def features_read(mode: str, z_size: int, hidden_size: int) -> int:
    """How many numbers a controller of this mode reads."""
    return z_size + hidden_size * {"z": 0, "z_hidden": 0, "zc": 1, "zh": 1, "zch": 2}[mode]


def features_of(mode: str, z: tf.Tensor, h: tf.Tensor, c: tf.Tensor) -> tf.Tensor:
    """What a controller of this mode reads, in the order of the letters: float32 [B, Z], [B, H], [B, H] -> [B, F]."""
    return tf.concat([{"z": z, "c": c, "h": h}[letter] for letter in mode.removesuffix("_hidden")], axis=1)


@dataclasses.dataclass(frozen=True)
class Controller:
    """The sizes of a controller. Its parameters are a flat vector: for each layer the bias, if any, then the weight."""

    mode: str
    """what it reads: z, with c, h or both of the MDN-RNN (zc, zh, zch), or z through a hidden layer (z_hidden)"""
    z_size: int
    """dimensions of z, Z"""
    hidden_size: int
    """cells of the MDN-RNN, H"""
    action_size: int
    """numbers in an action, A"""
    bias: bool
    """whether its layers have one"""

    @property
    def input_size(self) -> int:
        """How many features it reads, F."""
        return features_read(self.mode, self.z_size, self.hidden_size)

    @property
    def layers(self) -> list[tuple[int, int]]:
        """[(inputs, outputs)] of each layer."""
        sizes = [self.input_size, *([HIDDEN_UNITS] if self.mode == "z_hidden" else []), self.action_size]
        return list(itertools.pairwise(sizes))

    @property
    def parameters(self) -> int:
        """Length of the flat vector, N."""
        return sum(outputs * (inputs + self.bias) for inputs, outputs in self.layers)

    def features(self, z: tf.Tensor, h: tf.Tensor, c: tf.Tensor) -> tf.Tensor:
        """float32 z [B, Z], h [B, H], c [B, H] -> float32 [B, F], in the order of the letters of the mode."""
        return features_of(self.mode, z, h, c)

    def act(self, parameters: tf.Tensor, features: tf.Tensor) -> tf.Tensor:
        """The actions of a batch in which each row has its own controller.

        Args:
            parameters: float32 [B, N].
            features: float32 [B, F].

        Returns:
            float32 [B, A] in [-1, 1].
        """
        x, start = features, 0
        for inputs, outputs in self.layers:
            bias = parameters[:, start : start + outputs] if self.bias else 0.0
            start += outputs if self.bias else 0
            weight = tf.reshape(parameters[:, start : start + inputs * outputs], [-1, inputs, outputs])
            start += inputs * outputs
            # a product and a sum are faster than a batch of tiny matrix products
            x = tf.tanh(tf.reduce_sum(x[:, :, tf.newaxis] * weight, axis=1) + bias)
        return x

    def principal_directions(self, features: ArrayLike, count: int) -> np.ndarray:
        """Directions in the space of parameters along which equal steps change the action equally, on average.

        They are the principal components of what the controller reads, each divided by its root mean square, for each
        number of the action. With a bias, they are the components of the deviations from the mean, and the bias. Steps
        along single weights are different: features vary by different amounts, and are correlated.

        Args:
            features: float [T, F], what a controller of one layer read.
            count: how many components, at most F.

        Returns:
            float64 [N, (count + bias) * A], the columns.

        Raises:
            UserError: what it read varies in fewer directions.
        """
        read = np.asarray(features, float)
        mean = read.mean(axis=0) * self.bias
        power, components = np.linalg.eigh((read - mean).T @ (read - mean) / len(read))
        strongest = np.argsort(-power)[:count]
        # the others are rounding errors of either sign, and 1 / sqrt of one is infinite, NaN or huge
        rank = int((power > power.max() * max(read.shape) * np.finfo(float).eps).sum())
        if rank < count:
            raise UserError(
                f"--directions {count}: what the controller read varies in {rank} directions only; give fewer, or "
                "more --starts where dreams start along recorded games"
            )
        directions = components[:, strongest] / np.sqrt(power[strongest])
        if self.bias:
            directions = np.block([[np.ones((1, 1)), -mean @ directions], [np.zeros((len(mean), 1)), directions]])
        return np.kron(directions, np.eye(self.action_size))


def write(path: str, parameters: ArrayLike, *score: float) -> None:
    """Writes a controller as the authors do: [[parameters]] or [[parameters], score], rounded to 4 decimals."""
    files.write_json(path, [np.round(np.asarray(parameters, float), 4).tolist(), *map(float, score)])


class Sized(Protocol):
    """A controller of a known size, such as Controller or network.Policy."""

    @property
    def parameters(self) -> int:
        """Length of the flat vector, N."""


def read(path: str, controller: Sized) -> np.ndarray:
    """Reads a controller file of either form and verifies it.

    Args:
        path: the file.
        controller: what it must fit: a Controller, or anything else with `parameters`, its length.

    Returns:
        float32 [N].

    Raises:
        UserError: no such file, not a controller, or one of another length.
    """
    parameters = read_any(path)
    if parameters.shape != (controller.parameters,):
        raise UserError(
            f"{path}: holds {parameters.size} parameters, a controller of this game and mode has "
            f"{controller.parameters}; was it made for the other game or another --controller_mode?"
        )
    return parameters


def read_any(path: str) -> np.ndarray:
    """Reads a controller file of either form, of whatever length: float32, [N] if it is one.

    Raises:
        UserError: no such file, or not a controller.
    """
    try:
        parameters = np.asarray(files.read_json(path)[0], np.float32)
    except FileNotFoundError:
        raise UserError(f"{path}: no such file; give a controller such as log/<game>.cma.16.64.best.json") from None
    except (KeyError, IndexError):
        raise UserError(f"{path}: not a controller file, which is [[parameters], score]") from None
    except (OSError, ValueError, TypeError) as error:
        raise UserError(f"{path}: not a controller file ({error})") from None
    if not np.isfinite(parameters).all():
        raise UserError(f"{path}: holds a parameter that is not finite")
    return parameters
