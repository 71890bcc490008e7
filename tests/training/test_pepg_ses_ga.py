"""common/training/es.py: PEPG, SES and GA, each beside a plain loop, on functions with known optima, and resumed."""

import math

import numpy as np
import pytest
from test_es import ellipsoid, evolve, sphere, through_a_file

from common.runtime.cli import UserError
from common.training import es

SEED = 1000
NAMES = "pepg", "ses", "ga"


def search(name, size=10, popsize=40, sigma=0.2, seed=SEED):
    return es.STRATEGIES[name](np.zeros(size), popsize, sigma, seed)


def plain_rewards(fitness, candidates):
    """Ranks from -0.5 to 0.5 (no two are equal here), less 0.01 times the mean square of the parameters."""
    rewards = []
    for one, parameters in zip(fitness, candidates, strict=True):
        rank = sum(other < one for other in fitness) / (len(fitness) - 1) - 0.5
        rewards.append(rank - 0.01 * sum(w * w for w in parameters) / len(parameters))
    return rewards


def plain_sigma(sigma, noise, rewards):
    """One parameter's standard deviation after a generation; `noise` of the first half of the candidates."""
    half, mean = len(noise), sum(rewards) / len(rewards)
    total = 0.0
    for k in range(half):
        total += ((rewards[k] + rewards[half + k]) / 2 - mean) * (noise[k] ** 2 - sigma**2) / sigma
    change = 0.2 * total / len(rewards)
    change = max(-0.2 * sigma, min(0.2 * sigma, change))
    sigma = max(sigma + change, 0.01)
    return max(sigma * 0.999, 0.01)


@pytest.mark.parametrize("name", ["cma", "openes", "pepg", "ses"])
@pytest.mark.parametrize("popsize", [20, 30])
def test_the_mean_stays_while_all_are_equally_fit(name, popsize):
    """Catches a drift: ties ranked by index, and the best tenth of equals."""
    more = [1.0] if name == "openes" else []
    strategy = es.STRATEGIES[name](np.full(8, 0.3), popsize, 0.2, 1000, *more)
    for _ in range(30):
        strategy.ask()
        strategy.tell(np.full(popsize, 7.0))
    np.testing.assert_allclose(strategy.mean, 0.3, atol=1e-9)
    strategy.tell(strategy.ask()[:, 0])
    assert strategy.mean[0] > 0.3


def test_those_that_equal_the_last_of_the_best_tenth_share_its_place():
    """Catches the first of two equals in the mean of SES."""
    strategy = search("ses", size=4, popsize=20)
    strategy._noise = np.tile(np.eye(10, 4), (2, 1))
    reward = np.zeros(20)
    reward[0], reward[[1, 2]] = 2, 1
    strategy._move_mean(reward)
    np.testing.assert_allclose(strategy._mean, [0.5, 0.25, 0.25, 0])


@pytest.mark.parametrize("name", ["pepg", "ses"])
def test_a_generation_is_that_of_a_plain_loop(name):
    """Catches ranks upside down, a sign, Adam's bias left out, and a sigma that is squared."""
    strategy = search(name, size=3, popsize=20)
    mean, sigma, first, second = [0.0] * 3, [0.2] * 3, [0.0] * 3, [0.0] * 3
    for generation in range(1, 4):
        candidates = strategy.ask()
        noise = strategy._noise
        np.testing.assert_allclose(candidates, mean + noise, atol=0.6e-4)
        np.testing.assert_array_equal(noise[:10], -noise[10:])
        # the first parameter decides, very little of it is wanted in the second, and the third has no say
        fitness = candidates[:, 0] - 30 * candidates[:, 1] ** 2
        rewards = plain_rewards(fitness, mean + noise)
        strategy.tell(fitness)
        best = sorted(range(20), key=lambda k: -rewards[k])[:2]
        for p in range(3):
            if name == "ses":
                mean[p] += (noise[best[0]][p] + noise[best[1]][p]) / 2
            else:
                gradient = sum((rewards[k] - rewards[10 + k]) * noise[k][p] for k in range(10))
                first[p] = 0.99 * first[p] + 0.01 * gradient
                second[p] = 0.999 * second[p] + 0.001 * gradient**2
                rate = 0.02 * 0.9999 ** (generation - 1) * math.sqrt(1 - 0.999**generation) / (1 - 0.99**generation)
                mean[p] += rate * first[p] / (math.sqrt(second[p]) + 1e-8)
            sigma[p] = plain_sigma(sigma[p], [row[p] for row in noise[:10]], rewards)
        np.testing.assert_allclose(strategy._mean, mean, rtol=1e-12)
        np.testing.assert_allclose(strategy._sigma, sigma, rtol=1e-12)


