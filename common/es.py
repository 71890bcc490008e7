"""Evolution strategies behind one interface: ask for a population, tell its fitness, save and restore exactly."""

import hashlib
import os
import pickle

import cma
import numpy as np

from common import files
from common.cli import UserError

STRATEGIES = ("cma",)


class _StandardNormal:
    """What pycma draws from: a generator of its own that is saved with it, not NumPy's global one."""

    def __init__(self, seed):
        self._rng = np.random.default_rng(seed)

    def __call__(self, *shape):
        return self._rng.standard_normal(shape)


class CMA:
    """CMA-ES (pycma), maximising."""

    def __init__(self, parameters, popsize, sigma_init, seed):
        """
        Args:
            parameters: int, length of a candidate; the search starts at zero.
            popsize: int, candidates per generation.
            sigma_init: float, initial standard deviation.
            seed: int.
        """
        options = {"popsize": popsize, "randn": _StandardNormal(seed), "seed": np.nan, "verbose": -9}
        self._es = cma.CMAEvolutionStrategy(np.zeros(parameters), sigma_init, options)
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
        fitness = np.array(fitness, float)
        bad = ~np.isfinite(fitness)
        if bad.all():
            raise UserError("no candidate of this generation has a finite fitness; the last good checkpoint is kept")
        fitness[bad] = fitness[~bad].min() - 1
        self._es.tell(self._asked, list(-fitness))
        return int(bad.sum())

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
        """Takes over a distribution that `arrays` gave on another machine: the same search, with new luck.

        Raises:
            UserError: it is of another number of parameters.
        """
        es, size = self._es, len(self._es.mean)
        if arrays["mean"].shape != (size,) or arrays["c"].shape != (size * (size + 1) // 2,):
            raise UserError(f"the distribution is of {arrays['mean'].size} parameters, the controller has {size}")
        lower = np.zeros((size, size))
        lower[np.tril_indices(size)] = arrays["c"]
        es.mean, es.pc, es.adapt_sigma.ps = (np.array(arrays[name], float) for name in ("mean", "pc", "ps"))
        es.sigma = float(arrays["sigma"])
        es.sm.C = lower + np.tril(lower, -1).T
        es.sm.update_now(-1)  # its eigenvectors, now


def save(path, **state):
    """Writes a checkpoint of Python objects (a CMA among them) whole, its checksum first."""
    payload = pickle.dumps(state)
    with files.atomic(path) as file:
        file.write(hashlib.sha256(payload).digest() + payload)


def restore(path):
    """Reads what `save` wrote on this machine: dict, or None if there is no such file.

    Raises:
        UserError: the file is not what was written.
    """
    if not os.path.exists(path):
        return None
    with open(path, "rb") as file:
        digest, payload = file.read(32), file.read()
    if hashlib.sha256(payload).digest() != digest:
        raise UserError(f"{path}: damaged (wrong checksum); remove it to start this training anew")
    return pickle.loads(payload)
