"""Dreams that pay what the MDN-RNN expects, that start along recorded games, and that are cut short."""

import os
import subprocess
import sys
import types

import numpy as np
import pytest
import tensorflow as tf

from common.agent import mdnrnn
from common.game import find
from common.runtime import files, provenance
from common.runtime.cli import UserError
from common.runtime.files import ROOT
from common.runtime.settings import Pay
from common.training import dreams, ppo
from common.worlds import dream, gym_envs, tensor_dreams

PAY = Pay(least=-1.0, most=2.0, fall_below=-50.0, cost=20.0)
SHAPE = mdnrnn.Shape(3, 1, 4, restart=False, heads=True)
LOGMIX = 0  # the first columns of the output


@pytest.fixture(autouse=True)
def float32_products(monkeypatch):
    """Products in float32, whatever the processor."""
    monkeypatch.setenv("WORLDMODELS_DTYPE", "float32")


def tanh_of_action():
    """An MDN-RNN with h = tanh(tanh(action)) in every cell; it expects a reward of 10 h, and 5 h - 3 for the fall."""
    rnn = mdnrnn.MDNRNN(SHAPE, "float32")
    values = {name: np.zeros(shape, np.float32) for name, shape in SHAPE.arrays.items()}
    values["kernel"][SHAPE.z_size, 4:8] = 1  # the action decides the candidate j
    values["bias"][0:4] = values["bias"][12:16] = 30  # gates i and o are open
    values["bias"][8:12] = -30  # f is shut: nothing is remembered
    values["output_b"][LOGMIX::15] = 50  # only the first component of each dimension is ever chosen
    values["heads_w"][:] = [[10 / 4, 5 / 4]] * 4
    values["heads_b"][:] = 0, -3
    for name, value in values.items():
        getattr(rnn, name).assign(value)
    return rnn


def random_rnn(rng, shape=SHAPE):
    rnn = mdnrnn.MDNRNN(shape, "float32")
    rnn.set_weights([rng.normal(0, 0.5, variable.shape) for variable in rnn.variables])
    return rnn


def first_frames(rng):
    return rng.normal(0, 1, (20, 3)).astype(np.float32), rng.normal(-2, 1, (20, 3)).astype(np.float32)


def by_hand(actions):
    """What a dream of `tanh_of_action` pays for these actions, in float64."""
    alive, paid = 1.0, []
    for action in actions:
        h = np.tanh(np.tanh(action))
        reward, fall = min(max(10 * h, -1), 2), 1 / (1 + 10 * np.exp(3 - 5 * h))
        paid.append(alive * (reward * (1 - fall) - 20 * fall))
        alive *= 1 - fall
    return paid


ACTIONS = np.array([[0.05, -0.5], [0.1, 0.9], [0.15, 0.2], [-0.02, -0.1], [0.3, 0.0]], np.float32)  # steps x rows


def test_a_dream_pays_by_the_formula(rng):
    """Catches a range that is not applied, a cost without the probability of the end or with the wrong sign, survival
    that is not carried on, or that is taken off a step too early.
    """
    world = dream.DreamWorld(tanh_of_action(), first_frames(rng), 1.0, 5, pay=PAY)
    world.reset([1000, 1001])
    found = np.array([world.step(action[:, np.newaxis])[1] for action in ACTIONS])
    np.testing.assert_allclose(found, np.transpose([by_hand(row) for row in ACTIONS.T]), rtol=1e-4)
    world.reset([1000, 1001])  # survival begins anew
    np.testing.assert_allclose(world.step(ACTIONS[0][:, np.newaxis])[1], found[0], rtol=1e-6)


def test_rows_that_leave_take_their_survival_along(rng):
    """A broken row leaves. Catches the survival of one dream given to its neighbor."""
    world = dream.DreamWorld(tanh_of_action(), first_frames(rng), 1.0, 5, pay=PAY)
    world.reset([1000, 1001, 1002])
    _, reward, done = world.step(np.float32([[0.05], [np.nan], [-0.5]]))
    assert done.tolist() == [False, True, False]
    assert np.isnan(reward[1])
    found = [world.step(action[:, np.newaxis])[1] for action in ACTIONS[1:]]
    np.testing.assert_allclose(found, np.transpose([by_hand(row) for row in ACTIONS.T])[1:], rtol=1e-4)