def test_a_generation_of_the_genetic_algorithm_is_that_of_a_plain_loop():
    """Catches the worst kept, children of one parent, parameters mixed by position, and elites that rest."""
    strategy = search("ga", size=50, popsize=30)
    first = strategy.ask()
    np.testing.assert_array_equal(first[:3], 0)
    assert first[3:].std() == pytest.approx(0.2, rel=4 / np.sqrt(2 * first[3:].size))
    fitness = first[:, 0]
    strategy.tell(fitness)
    elites = sorted(range(30), key=lambda k: -fitness[k])[:3]
    np.testing.assert_allclose(strategy._elites, first[elites], atol=0.6e-4)
    strategy._sigma = 1e-9
    again, three = strategy.ask(), strategy._elites
    np.testing.assert_array_equal(again[:3], np.round(three, 4))
    parents = np.abs(again[3:, None] - three).argmin(axis=1)  # of each parameter of each child
    np.testing.assert_allclose(np.take_along_axis(three, parents, axis=0), again[3:], atol=1e-4)
    for child in parents:
        counts = np.bincount(child, minlength=3)
        assert (counts > 0).sum() <= 2
        if (counts > 0).sum() == 2:
            assert abs(counts[counts > 0][0] - 25) < 5 * np.sqrt(50) / 2
    assert any(len(set(child)) == 2 for child in parents)
    assert len({tuple(sorted(set(child))) for child in parents}) > 3
    np.testing.assert_allclose(strategy.mean, three.mean(axis=0), atol=0.6e-4)


def test_of_equally_fit_candidates_small_ones_become_elites(rng):
    """Catches large weights that cost nothing, or are worth something."""
    strategy, population = search("ga", popsize=30), rng.standard_normal((30, 10))
    strategy._asked = population
    strategy.tell(np.full(30, 7.0))
    sizes = np.square(population).mean(axis=1)
    np.testing.assert_array_equal(strategy._elites, population[sizes.argsort()[:3]])


def test_the_spread_of_the_genetic_algorithm_is_that_of_its_children():
    """Catches noise alone taken for the spread, where parents differ by more than that."""
    strategy = search("ga", size=200, popsize=400)
    strategy._elites = np.repeat([[-3.0], [3.0]], 200, axis=1)
    assert strategy.rms_stdev == pytest.approx(strategy.ask()[2:].std(), rel=0.01)
    assert strategy.rms_stdev > 3


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("function", [sphere, ellipsoid])
def test_they_find_known_optima(name, function):
    """Catches fitness minimised, noise that belongs to another candidate, and a spread that grows without end."""
    strategy = search(name)
    start = function([strategy.mean])[0]
    evolve(strategy, 400, function)
    assert function([strategy.mean])[0] > (0.01 if function is sphere else 0.03) * start
    assert 0.009 < strategy.rms_stdev < 0.5


def test_pepg_learns_which_parameters_matter():
    """Catches one standard deviation for all, and one that grows where it should fall."""
    strategy = search("pepg", popsize=100)
    evolve(strategy, 150, lambda population: -(population[:, 0] ** 2))
    assert strategy._sigma[0] < 0.5 * strategy._sigma[1:].min()


def test_a_standard_deviation_changes_by_a_fifth_at_most():
    """Catches a spread that one strange pair of candidates makes many times as wide."""
    strategy = search("pepg", size=2, popsize=4)
    strategy.ask()
    strategy._noise = np.array([[2.0, 0.0], [0.1, 0.0], [-2.0, 0.0], [-0.1, 0.0]])
    strategy.tell([3.0, 1.0, 3.0, 0.0])
    np.testing.assert_allclose(strategy._sigma, [0.2 * 1.2 * 0.999, 0.2 * 0.999], rtol=1e-3)


