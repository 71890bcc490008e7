"""Evolution strategies behind one interface: ask for a population, tell its fitness, save and restore exactly."""

import json
import operator
from collections.abc import Callable
from typing import Any

import cma
import numpy as np
from numpy.typing import ArrayLike

from common.agent.controller import Controller
from common.protocols import Strategy
from common.runtime import settings
from common.runtime.cli import UserError

Arrays = dict[str, np.ndarray]

DIRECTION_SEEDS = np.arange(20_000, 20_016)  # of the episodes whose features give the directions of a subspace


class _StandardNormal:
    """The random generator of a CMA-ES, saved with it; by default pycma uses the global one of NumPy."""

    def __init__(self, seed: int) -> None:
        self._rng = np.random.default_rng(seed)

    def __call__(self, *shape: int) -> np.ndarray:
        return self._rng.standard_normal(shape)

    @property
    def state(self) -> str:
        """The state of the generator, JSON."""
        return json.dumps(self._rng.bit_generator.state)

    @state.setter
    def state(self, text: str) -> None:
        self._rng.bit_generator.state = json.loads(text)


# All of the state of pycma that later populations depend on. Everything else follows from its options. A pickle of the
# whole object would do as well, but reading a pickle runs any code that is in it.
STATE = (
    *("mean", "sigma", "pc", "pc2", "countiter", "countevals", "sigma_vec.scaling"),
    *("sm.C", "sm.B", "sm.D", "sm.last_update", "sm.count_tell", "sm.count_eigen"),
    *("adapt_sigma.ps", "adapt_sigma.delta", "adapt_sigma._ps_updated_iteration"),
    "pop_injection_directions",  # of two-point adaptation, which pycma chooses where there are many parameters
    "adapt_sigma.s",  # also of two-point adaptation only
)


def _finite(returns: ArrayLike) -> tuple[np.ndarray, int]:
    """(fitness [P], in which values that were not finite are below all others; how many were not finite)."""
    fitness = np.array(returns, float)
    bad = ~np.isfinite(fitness)
    if bad.all():
        raise UserError("no candidate of this generation has a finite fitness; the last good checkpoint is kept")
    fitness[bad] = fitness[~bad].min() - 1
    return fitness, int(bad.sum())