def test_what_predicts_with_dropout_pays_with_it(rng):
    """Catches heads that see all of h where the mixture does not."""
    rnn = tanh_of_action()
    world = dream.DreamWorld(rnn, first_frames(rng), 1.0, 5, dropout=0.5, pay=PAY)
    world.reset(range(1000, 1040))
    _, reward, _ = world.step(np.full((40, 1), 0.1, np.float32))
    h, kept = np.tanh(np.tanh(0.1)), np.arange(5) / 4 * 2  # of four cells, times 1 / (1 - 0.5)
    fall = 1 / (1 + 10 * np.exp(3 - 5 * h * kept))
    wanted = np.clip(10 * h * kept, -1, 2) * (1 - fall) - 20 * fall
    assert len(set(np.round(reward, 4))) > 2
    assert np.abs(reward[:, np.newaxis] - wanted).min(axis=1).max() < 1e-4


def test_without_heads_or_pay_a_step_is_worth_one(rng):
    """Catches Doom paid by heads that it does not have."""
    for rnn, pay in ((random_rnn(rng, mdnrnn.Shape(3, 1, 4, False)), PAY), (tanh_of_action(), None)):
        world = dream.DreamWorld(rnn, first_frames(rng), 1.0, 5, pay=pay)
        world.reset([1000])
        assert world.step(np.zeros((1, 1)))[1].tolist() == [1]


def test_tensor_dreams_pay_the_same():
    """Against the formula, over ends of the time. Catches another probability of the end, or one that counts twice."""
    pool = tensor_dreams.first_frames((np.zeros((5, 3), np.float32), np.zeros((5, 3), np.float32)), 4)
    world = tensor_dreams.Dreams([tanh_of_action()] * 2, [pool] * 2, 1.0, 3, 2, mode="zh", pay=PAY)
    state, found, alive = world.start(tf.constant([1000, 0])), [], np.ones(2)
    for t, action in enumerate([*ACTIONS[:3], *ACTIONS[:3]]):
        state, reward, done, cut = world.step(state, action[:, np.newaxis], tf.constant([1000, t]))
        found.append(alive * reward.numpy())
        assert (done.numpy() == 1).tolist() == cut.numpy().tolist() == [t in (2, 5)] * 2
        alive = np.ones(2) if t == 2 else alive * (1 - done.numpy())
    wanted = np.transpose([by_hand(row[:3]) for row in ACTIONS.T])
    np.testing.assert_allclose(found, np.concatenate([wanted, wanted]), rtol=1e-4)


def test_tensor_dreams_pay_by_what_predicts_with_dropout():
    """Catches heads that see all of h where the mixture does not, in the dreams that the policy gradient learns in."""
    pool = tensor_dreams.first_frames((np.zeros((5, 3), np.float32), np.zeros((5, 3), np.float32)), 4)
    world = tensor_dreams.Dreams([tanh_of_action()], [pool], 1.0, 50, 40, dropout=0.5, pay=PAY)
    state = world.start(tf.constant([1000, 0]))
    _, reward, done, _ = world.step(state, np.full((40, 1), 0.1, np.float32), tf.constant([1000, 1]))
    h, kept = np.tanh(np.tanh(0.1)), state[-1].numpy().mean(axis=1)  # the mask; all cells have the same h
    fall = 1 / (1 + 10 * np.exp(3 - 5 * h * kept))
    assert len(set(kept)) > 2
    np.testing.assert_allclose(done, fall, rtol=1e-4)
    np.testing.assert_allclose(reward, np.clip(10 * h * kept, -1, 2) * (1 - fall) - 20 * fall, rtol=1e-4)


def test_tensor_dreams_begin_at_all_of_their_starts(rng):
    """Within five standard errors. Catches a start that is never drawn, and z, memory and age of different ones."""
    mu, h, c = (rng.normal(size=(3, size)).astype(np.float32) for size in (3, 4, 4))
    pool = tensor_dreams.Starts(mu, np.full((3, 3), -40, np.float32), h, c, np.arange(3))
    world = tensor_dreams.Dreams([random_rnn(rng)], [pool], 1.0, 50, 600)
    *parts, age = (part.numpy() for part in world.start(tf.constant([1000, 0])))
    assert np.abs(np.bincount(age, minlength=3) - 200).max() < 5 * np.sqrt(600 * 2 / 9)
    for part, wanted in zip(parts, (mu, h, c), strict=True):
        np.testing.assert_allclose(part, wanted[age], atol=1e-6)


