"""common/training/ppo.py: it learns, its advantages are those of the formula, and a resumed run is the same run."""

import dataclasses
import itertools
import types

import numpy as np
import pytest
import tensorflow as tf

from common.agent import controller, mdnrnn, network
from common.runtime import settings
from common.runtime.cli import UserError
from common.training import ppo
from common.worlds import candidates, game_rows, tensor_dreams

SHAPE = mdnrnn.Shape(3, 1, 4, restart=True)
FEATURES = SHAPE.z_size + 2 * SHAPE.hidden_size
LOGIT, LOGMIX = 0, 1  # the first columns of the MDN-RNN's output
SIDES = network.Choice([[-1.0], [0.0], [1.0]])
SMALL = network.Policy(2, (4,), SIDES)
QUICK = settings.Ppo(steps=16, epochs=2, minibatch=256, value_updates=2, value_hidden="16", seed_start=1000)
POOL = tensor_dreams.first_frames((np.zeros((5, 3)), np.zeros((5, 3))), SHAPE.hidden_size)


@pytest.fixture(autouse=True)
def exact(monkeypatch):
    """Products in float32, so that what is expected holds on every processor."""
    monkeypatch.setenv("WORLDMODELS_DTYPE", "float32")


def deadly_to_the_right():
    """An MDN-RNN that dreams only its noise, and ends a dream when the action is positive."""
    rnn = mdnrnn.MDNRNN(SHAPE, "float32")
    kernel, bias, output_w, output_b = (np.zeros(variable.shape, np.float32) for variable in rnn.variables)
    kernel[SHAPE.z_size, 4:8] = 10  # the action decides the candidate j
    bias[0:4] = bias[12:16] = 20  # gates i and o are open
    bias[8:12] = -20  # f is shut: nothing is remembered
    output_w[:, LOGIT] = 1
    output_b[LOGIT] = -1
    output_b[LOGMIX::15] = 50  # only the first component of each dimension is ever chosen
    rnn.set_weights([kernel, bias, output_w, output_b])
    return rnn


def tiny_dreams(rows=32, models=1, dropout=0.0, max_steps=50):
    """Dreams that end when the action is positive."""
    return tensor_dreams.Dreams([deadly_to_the_right()] * models, [POOL] * models, 1.0, max_steps, rows, dropout)


class Bandit:
    """Each row shows a number; the reward is 1 for the side that the number is on, or -(action - number)^2."""

    rows = 64

    def __init__(self, continuous=False):
        self._continuous = continuous

    def start(self, seed):
        return (tf.random.stateless_uniform([self.rows, 1], seed, -1.0, 1.0),)

    def features(self, state):
        return tf.concat([state[0], tf.ones([self.rows, 1])], axis=1)

    def step(self, state, action, seed):
        (shown,) = state
        right = -tf.square(action - shown) if self._continuous else tf.cast(action * tf.sign(shown) > 0, tf.float32)
        return self.start(seed), right[:, 0], tf.ones([self.rows], tf.bool)


def learned(world, policy, settings, updates, **options):
    """PPO after so many updates, and the last update's metrics."""
    learner = ppo.PPO(world, policy, settings, **options)
    for _ in range(updates):
        metrics = learner.update(1e-2)
    return learner, metrics


def test_the_best_arm_of_a_bandit_is_found():
    """Catches a sign wrong in the objective, rows shuffled against their advantages, and logits of another action."""
    learner, metrics = learned(Bandit(), network.Policy(2, (16,), SIDES), QUICK, 60)
    assert metrics["reward"] > 0.95
    z = np.float32([[-0.5], [0.5]])
    policy = candidates.NetworkPlayer(learner.policy, "zc", learner.parameters())
    action = policy.act((z, z, np.ones_like(z)))
    np.testing.assert_array_equal(action, [[-1], [1]])


def test_a_continuous_bandit_is_followed():
    """Catches a log-probability, range or best action of the squashed normal that is not that of what was drawn."""
    head = network.SquashedNormal([-1.0], [1.0])
    learner, _ = learned(Bandit(continuous=True), network.Policy(2, (16,), head), QUICK, 100)
    z = np.linspace(-0.8, 0.8, 9, dtype=np.float32)[:, np.newaxis]
    action = candidates.NetworkPlayer(learner.policy, "zc", learner.parameters()).act((z, z, np.ones_like(z)))
    assert np.abs(action - z).max() < 0.15


