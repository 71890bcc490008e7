"""common/worlds/gym_envs.py: the dreams as Gymnasium has environments, by its own checker and against DreamWorld."""

import copy
import functools
import os
import pickle
import subprocess
import sys
import warnings

import gymnasium
import numpy as np
import pytest
import tensorflow as tf
from gymnasium.utils.env_checker import check_env
from gymnasium.vector import AutoresetMode

from common.agent import mdnrnn, models, vae
from common.runtime.cli import UserError
from common.worlds import gym_envs
from common.worlds.dream import NOISE_STEPS, DreamWorld

from doomrnn import config

GAMES = {"DoomTakeCover": (1, True), "CarRacing": (3, False)}  # action_size, restart
Z, H = 4, 6


def small_models(action_size, restart):
    """A V, an M and first frames of small size; M's restart logit follows the action: a positive one ends the dream."""
    rng = np.random.default_rng(1000)
    v, m = vae.ConvVAE(Z, "float32"), mdnrnn.MDNRNN(mdnrnn.Shape(Z, action_size, H, restart), "float32")
    kernel, bias, output_w, output_b = (rng.normal(0, 0.5, variable.shape) for variable in m.variables)
    if restart:
        kernel[:, H], kernel[Z, H] = 0, 10  # the second gate block's first column: candidate j of cell 0
        bias[[0, 3 * H]], bias[2 * H], bias[H] = 20, -20, 0  # cell 0: gates i and o open, f shut
        output_w[:, 0], output_w[0, 0], output_b[0] = 0, 1, 0
    m.set_weights([kernel, bias, output_w, output_b])
    first = rng.normal(0, 1, (2, 20, Z)).astype(np.float32)
    return v, m, (first[0], first[1] - 2)


def use_small_models(monkeypatch, action_size, restart):
    """Environments dream with small models instead of those of the run."""
    v, m, initial_z = small_models(action_size, restart)
    monkeypatch.setattr(models, "load_run", lambda game, run, unverified: models.Models(v, m, initial_z, {}, {}, {}))
    gym_envs._loaded.cache_clear()


@pytest.fixture(params=GAMES)
def name(request, monkeypatch):
    """A game's environment id, its weights replaced by small ones."""
    use_small_models(monkeypatch, *GAMES[request.param])
    yield f"WorldModels/{request.param}Dream-v0"
    gym_envs._loaded.cache_clear()


@pytest.fixture
def doom(monkeypatch):
    """The Doom dream's id, its weights replaced by small ones, its time limit 100 steps."""
    use_small_models(monkeypatch, 1, True)
    monkeypatch.setattr(config, "MAX_STEPS", 100)
    yield "WorldModels/DoomTakeCoverDream-v0"
    gym_envs._loaded.cache_clear()


def test_gymnasiums_checker_passes(name):
    """Catches whatever Gymnasium's checker knows of; its one warning left is that z is unbounded."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        warnings.filterwarnings("ignore", message=".*A Box observation space m(in|ax)imum value is.*infinity")
        env = gymnasium.make(name, render_mode="rgb_array")
        check_env(env.unwrapped)
        vector = gymnasium.make_vec(name, num_envs=2)
    assert vector.metadata["autoreset_mode"] is AutoresetMode.NEXT_STEP


def test_spaces_are_the_games(name):
    """Catches C's tanh values offered where the game's actions belong, and a picture that is not one."""
    env = gymnasium.make(name, render_mode="rgb_array")
    low, high = ([-1], [1]) if "Doom" in name else ([-1, 0, 0], [1, 1, 1])
    assert env.action_space.low.tolist() == low
    assert env.action_space.high.tolist() == high
    observation, _ = env.reset(seed=1000)
    assert observation.shape == env.observation_space.shape == (Z + H,)
    assert env.metadata["render_fps"] == (35 if "Doom" in name else 50)
    picture = env.render()
    decoded = env.unwrapped._dreams._vae.decode(observation[None, :Z])[0]
    assert picture.dtype == np.uint8
    np.testing.assert_allclose(picture / 255, decoded, atol=0.51 / 255)


def test_a_seed_is_dream_worlds_dream(doom, rng):
    """Catches other noise, another start, another temperature, another restart flag; few steps, as dreams diverge."""
    _, m, initial_z = small_models(1, True)
    world = DreamWorld(m, initial_z, 1.25, 100)
    env, actions = gymnasium.make(doom), rng.uniform(-1, 0, (5, 1)).astype(np.float32)
    z, h, _ = world.reset([1003])
    observation, _ = env.reset(seed=1003)
    for action in actions:
        np.testing.assert_allclose(observation, np.concatenate([z[0], h[0]]), atol=1e-4)
        (z, h, _), *_ = world.step(action[None])
        observation, reward, terminated, truncated, _ = env.step(action)
        assert (reward, terminated, truncated) == (1.0, False, False)
    assert env.step([1.0])[2]


def test_noise_goes_on_as_dream_worlds_beyond_its_first_block(doom):
    """Catches a block of noise used twice: M's prediction is made of noise alone, so that dreams do not diverge."""
    _, m, initial_z = small_models(1, True)
    env = gymnasium.make_vec(doom, num_envs=2)
    for rnn in (m, env._dreams._rnn):
        kernel, bias, output_w, output_b = rnn.get_weights()
        rnn.set_weights([kernel, bias, output_w * (np.arange(output_w.shape[1]) == 0), output_b])
    env._dreams._weights = env._dreams._rnn.prepared()
    world = DreamWorld(m, initial_z, 1.25, 100)
    world.reset([1000, 1001])
    env.reset(seed=1000)
    action = np.full((2, 1), -0.5, np.float32)
    for _ in range(NOISE_STEPS + 5):
        (z, h, _), *_ = world.step(action)
        observations, *_ = env.step(action)
        np.testing.assert_allclose(observations, tf.concat([z, h], axis=1), atol=1e-4)