def test_the_draws_of_a_step_have_nothing_to_do_with_each_other(rng, monkeypatch):
    """Within five standard errors. Catches noise that follows from the component of the mixture that was chosen."""
    drawn, next_of = [], dream.next_of

    def noted(rnn, weights, state, restart, action, uniform, normal, *more):
        drawn.extend((np.ravel(uniform), np.ravel(normal)))
        return next_of(rnn, weights, state, restart, action, uniform, normal, *more)

    monkeypatch.setattr(dream, "next_of", noted)
    world = tensor_dreams.Dreams([random_rnn(rng)], [tensor_dreams.first_frames(first_frames(rng), 4)], 1.0, 50, 2000)
    state = world.start(tf.constant([1000, 0]))
    world.step(state, np.zeros((2000, 1), np.float32), tf.constant([1000, 1]))
    uniform, *normal = drawn[0], drawn[1], np.square(drawn[1])
    for part in (*normal, np.roll(normal[0], 1), np.roll(normal[1], 1)):
        assert abs(np.corrcoef(uniform, part)[0, 1]) < 5 / np.sqrt(len(uniform))


def test_a_horizon_cuts_dreams_out_of_step_and_says_so():
    """Catches all rows cut at once, a cut that counts as an end, and a row that goes on past its horizon."""
    pool = tensor_dreams.first_frames((np.zeros((5, 3), np.float32), np.zeros((5, 3), np.float32)), 4)
    world = tensor_dreams.Dreams([tanh_of_action()], [pool], 1.0, 1000, 4, dropout=0.5, pay=PAY, horizon=4)
    state, cuts = world.start(tf.constant([1000, 0])), []
    for t in range(8):
        state, _, done, cut = world.step(state, np.zeros((4, 1), np.float32), tf.constant([1000, t]))
        np.testing.assert_array_equal(done.numpy() == 1, cut)
        cuts.append(cut.numpy())
        np.testing.assert_array_equal(state[3].numpy() == 0, cut)
    np.testing.assert_array_equal(cuts, np.tile(np.eye(4, dtype=bool), (2, 1)))


def test_a_cut_step_teaches_nothing_and_ends_the_trace():
    """Against a float64 loop. Catches a cut that is taken for an end of value 0: every late step would look bad."""
    rng = np.random.default_rng(1000)
    reward, value = rng.normal(size=(2, 7, 5))
    done, last = rng.random((7, 5)) < 0.4, rng.normal(size=5)
    cut = done & (rng.random((7, 5)) < 0.5)
    expected, later = np.zeros((7, 5)), np.zeros(5)
    following = np.concatenate([value[1:], last[np.newaxis]])
    for t in reversed(range(7)):
        error = np.where(cut[t], 0, reward[t] + 0.9 * following[t] * ~done[t] - value[t])
        later = expected[t] = error + 0.9 * 0.8 * ~done[t] * later
    args = (tf.constant(x, tf.float32) for x in (reward, done, value, last))
    found = ppo.advantages(*args, 0.9, 0.8, tf.constant(cut, tf.float32))
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-5)


def recorded_games(rng, lengths=(9, 5, 12)):
    """(mu, logvar, action) of games without noise."""
    return [
        (rng.normal(size=(n, 3)).astype(np.float32), np.full((n, 3), -40, np.float32), rng.normal(size=(n, 1)))
        for n in lengths
    ]


@pytest.mark.parametrize("restart", [False, True])
def test_starts_are_what_stepping_by_hand_remembers(rng, restart):
    """Catches a memory one step off or of another game, a place drawn twice that is there once, a wrong age."""
    rnn, games = random_rnn(rng, mdnrnn.Shape(3, 1, 4, restart)), recorded_games(rng)
    places = np.array([[2, 11], [0, 0], [1, 4], [2, 11], [0, 8], [1, 1], [2, 0]])
    starts = tensor_dreams.at_places(rnn, games, places, 1000)
    assert len(starts.age) == len(places)
    assert sorted(starts.age.tolist()) == sorted(places[:, 1].tolist())
    found = []
    for game, step in places:
        mu, _, action = games[game]
        h, c = rnn.initial_state(1)
        for t in range(step):
            flag = np.float32([t == 0]) if restart else None
            h, c = rnn.step(rnn.prepared(), mdnrnn.inputs_of(mu[t : t + 1], action[t : t + 1], flag), (h, c))
        row = np.flatnonzero(np.all(np.isclose(starts.mu, mu[step]), axis=1))[0]
        np.testing.assert_allclose(starts.h[row], h[0], atol=1e-5)
        np.testing.assert_allclose(starts.c[row], c[0], atol=1e-5)
        assert starts.age[row] == step
        found.append(row)
    assert len(set(found)) == 6