class Sides:
    """Episodes of 1 to 9 steps, by their seed. z is a number; the reward is 1 for the side that it is on, else 0."""

    def reset(self, seeds):
        self._rngs = [np.random.default_rng(int(seed)) for seed in seeds]
        self._left = np.array([length_of(seed) for seed in seeds])
        return self._see()

    def step(self, action):
        self._left -= 1
        on = self._left > 0
        reward = (np.asarray(action)[:, 0] * self._z[:, 0] > 0).astype(float)
        self._left, self._rngs = self._left[on], [rng for rng, stays in zip(self._rngs, on, strict=True) if stays]
        return (self._see() if on.any() else None), reward, ~on

    def _see(self):
        self._z = np.array([[rng.uniform(-1, 1)] for rng in self._rngs], np.float32)
        return self._z, np.ones_like(self._z), np.zeros_like(self._z)


def length_of(seed):
    return 1 + int(seed) % 9


def sides(rows=12, blocks=2, max_steps=20, seeds=(100, 200), games=Sides, **rules):
    return game_rows.GameRows(lambda rows: games(), blocks, rows, max_steps, seeds, **rules)


def test_in_games_it_learns_from_the_steps_that_were_played():
    """Catches steps of rows that wait taken for play, actions of another row, and a block's rows mixed up."""
    quick = dataclasses.replace(QUICK, minibatch=32, steps=12, controller_mode="zh")
    _, metrics = learned(sides(rows=48), network.Policy(2, (16,), SIDES), quick, 60)
    assert metrics["reward"] > 0.9  # drawn actions; a third of the steps at the start
    assert 48 <= metrics["steps"] < 48 * 9
    assert metrics["ends"] * metrics["steps"] == pytest.approx(48)  # each row has one episode


def test_an_update_in_games_does_not_depend_on_the_blocks_nor_on_what_was_played_before():
    """Catches an episode that goes on from update to update, which a run that is resumed could not."""
    quick = dataclasses.replace(QUICK, minibatch=32, steps=12, controller_mode="zh")

    def learner(blocks):
        return ppo.PPO(sides(blocks=blocks), network.Policy(2, (16,), SIDES), quick)

    one, other = learner(2), learner(3)
    for _ in range(3):
        one.update()
    other.restore(one.arrays())
    assert one.update() == other.update()
    for name, array in one.arrays().items():
        np.testing.assert_array_equal(array, other.arrays()[name], err_msg=name)


def test_steps_of_rows_that_wait_have_no_part_in_an_update():
    """Catches a value, or a policy, that learns from what nobody played."""
    quick = dataclasses.replace(QUICK, minibatch=32, steps=12, value_updates=0, controller_mode="zh")
    one, other = (ppo.PPO(sides(), network.Policy(2, (16,), SIDES), quick) for _ in range(2))
    data = one._play(one.world)
    waits = ~data.played.numpy()
    assert waits.any()
    others = data._replace(
        drawn=tf.where(waits[:, :, np.newaxis], 2.0, data.drawn),
        log_prob=tf.where(waits, -5.0, data.log_prob),
        reward=tf.where(waits, 100.0, data.reward),
    )
    metrics = [
        learner._update(tf.constant(1e-2), tf.constant(0.0), d)[1] for learner, d in ((one, data), (other, others))
    ]
    assert {name: float(value) for name, value in metrics[0].items()} == {
        name: float(value) for name, value in metrics[1].items()
    }
    for name, array in one.arrays().items():
        np.testing.assert_array_equal(array, other.arrays()[name], err_msg=name)


@pytest.mark.parametrize("complete_above", [np.inf, 0.5])
def test_what_a_world_of_games_says_of_each_step(complete_above):
    """Catches the time limit or the last tile taken for an end, a row that begins again, and rewards of rows that wait.

    If the last tile were an end, a car would learn that it loses all rewards to come by taking it.
    """
    seen = []
    rules = {} if complete_above == np.inf else {"complete_above": complete_above}
    world = sides(rows=4, max_steps=3, seeds=(100, 200), games=lambda: Noting(seen), **rules)
    state, lengths, on = world.start([5, 6]), np.zeros(4, int), np.ones(4, bool)
    for step in range(1, 11):
        before = state
        state, reward, done, cut, played = world.step(state, np.ones([4, 1]))
        np.testing.assert_array_equal(played, on)
        np.testing.assert_array_equal(cut, done & ((step >= 3) | (reward > complete_above)))
        np.testing.assert_array_equal(reward, on & (before[0][:, 0] > 0))
        np.testing.assert_array_equal(state[0][done], before[0][done])
        lengths, on = lengths + on, ~done
    np.testing.assert_array_equal(sorted(lengths), sorted(map(length_of, seen)))
    assert all(100 <= seed <= 200 for seed in seen)
    world.start([5, 7])
    assert set(seen[:4]) != set(seen[4:])


