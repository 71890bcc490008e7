"""Evolution strategies behind one interface: ask for a population, tell its fitness, save and restore exactly."""

import json
import operator

import cma
import numpy as np

from common.runtime.cli import UserError

DIRECTION_SEEDS = np.arange(20_000, 20_016)  # of the episodes in which what C reads is noted


class _StandardNormal:
    """What pycma draws from: a generator of its own that is saved with it, not NumPy's global one."""

    def __init__(self, seed):
        self._rng = np.random.default_rng(seed)

    def __call__(self, *shape):
        return self._rng.standard_normal(shape)

    @property
    def state(self):
        """The generator's state, JSON."""
        return json.dumps(self._rng.bit_generator.state)

    @state.setter
    def state(self, text):
        self._rng.bit_generator.state = json.loads(text)


# All that pycma carries from one generation to the next and that what it will ask depends on. Everything else follows
# from its options. A pickle of the whole object would do as well, but reading one runs whatever its writer put there.
STATE = (
    *("mean", "sigma", "pc", "pc2", "countiter", "countevals", "sigma_vec.scaling"),
    *("sm.C", "sm.B", "sm.D", "sm.last_update", "sm.count_tell", "sm.count_eigen"),
    *("adapt_sigma.ps", "adapt_sigma.delta", "adapt_sigma._ps_updated_iteration"),
    "pop_injection_directions",  # of two-point adaptation, pycma's choice where there are many parameters
    "adapt_sigma.s",  # also of two-point adaptation only
)


def _finite(fitness):
    """(fitness [P] with what is not finite put below all others, how many were not)."""
    fitness = np.array(fitness, float)
    bad = ~np.isfinite(fitness)
    if bad.all():
        raise UserError("no candidate of this generation has a finite fitness; the last good checkpoint is kept")
    fitness[bad] = fitness[~bad].min() - 1
    return fitness, int(bad.sum())


