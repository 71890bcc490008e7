"""Evolution strategies behind one interface: ask for a population, tell its fitness, save and restore exactly."""

import json
import operator
from collections.abc import Callable, Sequence
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
# of PEPG, SES and GA, as in estool
SIGMA_DECAY, SIGMA_LEAST = 0.999, 0.01  # a standard deviation after every generation; where it stays
SIGMA_RATE, SIGMA_MOST_CHANGE = 0.2, 0.2  # how fast PEPG adapts it; the most in a generation, as a share of it
ADAM = 0.99, 0.999, 1e-8  # beta1, beta2, epsilon
WEIGHT_COST = 0.01  # of the mean square of a candidate's parameters


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
        self._injected: list[np.ndarray] = []

    def ask(self) -> np.ndarray:
        """A population, float64 [P, N], rounded to the 4 decimals that controllers are saved with."""
        self._injected = [direction.copy() for direction in self._es.pop_injection_directions]  # ask takes them out
        self._asked = self._es.ask()
        return np.round(self._asked, 4)

    def tell(self, fitness: ArrayLike) -> int:
        """Moves the distribution toward the fitter candidates of the last `ask`.

        Args:
            fitness: float [P]; a value that is not finite counts as worse than all others.

        Returns:
            How many were not finite.

        Raises:
            UserError: none is finite.
        """
        finite, bad = _finite(fitness)
        if np.ptp(finite):
            self._es.tell(self._asked, list(-finite))
        else:  # equal ones say nothing, and pycma would follow the first of them
            self._es.pop_injection_directions = self._injected  # two-point adaptation wants them in the next ask
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
        """The distribution, for another machine to continue from: mean, sigma, both paths, lower triangle of C."""
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
        """Makes this the search that gave `state`: it continues bit for bit.

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


def _ranks(fitness: np.ndarray) -> np.ndarray:
    """Places in the order of fitness, from 0 for the worst to P - 1: [P] -> [P]; equal ones have the mean of theirs."""
    places = np.sort(fitness)
    return (np.searchsorted(places, fitness, "left") + np.searchsorted(places, fitness, "right") - 1) / 2


class _Distribution:
    """What the strategies below share: a search that is some arrays of floats and a random generator.

    Args:
        names: of the arrays, in attributes with an underscore before it; one of them is "sigma".
        seed: decides all that is drawn.
    """

    _mean: np.ndarray
    _sigma: Any

    def __init__(self, names: Sequence[str], seed: int) -> None:
        self._names, self._rng = names, np.random.default_rng(seed)

    @property
    def mean(self) -> np.ndarray:
        """The mean of the distribution, float64 [N], rounded to 4 decimals."""
        return np.round(self._mean, 4)

    @property
    def rms_stdev(self) -> float:
        """Root mean square of the standard deviations of all parameters."""
        return float(np.sqrt(np.mean(np.square(self._sigma))))

    def arrays(self) -> Arrays:
        """The distribution, for another machine to continue from."""
        return {name: np.array(getattr(self, f"_{name}"), float) for name in self._names}

    def continue_from(self, arrays: Arrays) -> None:
        """Takes over a distribution that `arrays` gave on another machine, as CMA.continue_from."""
        for name, own in self.arrays().items():
            array = np.asarray(arrays[name])
            if own.ndim and array.shape[-1:] != own.shape[-1:]:
                sizes = array.shape[-1] if array.ndim else 0, own.shape[-1]
                raise UserError("the distribution is of {} parameters, the controller has {}".format(*sizes))
            if array.shape != own.shape or array.dtype != float or not np.isfinite(array).all():
                raise ValueError(f"{name} is {array.dtype}{list(array.shape)}, or not finite")
        for name in self._names:
            setattr(self, f"_{name}", np.array(arrays[name]))

    def state(self) -> Arrays:
        """All of the search, for `set_state`."""
        return self.arrays() | {"random": np.array(json.dumps(self._rng.bit_generator.state))}

    def set_state(self, arrays: Arrays) -> None:
        """Makes this the search that gave `state`: it continues bit for bit.

        Raises:
            UserError, ValueError, KeyError: that was not the state of such a search.
        """
        generator = np.random.default_rng()
        generator.bit_generator.state = json.loads(str(arrays["random"]))
        self.continue_from(arrays)
        self._rng = generator


class OpenES(_Distribution):
    """An evolution strategy with a constant standard deviation, maximising.

    The mean moves along the gradient estimated from the ranks of all candidates, so that bad candidates count as much
    as good ones. The mean of CMA-ES moves toward the better half only, which says little where most candidates do
    about equally well and some fail.

    Source: Salimans et al. 2017, algorithm 1, with mirrored sampling and ranks in place of returns. Unlike
    their code and estool, it has no Adam and no cost of large weights.

    Args:
        mean: float [N], where the search starts.
        popsize: candidates per generation, P, even; candidates k and k + P / 2 are mirror images of each other.
        sigma: standard deviation of every parameter.
        seed: decides all that it draws.
        learning_rate: how far the mean moves in a generation [sigma], along a parameter that decides the ranks alone.
    """

    def __init__(self, mean: ArrayLike, popsize: int, sigma: float, seed: int, learning_rate: float) -> None:
        super().__init__(("mean", "sigma"), seed)
        self._mean, self._half, self._sigma = np.array(mean, float), _half(popsize, "openes"), float(sigma)
        self._learning_rate = learning_rate
        self._noise: Any = None

    def ask(self) -> np.ndarray:
        """A population, float64 [P, N], rounded to the 4 decimals that controllers are saved with."""
        noise = self._rng.standard_normal((self._half, len(self._mean)))
        self._noise = np.concatenate([noise, -noise])
        return np.round(self._mean + self._sigma * self._noise, 4)

    def tell(self, fitness: ArrayLike) -> int:
        """Moves the mean along the gradient; otherwise as CMA.tell."""
        finite, bad = _finite(fitness)
        ranks = _ranks(finite)
        weights = (ranks - ranks.mean()) / (ranks.std() or 1.0)
        self._mean += self._learning_rate * self._sigma * (weights @ self._noise) / len(weights)
        return bad


def _half(popsize: int, name: str) -> int:
    """Half of a population of pairs; UserError if it is odd."""
    if popsize % 2:
        raise UserError(f"--optimizer {name}: its candidates are pairs, and {popsize} is odd")
    return popsize // 2


def _decayed(sigma: Any) -> Any:
    """Standard deviations after a generation: those above SIGMA_LEAST are multiplied by SIGMA_DECAY."""
    return np.where(sigma > SIGMA_LEAST, np.maximum(sigma * SIGMA_DECAY, SIGMA_LEAST), sigma)


class PEPG(_Distribution):
    """Policy gradients with parameter-based exploration, maximising: each parameter has its own standard deviation.

    Candidates are pairs mean +- noise. The mean follows, by Adam, the differences between the ranks of the two; the
    standard deviation of a parameter grows where pairs with much noise in it rank above the others.

    Source: Sehnke et al. 2010, with ranks, Adam, limits and constants as in estool (Ha 2017). There the rate of
    Adam is constant, and a standard deviation may adapt to below the limit.

    Args:
        mean: float [N], where the search starts.
        popsize: candidates per generation, P, even; candidates k and k + P / 2 are mirror images of each other.
        sigma_init: initial standard deviation of every parameter.
        seed: decides all that it draws.
        learning_rate: of Adam [sigma_init / 10]; 1 with the usual sigma_init of 0.1 is the 0.01 of estool.
    """

    name = "pepg"

    def __init__(self, mean: ArrayLike, popsize: int, sigma_init: float, seed: int, learning_rate: float = 1.0) -> None:
        super().__init__(("mean", "sigma", "first", "second", "steps"), seed)
        self._mean, self._half = np.array(mean, float), _half(popsize, self.name)
        self._sigma, self._least = np.full(len(self._mean), float(sigma_init)), min(SIGMA_LEAST, sigma_init)
        self._learning_rate = learning_rate * sigma_init / 10
        self._first, self._second, self._steps = *np.zeros((2, len(self._mean))), 0
        self._noise: Any = None

    def ask(self) -> np.ndarray:
        """A population, float64 [P, N], rounded to the 4 decimals that controllers are saved with."""
        noise = self._sigma * self._rng.standard_normal((self._half, len(self._mean)))
        self._noise = np.concatenate([noise, -noise])
        return np.round(self._mean + self._noise, 4)

    def tell(self, fitness: ArrayLike) -> int:
        """Moves the mean and the standard deviations; otherwise as CMA.tell."""
        finite, bad = _finite(fitness)
        reward = _ranks(finite) / (len(finite) - 1) - 0.5
        if np.ptp(finite):  # else the cost alone would decide, and Adam make whole steps of it
            reward -= _weight_cost(self._mean + self._noise)
        sigma, noise, (plus, minus) = self._sigma, self._noise[: self._half], np.split(reward, 2)
        self._move_mean(reward)
        above = (plus + minus) / 2 - reward.mean()
        change = SIGMA_RATE * (above @ ((noise**2 - sigma**2) / sigma)) / len(reward)
        most = SIGMA_MOST_CHANGE * sigma
        self._sigma = _decayed(np.maximum(sigma + np.clip(change, -most, most), self._least))
        return bad

    def _move_mean(self, reward: np.ndarray) -> None:
        """A step of Adam up the gradient that pairs of candidates show."""
        gradient = (reward[: self._half] - reward[self._half :]) @ self._noise[: self._half]
        rate = self._learning_rate * max(0.9999 ** float(self._steps), 0.1)
        self._steps, (beta1, beta2, epsilon) = self._steps + 1, ADAM
        self._first = beta1 * self._first + (1 - beta1) * gradient
        self._second = beta2 * self._second + (1 - beta2) * gradient**2
        scale = np.sqrt(1 - beta2**self._steps) / (1 - beta1**self._steps)
        self._mean += rate * scale * self._first / (np.sqrt(self._second) + epsilon)


class SES(PEPG):
    """PEPG in which the mean becomes that of the best tenth of the candidates, without Adam: see PEPG."""

    name = "ses"

    def _move_mean(self, reward: np.ndarray) -> None:
        count = _tenth(len(reward))
        last = np.sort(reward)[-count]
        above, level = reward > last, reward == last  # those that equal the last have equal shares of what is left
        self._mean += (above + level * (count - above.sum()) / level.sum()) @ self._noise / count


class GA(_Distribution):
    """A simple genetic algorithm, maximising: the best tenth, the elites, are the parents of all other candidates.

    A child has each parameter from one of two parents, and noise is added. As in estool (Ha 2017), but the elites play
    again in every generation: so none stays because it once met easy episodes.

    Args:
        start: float [N], where the search starts.
        popsize: candidates per generation, P; the elites are the first of them.
        sigma_init: initial standard deviation of the noise.
        seed: decides all that it draws.
    """

    def __init__(self, start: ArrayLike, popsize: int, sigma_init: float, seed: int) -> None:
        super().__init__(("elites", "sigma"), seed)
        self._elites = np.tile(np.array(start, float), (_tenth(popsize), 1))
        self._sigma, self._popsize = float(sigma_init), popsize
        self._asked: Any = None

    def ask(self) -> np.ndarray:
        """A population, float64 [P, N], rounded to the 4 decimals that controllers are saved with."""
        children = self._popsize - len(self._elites)
        one, other = self._elites[self._rng.integers(len(self._elites), size=(2, children))]
        crossed = np.where(self._rng.random(one.shape) < 0.5, one, other)
        noise = self._sigma * self._rng.standard_normal(one.shape)
        self._asked = np.concatenate([self._elites, crossed + noise])
        return np.round(self._asked, 4)

    def tell(self, fitness: ArrayLike) -> int:
        """Chooses the elites; otherwise as CMA.tell."""
        finite, bad = _finite(fitness)
        best = np.argsort(_weight_cost(self._asked) - finite, kind="stable")[: len(self._elites)]
        self._elites, self._sigma = self._asked[best], float(_decayed(self._sigma))
        return bad

    @property
    def mean(self) -> np.ndarray:
        """The mean of the elites, which is that of their children: float64 [N], rounded to 4 decimals."""
        return np.round(self._elites.mean(axis=0), 4)

    @property
    def rms_stdev(self) -> float:
        """Root mean square of the standard deviations of all parameters among the children."""
        return float(np.sqrt(np.mean(self._elites.var(axis=0)) + self._sigma**2))


def _tenth(popsize: int) -> int:
    """How many the best tenth of a population are, at least one."""
    return max(1, popsize // 10)


def _weight_cost(candidates: np.ndarray) -> np.ndarray:
    """What large parameters cost a candidate: [P, N] -> [P]."""
    return WEIGHT_COST * np.mean(candidates**2, axis=1)


STRATEGIES: dict[str, Callable[..., Strategy]] = {"cma": CMA, "openes": OpenES, "pepg": PEPG, "ses": SES, "ga": GA}
"""by the name that --optimizer has for them"""


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
        rate = (cfg.learning_rate,) if cfg.o in ("openes", "pepg") else ()
        return STRATEGIES[cfg.o](start, popsize, cfg.sigma_init, cfg.seed_start, *rate)

    if not cfg.directions:
        return search(mean)
    if len(controller.layers) > 1:
        raise UserError(f"--directions {cfg.directions}: not for a controller with a hidden layer; leave it out")
    if cfg.directions > controller.input_size:
        raise UserError(
            f"--directions {cfg.directions}: the controller reads {controller.input_size} numbers; give that or less"
        )
    coordinates = np.zeros((cfg.directions + controller.bias) * controller.action_size)
    return SubspaceSearch(search(coordinates), find_directions)