@pytest.mark.parametrize("dreams", [False, True])
def test_the_noise_of_actions_is_held(dreams, monkeypatch):
    """Catches noise of the actions that is new in every step or never changes, and a dream whose own noise is held."""
    head = network.SquashedNormal([-1.0], [1.0])
    cfg = dataclasses.replace(QUICK, steps=12, hold_noise=4, controller_mode="zc")
    world = Bandit() if dreams else sides(rows=4, max_steps=20, games=lambda: Noting([]))
    learner = ppo.PPO(world, network.Policy(2, (16,), head), cfg)  # its last layer is zero: it draws noise alone
    if dreams:
        state = world.start(tf.constant([0, -1]))
        layers = learner.policy.network.unpack(tf.constant(learner.parameters()))
        data = learner._collect(world, layers, state, tf.constant([1, 2]))[1]
        shown = tf.reshape(data.features, [13, world.rows, 2])[:, :, 0].numpy().astype(float)
        assert (np.abs(np.diff(shown, axis=0)).max(axis=1) > 0.5).all()
    else:
        monkeypatch.setattr(Sides, "reset", lambda self, seeds: endless(self, seeds))
        data = learner._play(world)
    drawn = data.drawn.numpy()[:, :, 0]
    for first in (0, 4, 8):
        np.testing.assert_array_equal(drawn[first : first + 4], np.tile(drawn[first], (4, 1)))
    assert len(np.unique(drawn.round(6))) == 3 * drawn.shape[1]


def endless(sides, seeds):
    """Sides.reset, of episodes that only the time limit ends."""
    sides._rngs = [np.random.default_rng(int(seed)) for seed in seeds]
    sides._left = np.full(len(seeds), 99)
    return sides._see()


class Noting(Sides):
    def __init__(self, seen):
        self._seen = seen

    def reset(self, seeds):
        self._seen += list(seeds)
        return super().reset(seeds)


def test_games_evaluate_a_policy_on_these_seeds():
    """Catches returns of another order, and episodes left out where they do not fill the rows."""
    policy = network.Policy(2, (), SIDES)
    always_right = candidates.NetworkPlayer(policy, "zh", np.float32([0, 0, 0, -9, 0, 9, 0, 0, 0]))
    seeds = np.arange(300, 331)
    np.testing.assert_array_equal(sides().evaluate(always_right, seeds), [length_of(seed) for seed in seeds])


def test_in_a_dream_it_learns_not_to_die():
    """The dream ends on every positive action: the best policy never takes one. Catches a reward of the wrong sign."""
    _, metrics = learned(tiny_dreams(), network.Policy(FEATURES, (8,), SIDES), QUICK, 40)
    assert metrics["ends"] < 0.05  # a third of all steps at the start; 1/50 where only the time is up
    assert metrics["reward"] > -0.03


def test_advantages_are_those_of_the_formula(rng):
    """Against a float64 loop. Catches a bootstrap across an end, a value one step off, lambda misplaced."""
    reward, value = rng.normal(size=(2, 7, 5))
    done, last = rng.random((7, 5)) < 0.3, rng.normal(size=5)
    expected, later = np.zeros((7, 5)), np.zeros(5)
    following = np.concatenate([value[1:], last[np.newaxis]])
    for t in reversed(range(7)):
        alive = 1.0 - done[t]
        later = reward[t] + 0.9 * following[t] * alive - value[t] + 0.9 * 0.8 * alive * later
        expected[t] = later
    args = (tf.constant(x, tf.float32) for x in (reward, done, value, last))
    np.testing.assert_allclose(ppo.advantages(*args, 0.9, 0.8), expected, rtol=1e-5, atol=1e-5)


