"""C: one linear map (or one hidden layer) and a tanh, from what V and M give to the action, for a batch at once."""

import dataclasses
import itertools

from common.runtime import devices  # noqa: F401  isort: skip  (loads TensorFlow without its banner)
import numpy as np
import tensorflow as tf

from common.runtime import files
from common.runtime.cli import UserError

HIDDEN_UNITS = 40  # of mode z_hidden, as in the paper


@dataclasses.dataclass(frozen=True)
class Controller:
    """C's sizes. Its parameters are a flat vector: of each layer the bias, if any, then the weight row by row."""

    mode: str
    """what it reads: z, z through a hidden layer, z and M's c, z and M's h, or all three"""
    z_size: int
    hidden_size: int
    action_size: int
    bias: bool

    @property
    def input_size(self):
        """How many features it reads, F."""
        return self.z_size + self.hidden_size * {"z": 0, "z_hidden": 0, "zc": 1, "zh": 1, "zch": 2}[self.mode]

    @property
    def layers(self):
        """[(inputs, outputs)] of each layer."""
        sizes = [self.input_size, *([HIDDEN_UNITS] if self.mode == "z_hidden" else []), self.action_size]
        return list(itertools.pairwise(sizes))

    @property
    def parameters(self):
        """Length of the flat vector, N."""
        return sum(outputs * (inputs + self.bias) for inputs, outputs in self.layers)

    def features(self, z, h, c):
        """z [B, Z], h [B, H], c [B, H] -> [B, F], in the order of the mode's letters."""
        return tf.concat([{"z": z, "c": c, "h": h}[letter] for letter in self.mode.removesuffix("_hidden")], axis=1)

    def act(self, parameters, features):
        """Every row's own controller acts on that row.

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
            # a product and a sum, not a batch of tiny matrix products
            x = tf.tanh(tf.reduce_sum(x[:, :, tf.newaxis] * weight, axis=1) + bias)
        return x

    def principal_directions(self, features, count):
        """Where the parameters can go so that steps of equal length change the action by as much, on average.

        These are the principal components of what C reads, each over its root mean square, and the bias if C has one
        (the components are then those of the deviations from the mean), for each part of the action. A step along one
        weight alone changes the action by as much as what it weighs varies, and against its neighbours' doing.

        Args:
            features: float [T, F], what a C of one layer read.
            count: int, components.

        Returns:
            float64 [N, (count + bias) * A], the columns.
        """
        features = np.asarray(features, float)
        mean = features.mean(axis=0) * self.bias
        power, components = np.linalg.eigh((features - mean).T @ (features - mean) / len(features))
        strongest = np.argsort(-power)[:count]
        directions = components[:, strongest] / np.sqrt(power[strongest])
        if self.bias:
            directions = np.block([[np.ones((1, 1)), -mean @ directions], [np.zeros((len(mean), 1)), directions]])
        return np.kron(directions, np.eye(self.action_size))


def write(path, parameters, *score):
    """Writes a controller as the authors do: [[parameters]] or [[parameters], score], rounded to 4 decimals."""
    files.write_json(path, [np.round(np.asarray(parameters, float), 4).tolist(), *map(float, score)])


def read(path, controller):
    """Reads a controller file of either form and verifies it.

    Returns:
        float32 [N].

    Raises:
        UserError: no such file, not a controller, or one of another length.
    """
    try:
        parameters = np.asarray(files.read_json(path)[0], np.float32)
    except FileNotFoundError:
        raise UserError(f"{path}: no such file; give a controller such as log/<game>.cma.16.64.best.json") from None
    except (OSError, ValueError, TypeError, KeyError, IndexError) as error:
        raise UserError(f"{path}: not a controller file ({error})") from None
    if parameters.shape != (controller.parameters,):
        raise UserError(
            f"{path}: holds {parameters.size} parameters, this game's controller (mode {controller.mode}) has "
            f"{controller.parameters}; was it made for the other game or another --controller_mode?"
        )
    if not np.isfinite(parameters).all():
        raise UserError(f"{path}: holds a parameter that is not finite")
    return parameters