@pytest.mark.parametrize("name", NAMES)
def test_standard_deviations_stay_above_their_least(name):
    """Catches a search that freezes, and one that is begun below the limit and is widened to it."""
    for begun, least in ((0.02, 0.01), (0.004, 0.004)):
        strategy = evolve(search(name, sigma=begun), 1500)
        assert np.min(strategy._sigma) >= least
        assert np.min(strategy._sigma) == pytest.approx(least, rel=0.3)


def test_the_learning_rate_of_pepg_is_a_tenth_of_sigma_and_falls_to_a_tenth():
    """Catches steps that do not follow the scale of the search, and a rate that falls for ever."""
    small, large = search("pepg", sigma=0.1), search("pepg", sigma=0.3)
    fast = es.PEPG(np.zeros(10), 40, 0.1, SEED, learning_rate=2.0)
    for strategy in (small, large, fast):
        evolve(strategy, 1, lambda population: population[:, 0])
    np.testing.assert_allclose(small._mean[0], 0.01, rtol=1e-4)  # the first step of Adam is its rate
    np.testing.assert_allclose(large._mean[0], 0.03, rtol=1e-4)
    np.testing.assert_allclose(fast._mean[0], 0.02, rtol=1e-4)
    late = search("pepg", sigma=0.1)
    late._steps = 10**6
    late._first, late._second = np.ones(10), np.ones(10)
    before = late._mean.copy()
    late.ask()
    late.tell(np.zeros(40))  # no gradient: what moves the mean is what Adam remembers
    np.testing.assert_allclose(late._mean - before, 0.001 * 0.99 / np.sqrt(0.999), rtol=1e-3)


@pytest.mark.parametrize("name", NAMES)
def test_restored_goes_on_bit_for_bit_and_on_another_machine(tmp_path, name):
    """Catches a generator, a moment of Adam or elites that are not restored, and another search's state taken over."""
    whole, first = evolve(search(name), 20, ellipsoid), evolve(search(name), 8, ellipsoid)
    resumed = search(name, seed=SEED + 1)
    resumed.set_state(through_a_file(str(tmp_path / "state.npz"), first.state()))
    evolve(resumed, 12, ellipsoid)
    for key, array in whole.state().items():
        np.testing.assert_array_equal(resumed.state()[key], array, err_msg=key)
    np.testing.assert_array_equal(resumed.ask(), whole.ask())
    elsewhere = search(name, seed=SEED + 1)
    elsewhere.continue_from(through_a_file(str(tmp_path / "arrays.npz"), first.arrays()))
    np.testing.assert_array_equal(elsewhere.mean, first.mean)
    assert elsewhere.rms_stdev == first.rms_stdev
    assert (elsewhere.ask() != first.ask()).any()
    before = elsewhere.state()
    for key in first.arrays():
        with pytest.raises(ValueError, match=f"{key} is"):
            elsewhere.continue_from(first.arrays() | {key: np.array(first.arrays()[key] * np.nan)})
    with pytest.raises(UserError, match="9 parameters, the controller has 10"):
        elsewhere.continue_from(search(name, size=9).arrays())
    with pytest.raises((ValueError, KeyError)):
        elsewhere.set_state(evolve(search(name), 9).state() | {"random": np.array("{}")})
    for key, array in before.items():
        np.testing.assert_array_equal(elsewhere.state()[key], array, err_msg=key)


@pytest.mark.parametrize("name", NAMES)
def test_fitness_that_is_not_finite_ranks_worst_and_is_counted(name):
    """Catches a candidate that becomes an elite by a broken dream, or that spoils the distribution with NaN."""
    broken, low = search(name), search(name)
    told = sphere(broken.ask())
    low.ask()
    best = int(told.argmax())
    assert broken.tell(np.where(np.arange(40) == best, np.nan, told)) == 1
    low.tell(np.where(np.arange(40) == best, told.min() - 9, told))
    np.testing.assert_array_equal(broken.mean, low.mean)
    broken.ask()
    with pytest.raises(UserError, match="no candidate"):
        broken.tell(np.full(40, np.nan))


@pytest.mark.parametrize("name", ["pepg", "ses"])
def test_an_odd_population_is_refused(name):
    """Catches a candidate without its mirror image."""
    with pytest.raises(UserError, match=f"{name}: its candidates are pairs, and 41 is odd"):
        search(name, popsize=41)