def test_only_steps_that_teach_are_standardized(rng):
    """Catches steps that were cut or not played: the mean is subtracted from their 0, and they count in it."""
    advantage, teaches = rng.normal(3, 2, size=(7, 5)), rng.random((7, 5)) < 0.6
    known = advantage[teaches]
    expected = np.where(teaches, (advantage - known.mean()) / known.std(), 0)
    found = ppo.standardized(tf.constant(advantage, tf.float32), tf.constant(teaches))
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-5)


class Cut(Bandit):
    """Half of the rows are followed no further after every step, whatever they did."""

    def step(self, state, action, seed):
        after, reward, done = super().step(state, action, seed)
        return after, reward, done, tf.range(self.rows) % 2 == 0


def test_a_step_that_was_cut_does_not_move_the_policy(monkeypatch):
    """Catches advantages of cut steps that are standardized with the others, and a cut taken for an end of value 0."""
    seen, told, advantages = [], [], ppo.advantages

    def noted(advantage, teaches):
        seen.append(teaches)
        return advantage

    def with_cut(*given):
        told.extend(given[6:])
        return advantages(*given)

    monkeypatch.setattr(ppo, "standardized", noted)
    monkeypatch.setattr(ppo, "advantages", with_cut)
    learner = ppo.PPO(Cut(), network.Policy(2, (16,), SIDES), QUICK)
    monkeypatch.setattr(learner, "_update", learner._update_in_graph)
    learner.update()
    np.testing.assert_array_equal(seen[0], np.tile(np.arange(64) % 2 == 1, (16, 1)))
    np.testing.assert_array_equal(told, [np.tile(np.arange(64) % 2 == 0, (16, 1))])


def test_the_first_gradient_is_that_of_the_mean_loss(monkeypatch):
    """Against a sum over the steps. Catches a sum for a mean, another weight of the value, and returns and advantages
    exchanged: Adam hides the size of a gradient, and nothing else would tell.
    """
    cfg = dataclasses.replace(QUICK, value_hidden="", value_updates=0, blocks=1, epochs=1, minibatch=16 * 64)
    learner, told = ppo.PPO(Bandit(), network.Policy(2, (), SIDES), cfg), {}
    improve = learner._improve

    def noted(v, collected, *more):
        told["collected"] = collected
        return improve(v, collected, *more)

    def adam(state, gradient, learning_rate):
        told["gradient"] = gradient.numpy()
        return state

    monkeypatch.setattr(learner, "_improve", noted)
    monkeypatch.setattr(learner, "_update", learner._update_in_graph)
    monkeypatch.setattr(ppo, "_adam", adam)
    learner.update()
    data, advantage, returns = told["collected"]
    advantage, returns = (np.ravel(part).astype(float) for part in (advantage, returns))
    features, drawn = data.features[: len(returns)].numpy().astype(float), np.ravel(data.drawn).astype(int)
    chosen = advantage[:, np.newaxis] * (np.eye(3)[drawn] - 1 / 3)  # all three are as likely at the start
    policy = [-chosen.mean(axis=0), np.ravel(-features.T @ chosen / len(returns))]
    value = [[-returns.mean()], -(features * returns[:, np.newaxis]).mean(axis=0)]  # which is 0 at the start
    np.testing.assert_allclose(told["gradient"], np.concatenate([*policy, *value]), atol=1e-5)


def test_an_entropy_bonus_keeps_the_policy_undecided(rng):
    """Catches a bonus without effect, and one that is a cost."""
    start = SMALL.network.initial(rng, last=3.0)
    cfg = dataclasses.replace(QUICK, value_updates=0, entropy=10.0)
    learner = ppo.PPO(Bandit(), SMALL, cfg, start)
    entropy = [learner.update(1e-2)["entropy"] for _ in range(15)]
    assert entropy[0] < 0.95
    assert entropy[-1] > 1.05  # of three alike it is 1.0986


@pytest.mark.parametrize("dreams", [False, True])
def test_what_is_improved_is_the_policy_that_played(dreams, rng):
    """Without a step of Adam it has not moved. Catches play by a network that reads features of another scale, a
    probability of another action or step, and a tether that leaves out the linear controller under the network.
    """
    policy = network.Policy(2, (4,), SIDES, network.linear_base(np.float32([1, -0.5]), 2), 2)
    start = policy.network.initial(rng, last=1.0)
    cfg = dataclasses.replace(QUICK, steps=6, epochs=1, minibatch=64, controller_mode="zh")
    learner = ppo.PPO(Bandit() if dreams else sides(), policy, cfg, start, start)
    for _ in range(2):  # the first measures the features
        metrics = learner.update(0.0, tether=1.0)
        assert metrics["moved"] < 1e-5
        assert abs(metrics["tether"]) < 1e-5
    assert np.abs(learner.arrays()["feature_mean"] - 1).min() < 0.01