class CMA:
    """CMA-ES (pycma), maximising.

    Source: Hansen & Ostermeier 2001; Ha & Schmidhuber 2018, appendix A.4.

    Args:
        mean: float [N], where the search starts.
        popsize: candidates per generation, P.
        sigma_init: initial standard deviation.
        seed: decides all that it draws.
    """

    def __init__(self, mean: ArrayLike, popsize: int, sigma_init: float, seed: int) -> None:
        self._normal = _StandardNormal(seed)
        options: dict[str, Any] = {"popsize": popsize, "randn": self._normal, "seed": np.nan, "verbose": -9}
        options["conditioncov_alleviate"] = [1e8, 0]  # never other coordinates, which `STATE` does not hold
        options["CMA_mirrors"] = (
            0  # mirrored samples, for fewer than 6 candidates, have a state that `STATE` does not hold
        )
        self._es = cma.CMAEvolutionStrategy(np.asarray(mean, float), sigma_init, options)
        self._es.adapt_sigma.initialize_base(self._es)  # its path, which else the first tell makes
        self._asked: Any = None

    def ask(self) -> np.ndarray:
        """A population, float64 [P, N], rounded to the 4 decimals that controllers are saved with."""
        self._asked = self._es.ask()
        return np.round(self._asked, 4)

    def tell(self, fitness: ArrayLike) -> int:
        """Moves the distribution towards the fitter candidates of the last `ask`.

        Args:
            fitness: float [P]; a value that is not finite counts as worse than all others.

        Returns:
            How many were not finite.

        Raises:
            UserError: none is finite.
        """
        finite, bad = _finite(fitness)
        self._es.tell(self._asked, list(-finite))
        return bad

    @property
    def mean(self) -> np.ndarray:
        """The mean of the distribution, float64 [N], rounded to 4 decimals."""
        return np.round(self._es.mean, 4)

    @property
    def rms_stdev(self) -> float:
        """Root mean square of the standard deviations of all parameters."""
        return float(self._es.sigma * np.sqrt(np.mean(self._es.sm.variances)))

    def arrays(self) -> Arrays:
        """The distribution, for another machine to go on from: mean, sigma, both paths, lower triangle of C."""
        matrix = np.asarray(self._es.sm.covariance_matrix, np.float32)
        paths = {"pc": self._es.pc, "ps": self._es.adapt_sigma.ps}
        triangle = matrix[np.tril_indices(len(matrix))]
        return {"mean": self._es.mean, "sigma": self._es.sigma, **paths, "c": triangle}

    def continue_from(self, arrays: Arrays) -> None:
        """Takes over a distribution that `arrays` gave on another machine: the same search, with new noise.

        Raises:
            UserError: it has another number of parameters.
            KeyError, ValueError: an array is missing, not of floats, or not finite.
        """
        es, size = self._es, len(self._es.mean)
        for name, own in self.arrays().items():
            array = np.asarray(arrays[name])
            if array.shape != np.shape(own):
                raise UserError(f"the distribution is of {arrays['mean'].size} parameters, the controller has {size}")
            if array.dtype.kind != "f" or not np.isfinite(array).all():
                raise ValueError(f"{name} is {array.dtype}, or not finite")
        lower = np.zeros((size, size))
        lower[np.tril_indices(size)] = arrays["c"]
        es.mean, es.pc, es.adapt_sigma.ps = (np.array(arrays[name], float) for name in ("mean", "pc", "ps"))
        es.sigma = float(arrays["sigma"])
        es.sm.C = lower + np.tril(lower, -1).T
        es.sm.update_now(-1)  # its eigenvectors, now

    def state(self) -> Arrays:
        """All of the search, for `set_state`."""
        here = [name for name in STATE if hasattr(*self._attribute(name))]
        values = {name: np.array(operator.attrgetter(name)(self._es)) for name in here}
        return values | {"random": np.array(self._normal.state)}

    def set_state(self, arrays: Arrays) -> None:
        """Makes this the search that gave `state`: it goes on bit for bit.

        Raises:
            ValueError: that was not the state of a search of this size.
        """
        es, fresh = self._es, self.state()
        if arrays.keys() != fresh.keys():
            raise ValueError(f"it holds {', '.join(arrays)}")
        shapes: dict[str, set[tuple[int, ...]]] = {name: {array.shape} for name, array in fresh.items()}
        shapes["sigma_vec.scaling"] = {(), es.mean.shape}
        shapes["pop_injection_directions"] = {(0,), (2, *es.mean.shape)}
        for name in arrays.keys() - {"random"}:
            array = arrays[name]
            if array.dtype.kind not in "fi" or array.shape not in shapes[name] or not np.isfinite(array).all():
                raise ValueError(f"{name} is {array.dtype}{list(array.shape)}, or not finite")
        self._normal.state = str(arrays["random"])
        for name in arrays.keys() - {"random"}:
            owner, attribute = self._attribute(name)
            setattr(owner, attribute, arrays[name] if arrays[name].ndim else arrays[name].item())
        es.pop_injection_directions = list(es.pop_injection_directions)
        es.mean_old, es.mean_after_tell = es.mean.copy(), es.mean.copy()
        es.timer = cma.utilities.utils.ElapsedWCTime()
        es._updateBDfromSM(es.sm)

    def _attribute(self, name: str) -> tuple[Any, str]:
        """The object and the attribute of a name of `STATE`."""
        owner, _, attribute = name.rpartition(".")
        return (operator.attrgetter(owner)(self._es) if owner else self._es), attribute