def test_a_dream_is_truncated_at_the_games_limit_and_terminated_by_m(doom):
    """Catches the two ends confused: value functions bootstrap from a truncated state only."""
    env = gymnasium.make(doom)
    env.reset(seed=1000)
    ends = [env.step([-1.0])[2:4] for _ in range(100)]
    assert ends == [(False, False)] * 99 + [(False, True)]
    env.reset(seed=1000)
    assert env.step([1.0])[2:4] == (True, False)


def test_carracings_dream_gives_no_reward(name):
    """Catches Doom's reward of 1 per step given to a game whose M does not know the reward."""
    env = gymnasium.make(name)
    env.reset(seed=1000)
    assert env.step(env.action_space.low)[1] == (1.0 if "Doom" in name else 0.0)


def test_rows_are_single_dreams_and_begin_anew_at_the_next_step(doom):
    """Catches rows that know of each other, and an autoreset that loses an observation or pays for it."""
    env, single = gymnasium.make_vec(doom, num_envs=3), gymnasium.make(doom)
    start, _ = env.reset(seed=1000)
    lively = np.full((3, 1), -0.5, np.float32)
    deadly = np.float32([[-0.5], [1], [-0.5]])
    last, reward, terminated, truncated, info = env.step(deadly)
    assert terminated.tolist() == [False, True, False]
    assert reward.tolist() == [1, 1, 1]
    assert info == {}
    for row, action in enumerate(deadly):
        np.testing.assert_allclose(single.reset(seed=1000 + row)[0], start[row], atol=1e-6)
        np.testing.assert_allclose(single.step(action)[0], last[row], atol=1e-5)
    fresh, reward, terminated, truncated, _ = env.step(deadly)
    assert reward.tolist() == [1, 0, 1]
    assert not (terminated | truncated).any()
    assert not fresh[1, Z:].any()  # h is zero where a dream begins
    assert fresh[[0, 2], Z:].all()
    after, reward, *_ = env.step(lively)
    assert reward.tolist() == [1, 1, 1]
    assert after[1, Z:].all()
    again, _ = env.reset(seed=1000)
    np.testing.assert_array_equal(again, start)


def test_a_seed_begins_its_dream_right_after_an_end_too(doom):
    """Catches a first step that is not dreamt, because the dream before it had ended."""
    env, lively = gymnasium.make_vec(doom, num_envs=2), np.full((2, 1), -0.5, np.float32)
    env.reset(seed=1000)
    wanted = env.step(lively)
    env.reset(seed=1000)
    assert env.step(np.float32([[-0.5], [1]]))[2].tolist() == [False, True]
    env.reset(seed=1000)
    for found, known in zip(env.step(lively)[:2], wanted[:2], strict=True):
        np.testing.assert_array_equal(found, known)


def test_rows_that_begin_together_dream_different_dreams(doom):
    """Catches a batch of copies of one dream, in the first reset or after an end."""
    env = gymnasium.make_vec(doom, num_envs=3)
    first, _ = env.reset()
    env.step(np.ones((3, 1), np.float32))
    again, *_ = env.step(np.ones((3, 1), np.float32))
    assert len(np.unique(np.concatenate([first, again]), axis=0)) == 6


