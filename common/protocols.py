"""The interfaces that all code here is built on: a batch of worlds, a policy, an evolution strategy.

All work is done in lockstep batches of B rows. A world is reset with one seed per row, then stepped with one action per
row. Rows that have finished leave the batch, so that no work is done for them; the policy is told which rows go on.
"""

from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np
from numpy.typing import ArrayLike

Seeds = Sequence[int] | np.ndarray
"""[B] int, the episodes of the rows"""


class World(Protocol):
    """A batch of episodes: real games (state: frames), or games and dreams as the agent knows them (state: z, h, c)."""

    def reset(self, seeds: Seeds) -> Any:
        """Starts one episode per seed; returns the state of all rows: frames, uint8 [B, 64, 64, 3], or (z, h, c)."""

    def step(self, action: ArrayLike) -> tuple[Any, np.ndarray, np.ndarray]:
        """action [B, A] -> (state of the rows that go on, reward float [B], done bool [B])."""


class Policy(Protocol):
    """Acts in a batch of worlds."""

    def act(self, state: Any) -> np.ndarray:
        """The state of B rows -> their actions [B, A], as the world and the MDN-RNN take them."""

    def keep(self, on: np.ndarray) -> None:
        """Forgets the rows that have finished; `on` [B'] are the indices of the others."""


class Search(Protocol):
    """A search for the parameters of a controller, saved and restored exactly."""

    @property
    def mean(self) -> np.ndarray:
        """The mean of the distribution, float64 [N], rounded to the 4 decimals that controllers are saved with."""

    @property
    def rms_stdev(self) -> float:
        """Root mean square of the standard deviations of all parameters."""

    def arrays(self) -> dict[str, np.ndarray]:
        """The distribution, for another machine to continue from."""

    def continue_from(self, arrays: dict[str, np.ndarray]) -> None:
        """Takes over what `arrays` gave: the same search, with new noise."""

    def state(self) -> dict[str, np.ndarray]:
        """All of the search, for `set_state`."""

    def set_state(self, arrays: dict[str, np.ndarray]) -> None:
        """Makes this the search that gave `state`; it continues bit for bit."""


class Strategy(Search, Protocol):
    """An evolution strategy, maximising: ask for a population, tell its fitness."""

    def ask(self) -> np.ndarray:
        """A population, float64 [P, N], rounded to 4 decimals."""

    def tell(self, fitness: np.ndarray) -> int:
        """Moves the distribution by the fitness [P] of the last `ask`; returns how many were not finite."""