class CMA:
    """CMA-ES (pycma), maximising.

    Args:
        mean: float [parameters], where the search starts.
        popsize: int, candidates per generation.
        sigma_init: float, initial standard deviation.
        seed: int.
    """

    def __init__(self, mean, popsize, sigma_init, seed):
        self._normal = _StandardNormal(seed)
        options = {"popsize": popsize, "randn": self._normal, "seed": np.nan, "verbose": -9}
        options["conditioncov_alleviate"] = [1e8, 0]  # never other coordinates, which `STATE` knows nothing of
        options["CMA_mirrors"] = 0  # pycma's way with fewer than 6 candidates, which has a memory of its own as well
        self._es = cma.CMAEvolutionStrategy(np.asarray(mean, float), sigma_init, options)
        self._es.adapt_sigma.initialize_base(self._es)  # its path, which the first tell would make
        self._asked = None

    def ask(self):
        """A population, float64 [popsize, parameters], rounded to the 4 decimals that controllers are saved with."""
        self._asked = self._es.ask()
        return np.round(self._asked, 4)

    def tell(self, fitness):
        """Moves the distribution towards the fitter candidates of the last `ask`.

        Args:
            fitness: [popsize]; one that is not finite counts as worse than all others.

        Returns:
            int, how many were not finite.
        """
        fitness, bad = _finite(fitness)
        self._es.tell(self._asked, list(-fitness))
        return bad

    @property
    def mean(self):
        """The distribution's mean, float64 [parameters], rounded to 4 decimals."""
        return np.round(self._es.mean, 4)

    @property
    def rms_stdev(self):
        """Root mean square of the standard deviations of all parameters."""
        return float(self._es.sigma * np.sqrt(np.mean(self._es.sm.variances)))

    def arrays(self):
        """The distribution for other machines to go on from: mean, sigma, both paths, lower triangle of C."""
        matrix = np.asarray(self._es.sm.covariance_matrix, np.float32)
        paths = {"pc": self._es.pc, "ps": self._es.adapt_sigma.ps}
        triangle = matrix[np.tril_indices(len(matrix))]
        return {"mean": self._es.mean, "sigma": self._es.sigma, **paths, "c": triangle}

    def continue_from(self, arrays):
        """Takes over a distribution that `arrays` gave on another machine: the same search, with new noise.

        Raises:
            UserError: it is of another number of parameters.
            KeyError, ValueError: an array is not there, not of floats, or not finite.
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

    def state(self):
        """All of the search, for `set_state`: {name: array}."""
        here = [name for name in STATE if hasattr(*self._attribute(name))]
        values = {name: np.array(operator.attrgetter(name)(self._es)) for name in here}
        return values | {"random": np.array(self._normal.state)}

    def set_state(self, arrays):
        """Makes this the search that gave `state`: it goes on bit for bit.

        Raises:
            ValueError: that was not the state of a search of this size.
        """
        es, fresh = self._es, self.state()
        if arrays.keys() != fresh.keys():
            raise ValueError(f"it holds {', '.join(arrays)}")
        shapes = {name: {array.shape} for name, array in fresh.items()}
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

    def _attribute(self, name):
        """The object and the attribute that a name of `STATE` means."""
        owner, _, attribute = name.rpartition(".")
        return (operator.attrgetter(owner)(self._es) if owner else self._es), attribute


class OpenES:
    """An evolution strategy with a spread that stays (Salimans et al. 2017), maximising.

    The mean moves along the gradient that all candidates show, by their ranks: those that fail tell as much as those
    that do well. CMA-ES's mean moves towards its better half alone, of which there is little to learn where most
    candidates do about equally well and some fail.

    Args:
        mean: float [parameters], where the search starts.
        popsize: int, even, candidates per generation; k and k + popsize / 2 lie opposite each other.
        sigma: float, standard deviation of every parameter.
        seed: int.
        learning_rate: float, sigmas that the mean moves in a generation along a parameter that decides the ranks
            alone.
    """

    def __init__(self, mean, popsize, sigma, seed, learning_rate):
        if popsize % 2:
            raise UserError(f"--optimizer openes: its candidates are pairs, and {popsize} is odd")
        self._mean, self._half, self._sigma = np.array(mean, float), popsize // 2, float(sigma)
        self._learning_rate, self._rng, self._noise = learning_rate, np.random.default_rng(seed), None

    def ask(self):
        """A population, float64 [popsize, parameters], rounded to the 4 decimals that controllers are saved with."""
        noise = self._rng.standard_normal((self._half, len(self._mean)))
        self._noise = np.concatenate([noise, -noise])
        return np.round(self._mean + self._sigma * self._noise, 4)

    def tell(self, fitness):
        """Moves the mean along the gradient; as CMA's."""
        fitness, bad = _finite(fitness)
        # equal candidates have equal ranks: the mean of their places
        places = np.sort(fitness)
        ranks = (np.searchsorted(places, fitness, "left") + np.searchsorted(places, fitness, "right") - 1) / 2
        weights = (ranks - ranks.mean()) / (ranks.std() or 1.0)
        self._mean += self._learning_rate * self._sigma * (weights @ self._noise) / len(weights)
        return bad

    @property
    def mean(self):
        """The distribution's mean, float64 [parameters], rounded to 4 decimals."""
        return np.round(self._mean, 4)

    @property
    def rms_stdev(self):
        """The standard deviation of every parameter."""
        return self._sigma

    def arrays(self):
        """The distribution for other machines to go on from."""
        return {"mean": self._mean.copy(), "sigma": np.array(self._sigma)}

    def continue_from(self, arrays):
        """Takes over a distribution that `arrays` gave on another machine, as CMA's."""
        mean, sigma = np.asarray(arrays["mean"]), np.asarray(arrays["sigma"])
        if mean.shape != self._mean.shape:
            raise UserError(f"the distribution is of {mean.size} parameters, the controller has {len(self._mean)}")
        if not all(part.dtype == float and np.isfinite(part).all() for part in (mean, sigma)) or sigma.shape:
            raise ValueError(f"mean is {mean.dtype}, sigma {sigma.dtype}{list(sigma.shape)}, or one is not finite")
        self._mean, self._sigma = mean.copy(), float(sigma)

    def state(self):
        """All of the search, for `set_state`: {name: array}."""
        return self.arrays() | {"random": np.array(json.dumps(self._rng.bit_generator.state))}

    def set_state(self, arrays):
        """Makes this the search that gave `state`: it goes on bit for bit; ValueError, KeyError if it is no such."""
        generator = np.random.default_rng()
        generator.bit_generator.state = json.loads(str(arrays["random"]))
        self.continue_from(arrays)
        self._rng = generator


