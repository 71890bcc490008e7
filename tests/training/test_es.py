"""common/training/es.py: searches that find, that survive bad fitness, and that go on exactly where they stopped."""

import types

import numpy as np
import pytest

from common.agent import controller
from common.runtime import files, settings
from common.runtime.cli import UserError
from common.training import es

SEED = 1000
TARGET = np.linspace(-1, 1, 10)


def sphere(population):
    """0 at the target, less elsewhere."""
    return -((np.asarray(population) - TARGET) ** 2).sum(axis=1)


def ellipsoid(population):
    """As the sphere, a thousand times steeper in the last direction than in the first: C must learn its shape."""
    return -(((np.asarray(population) - TARGET) * np.geomspace(1, 1000**0.5, 10)) ** 2).sum(axis=1)


def evolve(strategy, generations, fitness=sphere):
    for _ in range(generations):
        strategy.tell(fitness(strategy.ask()))
    return strategy


def told_order(strategy, fitness):
    """The candidates in the order in which pycma ranks them, best first, and what tell returned."""
    seen, original = [], strategy._es.tell
    strategy._es.tell = lambda candidates, costs: (seen.extend(costs), original(candidates, costs))
    strategy.ask()
    count = strategy.tell(fitness)
    return np.argsort(seen, kind="stable").tolist(), count


def test_cma_solves_a_sphere():
    """Catches fitness minimised instead of maximised, sigma_init or popsize not handed on, candidates mixed up."""
    strategy = es.CMA(np.zeros(10), 16, 0.5, SEED)
    start = sphere([strategy.mean])[0]
    assert strategy.rms_stdev == pytest.approx(0.5, rel=1e-4)  # pycma's initial C is 1 to 5 digits
    population = strategy.ask()
    assert population.shape == (16, 10)
    assert population.std() == pytest.approx(0.5, rel=4 / np.sqrt(2 * population.size))
    strategy.tell(sphere(population))
    evolve(strategy, 99)
    assert sphere([strategy.mean])[0] > -1e-6 > start
    assert strategy.rms_stdev < 1e-3


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_fitness_that_is_not_finite_ranks_worst_and_is_counted(bad):
    """Catches a candidate whose broken dream makes it the best, or that spoils the distribution with NaN."""
    strategy = es.CMA(np.zeros(10), 6, 0.1, SEED)
    order, count = told_order(strategy, [-3.0, bad, -1.0, bad, -5000.0, -2.0])
    assert count == 2
    assert order == [2, 5, 0, 4, 1, 3]
    assert evolve(strategy, 1).mean.shape == (10,)
    assert np.isfinite(strategy.mean).all()


def test_finite_fitness_counts_none():
    """Catches zeros or large values taken for broken ones."""
    order, count = told_order(es.CMA(np.zeros(10), 4, 0.1, SEED), [0.0, 1e30, -1e30, 5.0])
    assert (order, count) == ([1, 3, 0, 2], 0)


def test_tell_leaves_the_callers_fitness_alone():
    """Catches log files that show a made-up fitness in place of NaN."""
    fitness = np.array([1.0, np.nan, 2.0, 3.0])
    strategy = es.CMA(np.zeros(10), 4, 0.1, SEED)
    strategy.ask()
    strategy.tell(fitness)
    np.testing.assert_array_equal(fitness, [1.0, np.nan, 2.0, 3.0])


def test_no_finite_fitness_is_an_error():
    """Catches an evolution that goes on by chance after all dreams have broken."""
    strategy = es.CMA(np.zeros(10), 4, 0.1, SEED)
    strategy.ask()
    with pytest.raises(UserError, match="no candidate"):
        strategy.tell([np.nan, np.inf, -np.inf, np.nan])


def test_what_is_played_is_rounded_and_what_is_learned_from_is_not():
    """Catches files that hold another controller than the one that was played, and a search that stalls at 4 digits."""
    strategy = es.CMA(np.zeros(10), 16, 0.1, SEED)
    told, original = [], strategy._es.tell
    strategy._es.tell = lambda candidates, costs: (told.append(np.array(candidates)), original(candidates, costs))
    population = strategy.ask()
    np.testing.assert_array_equal(population, np.round(population, 4))
    strategy.tell(sphere(population))
    assert (told[0] != population).all()
    np.testing.assert_allclose(told[0], population, rtol=0, atol=0.5001e-4)
    np.testing.assert_array_equal(strategy.mean, np.round(strategy._es.mean, 4))
    assert (strategy.mean != strategy._es.mean).any()
    # steps of a hundredth of the last digit: rounded candidates are all alike, unrounded ones carry the search on
    fine = es.CMA(np.zeros(10), 16, 1e-6, SEED)
    fine.ask()
    fine.tell(np.arange(16.0))
    assert (fine._es.mean != 0).all()