def test_the_noise_of_actions_in_games_is_new_in_every_update(monkeypatch):
    """Catches the same noise in all games to come, and a seed that decides the games only."""
    monkeypatch.setattr(Sides, "reset", lambda self, seeds: endless(self, seeds))
    policy = network.Policy(2, (4,), network.SquashedNormal([-1.0], [1.0]))  # its last layer is zero: noise alone
    found = []
    for seed, updates in ((1000, (0, 0, 1)), (1001, (0,))):
        cfg = dataclasses.replace(QUICK, steps=3, seed_start=seed, controller_mode="zh")
        learner = ppo.PPO(sides(rows=4), policy, cfg)
        for update in updates:
            learner._variables["update"].assign(update)
            found.append(learner._play(learner.world).drawn.numpy())
    np.testing.assert_array_equal(found[0], found[1])
    assert not np.isin(found[2], found[0]).any()
    assert not np.isin(found[3], found[0]).any()


def test_the_temperature_of_tensor_dreams_is_that_asked_for():
    """Catches dreams to learn in that are always at temperature 1, and tau where sqrt(tau) belongs."""
    z = []
    for temperature in (1.0, 4.0):
        dreams = tensor_dreams.Dreams([deadly_to_the_right()], [POOL], temperature, 50, 6)
        state = dreams.start(tf.constant([1000, 0]))
        z.append(dreams.step(state, -np.ones((6, 1), np.float32), tf.constant([1000, 1]))[0][0])
    np.testing.assert_allclose(z[1], 2 * z[0], rtol=1e-5)


def test_a_resumed_run_is_the_undisturbed_one():
    """Bit for bit, over the end of the value's head start. Catches state that the arrays lack: ages, Adam, keys."""

    def new():
        return ppo.PPO(tiny_dreams(models=2, dropout=0.5), network.Policy(FEATURES, (8,), SIDES), QUICK)

    whole = new()
    for _ in range(2):
        whole.update()
    halfway = whole.arrays()
    for _ in range(2):
        whole.update()
    resumed = new()
    resumed.update()  # which the restored arrays must undo
    resumed.restore(halfway)
    for _ in range(2):
        resumed.update()
    for name, array in whole.arrays().items():
        np.testing.assert_array_equal(resumed.arrays()[name], array, err_msg=name)
    assert whole.updates == 4


def test_what_is_not_finite_stops_it_and_the_last_good_state_stays():
    """Catches weights overwritten by NaN before anybody looks."""
    learner, _ = learned(tiny_dreams(), network.Policy(FEATURES, (8,), SIDES), QUICK, 3)
    before = learner.arrays()
    with pytest.raises(UserError, match=r"^update 4: .* not finite; the state before it is kept"):
        learner.update(learning_rate=np.inf)
    for name, array in learner.arrays().items():
        np.testing.assert_array_equal(array, before[name], err_msg=name)
    assert np.isfinite(learner.update()["value_loss"])
    assert learner.updates == 4


def test_an_mdn_rnn_that_gives_nan_stops_it():
    """Catches dreams of NaN, from which the policy learns nothing, going on for hours."""
    broken = deadly_to_the_right()
    broken.output_b.assign(np.full(SHAPE.output_size, np.nan, np.float32))
    dreams = tensor_dreams.Dreams([broken], [POOL], 1.0, 50, 32)
    with pytest.raises(UserError, match=r"^update 1: .* not finite"):
        ppo.PPO(dreams, network.Policy(FEATURES, (8,), SIDES), QUICK).update()