def test_rows_begin_anew_in_the_same_step_if_asked_to(doom):
    """Catches a last observation that is lost, or is that of another row or of the new dream."""
    same = gymnasium.make_vec(doom, num_envs=3, autoreset_mode="SameStep")
    later = gymnasium.make_vec(doom, num_envs=3)
    assert same.metadata["autoreset_mode"] is AutoresetMode.SAME_STEP
    deadly = np.float32([[-0.5], [1], [-0.5]])
    for env in (same, later):
        env.reset(seed=1000)
    observations, reward, terminated, _, info = same.step(deadly)
    last, *_ = later.step(deadly)
    fresh, *_ = later.step(deadly)
    assert terminated.tolist() == info["_final_obs"].tolist() == [False, True, False]
    assert reward.tolist() == [1, 1, 1]
    np.testing.assert_array_equal(info["final_obs"][1], last[1])
    np.testing.assert_array_equal(observations[1], fresh[1])
    np.testing.assert_array_equal(observations[[0, 2]], last[[0, 2]])
    with pytest.raises(ValueError, match="SameStep"):
        gymnasium.make_vec(doom, num_envs=3, autoreset_mode="Disabled")


def test_what_follows_a_seed_follows_from_it(doom):
    """Catches dreams after the first drawn from the clock, and test seeds given to training."""
    runs = []
    for _ in range(2):
        env = gymnasium.make(doom)
        env.reset(seed=1000)
        runs.append([env.reset()[0] for _ in range(3)])
    np.testing.assert_array_equal(*runs)
    assert len(np.unique(runs[0], axis=0)) == 3
    assert gym_envs.SEEDS == (2000, 400_000)


@pytest.mark.parametrize("unverified", [True, False])
def test_the_models_are_those_of_the_run_that_is_named(doom, monkeypatch, tmp_path, unverified):
    """Catches models that ship in the place of a run's own, and `unverified` without effect, or that is on for all."""
    asked, load = [], models.load_run
    monkeypatch.setattr(models, "load_run", lambda game, *more: [asked.append(more), load(game, *more)][1])
    for run in (str(tmp_path), None):
        gymnasium.make(doom, run=run, unverified=unverified)
        gymnasium.make_vec(doom, num_envs=2, run=run, unverified=unverified)
    assert asked == [(str(tmp_path), unverified), (os.path.dirname(os.path.abspath(config.__file__)), unverified)]


COPIES = {"pickle": lambda env: pickle.loads(pickle.dumps(env)), "deepcopy": copy.deepcopy}


@pytest.mark.parametrize("how", COPIES)
@pytest.mark.parametrize("make", [gymnasium.make, functools.partial(gymnasium.make_vec, num_envs=2)])
def test_a_copy_of_an_environment_dreams_the_same(doom, make, how):
    """Catches "cannot pickle PyCapsule", and a copy that forgets its temperature or number of dreams."""
    env = make(doom, temperature=0.5)
    twin = COPIES[how](env)
    starts = [each.reset(seed=1003)[0] for each in (env, twin)]
    np.testing.assert_array_equal(*starts)
    action = np.full(env.action_space.shape, -0.5, np.float32)
    for _ in range(3):
        np.testing.assert_array_equal(*(each.step(action)[0] for each in (env, twin)))


@pytest.mark.parametrize("how", COPIES)
@pytest.mark.parametrize("make", [gymnasium.make, functools.partial(gymnasium.make_vec, num_envs=2)])
def test_an_environment_and_its_copy_have_to_be_reset(doom, make, how):
    """Catches a KeyError instead of Gymnasium's own error."""
    env = make(doom)
    with pytest.raises(gymnasium.error.ResetNeeded):
        env.step(env.action_space.sample())
    env.reset(seed=1000)
    env.step(env.action_space.sample())
    with pytest.raises(gymnasium.error.ResetNeeded):
        COPIES[how](env).step(env.action_space.sample())


def test_seeds_of_some_rows_may_be_left_out(doom):
    """Catches a TypeError for what Gymnasium's signature allows, and a row without seed that is always the same."""
    env = gymnasium.make_vec(doom, num_envs=3)
    found = [env.reset(seed=seeds)[0] for seeds in ([None, 7, None], [None, 7, None], [None, 8, 7], [None] * 3)]
    np.testing.assert_array_equal(found[0], found[1])
    np.testing.assert_array_equal(found[0][1], found[2][2])
    assert not np.array_equal(found[0][0], found[0][2])
    assert not np.array_equal(found[2], found[3])