def through_a_file(path, state):
    """A search's state as it comes back from a checkpoint."""
    files.write_npz(path, compresslevel=0, **state)
    return files.read_npz(path)


@pytest.mark.parametrize(
    ("size", "popsize", "generations"), [(10, 8, 18), (10, 40, 7), (300, 16, 25), (75, 4, 2), (10, 8, 0)]
)
def test_restored_goes_on_bit_for_bit(tmp_path, size, popsize, generations):
    """Catches a state without the random numbers, the paths, the age of C's eigenvectors, or TPA's directions."""
    whole = evolve(es.CMA(np.zeros(size), popsize, 0.5, SEED), generations, ramp)
    resumed = es.CMA(np.zeros(size), popsize, 0.5, SEED)
    resumed.set_state(through_a_file(tmp_path / "state.npz", whole.state()))
    for strategy in (whole, resumed):
        evolve(strategy, 19, ramp)
    for name, array in whole.state().items():
        np.testing.assert_array_equal(resumed.state()[name], array, err_msg=name)
    np.testing.assert_array_equal(resumed.ask(), whole.ask())


def ramp(population):
    """A fitness for any number of parameters."""
    return -((population - np.linspace(-1, 1, population.shape[1])) ** 2).sum(axis=1)


@pytest.mark.parametrize("size", [5, 300])
@pytest.mark.parametrize("before", [0, 1, 2, 5])
def test_a_generation_of_equals_leaves_the_search_where_it_is(tmp_path, size, before):
    """Catches a search that ends, or moves, where all candidates last as long as a dream does; 300 weights are many.

    Where there are many, pycma puts the last step of the mean into each population and expects it there.
    """
    strategy, rng = es.CMA(np.zeros(size), 8, 0.3, 1), np.random.default_rng(1000)
    for _ in range(before):
        strategy.tell(-np.sum((strategy.ask() - 1) ** 2, axis=1))
    mean, stdev = strategy.mean, strategy.rms_stdev
    steps = [step.copy() for step in strategy._es.pop_injection_directions]
    assert len(steps) == (2 if size == 300 and before else 0)
    for _ in range(3):
        strategy.ask()
        assert strategy.tell(np.full(8, 500.0)) == 0
    np.testing.assert_array_equal(strategy.mean, mean)
    assert strategy.rms_stdev == stdev
    np.testing.assert_array_equal(strategy._es.pop_injection_directions, steps)
    resumed = es.CMA(np.zeros(size), 8, 0.3, 1)
    resumed.set_state(through_a_file(tmp_path / "state.npz", strategy.state()))
    for _ in range(3):
        fitness = rng.standard_normal(8)
        np.testing.assert_array_equal(resumed.ask(), strategy.ask())
        assert strategy.tell(fitness) == resumed.tell(fitness) == 0
    assert (strategy.mean != mean).any()


def test_saving_does_not_disturb_the_search():
    """Catches a save that draws numbers or changes C, so that a result depends on how often it is saved."""
    saved, alone = es.CMA(np.zeros(10), 8, 0.5, SEED), evolve(es.CMA(np.zeros(10), 8, 0.5, SEED), 20)
    for _ in range(20):
        evolve(saved, 1)
        saved.arrays()
        before = saved.state()
        saved.ask()
        saved.set_state(before)
    np.testing.assert_array_equal(saved.ask(), alone.ask())


@pytest.mark.parametrize(
    "change",
    [
        {"mean": np.zeros(9)},
        {"mean": np.full(10, np.nan)},
        {"sm.C": np.zeros((10, 10), object).astype(str)},
        {"sigma": np.array(np.inf)},
        {"pop_injection_directions": np.zeros((2, 9))},
        {"random": np.array("{")},
        {"random": np.array('{"bit_generator": "MT19937"}')},
    ],
)
def test_a_state_of_another_search_is_refused_and_changes_nothing(change):
    """Catches a checkpoint of another game, or a tampered one, that is taken in part."""
    strategy = evolve(es.CMA(np.zeros(10), 8, 0.5, SEED), 5)
    before, other = strategy.state(), evolve(es.CMA(np.zeros(10), 8, 0.5, SEED), 6).state()
    with pytest.raises(ValueError):  # noqa: PT011  whose words are those of three libraries
        strategy.set_state(other | change)
    with pytest.raises(ValueError, match="it holds"):
        strategy.set_state({name: array for name, array in other.items() if name != "sm.B"})
    for name, array in strategy.state().items():
        np.testing.assert_array_equal(array, before[name], err_msg=name)