def test_the_exported_network_reads_features_as_they_are(rng):
    """Catches a scale, a mean or a layer's order that the flat vector leaves out."""
    learner, _ = learned(tiny_dreams(), network.Policy(FEATURES, (8, 4), SIDES), QUICK, 4)
    features = rng.normal(size=(6, FEATURES)).astype(np.float32)
    arrays, x, start = learner.arrays(), None, 0
    mean, square = (arrays[name].astype(float) for name in ("feature_mean", "feature_square"))
    assert np.abs(mean).max() > 0.05, "the features' scale was not measured"
    flat = arrays["networks"].astype(float)
    x = (features - mean) / np.sqrt(np.maximum(square - mean**2, ppo.SMALLEST_SPREAD**2))
    for k, (inputs, outputs) in enumerate(itertools.pairwise((FEATURES, 8, 4, 3))):
        bias, weight = np.split(flat[start : start + outputs * (1 + inputs)], [outputs])
        x = (np.tanh(x) if k else x) @ weight.reshape(inputs, outputs) + bias
        start += outputs * (1 + inputs)
    exported = learner.policy.network.unpack(learner.parameters())
    np.testing.assert_allclose(learner.policy.outputs(exported, features), x, rtol=1e-3, atol=1e-4)


def test_measuring_the_features_does_not_change_the_policy():
    """The first updates only measure and teach the value. Catches weights that are not adapted to the new scale."""
    rng = np.random.default_rng(1000)
    policy = network.Policy(FEATURES, (8,), SIDES)
    start = policy.network.initial(rng, last=1.0)
    learner, _ = learned(tiny_dreams(), policy, QUICK, 2, parameters=start)
    np.testing.assert_allclose(learner.parameters(), start, rtol=1e-3, atol=1e-4)


def test_a_tether_holds_the_policy_to_its_reference():
    """Where dying is forbidden but the reference does it all the same, a strong tether wins over the reward."""
    policy = network.Policy(FEATURES, (8,), SIDES)
    reference = np.zeros(policy.network.parameters, np.float32)  # all three actions alike
    learner = ppo.PPO(tiny_dreams(), policy, QUICK, reference=reference)
    for _ in range(30):
        loose = learner.update(1e-2, tether=0.0)
    for _ in range(30):
        held = learner.update(1e-2, tether=10.0)
    assert loose["tether"] > 0.2
    assert held["tether"] < 0.02


def test_dreams_of_an_ensemble_end_and_begin_anew_where_they_should():
    """Catches a row that goes on after its end, an age that is not reset, and memory kept from the dream before."""
    world = tiny_dreams(rows=6, models=2, max_steps=3)
    state = world.start(tf.constant([1000, 0]))
    die = np.float32([[1], [-1], [-1], [-1], [1], [-1]])
    state, reward, done, cut = world.step(state, die, tf.constant([1000, 1]))
    np.testing.assert_array_equal(done, die[:, 0] > 0)
    assert not np.any(cut)
    np.testing.assert_array_equal(reward, -(die[:, 0] > 0).astype(float))
    np.testing.assert_array_equal(state[3], [0, 1, 1, 1, 0, 1])
    assert not np.any(state[1].numpy()[done.numpy()])
    for t in range(2):
        state, reward, done, cut = world.step(state, -np.ones((6, 1), np.float32), tf.constant([1000, 2 + t]))
    np.testing.assert_array_equal(done, die[:, 0] < 0)  # their time is up, which costs nothing
    np.testing.assert_array_equal(cut, done)
    np.testing.assert_array_equal(reward, np.zeros(6))
    np.testing.assert_array_equal(state[3], [2, 0, 0, 0, 2, 0])


@pytest.mark.parametrize("mode", settings.NETWORK_MODES)
def test_the_policy_learns_on_what_it_reads_when_it_plays(mode, rng):
    """Catches h and c in another order in the dreams that it learns in than in the game."""
    dreams = tensor_dreams.Dreams([deadly_to_the_right()], [POOL], 1.0, 50, 6, mode=mode)
    z, h, c = (rng.normal(size=(6, size)).astype(np.float32) for size in (3, 4, 4))
    read = controller.Controller(mode, 3, 4, 1, bias=False).features(z, h, c)
    np.testing.assert_array_equal(dreams.features((z, h, c, np.zeros(6, np.int32))), read)
    policy = network.Policy(read.shape[1], (), SIDES)
    weight = rng.normal(size=policy.network.parameters).astype(np.float32)
    action = candidates.NetworkPlayer(policy, mode, weight).act((z, h, c))
    outputs = policy.network(policy.network.unpack(weight), read)
    np.testing.assert_array_equal(action[:, 0], np.argmax(outputs, axis=1) - 1)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: tiny_dreams(rows=31, models=2), "--rows 31: do not divide among 2"),
        (lambda: ppo.PPO(Bandit(), SMALL, QUICK, np.zeros(5)), "5 parameters; a network of"),
    ],
)
def test_what_does_not_fit_is_named(make, message):
    with pytest.raises(UserError, match=message):
        make()


