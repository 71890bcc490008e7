"""Controllers acting in a batch of worlds: linear ones, each row its own, and networks."""

from collections.abc import Callable
from typing import Any

from common.runtime import devices  # noqa: F401  isort: skip  (loads TensorFlow without its banner)
import numpy as np
import tensorflow as tf
from numpy.typing import ArrayLike

from common.agent import network
from common.agent.controller import Controller, features_of
from common.protocols import Seeds, World
from common.worlds.rollouts import rollout

ActionOf = Callable[[Any], np.ndarray]
"""tanh values of the controller, float32 [B, A] -> the actions of the game"""


class Candidates:
    """A policy in which every row has its own controller.

    Args:
        controller: the sizes of all of them.
        parameters: float32 [B, N].
        action_of: tanh values -> actions as the world and the MDN-RNN take them; None if they are the same.
    """

    def __init__(self, controller: Controller, parameters: ArrayLike, action_of: ActionOf | None = None) -> None:
        self._controller, self._parameters = controller, tf.constant(parameters, tf.float32)
        self._action_of = action_of or (lambda raw: raw)

    def act(self, state: tuple[tf.Tensor, ...]) -> np.ndarray:
        """(z, h, c) -> float32 [B, A]."""
        return self._action_of(_act(self._controller, self._parameters, *state))

    def keep(self, on: np.ndarray) -> None:
        """Forgets the rows that have finished; `on` [B'] are the indices of the others."""
        self._parameters = tf.gather(self._parameters, on)


@tf.function(reduce_retracing=True)
def _act(controller: Controller, parameters: tf.Tensor, z: tf.Tensor, h: tf.Tensor, c: tf.Tensor) -> tf.Tensor:
    return controller.act(parameters, controller.features(z, h, c))


def evaluate(
    world: World, controller: Controller, population: np.ndarray, seeds: ArrayLike, action_of: ActionOf | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """Every candidate on every seed, in one batch.

    Args:
        world: a batch of worlds.
        controller: the sizes of the candidates.
        population: [P, N], one candidate per row.
        seeds: [E] int, the same episodes for all candidates, or [P, E], different ones for each.
        action_of: see Candidates.

    Returns:
        (returns float64 [P, E], lengths int [P, E]).
    """
    seeds = np.broadcast_to(seeds, (len(population), np.shape(seeds)[-1]))
    rows = np.repeat(np.asarray(population, np.float32), seeds.shape[1], axis=0)
    returns, lengths = rollout(world, Candidates(controller, rows, action_of), seeds.ravel())
    return returns.reshape(seeds.shape), lengths.reshape(seeds.shape)


def features_of_play(
    world: World, controller: Controller, parameters: np.ndarray, seeds: Seeds, action_of: ActionOf | None = None
) -> np.ndarray:
    """What a controller reads while it plays.

    Args:
        world: a batch of worlds.
        controller: its sizes.
        parameters: [N].
        seeds: [E] int, the episodes.
        action_of: see Candidates.

    Returns:
        float32 [steps of all episodes, F].
    """
    read = []

    class Noted(Candidates):
        """The controller, with a note of what it reads."""

        def act(self, state: tuple[tf.Tensor, ...]) -> np.ndarray:
            """As Candidates."""
            read.append(controller.features(*state).numpy())
            return super().act(state)

    rollout(world, Noted(controller, np.tile(parameters, (len(seeds), 1)), action_of), seeds)
    return np.concatenate(read)


def evaluate_in_blocks(
    workers: Any, population: np.ndarray, seeds: ArrayLike, block_rows: int, *settings: Any
) -> tuple[np.ndarray, np.ndarray]:
    """As `evaluate`, in blocks of candidates. The result of a block does not depend on which worker computes it.

    Args:
        workers: parallel.Threads or mpi.Ranks; a worker takes (candidates, seeds, *settings) and calls `evaluate`.
        population: [P, N].
        seeds: [E] or [P, E] int.
        block_rows: about how many episodes step together.
        *settings: what else the workers need to know of these episodes.

    Returns:
        As `evaluate`.
    """
    # whole candidates if their episodes fit into a block, else (the mean on many seeds) the seeds of one in parts
    seeds = np.broadcast_to(seeds, (len(population), np.shape(seeds)[-1]))
    candidates = max(1, block_rows // seeds.shape[1])
    parts = range(0, seeds.shape[1], min(seeds.shape[1], block_rows))
    groups = [slice(k, k + candidates) for k in range(0, len(population), candidates)]
    tasks = [
        (population[group], seeds[group, first : first + block_rows], *settings) for group in groups for first in parts
    ]
    results = iter(workers.map(tasks))
    rows = [[next(results) for _ in parts] for _ in groups]
    returns, lengths = (
        np.concatenate([np.concatenate([block[which] for block in row], axis=1) for row in rows]) for which in (0, 1)
    )
    return returns, lengths


class NetworkPlayer:
    """A controller with hidden layers that plays its best actions (see its head), the same controller in every row.

    Args:
        policy: the network and its head.
        mode: what it reads, in the order of the letters, such as "zch".
        parameters: float [N], see Policy.parameters.
    """

    def __init__(self, policy: network.Policy, mode: str, parameters: np.ndarray) -> None:
        self._policy, self._mode = policy, mode
        self._layers = policy.network.unpack(tf.constant(parameters, tf.float32))

    def act(self, state: tuple[tf.Tensor, ...]) -> np.ndarray:
        """(z, h, c) -> float32 [B, A]."""
        return _act_greedily(self._policy, self._mode, self._layers, *state).numpy()

    def keep(self, on: np.ndarray) -> None:
        """Nothing to forget: the memory is that of the MDN-RNN."""


@tf.function(reduce_retracing=True)
def _act_greedily(
    policy: network.Policy, mode: str, layers: network.Layers, z: tf.Tensor, h: tf.Tensor, c: tf.Tensor
) -> tf.Tensor:
    outputs = policy.outputs(layers, features_of(mode, z, h, c))
    return policy.head.best(outputs)