def test_numpys_global_random_state_plays_no_part():
    """Catches a search that depends on what else draws numbers in the process, or that seeds everything else anew."""
    np.random.seed(1)
    quiet = evolve(es.CMA(np.zeros(10), 8, 0.5, SEED), 30)
    np.random.seed(2)
    before = np.random.get_state()[1].copy()
    noisy = es.CMA(np.zeros(10), 8, 0.5, SEED)
    evolve(noisy, 15)
    np.testing.assert_array_equal(np.random.get_state()[1], before)
    assert np.random.get_state()[2] == 624  # and not a number was drawn from it
    np.random.standard_normal(7)
    evolve(noisy, 15)
    np.testing.assert_array_equal(noisy.ask(), quiet.ask())


def test_a_search_begins_where_it_is_told():
    """Catches a search that begins at zero whatever it is given to start from."""
    mean = np.arange(10) / 4
    strategy = es.CMA(mean, 400, 0.1, SEED)
    np.testing.assert_array_equal(strategy.mean, mean)
    np.testing.assert_allclose(strategy.ask().mean(axis=0), mean, rtol=0, atol=5 * 0.1 / np.sqrt(400))


def test_seeds_differ():
    """Catches a seed that is not handed on."""
    first, second = (es.CMA(np.zeros(10), 8, 0.5, seed).ask() for seed in (SEED, SEED + 1))
    assert (first != second).mean() > 0.95


def test_another_machine_takes_the_distribution_over():
    """Catches a mean, sigma, path or half of C that is lost on the way, and eigenvectors of the C before."""
    there = evolve(es.CMA(np.zeros(10), 8, 0.5, SEED), 120, ellipsoid)
    arrays = {name: np.array(array) for name, array in there.arrays().items()}  # as they come from an .npz
    here = es.CMA(np.zeros(10), 8, 0.3, SEED + 1)
    here.ask()  # which has made the eigenvectors of its first C
    here.continue_from(arrays)
    for name in ("mean", "sigma", "pc", "ps"):
        np.testing.assert_array_equal(here.arrays()[name], arrays[name])
    matrix = there._es.sm.covariance_matrix
    np.testing.assert_allclose(here._es.sm.C, matrix, rtol=1e-6, atol=1e-6 * np.abs(matrix).max())
    np.testing.assert_array_equal(here._es.sm.C, here._es.sm.C.T)
    np.testing.assert_array_equal(here.mean, there.mean)
    # what it asks is drawn from that distribution: whitened by C, 1 in all directions
    draws = np.array([here._es.ask() for _ in range(400)]).reshape(-1, 10)
    white = np.linalg.solve(np.linalg.cholesky(matrix), (draws - there._es.mean).T / there._es.sigma)
    tolerance = 5 / np.sqrt(white.shape[1])
    np.testing.assert_allclose(np.cov(white), np.eye(10), rtol=0, atol=2**0.5 * tolerance)
    np.testing.assert_allclose(white.mean(axis=1), 0, rtol=0, atol=tolerance)


def test_what_was_taken_over_keeps_converging():
    """Catches a distribution that is taken over in name but whose shape must be learned anew."""
    there = evolve(es.CMA(np.zeros(10), 8, 0.5, SEED), 120, ellipsoid)
    here = es.CMA(np.zeros(10), 8, there.rms_stdev, SEED + 1)
    here.continue_from(there.arrays())
    novice = es.CMA(np.zeros(10), 8, there.rms_stdev, SEED + 1)
    novice._es.mean = there._es.mean.copy()
    before = ellipsoid([there._es.mean])[0]
    taken, anew = (ellipsoid([evolve(strategy, 60, ellipsoid)._es.mean])[0] for strategy in (here, novice))
    assert taken > before / 100
    assert taken > anew / 10