def test_no_dreams_are_no_environment(doom):
    """Catches an environment of no rows, which fails later or never."""
    with pytest.raises(UserError, match="num_envs 0: give 1 or more"):
        gymnasium.make_vec(doom, num_envs=0)


def test_models_that_were_trained_anew_are_loaded_anew(doom, monkeypatch, tmp_path):
    """Catches a notebook that goes on dreaming in the models of before."""
    asked, load, path = [], models.load_run, tmp_path / "rnn.json"
    monkeypatch.setattr(models, "load_run", lambda game, *more: [asked.append(more), load(game, *more)][1])
    monkeypatch.setattr(models, "sets", lambda game, run: [{"rnn": str(path)}])
    for text, loaded in (("a", 1), ("a", 1), ("bb", 2)):
        if not path.exists() or path.read_text() != text:
            path.write_text(text)
        gymnasium.make(doom, run=str(tmp_path))
        assert len(asked) == loaded


@pytest.mark.parametrize("how", COPIES)
def test_a_copy_of_a_vector_has_its_mode_and_may_read_what_it_may(doom, monkeypatch, how):
    """Catches a copy that begins anew at the next step instead, and one that refuses the models of the first."""
    asked, load = [], models.load_run
    monkeypatch.setattr(models, "load_run", lambda game, *more: [asked.append(more[-1]), load(game, *more)][1])
    env = gymnasium.make_vec(doom, num_envs=2, autoreset_mode="SameStep", unverified=True)
    twin = COPIES[how](env)
    twin.reset(seed=1000)
    assert "final_obs" in twin.step(np.ones((2, 1), np.float32))[4]
    assert set(asked) == {True}


@pytest.mark.parametrize("how", COPIES)
def test_a_copy_of_an_environment_is_seen_and_may_read_what_it_may(doom, monkeypatch, how):
    """Catches a copy without pictures, and one that refuses the models of the first."""
    asked, load = [], models.load_run
    monkeypatch.setattr(models, "load_run", lambda game, *more: [asked.append(more[-1]), load(game, *more)][1])
    twin = COPIES[how](gymnasium.make(doom, render_mode="rgb_array", unverified=True))
    twin.reset(seed=1000)
    assert twin.render().shape == (64, 64, 3)
    assert set(asked) == {True}


@pytest.mark.filterwarnings("ignore::UserWarning")  # with which Gymnasium shows the errors of its workers
def test_a_fork_is_refused_with_what_to_do(doom):
    """Catches workers of AsyncVectorEnv that hang for ever in TensorFlow, which does not survive a fork."""
    env = gymnasium.make_vec(doom, num_envs=2, vectorization_mode="async", vector_kwargs={"context": "fork"})
    env.reset_async(seed=1000)
    with pytest.raises(UserError, match='context="spawn"'):
        env.reset_wait(timeout=60)


def test_environments_and_models_in_a_forked_process_say_what_to_do(doom, monkeypatch):
    """Catches the same for an environment made before the fork, and one with models that are not loaded yet."""
    env, vector = gymnasium.make(doom), gymnasium.make_vec(doom, num_envs=2)
    for each in (env, vector):
        each.reset(seed=1000)
    monkeypatch.setattr(gym_envs, "PROCESS", os.getpid() + 1)
    for call in (env.reset, vector.reset, lambda: env.step([0.0]), lambda: vector.step(np.zeros((2, 1)))):
        with pytest.raises(UserError, match="spawn"):
            call()
    gym_envs._loaded.cache_clear()
    for name in ("DoomTakeCoverDream", "CarRacingDream"):
        with pytest.raises(UserError, match="spawn"):
            gymnasium.make(f"WorldModels/{name}-v0")
    with pytest.raises(UserError, match="spawn"):
        gymnasium.make("WorldModels/PlanetDream-v0", game="carracing")