def test_the_memory_of_a_start_is_of_samples_of_what_was_seen(rng):
    """Catches the log-variance taken for that of the standard deviation, and a memory of means, which no agent has."""
    rnn = random_rnn(rng, mdnrnn.Shape(3, 1, 4, True))
    mu, action = rng.normal(size=(3, 3)), rng.normal(size=(3, 1))
    game = mu.astype(np.float32), np.full((3, 3), 2 * np.log(3), np.float32), action
    starts = tensor_dreams.at_places(rnn, [game], np.array([[0, 1]]), 1000)
    z = mu + 3 * np.random.default_rng([1000, 8]).standard_normal((1, 3, 3), np.float32)[0]
    inputs = mdnrnn.inputs_of(np.float32(z[:1]), np.float32(action[:1]), np.ones(1, np.float32))
    h, _ = rnn.step(rnn.prepared(), inputs, rnn.initial_state(1))
    np.testing.assert_allclose(starts.h, h, atol=1e-5)


def test_each_model_of_an_ensemble_dreams_with_its_own_noise(rng):
    """Catches rows of one model that start where those of the other do, and meet the same noise."""
    rnn, first = random_rnn(rng), (np.zeros((5, 3), np.float32), np.zeros((5, 3), np.float32))
    pool = tensor_dreams.first_frames(first, 4)
    world = tensor_dreams.Dreams([rnn, rnn], [pool, pool], 1.0, 50, 6)
    start = world.start(tf.constant([1000, 0]))
    after, *_ = world.step([tf.concat([part[:3], part[:3]], 0) for part in start], np.zeros((6, 1), np.float32),
                           tf.constant([1000, 1]))  # fmt: skip
    for z in (start[0].numpy(), after[0].numpy()):
        assert np.abs(z[:3] - z[3:]).min() > 1e-4


def test_each_model_dreams_by_its_own_weights_and_begins_anew_from_its_own_starts(rng):
    """Catches several MDN-RNNs of which only the first ever dreams, and a start with another one's memory."""
    rnns = [random_rnn(rng, mdnrnn.Shape(3, 1, 4, True)) for _ in range(2)]
    for rnn in rnns:
        rnn.output_b.assign(tf.concat([[-100.0], rnn.output_b[1:]], axis=0))  # no dream ends by itself
    games, places = recorded_games(rng), np.array([[0, 3], [1, 3]])
    pools = [tensor_dreams.at_places(rnn, games, places, 1) for rnn in rnns]
    long, short = (tensor_dreams.Dreams(rnns, pools, 1.0, most, 4) for most in (100, 4))
    state, action = long.start(tf.constant([1000, 0])), rng.uniform(-1, 1, (4, 1)).astype(np.float32)
    after, *_ = long.step(state, action, tf.constant([1000, 1]))
    anew, *_ = short.step(state, action, tf.constant([1000, 1]))  # age 3 of 4: all begin anew
    for k, rows in enumerate((slice(0, 2), slice(2, 4))):
        z, h, c, *_ = (part[rows] for part in state)
        wanted, _ = rnns[k].step(rnns[k].prepared(), mdnrnn.inputs_of(z, action[rows], tf.zeros([2])), (h, c))
        np.testing.assert_allclose(after[1][rows], wanted, atol=1e-5)
        for found in (*h.numpy(), *anew[1][rows].numpy()):
            assert np.abs(pools[k].h - found).max(axis=1).min() < 1e-6