def test_a_distribution_of_another_size_is_refused():
    """Catches a controller of one mode that goes on from another's distribution, and a triangle that does not fit."""
    strategy = es.CMA(np.zeros(10), 8, 0.5, SEED)
    before = strategy.arrays()
    with pytest.raises(UserError, match="of 9 parameters, the controller has 10"):
        strategy.continue_from(es.CMA(np.zeros(9), 8, 0.5, SEED).arrays())
    for name in ("c", "pc", "ps"):
        with pytest.raises(UserError, match="parameters"):
            strategy.continue_from(before | {name: before[name][:-1]})
    for name in before:
        with pytest.raises(ValueError, match=f"^{name} is"):
            strategy.continue_from(before | {name: before[name] * np.nan})
        with pytest.raises(ValueError, match=f"^{name} is"):
            strategy.continue_from(before | {name: np.zeros_like(before[name], int)})
    for name, array in strategy.arrays().items():
        np.testing.assert_array_equal(array, before[name])


def open_es(size=10, popsize=64, sigma=0.05, seed=SEED, learning_rate=1.0):
    return es.OpenES(np.zeros(size), popsize, sigma, seed, learning_rate)


def test_openes_climbs_and_stays():
    """Catches fitness minimised, noise that does not belong to its candidate, and a spread that changes."""
    strategy = open_es()
    population = strategy.ask()
    np.testing.assert_allclose(population[:32], -population[32:], atol=1e-9)
    assert population.std() == pytest.approx(0.05, rel=0.1)
    strategy.tell(sphere(population))
    evolve(strategy, 199)
    assert sphere([strategy.mean])[0] > -0.05
    assert strategy.rms_stdev == 0.05


def test_openes_learns_from_those_that_fail():
    """Catches a mean that follows the better half alone: here all do equally well but for a tenth that fails."""

    def cliff(population):
        return np.where(population[:, 0] < strategy.mean[0] - 1.3 * strategy.rms_stdev, -1000.0, 0.0)

    strategy = open_es(popsize=256)
    evolve(strategy, 20, cliff)
    others = np.abs(strategy.mean[1:]).max()
    assert strategy.mean[0] > 3 * 0.05
    assert strategy.mean[0] > 2 * others


def test_openes_moves_by_its_learning_rate_whatever_the_scale_of_fitness():
    """Catches steps that grow with the fitness, and ranks of what is not finite above others."""
    slow, fast, loud = open_es(), open_es(learning_rate=2.0), open_es()
    for strategy, scale in ((slow, 1), (fast, 1), (loud, 1e6)):
        evolve(strategy, 1, lambda population, scale=scale: scale * population[:, 0])
    np.testing.assert_allclose(2 * slow._mean, fast._mean)
    np.testing.assert_array_equal(slow._mean, loud._mean)
    broken, low = open_es(), open_es()
    told = sphere(broken.ask())
    low.ask()
    assert broken.tell(np.where(np.arange(64) == 5, np.nan, told)) == 1
    low.tell(np.where(np.arange(64) == 5, told.min() - 9, told))
    np.testing.assert_array_equal(broken._mean, low._mean)


def test_openes_goes_on_bit_for_bit_and_on_another_machine(tmp_path):
    """Catches a generator or a mean that is not restored, and another search's state taken over."""
    whole = evolve(open_es(), 20)
    first = evolve(open_es(), 8)
    resumed = open_es(seed=SEED + 1)
    resumed.set_state(through_a_file(str(tmp_path / "state.npz"), first.state()))
    np.testing.assert_array_equal(evolve(resumed, 12)._mean, whole._mean)
    elsewhere = open_es(seed=SEED + 1)
    elsewhere.continue_from(through_a_file(str(tmp_path / "arrays.npz"), first.arrays()))
    np.testing.assert_array_equal(elsewhere._mean, evolve(open_es(), 8)._mean)
    assert sphere([evolve(elsewhere, 200).mean])[0] > -0.05
    with pytest.raises(UserError, match="9 parameters, the controller has 10"):
        open_es().continue_from(open_es(size=9).arrays())
    for name, value in (("mean", np.full(10, np.nan)), ("sigma", np.zeros(3)), ("random", np.array("{}"))):
        with pytest.raises((ValueError, KeyError)):
            open_es().set_state(first.state() | {name: value})
    with pytest.raises(UserError, match="63 is odd"):
        open_es(popsize=63)


def within(directions, origin, found=None):
    """A search of that many coordinates along these directions; it notes in `found` that it looked for them."""

    def find():
        if found is not None:
            found.append(1)
        return origin, directions

    return es.SubspaceSearch(es.CMA(np.zeros(directions.shape[1]), 12, 0.5, SEED), find)