class OpenES:
    """An evolution strategy with a constant standard deviation, maximising.

    The mean moves along the gradient estimated from the ranks of all candidates, so that bad candidates count as much
    as good ones. The mean of CMA-ES moves towards the better half only, which says little where most candidates do
    about equally well and some fail.

    Source: Salimans et al. 2017, algorithm 1, with mirrored sampling and ranks in place of returns.

    Args:
        mean: float [N], where the search starts.
        popsize: candidates per generation, P, even; candidates k and k + P / 2 are mirror images of each other.
        sigma: standard deviation of every parameter.
        seed: decides all that it draws.
        learning_rate: how far the mean moves in a generation [sigma], along a parameter that decides the ranks alone.

    Raises:
        UserError: the number of candidates is odd.
    """

    def __init__(self, mean: ArrayLike, popsize: int, sigma: float, seed: int, learning_rate: float) -> None:
        if popsize % 2:
            raise UserError(f"--optimizer openes: its candidates are pairs, and {popsize} is odd")
        self._mean, self._half, self._sigma = np.array(mean, float), popsize // 2, float(sigma)
        self._learning_rate, self._rng = learning_rate, np.random.default_rng(seed)
        self._noise: Any = None

    def ask(self) -> np.ndarray:
        """A population, float64 [P, N], rounded to the 4 decimals that controllers are saved with."""
        noise = self._rng.standard_normal((self._half, len(self._mean)))
        self._noise = np.concatenate([noise, -noise])
        return np.round(self._mean + self._sigma * self._noise, 4)

    def tell(self, fitness: ArrayLike) -> int:
        """Moves the mean along the gradient; otherwise as CMA.tell."""
        finite, bad = _finite(fitness)
        # equal candidates have equal ranks: the mean of their places
        places = np.sort(finite)
        ranks = (np.searchsorted(places, finite, "left") + np.searchsorted(places, finite, "right") - 1) / 2
        weights = (ranks - ranks.mean()) / (ranks.std() or 1.0)
        self._mean += self._learning_rate * self._sigma * (weights @ self._noise) / len(weights)
        return bad

    @property
    def mean(self) -> np.ndarray:
        """The mean of the distribution, float64 [N], rounded to 4 decimals."""
        return np.round(self._mean, 4)

    @property
    def rms_stdev(self) -> float:
        """The standard deviation of every parameter."""
        return self._sigma

    def arrays(self) -> Arrays:
        """The distribution, for another machine to go on from."""
        return {"mean": self._mean.copy(), "sigma": np.array(self._sigma)}

    def continue_from(self, arrays: Arrays) -> None:
        """Takes over a distribution that `arrays` gave on another machine, as CMA.continue_from."""
        mean, sigma = np.asarray(arrays["mean"]), np.asarray(arrays["sigma"])
        if mean.shape != self._mean.shape:
            raise UserError(f"the distribution is of {mean.size} parameters, the controller has {len(self._mean)}")
        if not all(part.dtype == float and np.isfinite(part).all() for part in (mean, sigma)) or sigma.shape:
            raise ValueError(f"mean is {mean.dtype}, sigma {sigma.dtype}{list(sigma.shape)}, or one is not finite")
        self._mean, self._sigma = mean.copy(), float(sigma)

    def state(self) -> Arrays:
        """All of the search, for `set_state`."""
        return self.arrays() | {"random": np.array(json.dumps(self._rng.bit_generator.state))}

    def set_state(self, arrays: Arrays) -> None:
        """Makes this the search that gave `state`: it goes on bit for bit.

        Raises:
            ValueError, KeyError: that was not the state of such a search.
        """
        generator = np.random.default_rng()
        generator.bit_generator.state = json.loads(str(arrays["random"]))
        self.continue_from(arrays)
        self._rng = generator