class SubspaceSearch:
    """A strategy that searches in some directions only: what it asks for is origin + directions @ its coordinates.

    Args:
        strategy: the search among the coordinates, such as CMA, which begins at 0.
        find: () -> (origin float [N], directions float [N, coordinates]); called once, unless a search is restored.
    """

    def __init__(self, strategy, find):
        self._strategy, self._find = strategy, find
        self._place = None

    def _at(self, coordinates):
        if self._place is None:
            origin, directions = self._find()
            self._place = np.asarray(origin, float), np.asarray(directions, float)
        origin, directions = self._place
        return np.round(origin + coordinates @ directions.T, 4)

    def ask(self):
        """A population, float64 [popsize, N], rounded to 4 decimals."""
        return self._at(self._strategy.ask())

    def tell(self, fitness):
        """As the strategy's own."""
        return self._strategy.tell(fitness)

    @property
    def mean(self):
        """The distribution's mean, float64 [N], rounded to 4 decimals."""
        return self._at(self._strategy.mean)

    @property
    def rms_stdev(self):
        """Of the coordinates."""
        return self._strategy.rms_stdev

    def arrays(self):
        """The strategy's own, with the origin and the directions."""
        return self._strategy.arrays() | self._directions()

    def state(self):
        """The strategy's own, with the origin and the directions."""
        return self._strategy.state() | self._directions()

    def _directions(self):
        return dict(zip(("origin", "directions"), self._place, strict=True))

    def continue_from(self, arrays):
        """As the strategy's own."""
        self._restore(arrays, self._strategy.continue_from)

    def set_state(self, arrays):
        """As the strategy's own."""
        self._restore(arrays, self._strategy.set_state)

    def _restore(self, arrays, restore):
        """Hands the strategy's part to `restore`, and takes its own; ValueError, KeyError if that is no such thing."""
        rest = dict(arrays)
        origin, directions = place = rest.pop("origin"), rest.pop("directions")
        if directions.shape != (*origin.shape, len(self._strategy.mean)):
            raise ValueError(f"directions is {list(directions.shape)}")
        if not all(part.dtype == float and np.isfinite(part).all() for part in place):
            raise ValueError("origin or directions is not finite")
        restore(rest)
        self._place = place


def strategy(cfg, controller, mean, find_directions):
    """The search that a training's config asks for.

    Args:
        cfg: settings.Train.
        controller: Controller.
        mean: float [N], where it begins.
        find_directions: see SubspaceSearch.

    Raises:
        UserError: C has no such directions.
    """
    popsize = cfg.n * cfg.t

    def search(start):
        if cfg.o == "openes":
            return OpenES(start, popsize, cfg.sigma_init, cfg.seed_start, cfg.learning_rate)
        return CMA(start, popsize, cfg.sigma_init, cfg.seed_start)

    if not cfg.directions:
        return search(mean)
    if cfg.directions > controller.input_size or len(controller.layers) > 1:
        raise UserError(f"--directions {cfg.directions}: C must read as many numbers, by one layer of weights")
    coordinates = np.zeros((cfg.directions + controller.bias) * controller.action_size)
    return SubspaceSearch(search(coordinates), find_directions)