@pytest.mark.parametrize("temperature", [0, -1, np.nan, np.inf])
def test_a_temperature_has_a_range(doom, temperature):
    """Catches dreams of NaN, and of the first component of every mixture for ever."""
    for make in (gymnasium.make, functools.partial(gymnasium.make_vec, num_envs=2)):
        with pytest.raises(UserError, match=f"temperature {temperature}: give a number from 0.01 to 100"):
            make(doom, temperature=temperature)


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_an_action_that_is_not_finite_is_an_error(name, bad):
    """Catches a dream that is NaN for ever, with a reward for every step."""
    env, vector = gymnasium.make(name), gymnasium.make_vec(name, num_envs=2)
    for each in (env, vector):
        each.reset(seed=1000)
        action = np.zeros(each.action_space.shape, np.float32)
        action[-1] = bad
        with pytest.raises(ValueError, match="action is not finite"):
            each.step(action)


def test_an_action_of_another_shape_is_an_error(name):
    """Catches 30 lines of TensorFlow about the product of two shapes."""
    env, vector = gymnasium.make(name), gymnasium.make_vec(name, num_envs=2)
    size = env.action_space.shape[0]
    for each, shapes in ((env, [(size + 1,), (1, size), ()]), (vector, [(2, size + 1), (3, size), (size,)])):
        each.reset(seed=1000)
        for shape in shapes:
            with pytest.raises(ValueError, match="actions have the shape"):
                each.unwrapped.step(np.zeros(shape, np.float32))


def test_a_dream_that_is_not_finite_is_an_error(doom):
    """Catches broken models: nobody would die in their dreams."""
    env = gymnasium.make(doom)
    env.reset(seed=1000)
    env.unwrapped._made._c[:] = np.nan
    with pytest.raises(ValueError, match="not finite any more"):
        env.step([-0.5])


def test_a_run_without_weights_is_one_clear_line(tmp_path, monkeypatch):
    """Catches a traceback from within json or numpy where a copy of the game has no weights."""
    monkeypatch.setattr(config, "SHIPPED", ())
    with pytest.raises(UserError, match=r"neither .*rnn\.json nor weights that ship are there; train them first"):
        gym_envs.DreamEnv("doomrnn", run=str(tmp_path))


def test_what_is_no_game_is_one_clear_line():
    """Catches a traceback for a mistyped name, and a mistake within a game's own files taken for one."""
    with pytest.raises(UserError, match=r"chess: no such game.*docs/new_game\.md"):
        gymnasium.make("WorldModels/Dream-v0", game="chess")


def test_a_package_that_a_game_lacks_is_not_a_game_that_is_not_there(tmp_path, monkeypatch):
    """Catches a game that is there, but said not to be, because a package that it imports is missing."""
    (tmp_path / "draughts").mkdir()
    (tmp_path / "draughts" / "__init__.py").touch()
    (tmp_path / "draughts" / "game.py").write_text("import a_package_that_is_not_installed\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    with pytest.raises(ModuleNotFoundError, match="a_package_that_is_not_installed"):
        gymnasium.make("WorldModels/Dream-v0", game="draughts")


def test_registration_is_small():
    """Catches TensorFlow loaded by `import common`: every recorder process would pay 215 MB for it."""
    code = "import common, gymnasium, sys; print('tensorflow' in sys.modules, *gymnasium.registry)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    loaded, *names = done.stdout.split()
    assert loaded == "False"
    assert {f"WorldModels/{name}Dream-v0" for name in GAMES} < set(names)


def test_a_run_that_is_not_there_is_named():
    """Catches a mistyped run that is replaced silently by the weights that ship."""
    with pytest.raises(UserError, match=r"nowhere.*no such folder"):
        gymnasium.make("WorldModels/DoomTakeCoverDream-v0", run="nowhere")


@pytest.mark.parametrize("make", [gymnasium.make, functools.partial(gymnasium.make_vec, num_envs=1)])
def test_the_temperature_is_passed_on(doom, make):
    """Catches a dream that is always at the temperature of the game."""
    _, m, initial_z = small_models(1, True)
    worlds = {t: DreamWorld(m, initial_z, t, 100) for t in (0.5, 1.25)}
    dreamt = {}
    for temperature, world in worlds.items():
        world.reset([1003])
        (z, _, _), *_ = world.step(np.float32([[-0.5]]))
        dreamt[temperature] = z[0].numpy()
    for options, temperature in (({}, 1.25), ({"temperature": 0.5}, 0.5)):
        env = make(doom, **options)
        env.reset(seed=1003)
        action = np.float32([-0.5]) if make is gymnasium.make else np.float32([[-0.5]])
        observation = np.reshape(env.step(action)[0], -1)
        np.testing.assert_allclose(observation[:Z], dreamt[temperature], atol=1e-4)
    assert np.abs(dreamt[0.5] - dreamt[1.25]).max() > 0.01