class SubspaceSearch:
    """Search in a subspace: its candidates are origin + directions @ the coordinates of another strategy.

    Args:
        strategy: searches for the coordinates, such as CMA; begins at 0.
        find: () -> (origin float [N], directions float [N, coordinates]); called once, unless a search is restored.
    """

    def __init__(self, strategy: Strategy, find: Callable[[], tuple[ArrayLike, ArrayLike]]) -> None:
        self._strategy, self._find = strategy, find
        self._place: tuple[np.ndarray, np.ndarray] | None = None

    def _found(self) -> tuple[np.ndarray, np.ndarray]:
        """(origin, directions)."""
        if self._place is None:
            origin, directions = self._find()
            self._place = np.asarray(origin, float), np.asarray(directions, float)
        return self._place

    def _at(self, coordinates: np.ndarray) -> np.ndarray:
        origin, directions = self._found()
        return np.round(origin + coordinates @ directions.T, 4)

    def ask(self) -> np.ndarray:
        """A population, float64 [P, N], rounded to 4 decimals."""
        return self._at(self._strategy.ask())

    def tell(self, fitness: np.ndarray) -> int:
        """As the strategy for the coordinates."""
        return self._strategy.tell(fitness)

    @property
    def mean(self) -> np.ndarray:
        """The mean of the distribution, float64 [N], rounded to 4 decimals."""
        return self._at(self._strategy.mean)

    @property
    def rms_stdev(self) -> float:
        """That of the coordinates."""
        return self._strategy.rms_stdev

    def arrays(self) -> Arrays:
        """The distribution of the coordinates, the origin and the directions."""
        return self._strategy.arrays() | self._directions()

    def state(self) -> Arrays:
        """The state of the search for the coordinates, the origin and the directions."""
        return self._strategy.state() | self._directions()

    def _directions(self) -> Arrays:
        return dict(zip(("origin", "directions"), self._found(), strict=True))

    def continue_from(self, arrays: Arrays) -> None:
        """Takes over what `arrays` gave."""
        self._restore(arrays, self._strategy.continue_from)

    def set_state(self, arrays: Arrays) -> None:
        """Takes over what `state` gave."""
        self._restore(arrays, self._strategy.set_state)

    def _restore(self, arrays: Arrays, restore: Callable[[Arrays], None]) -> None:
        """Gives `restore` its part of the arrays, and takes the rest.

        Raises:
            ValueError, KeyError: the rest is not an origin and directions.
        """
        rest = dict(arrays)
        origin, directions = place = rest.pop("origin"), rest.pop("directions")
        if directions.shape != (*origin.shape, len(self._strategy.mean)):
            raise ValueError(f"directions is {list(directions.shape)}")
        if not all(part.dtype == float and np.isfinite(part).all() for part in place):
            raise ValueError("origin or directions is not finite")
        restore(rest)
        self._place = place


def strategy(
    cfg: settings.Train,
    controller: Controller,
    mean: np.ndarray,
    find_directions: Callable[[], tuple[ArrayLike, ArrayLike]],
) -> Strategy:
    """The search that a config asks for.

    Args:
        cfg: of the training.
        controller: the sizes of the candidates.
        mean: float [N], where it begins.
        find_directions: see SubspaceSearch.

    Raises:
        UserError: the controller has no such directions.
    """
    popsize = cfg.n * cfg.t

    def search(start: np.ndarray) -> Strategy:
        if cfg.o == "openes":
            return OpenES(start, popsize, cfg.sigma_init, cfg.seed_start, cfg.learning_rate)
        return CMA(start, popsize, cfg.sigma_init, cfg.seed_start)

    if not cfg.directions:
        return search(mean)
    if cfg.directions > controller.input_size or len(controller.layers) > 1:
        raise UserError(
            f"--directions {cfg.directions}: the controller must read as many numbers, by one layer of weights"
        )
    coordinates = np.zeros((cfg.directions + controller.bias) * controller.action_size)
    return SubspaceSearch(search(coordinates), find_directions)