def test_drawn_ends_come_as_often_in_tensor_dreams():
    """Catches the same in the dreams that the policy gradient learns in: a draw that all rows or all steps share."""
    rnn, p, weight = deadly_to_the_right(), 0.1, 10.0
    rnn.output_w.assign(tf.zeros_like(rnn.output_w))
    rnn.output_b.assign(tf.concat([[np.log(weight * p / (1 - p))], rnn.output_b[1:]], axis=0))
    dreams = tensor_dreams.Dreams([rnn], [POOL], 1.0, 1000, 400, end_weight=weight)
    state, counts = dreams.start(tf.constant([1, 2])), []
    for t in range(30):
        state, reward, done, _ = dreams.step(state, tf.zeros([400, 1]), tf.constant([3, t]))
        np.testing.assert_array_equal(reward, -tf.cast(done, tf.float32))
        counts.append(int(tf.reduce_sum(tf.cast(done, tf.int32))))
    assert np.mean(counts) == pytest.approx(400 * p, abs=4 * np.sqrt(400 * p / 30))
    assert 3 < np.std(counts) < 12  # 6, if every row draws for itself


def test_adam_begins_when_the_policy_does():
    """Catches first steps that are too long, after many in which the gradients of the policy were all zero."""
    policy = network.Policy(2, (4,), SIDES)
    learner, _ = learned(Bandit(), policy, dataclasses.replace(QUICK, value_updates=30), 30)
    before = learner.arrays()["networks"][: policy.network.parameters]
    learner.update(1e-3)  # 8 steps of Adam, each about as long as the learning rate
    moved = np.abs(learner.arrays()["networks"][: policy.network.parameters] - before)
    assert 0.004 < moved.max() < 0.0085


def test_noise_is_new_in_every_update_and_at_every_step():
    """Catches the same actions and dreams in every update, or at every step of one, and a seed without effect."""

    def shown(seed, updates):
        cfg, found = dataclasses.replace(QUICK, seed_start=seed, epochs=1, blocks=1), []
        learner = ppo.PPO(Bandit(), SMALL, cfg)
        begun = learner.arrays()
        for _ in range(updates):
            learner.update()
            found.append(learner.arrays()["world0"])
        return learner, begun, found

    learner, begun, (one, two) = shown(1000, 2)
    _, other_begun, (other,) = shown(1001, 1)
    assert not np.isin(two, one).any()
    assert not np.isin(other, one).any()
    for name in ("networks", "world0"):
        assert not np.array_equal(begun[name], other_begun[name])
    layers = SMALL.network.unpack(tf.zeros(SMALL.network.parameters))
    _, data = learner._collect(learner.world, layers, (tf.constant(one),), tf.constant([5, 6]))
    features, drawn = tf.reshape(data.features, [17, 64, 2])[..., 0].numpy(), data.drawn[..., 0].numpy()
    assert len(np.unique(features)) > 0.99 * features.size
    assert len(np.unique(drawn, axis=0)) == 16
    assert not np.array_equal(drawn[1:] - 1, np.sign(features[1:-1])), "an action must not be drawn as the world is"


def test_blocks_of_a_minibatch_learn_as_the_whole_does():
    """Catches steps that no block learns from, and losses that are added up."""
    one, other = (
        ppo.PPO(Bandit(), SMALL, dataclasses.replace(QUICK, epochs=1, blocks=blocks, value_updates=0))
        for blocks in (1, 4)
    )
    assert other.update(1e-2) == pytest.approx(one.update(1e-2), rel=1e-3, abs=1e-5)
    np.testing.assert_allclose(other.arrays()["networks"], one.arrays()["networks"], atol=1e-3)


class Wage(Bandit):
    """Every step brings 1, for ever."""

    def step(self, state, action, seed):
        return self.start(seed), tf.ones([self.rows]), tf.zeros([self.rows], tf.bool)