def test_places_are_drawn_in_balance():
    """Within five standard errors. Catches shares that are swapped, a place before its reward, or past a game's end."""
    reward = np.full(400, -0.1)
    reward[[100, 396]] = 3.2
    places = tensor_dreams.drawn_places([reward, np.full(300, -0.1)], 20_000, 1000)
    assert np.abs(places[:, 0].mean() - 0.5) < 5 * 0.5 / np.sqrt(20_000)
    steps = places[places[:, 0] == 0, 1]
    after = (steps > 100) & (steps <= 108) | (steps > 396)
    assert steps.max() == 399
    for found, wanted in (((steps == 0).mean(), 0.25), (after.mean(), 0.55 + 0.2 * 11 / 400)):
        assert abs(found - wanted) < 5 * np.sqrt(wanted * (1 - wanted) / len(steps)) + 0.001
    unpaid = places[places[:, 0] == 1, 1]
    assert abs((unpaid == 0).mean() - 0.25) < 0.03
    np.testing.assert_array_equal(places, tensor_dreams.drawn_places([reward, np.full(300, -0.1)], 20_000, 1000))


def test_dreams_with_starts_follow_from_their_seeds_in_any_batch(rng):
    """Batch == many of one, and candidates with one seed start alike. Catches a start drawn per row or per batch."""
    rnn, games = random_rnn(rng), recorded_games(rng)
    starts = tensor_dreams.at_places(
        rnn, games, tensor_dreams.drawn_places([np.ones(9), np.ones(5), np.ones(12)], 40, 1), 1
    )
    moves = rng.uniform(-1, 1, (6, 5, 1)).astype(np.float32)
    moves[:, 4] = moves[:, 1]
    seeds = [1007, 1003, 1011, 1020, 1003]

    def dreamt(rows):
        world = dream.DreamWorld(rnn, None, 1.0, 100, dropout=0.3, pay=PAY, starts=starts)
        found = [np.concatenate(world.reset([seeds[row] for row in rows]), axis=1)]
        for move in moves:
            state, reward, _ = world.step(move[rows])
            found.append(np.concatenate([*state, reward[:, np.newaxis]], axis=1))
        return found

    together = dreamt([0, 1, 2, 3, 4])
    for rows in ([0], [1], [3, 2], [4, 0]):
        for alone, all_rows in zip(dreamt(rows), together, strict=True):
            np.testing.assert_allclose(alone, all_rows[rows], atol=1e-5)
    np.testing.assert_allclose(together[-1][1], together[-1][4], atol=1e-5)
    first = together[0]
    for row in first:  # h of a start goes with its z
        place = np.flatnonzero(np.all(np.isclose(starts.mu, row[:3], atol=1e-6), axis=1))[0]
        np.testing.assert_allclose(row[3:7], starts.h[place], atol=1e-6)
        np.testing.assert_allclose(row[7:11], starts.c[place], atol=1e-6)
    assert len(np.unique(first[:4, 0])) > 1


def test_a_restart_flag_is_set_at_first_frames_only(rng):
    """Catches a dream from the middle of a game that the MDN-RNN takes for the beginning of one."""
    rnn = random_rnn(rng, mdnrnn.Shape(3, 1, 4, True))
    rnn.output_b.assign(tf.concat([[-100.0], rnn.output_b[1:]], axis=0))  # no dream ends
    pool = tensor_dreams.at_places(rnn, recorded_games(rng), np.array([[0, 0], [0, 4]]), 1)
    world = dream.DreamWorld(rnn, None, 1.0, 10, starts=pool)
    z, h, c = world.reset(range(1000, 1010))
    age = np.where(np.isclose(z[:, 0], pool.mu[0, 0]), 0, 4)
    assert set(age) == {0, 4}
    expected = rnn.step(
        rnn.prepared(), mdnrnn.inputs_of(z, np.ones((10, 1)), tf.constant(age == 0, tf.float32)), (h, c)
    )
    state, _, done = world.step(np.ones((10, 1), np.float32))
    assert not done.any()
    np.testing.assert_allclose(state[1], expected[0], atol=1e-6)