def test_a_search_along_directions_stays_there_and_finds_the_best_of_them(rng):
    """Catches coordinates taken for parameters, an origin left out, and directions looked for at every step."""
    directions, origin, found = rng.standard_normal((10, 3)), rng.standard_normal(10), []
    strategy = within(directions, origin, found)
    population = strategy.ask()
    assert population.shape == (12, 10)
    along = np.linalg.lstsq(directions, (population - origin).T, rcond=None)[0]
    np.testing.assert_allclose(origin + along.T @ directions.T, population, atol=1e-4)
    strategy.tell(sphere(population))
    evolve(strategy, 99)
    best = origin + directions @ np.linalg.lstsq(directions, TARGET - origin, rcond=None)[0]
    assert sphere([origin])[0] < sphere([best])[0] - 1
    # 4 decimals are sqrt(10) * 5e-5 off at most, where the slope, across the directions, is 2 * sqrt(9.8)
    assert sphere([strategy.mean])[0] == pytest.approx(sphere([best])[0], abs=1e-3)
    assert found == [1]


@pytest.mark.parametrize("way", ["checkpoint", "distribution"])
def test_a_search_along_directions_is_restored(tmp_path, rng, way):
    """Catches a checkpoint, or what another machine goes on from, that forgets where the coordinates lead."""
    directions, origin, found = rng.standard_normal((10, 3)), rng.standard_normal(10), []
    whole = evolve(within(directions, origin), 5)
    resumed = within(np.zeros((10, 3)), np.zeros(10), found)
    if way == "checkpoint":
        resumed.set_state(through_a_file(tmp_path / "state.npz", whole.state()))
        np.testing.assert_array_equal(resumed.ask(), whole.ask())
    else:
        resumed.continue_from(through_a_file(tmp_path / "state.npz", whole.arrays()))
    np.testing.assert_array_equal(resumed.mean, whole.mean)
    assert found == []
    for change in ({"directions": np.zeros((10, 4))}, {"origin": np.full(10, np.nan)}):
        with pytest.raises(ValueError, match="directions"):
            resumed.set_state(whole.state() | change)
    np.testing.assert_array_equal(resumed.mean, whole.mean)


@pytest.mark.parametrize(("hidden", "directions", "says"), [((), 6, "reads 5 numbers"), ((4,), 2, "hidden layer")])
def test_directions_that_there_are_not_are_refused(hidden, directions, says):
    """Catches more components than numbers, and components of one layer for a controller of two."""
    shape = types.SimpleNamespace(input_size=5, layers=[(5, 4)] * (1 + len(hidden)), bias=True, action_size=3)
    cfg = settings.Train(n=1, t=8, directions=directions)
    with pytest.raises(UserError, match=f"--directions {directions}: .*{says}"):
        es.strategy(cfg, shape, np.zeros(3), lambda: None)


def asked_for(shape=None, along=None, **options):
    """The search that train.py has with these options."""
    cfg = settings.Train(**{"n": 2, "t": 8, "seed_start": SEED} | options)
    return es.strategy(cfg, shape, np.zeros(10), lambda: (np.ones(10), along))


@pytest.mark.parametrize("o", es.STRATEGIES)
def test_all_ranks_together_have_one_population(o):
    """Catches a population of one rank's candidates."""
    assert asked_for(o=o).ask().shape == (16, 10)


@pytest.mark.parametrize("o", ["openes", "pepg"])
def test_the_learning_rate_is_that_of_the_option(o):
    """Catches --learning_rate without effect in one of the strategies that have it."""
    one, other = (evolve(asked_for(o=o, learning_rate=rate), 1) for rate in (0.5, 1.5))
    assert np.abs(one._mean).max() > 1e-3
    np.testing.assert_allclose(other._mean, 3 * one._mean)


def test_as_many_directions_are_searched_as_are_asked_for(rng):
    """Catches coordinates for the weights of one number of the action only, or none for its bias; the most refused."""
    shape = controller.Controller("z", 4, 2, 2, bias=True)
    for directions in (3, 4):  # it reads four numbers
        strategy = asked_for(shape, rng.standard_normal((10, 2 * (directions + 1))), directions=directions)
        np.testing.assert_allclose(strategy.mean, 1)
        assert strategy.ask().shape == (16, 10)