def test_the_value_is_what_is_to_come():
    """Catches discount and lambda exchanged, a value that learns advantages, and rewards that are not scaled."""
    cfg = dataclasses.replace(QUICK, value_updates=99, blocks=1, discount=0.5, gae_lambda=0.9, reward_scale=0.25)
    learner, metrics = learned(Wage(), SMALL, cfg, 40)
    assert metrics["reward"] == 1
    arrays = learner.arrays()
    _, layers = learner._unpack(tf.constant(arrays["networks"]))
    folded = network.folded(layers, *ppo._spread(arrays["feature_mean"], arrays["feature_square"]))
    value = learner._value(folded, np.float32([[-0.5, 1], [0.5, 1]]))
    np.testing.assert_allclose(value, 0.25 / (1 - 0.5), atol=0.05)


def test_the_clipping_range_is_that_of_the_option():
    """Catches --clip without effect."""
    quick = dataclasses.replace(QUICK, blocks=1, minibatch=64, value_updates=0)
    near, far = (learned(Bandit(), SMALL, dataclasses.replace(quick, clip=clip), 1)[1] for clip in (0.01, 9.0))
    assert near["moved"] < far["moved"] / 2


def test_adam_is_a_plain_loop(rng):
    """Against float64. Catches a long gradient that is not scaled down, moments exchanged, and their bias kept."""
    gradients = [rng.normal(size=6) * scale for scale in (0.01, 10.0, 0.1)]
    state = (tf.constant(rng.normal(size=6), tf.float32), tf.zeros(6), tf.zeros(6), tf.constant(0))
    x, mean, square = np.array(state[0], float), np.zeros(6), np.zeros(6)
    for step, gradient in enumerate(gradients, 1):
        state = ppo._adam(state, tf.constant(gradient, tf.float32), tf.constant(0.1))
        gradient = gradient * min(1.0, 0.5 / np.linalg.norm(gradient))
        mean, square = 0.9 * mean + 0.1 * gradient, 0.999 * square + 0.001 * gradient**2
        rate = 0.1 * np.sqrt(1 - 0.999**step) / (1 - 0.9**step)
        x -= rate * mean / (np.sqrt(square) + 1e-5)
        np.testing.assert_allclose(state[0], x, rtol=1e-4)
    assert int(state[3]) == 3


def test_features_are_measured_over_all_first_updates(rng):
    """Catches the mean of the latest update alone, updates that count unequally, steps that were not played, and
    features that are measured while the policy learns."""
    learner = ppo.PPO(Bandit(), SMALL, dataclasses.replace(QUICK, value_updates=3))
    now = {name: tf.constant(learner.arrays()[name]) for name in ("networks", "feature_mean", "feature_square")}
    parts = [rng.normal(k, 1 + k, (50, 2)).astype(np.float32) for k in range(4)]
    for k, part in enumerate(parts):
        played = np.arange(50).reshape(25, 2) < 40
        data = types.SimpleNamespace(features=tf.constant(np.concatenate([part, part[:2]])), played=tf.constant(played))
        now = learner._measured(now["networks"], now | {"update": tf.constant(k)}, data)
    every = np.concatenate([part[:40] for part in parts[:3]])
    np.testing.assert_allclose(now["feature_mean"], every.mean(axis=0), rtol=1e-4)
    np.testing.assert_allclose(now["feature_square"], np.square(every).mean(axis=0), rtol=1e-4)


def test_games_are_drawn_anew_from_all_of_their_seeds():
    """Catches updates that all play the same games, the last seed that never is, and games in lockstep alike."""
    seen = []
    world = sides(rows=40, seeds=(100, 102), games=lambda: Noting(seen))
    for update in range(3):
        world.start([5, update])
    assert set(seen) == {100, 101, 102}
    assert len({tuple(seen[k : k + 40]) for k in (0, 40, 80)}) == 3
    assert seen[:20] != seen[20:40], "the two blocks"


def test_a_world_of_games_begins_anew_and_leaves_what_it_was_given():
    """Catches a time limit that counts the steps of earlier updates, and states that change after they are stored."""
    world = sides(rows=40, max_steps=2)
    for update in range(2):
        state = world.start([5, update])
        before = [part.copy() for part in state]
        _, _, done, cut, _ = world.step(state, np.ones([40, 1]))
        assert (done.any(), cut.any()) == (True, False)
        for part, copy in zip(state, before, strict=True):
            np.testing.assert_array_equal(part, copy)