@pytest.mark.parametrize(("horizon", "lasts"), [(0, {0: 6, 4: 2}), (3, {0: 3, 4: 2})])
def test_a_dream_from_the_middle_of_a_game_ends_with_it(rng, horizon, lasts):
    """Catches a dream that outlives the game it began in, and a horizon counted from the start of the game."""
    rnn = random_rnn(rng, mdnrnn.Shape(3, 1, 4, True))
    rnn.output_b.assign(tf.concat([[-100.0], rnn.output_b[1:]], axis=0))  # no dream ends by itself
    pool = tensor_dreams.at_places(rnn, recorded_games(rng), np.array([[0, 0], [0, 4]]), 1)
    world = dream.DreamWorld(rnn, None, 1.0, 6, starts=pool, horizon=horizon)
    on = np.where(np.isclose(world.reset(range(1000, 1010))[0][:, 0], pool.mu[0, 0]), 0, 4)
    found = {0: set(), 4: set()}
    for step in range(1, 7):
        if len(on):
            done = world.step(np.ones((len(on), 1), np.float32))[2]
            for age in on[done]:
                found[age].add(step)
            on = on[~done]
    assert found == {age: {steps} for age, steps in lasts.items()}


def test_the_gymnasium_environment_pays(rng, monkeypatch):
    """Catches the constant reward where the weights have heads, and survival that outlives the dream in its row."""
    config = types.SimpleNamespace(
        TEMPERATURE=1.0, ACTION_LOW=(-1,), ACTION_HIGH=(1,), MAX_STEPS=3, FPS=50, DREAM_REWARD=0.0
    )
    loaded = types.SimpleNamespace(vae=None, rnn=tanh_of_action(), initial_z=first_frames(rng))
    game = types.SimpleNamespace(config=config, pay=PAY)
    monkeypatch.setattr(gym_envs, "_load", lambda *_: (game, loaded))
    envs = gym_envs.DreamVectorEnv("toy", 2, autoreset_mode="SameStep")
    envs.reset(seed=1000)
    wanted = np.transpose([by_hand(row[:3]) for row in ACTIONS.T])
    for _ in range(2):
        found = [envs.step(action[:, np.newaxis])[1] for action in ACTIONS[:3]]
        np.testing.assert_allclose(found, wanted, rtol=1e-4)
    loaded.rnn = random_rnn(rng, mdnrnn.Shape(3, 1, 4, False))
    env = gym_envs.DreamEnv("toy")
    env.reset(seed=1000)
    assert env.step(np.float32([0.5]))[1] == 0.0


def test_evolution_in_the_dream_without_heads_is_refused(tmp_path):
    """In one line, before anything is written. The weights that ship have no heads."""
    command = [sys.executable, "train.py", "--world", "dream", "--preset", "smoke", "--run", tmp_path]
    done = subprocess.run(command, cwd=os.path.join(ROOT, "carracing"), capture_output=True, text=True)
    assert done.returncode == 2
    assert "it has no heads" in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1
    assert not os.listdir(tmp_path)


def a_run(tmp_path, rng, length=30):
    """What `dreams.starts` reads of a run with one recorded game."""
    (tmp_path / "series").mkdir()
    path = str(tmp_path / "series" / "series.npz")
    files.write_npz(
        path,
        mu=rng.normal(0, 1, (length, 3)).astype(np.float16),
        logvar=np.full((length, 3), -40, np.float16),
        action=np.zeros((length, 1), np.float16),
        reward=np.ones(length, np.float32),
        done=np.zeros(length, bool),
        length=np.array([length], np.int32),
        recording=np.array(["2000"]),
        bytes=np.array([1]),
    )
    loaded = types.SimpleNamespace(rnn=tanh_of_action(), hashes={"vae": "v"}, paths={"vae": "vae", "rnn": "rnn"})
    return loaded, types.SimpleNamespace(run=str(tmp_path), unverified=True)


def test_a_horizon_longer_than_the_recordings_is_refused(tmp_path, rng):
    """Catches dreams of a length that the MDN-RNN has never seen."""
    loaded, arguments = a_run(tmp_path, rng)
    cfg = types.SimpleNamespace(horizon=31, starts=10, start_games=5, seed_start=1)
    with pytest.raises(
        UserError, match=r"--horizon 31: of the last [0-9]+ recorded games in .* the longest has 30 steps"
    ):
        dreams.starts(find("carracing"), cfg, arguments, loaded, [loaded.rnn], provenance.Parents({}, False))
    cfg.horizon, parents = 30, provenance.Parents({}, False)
    (pool,) = dreams.starts(find("carracing"), cfg, arguments, loaded, [loaded.rnn], parents)
    assert len(pool.age) == 10
    assert parents.hashes["series"] == files.sha256(str(tmp_path / "series" / "series.npz"))
