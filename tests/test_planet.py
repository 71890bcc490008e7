"""PlaNet's loop: its memory of episodes, its resumption, its command line, and a task of pixels that it solves."""

import dataclasses
import gc
import json
import os
import shutil
import subprocess
import sys
import types

import gymnasium
import numpy as np
import pytest
import tensorflow as tf
from gymnasium.utils.env_checker import check_env
from PIL import Image

from common.agent import planet as files_planet
from common.agent import rssm
from common.agent.planner import Planner, Search
from common.agent.rssm import RSSM, Shape, State
from common.data import recordings
from common.data.replay import Replay
from common.game import Game, find
from common.play import planet as play_planet
from common.runtime import files, provenance, seeds, settings
from common.runtime.cli import UserError
from common.training import planet, ship
from common.worlds import games, rollouts, rssm_dreams
from common.worlds.believed import BelievedGames, Planning

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
SIZE, DOT, SPEED, STEPS = 64, 7, 8, 16


class DotGame:
    """A white dot, which begins anywhere, is to be moved onto a dark one. Reward is how close it is, from 0 to 1."""

    def reset(self, seed):
        rng = np.random.default_rng([int(seed), 7])
        self._dot, self._target, self._steps = rng.uniform(DOT, SIZE - DOT, 2), np.array([20.0, 40.0]), 0
        return self._look()

    def step(self, action):
        self._dot = np.clip(self._dot + SPEED * np.asarray(action, float), DOT, SIZE - DOT)
        self._steps += 1
        distance = np.linalg.norm(self._dot - self._target)
        return self._look(), float(np.exp(-distance / 12)), self._steps >= STEPS

    def _look(self):
        frame = np.full((SIZE, SIZE, 3), 128, np.uint8)
        for (x, y), color in ((self._target, 0), (self._dot, 255)):
            x, y = int(x), int(y)
            frame[y - DOT : y + DOT, x - DOT : x + DOT] = color
        return frame


class Uniform(rollouts.RandomActions):
    """Uniform actions."""

    def __init__(self, seeds, cfg):
        super().__init__(seeds, (-1, -1), (1, 1))


PLANET = settings.Planet(
    action_repeat=1, episodes=172, random_episodes=60, rows=16, updates=60, noise=0.3,
    horizon=6, iterations=4, candidates=100, elite=10,
    deterministic=64, stochastic=12, hidden=64, head=64, depth=8,
    batch_size=20, sequence_length=10, decoded_share=0.5, learning_rate=2e-3, free_nats=1.0,
    validation_episodes=32, seed=1,
)  # fmt: skip


def dot_game(**presets):
    """A game as the rest of the code knows it."""
    config = types.SimpleNamespace(
        GAME="dot", __file__=__file__, MAX_STEPS=STEPS, FPS=10, ACTION_SIZE=2, ACTION_LOW=(-1.0, -1.0),
        ACTION_HIGH=(1.0, 1.0), RESTART=False, EXTRACT={"laptop": None}, PLANET={"laptop": PLANET} | presets,
    )  # fmt: skip
    return Game(
        config, "dot", "", {}, {}, {}, lambda keys: None,
        lambda rows, backend, **rules: games.Games([DotGame() for _ in range(rows)]), {"uniform": Uniform},
        ("dots", "other"),
    )  # fmt: skip


def trained(game, run, *flags):
    planet.train(game, "", ["--run", str(run), *flags])


@pytest.fixture(scope="module")
def solved(tmp_path_factory):
    """A run of the whole loop on the dots."""
    run = tmp_path_factory.mktemp("dot")
    trained(dot_game(), run)
    return run


def test_it_solves_a_task_of_pixels_that_random_actions_fail(solved):
    """Catches a loop that runs but does not learn to act: the planner must come and stay close to the target."""
    game = dot_game()
    agent, episodes = play_planet.load(game, str(solved)), np.arange(1000, 1040)
    made = games.Games([DotGame() for _ in episodes])
    random, _ = rollouts.rollout(made, Uniform(episodes, None), episodes)
    planned, lengths = rollouts.rollout(agent.world(made), agent.policy(agent.planner(), episodes), episodes)
    assert (lengths == STEPS).all()
    assert random.mean() < 0.3 * STEPS
    assert planned.mean() > 0.6 * STEPS


# --- memory ---


def counted(steps, repeat=1, action_size=1, limit=100.0, mortal=0, done=True, most=10_000, fall=0.0):
    """A replay of one episode, the frames, actions and rewards of which tell their step: 10, 11, 12, ..."""
    ends = {"end_before": mortal} if mortal else {"fall_below": fall} if fall else {}
    replay, count = Replay(action_size, repeat, limit, most, **ends), np.arange(10, 10 + steps)
    obs = np.broadcast_to(count[:, None, None, None], (steps, 64, 64, 3)).astype(np.uint8)
    reward = count.astype(np.float32)
    reward[-1] += 2 * fall
    replay.add(obs, np.float32(count[:, None] / 100), reward, done)
    return replay


def test_a_row_holds_a_frame_and_what_led_to_it(rng):
    """Catches actions or rewards a step early or late, and a first row that knows of an action before it."""
    frames, action, reward, end, known = counted(6).sample(1, 6, rng)
    assert frames[:, 0, 0, 0, 0].tolist() == [10, 11, 12, 13, 14, 15]
    np.testing.assert_allclose(action[:, 0, 0], [0, 0.10, 0.11, 0.12, 0.13, 0.14], atol=1e-6)
    assert reward[:, 0].tolist() == [0, 10, 11, 12, 13, 14]
    assert end.sum() == 0
    assert known.sum() == 6


def test_action_repeat_sums_rewards_and_keeps_the_first_frame(rng):
    """Catches a reward of the last step alone, and a frame that is not the one the action was chosen at."""
    frames, action, reward, _, known = counted(7, repeat=3).sample(1, 3, rng)
    assert frames[:, 0, 0, 0, 0].tolist() == [10, 13, 16]
    np.testing.assert_allclose(action[:, 0, 0], [0, 0.11, 0.14], atol=1e-6)
    assert reward[:, 0].tolist() == [0, 33, 42]
    assert known.all()


def test_an_end_has_a_row_without_a_frame(rng):
    """Catches an end that is not told, told a step early, or told of an episode that only ran out of time."""
    frames, action, reward, end, known = counted(4, mortal=9).sample(1, 6, rng)
    assert end[:, 0].tolist() == [0, 0, 0, 0, 1, 0]
    assert known[:, 0].tolist() == [1, 1, 1, 1, 0, 0]
    assert reward[4, 0] == 13
    assert action[4, 0, 0] == pytest.approx(0.13)
    assert frames[4:].max() == 0
    for other in (counted(4), counted(4, mortal=4), counted(4, mortal=9, done=False)):
        assert other.sample(1, 6, rng)[3].sum() == 0


def test_a_last_reward_that_is_a_fall_is_an_end(rng):
    """Catches the -100 for leaving the field of CarRacing, which no frame follows and nobody would learn."""
    _, _, reward, end, known = counted(4, repeat=3, limit=12.5, fall=-50.0).sample(1, 4, rng)
    assert end[:, 0].tolist() == [0, 0, 1, 0]
    assert known[:, 0].tolist() == [1, 1, 0, 0]
    assert reward[:, 0].tolist() == [0, 33, -12.5, 0]


def test_both_games_have_an_end_to_foresee(rng):
    """Catches a game, or a model of it, that is told of no end: each has one way to lose, which the other has not."""
    for name, fall, told in (("carracing", -100.0, [1, 0]), ("doomrnn", 0.0, [1, 1])):
        game = find(name)
        cfg = dataclasses.replace(game.config.PLANET["smoke"], action_repeat=1)
        assert planet.shape_of(game, cfg).end
        found = []
        for last in (fall, 1.0):
            replay = planet.new_replay(game, cfg)
            frames, action = np.zeros((4, 64, 64, 3), np.uint8), np.zeros((4, game.config.ACTION_SIZE), np.float32)
            replay.add(frames, action, np.array([1, 1, 1, last], np.float32), True)
            found.append(replay.sample(1, 5, rng)[3].sum())
        assert found == told


def test_every_step_is_as_likely_as_any_other_even_the_end(rng):
    """Catches ends that hardly any chunk reaches: their share of the rows must not be below that of a middle step."""
    chunks = counted(30, mortal=99).sample(4000, 5, rng)
    seen = np.bincount(chunks[0][..., 0, 0, 0][chunks[4] > 0], minlength=40)[10:]
    middle = seen[10:20].mean()
    assert chunks[3].sum() == pytest.approx(middle, rel=0.1)
    assert seen.min() > 0.9 * middle


@pytest.mark.parametrize("inside", [True, False])
def test_chunks_begin_anywhere_in_every_episode(rng, inside):
    """Catches chunks that are the last of their episode in all but the first one, and an end taken for a beginning."""
    replay = counted(6)
    replay.add(np.full((6, 64, 64, 3), [[[[30 + k]]] for k in range(6)], np.uint8), np.zeros((6, 1)), np.zeros(6), True)
    first = replay.sample(3000, 4, rng, inside=inside)[0][0, :, 0, 0, 0]
    found, counts = np.unique(first, return_counts=True)
    assert found.tolist() == [10, 11, 12, 30, 31, 32]
    assert np.abs(counts[:3] - counts[3:]).max() < 5 * 1000**0.5
    if inside:
        assert np.abs(counts - 500).max() < 5 * 500**0.5


@pytest.mark.parametrize("done", [True, False])
def test_a_recording_that_was_cut_has_no_end(tmp_path, rng, done):
    """Catches a recording that was cut, or whose time was up, from which a model learns that the player died there."""
    recordings.write(str(tmp_path), 2000, np.zeros((4, 64, 64, 3)), np.zeros(4), np.ones(4), done & (np.arange(4) == 3))
    replay = Replay(1, 1, 10.0, 100, end_before=9)
    assert replay.read(str(tmp_path / "2000.npz")) == 4
    assert replay.sample(1, 6, rng)[3].sum() == done


def test_half_of_the_chunks_are_mirrored_with_their_actions(rng):
    """Catches frames upside down, an action that is not turned, one part of it too many, and all chunks or none."""
    replay = Replay(2, 1, 10.0, 100, mirror=(-1.0, 1.0))
    obs = np.zeros((6, 64, 64, 3), np.uint8)
    obs[:, 5, 9] = 200  # a point above, to the left
    replay.add(obs, np.tile(np.float32([0.25, 0.75]), (6, 1)), np.arange(6.0), True)
    frames, action, reward, _, known = replay.sample(400, 6, rng)
    turned = action[1, :, 0] < 0
    assert 0.4 < turned.mean() < 0.6
    np.testing.assert_array_equal(action[1:, :, 0], np.where(turned, -0.25, 0.25)[None].repeat(5, 0))
    assert (action[1:, :, 1] == 0.75).all()
    assert (frames[:, turned, 5, 54] == 200).all()
    assert (frames[:, ~turned, 5, 9] == 200).all()
    assert (frames == 200).sum() == 6 * 400 * 3
    assert (reward[:, 0] == [0, 0, 1, 2, 3, 4]).all()
    assert known.all()
    assert obs[0, 5, 9, 0] == 200  # what is remembered stays as it is


def test_rewards_are_cut_and_old_episodes_forgotten(rng):
    """Catches a -100 that swamps all other rewards, and a memory that grows without end."""
    replay = counted(5, limit=12.5, most=11)
    assert replay.sample(1, 5, rng)[2][:, 0].tolist() == [0, 10, 11, 12, 13]  # above, nothing is cut
    for fill in (1, 2):
        replay.add(np.full((5, 64, 64, 3), fill, np.uint8), np.zeros((5, 1), np.float32), np.full(5, -99.0), True)
    assert len(replay) == 2
    assert replay.frames == 10
    frames, _, reward, _, _ = replay.sample(50, 5, rng)
    assert set(np.unique(frames)) == {1, 2}
    assert reward.min() == -12.5


def test_recordings_that_cannot_be_learned_from_are_named(tmp_path):
    """Catches hours of learning that no action ever brings anything, and a traceback."""
    replay, path = Replay(1, 1, 10.0, 100), str(tmp_path / "2000.npz")
    np.savez(path, obs=np.zeros((3, 64, 64, 3), np.uint8), action=np.zeros(3, np.float16))
    with pytest.raises(UserError, match=r"2000.npz: holds no done and no reward, from which to learn"):
        replay.read(path)
    recordings.write(str(tmp_path), 2000, np.zeros((3, 64, 64, 3)), np.zeros((3, 2)), np.zeros(3), np.zeros(3))
    with pytest.raises(UserError, match=r"2000.npz: has 2 action.s., not 1"):
        replay.read(path)
    with open(path, "wb") as file:
        file.write(b"PK nonsense")
    with pytest.raises(UserError, match=r"2000.npz: not readable"):
        replay.read(path)


# --- worlds ---


class Counter:
    """A game that paints its step into the frame, notes the actions it is given, and ends after its seed's steps."""

    def reset(self, seed):
        self._end, self._steps, self.actions = int(seed) % 100, 0, []
        return np.full((64, 64, 3), 10, np.uint8)

    def step(self, action):
        self._steps += 1
        self.actions.append(np.array(action))
        return np.full((64, 64, 3), 10 + self._steps, np.uint8), float(self._steps), self._steps >= self._end


def test_a_repeated_action_is_played_until_its_episode_ends():
    """Catches a reward that is lost, rows mixed up when one ends within a step, and steps after an end."""
    made = [Counter() for _ in range(3)]
    world = games.Repeated(games.Games(made), 3)
    assert world.reset([102, 104, 109])[:, 0, 0, 0].tolist() == [10, 10, 10]
    frames, reward, done = world.step([[0.1], [0.2], [0.3]])
    assert frames[:, 0, 0, 0].tolist() == [13, 13]
    assert reward.tolist() == [1 + 2, 6, 6]
    assert done.tolist() == [True, False, False]
    frames, reward, done = world.step([[0.4], [0.5]])
    assert frames[:, 0, 0, 0].tolist() == [16]
    assert reward.tolist() == [4, 4 + 5 + 6]
    assert done.tolist() == [True, False]
    assert [np.concatenate(game.actions).tolist() for game in made] == [
        [0.1] * 2, [0.2] * 3 + [0.4], [0.3] * 3 + [0.5] * 3,
    ]  # fmt: skip


def tiny_model(rng, action_size=1):
    model = RSSM(Shape(action_size, False, deterministic=8, stochastic=3, hidden=8, head=8, depth=1), "float32")
    for variable in model.trainable_variables:
        variable.assign(rng.normal(0, 0.5, variable.shape))
    return model


def test_the_belief_goes_on_with_the_action_that_was_played(rng):
    """Catches a belief updated with the planned action where the noisy one was played, and a frame a step off."""
    model, made = tiny_model(rng), [Counter()]
    planner = Planner(model, Search(2, 2, 20, 4), (-1.0,), (1.0,))
    world, policy = BelievedGames(games.Games(made), model), Planning(planner, [150], noise=0.3)
    state, noise, planned = world.reset([150]), np.random.default_rng([150, 8]), []
    believed = other = model.initial_state(1)
    for t in range(6):
        seen = rssm.image_of(np.full((1, 64, 64, 3), 10 + t, np.uint8))
        played = [made[0].actions[t - 1]] if t else [[0.0]]
        normal, weights = noise.standard_normal((1, 3), np.float32), model.prepared()
        believed = model.observe(weights, believed, tf.constant(played, tf.float32), seen, normal)
        other = model.observe(weights, other, tf.constant([planned[-1]] if t else [[0.0]]), seen, normal)
        np.testing.assert_allclose(state.h, believed.h, atol=1e-5)
        np.testing.assert_allclose(state.s, believed.s, atol=1e-5)
        planned.append(planner.plan(state, t)[0, 0].numpy())
        state, _, _ = world.step(policy.act(state))
    assert np.abs(other.h - believed.h).max() > 1e-3
    differences = np.array(made[0].actions[:6]) - planned
    assert 0.05 < np.abs(differences).mean() < 0.6


def test_when_a_game_ends_the_others_go_on_with_their_own_action(rng):
    """Catches the action of the row that ended taken for that of the next one."""
    model = tiny_model(rng)

    def believed(seeds, action):
        world = BelievedGames(games.Games([Counter() for _ in seeds]), model)
        world.reset(seeds)
        return [world.step(action)[0] for _ in range(2)][1]

    together, alone = believed([102, 109], [[-1.0], [1.0]]), believed([109], [[1.0]])
    np.testing.assert_allclose(together.h, alone.h, atol=1e-5)


def test_an_episode_does_not_depend_on_its_neighbors(rng):
    """Catches noise, beliefs or plans that are mixed up between rows, most of all when some have ended."""
    model = tiny_model(rng)
    planner = Planner(model, Search(2, 2, 20, 4), (-1.0,), (1.0,))

    def actions_of(seeds):
        made = [Counter() for _ in seeds]
        rollouts.rollout(BelievedGames(games.Games(made), model), Planning(planner, seeds, 0.3), seeds)
        return [np.concatenate(game.actions) for game in made]

    together = actions_of([105, 103, 107])
    for seed, action in zip((105, 103, 107), together, strict=True):
        np.testing.assert_allclose(actions_of([seed])[0], action, atol=2e-3)  # float16
    assert np.abs(together[0][:3] - together[1][:3]).max() > 0.01


class Plans:
    """Stands for a planner of CarRacing's ranges; plan number t says t."""

    low, high, width = np.float32([-1, 0]), np.float32([1, 1]), np.float32([1, 0.5])

    def plan(self, state, step, seed_offset=0):
        first = np.tile(np.float32([0.1 * step, 0.5]), (len(state), 1))
        return tf.constant(np.stack([first, first + 0.25], axis=1))


def test_the_first_action_of_each_plan_is_played_as_it_will_be_recorded():
    """Catches a later action of the plan, the noise of one plan for all steps, and more digits than a recording has."""
    policy = Planning(Plans(), [1000, 1001])
    played = [policy.act(np.zeros((2, 1))) for _ in range(3)]
    wanted = [[[np.float16(0.1 * t), 0.5]] * 2 for t in range(3)]
    np.testing.assert_array_equal(played, np.float32(wanted))
    assert played[0].dtype == np.float32


def test_a_policy_plans_with_its_offset():
    """Catches the same draws in every round of episodes, and the offset of one step for another."""
    plans, asked = Plans(), []
    plans.plan = lambda state, *step_and_offset: asked.append(step_and_offset) or Plans.plan(plans, state, 0)
    policy = Planning(plans, [1000], seed_offset=7)
    for _ in range(2):
        policy.act(np.zeros((1, 1)))
    assert asked == [(0, 7), (1, 7)]


def test_the_noise_is_in_halves_of_the_range_and_stays_within_it():
    """Catches a gas that is twice as noisy as the steering, and a brake below zero."""
    policy = Planning(Plans(), range(1000, 3000), noise=0.2)
    actions = policy.act(np.zeros((2000, 1)))
    np.testing.assert_allclose(actions.std(axis=0), [0.2, 0.1], rtol=5 / np.sqrt(2 * 2000))
    loud = Planning(Plans(), range(1000, 3000), noise=3.0).act(np.zeros((2000, 1)))
    assert (loud.min(axis=0).tolist(), loud.max(axis=0).tolist()) == ([-1, 0], [1, 1])


# --- the loop ---

SMALL = dataclasses.replace(
    PLANET, episodes=7, random_episodes=3, rows=2, updates=3, horizon=2, iterations=2, candidates=10, elite=3,
    deterministic=8, stochastic=3, hidden=8, head=8, depth=1, batch_size=2, sequence_length=3, validate_every=2,
    validation_episodes=2, report_every=1,
)  # fmt: skip


def result_of(run):
    with np.load(run / "tf_planet" / "rssm.npz") as archive:
        result = {name: archive[name] for name in archive.files}
    with np.load(run / "tf_planet" / "checkpoint.npz") as archive:
        return result | {f"last_{name}": archive[name] for name in archive.files if name != "seconds"}


def metrics_of(run):
    with open(run / "tf_planet" / "metrics.jsonl") as file:
        return [json.loads(line) for line in file]


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    """A small run of the loop."""
    run = tmp_path_factory.mktemp("undisturbed")
    trained(dot_game(laptop=SMALL), run)
    return run


def test_the_order_of_random_episodes_updates_and_planned_ones(undisturbed):
    """Catches episodes played before the updates that are due, updates left out, validations at other times."""
    rows = metrics_of(undisturbed)
    played = [(row["step"], row["planet/episodes"]) for row in rows if "planet/episodes" in row]
    assert played == [(0, 3), (3, 5), (6, 7)]
    assert [row["step"] for row in rows if "planet/kl" in row] == [1, 2, 3, 4, 5, 6, 7, 8, 9]
    validated = [(row["step"], row["planet/at_episode"]) for row in rows if "planet/validation_return" in row]
    assert validated == [(3, 3), (6, 5), (9, 7)]
    played = sorted(int(name[:-4]) for name in os.listdir(undisturbed / "tf_planet" / "record"))
    assert played == list(range(200_000, 200_007))


def test_the_loop_hands_its_config_to_all_of_its_parts(validated, tmp_path, monkeypatch):
    """Catches another random policy, preset or backend, batches or noise that repeat, an episode too many.

    And a validation with noise or in games of the training, and a result that will be played with another planner.
    """
    scores, _ = validated
    scores += [1.0]
    game, policies, planned, batches, optimizers, played_on = dot_game(small=SMALL), [], [], [], [], []
    asked_for, games_of = [], planet.Learner._real_games
    game.config.EXTRACT = {"laptop": "of laptop", "small": "of small"}

    def policy(episodes, cfg):
        policies.append((episodes.tolist(), cfg))
        return Uniform(episodes, None)

    def train_step_of(model, optimizer, cfg):
        optimizers.append((float(optimizer.learning_rate), optimizer.epsilon, optimizer.global_clipnorm))

        def step(chunks, shown, seed):
            batches.append((chunks.frames.tobytes(), shown.tolist(), seed.tolist()))
            return {"image": 1.0}

        return step

    def plans(self, planner, episodes, noise=0.0, seed_offset=0):
        planned.append((planner, episodes.tolist(), noise, seed_offset))
        return Uniform(episodes, None)

    def real_games(rows, backend, **rules):
        played_on.append(backend)
        return games.Games([DotGame() for _ in range(rows)])

    def noted(self, training, rows):
        asked_for.append((training, rows))
        return games_of(self, training, rows)

    monkeypatch.setattr(planet.Learner, "_real_games", noted)
    monkeypatch.setattr(planet.rssm, "train_step_of", train_step_of)
    monkeypatch.setattr(play_planet.Agent, "planner", lambda self, seed=0: f"planner {seed}")
    monkeypatch.setattr(play_planet.Agent, "policy", plans)
    monkeypatch.setattr(play_planet.Agent, "world", lambda self, played: played)
    game = dataclasses.replace(
        game,
        random_policies=game.random_policies | {"other": policy},
        real_games=real_games,
        backends=("in place of fast",),
        backend_here=lambda name: f"in place of {name}",
    )
    flags = "--policy other --backend fast --noise 0.4 --seed 6 --learning_rate 0.003 --epsilon 0.02 --clip 7"
    flags += " --updates 9 --episodes 4 --decoded_share 0.34 --batch_size 4 --validate_every 0 --action_repeat 2"
    trained(game, tmp_path, "--preset", "small", *flags.split())
    assert policies == [([200_000, 200_001, 200_002], "of small")]
    validation = [seeds.PLANNED_GAMES, seeds.PLANNED_GAMES + 1]
    assert planned == [("planner 6", [200_003], 0.4, 3), ("planner 6", validation, 0.0, 0)]
    np.testing.assert_allclose(optimizers, [(0.003, 0.02, 7)])
    assert played_on == ["in place of fast"] * 3
    assert asked_for == [(True, 3), (True, 1), (False, 2)]
    _, *budget = files_planet.read(str(tmp_path / "tf_planet" / "rssm.npz"), game)
    assert budget == [Search(horizon=2, iterations=2, candidates=10, elite=3), 2]
    assert [seed for *_, seed in batches] == [[6, 4 * step] for step in range(18)]
    assert len({frames for frames, *_ in batches}) == 18
    assert {len(set(shown)) for _, shown, _ in batches} == {4}  # 0.34 of 4 x 3
    assert len({tuple(shown) for _, shown, _ in batches}) > 15


def test_as_many_random_episodes_are_played_as_asked_for(monkeypatch):
    """Catches a whole round of random episodes where fewer are left, and the end of the time recorded as an end."""
    played, recorded = [], []

    def rollout(world, policy, episodes):
        played.append(episodes.tolist())
        return np.zeros(len(episodes)), np.ones(len(episodes))

    monkeypatch.setattr(planet.rollouts, "rollout", rollout)
    monkeypatch.setattr(planet.games, "Recorded", lambda played, write, most=0: recorded.append(most))
    cfg = dataclasses.replace(SMALL, episodes=50, random_episodes=20)
    memory = types.SimpleNamespace(read=lambda path: 10)
    learner = types.SimpleNamespace(_cfg=cfg, _game=dot_game(), _replay=memory, _path=str, _write=None, _recording=None)
    learner.episodes = learner.frames = 0
    learner._real_games = lambda training, rows: None
    for _ in range(2):
        planet.Learner.play(learner)
    assert played == [list(range(200_000, 200_016)), list(range(200_016, 200_020))]
    assert recorded == [STEPS] * 2
    assert (learner.episodes, learner.frames) == (20, 200)


def test_recordings_of_test_games_are_not_learned_from(tmp_path):
    """Catches a model that has seen the games of its score, without a word on the command line."""
    zeros = np.zeros(3)
    recordings.write(str(tmp_path), 1000, np.zeros((3, 64, 64, 3)), np.zeros((3, 2)), zeros, zeros)
    cfg, given = dataclasses.replace(SMALL, recordings=str(tmp_path)), types.SimpleNamespace(run=".", unverified=False)
    with pytest.raises(UserError, match="the seeds 1000 to 1000 are not all for training"):
        planet._given(dot_game(), cfg, given)
    given.unverified = True
    assert planet._given(dot_game(), cfg, given)[2][-1]["unverified"] is True


def test_sizes_are_those_of_the_config(monkeypatch):
    """Catches two sizes exchanged, and a path or a limit without effect."""
    sizes = {"deterministic": 7, "stochastic": 3, "hidden": 5, "head": 4, "depth": 2, "paths": "stochastic"}
    cfg = dataclasses.replace(SMALL, **sizes, horizon=2, iterations=5, candidates=10, elite=3)
    cfg = dataclasses.replace(cfg, action_repeat=3, reward_limit=12.5, memory_frames=99)
    assert planet.shape_of(dot_game(), cfg) == Shape(2, False, **sizes)
    assert planet.check(dot_game(), cfg) == Search(horizon=2, iterations=5, candidates=10, elite=3)
    held = dataclasses.replace(cfg, hold=2, shared_noise=True)
    assert planet.check(dot_game(), held) == Search(2, 5, 10, 3, hold=2, shared_noise=True)
    monkeypatch.setattr(planet, "Replay", lambda *given, **ends: (*given, ends))
    assert planet.new_replay(dot_game(), cfg) == (2, 3, 12.5, 99, None, {})
    cfg = dataclasses.replace(cfg, mirror=True)
    doom, car = (planet.new_replay(find(name), cfg)[-2:] for name in ("doomrnn", "carracing"))
    assert doom == ((-1.0,), {"end_before": 2100})
    assert car == ((-1.0, 1.0, 1.0), {"fall_below": -50.0})


def test_its_meta_says_what_it_was_made_of(undisturbed):
    """Catches a result of which nobody can tell where it comes from."""
    with open(undisturbed / "tf_planet" / "rssm.npz.meta.json") as file:
        meta = json.load(file)
    assert (meta["kind"], meta["game"], meta["seed"]) == ("rssm", "dot", 1)
    assert meta["parents"]["played"]["policy"] == "uniform"
    assert meta["validation"]["first_seed"] == seeds.PLANNED_GAMES
    assert meta["validation"]["n"] == 2
    made_at = meta["parents"]["played"]["episodes"]
    assert meta["real_frames"] == made_at * STEPS


KILLED = """
import os, signal, sys
sys.path.insert(0, "tests")
import test_planet
from common.data import recordings
write = recordings.write
def killing(folder, seed, *arrays):
    write(folder, seed, *arrays)
    if seed == 200_005:
        os.kill(os.getpid(), signal.SIGKILL)
recordings.write = killing
test_planet.trained(test_planet.dot_game(laptop=test_planet.SMALL), sys.argv[1])
"""


def test_a_run_that_was_killed_ends_as_if_it_had_not_been(undisturbed, tmp_path):
    """Catches a memory, an optimizer, noise, a best score or a log that a kill -9 between two episodes changes."""
    done = subprocess.run([sys.executable, "-c", KILLED, tmp_path], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == -9, done.stderr
    assert os.path.exists(tmp_path / "tf_planet" / "record" / "200005.npz")
    trained(dot_game(laptop=SMALL), tmp_path)
    one, other = result_of(undisturbed), result_of(tmp_path)
    assert one.keys() == other.keys()
    for name, array in one.items():
        np.testing.assert_array_equal(array, other[name], err_msg=name)
    assert metrics_of(tmp_path) == metrics_of(undisturbed)


@pytest.mark.parametrize("line", [1, 5, 6, 15])
def test_no_line_is_logged_twice_after_a_kill(undisturbed, tmp_path, monkeypatch, line):
    """Catches episodes and validations that a start logged but did not save, and the next one logs again."""
    log, left = planet.runs.Stage.log, iter(range(line - 1, -1, -1))

    def killing(self, step, **metrics):
        log(self, step, **metrics)
        if not next(left):
            raise InterruptedError  # stands for a kill -9: nothing is saved on the way out

    monkeypatch.setattr(planet.runs.Stage, "log", killing)
    with pytest.raises(InterruptedError):
        trained(dot_game(laptop=SMALL), tmp_path)
    assert len(metrics_of(tmp_path)) == line
    monkeypatch.undo()
    gc.collect()  # of the lock that a process would give up with its end
    trained(dot_game(laptop=SMALL), tmp_path)
    assert metrics_of(tmp_path) == metrics_of(undisturbed)


def test_a_finished_run_goes_on_to_more_episodes(undisturbed, tmp_path, capsys):
    """Catches a run that does its work again, or one that cannot be continued."""
    shutil.copytree(undisturbed / "tf_planet", tmp_path / "tf_planet")
    before = metrics_of(tmp_path)
    trained(dot_game(laptop=SMALL), tmp_path)
    assert "already made of 7 episodes; nothing to do" in capsys.readouterr().out
    assert metrics_of(tmp_path) == before
    trained(dot_game(laptop=SMALL), tmp_path, "--episodes", "9")
    after = metrics_of(tmp_path)
    assert after[: len(before)] == before
    assert [row["planet/episodes"] for row in after if "planet/episodes" in row] == [3, 5, 7, 9]


def test_a_loss_that_is_not_finite_keeps_the_last_good_checkpoint(tmp_path, monkeypatch):
    """Catches hours of training on NaN, and a checkpoint or a result that is overwritten by it."""
    real = planet.rssm.train_step_of

    def breaking(*arguments):
        step, count = real(*arguments), iter(range(100))
        return lambda *batch: step(*batch) | ({"kl": tf.constant(np.nan)} if next(count) == 4 else {})

    monkeypatch.setattr(planet.rssm, "train_step_of", breaking)
    with pytest.raises(UserError, match=r"step 5: a loss of this .*last good checkpoint in .*tf_planet is kept"):
        trained(dot_game(laptop=SMALL), tmp_path)
    with np.load(tmp_path / "tf_planet" / "checkpoint.npz") as archive:
        assert archive["step"] == 3


@pytest.fixture
def validated(monkeypatch):
    """(scores that validations are to give, the scores of the models that became the result)."""
    scores, written = [], []
    real = rollouts.rollout

    def scored(world, policy, episodes):
        if episodes[0] == seeds.PLANNED_GAMES:
            return np.full(len(episodes), scores.pop(0)), np.ones(len(episodes))
        return real(world, policy, episodes)

    monkeypatch.setattr(planet.rollouts, "rollout", scored)
    monkeypatch.setattr(
        planet.runs.Stage, "write_meta", lambda *_, validation, **__: written.append(validation["mean"])
    )
    return scores, written


def test_the_best_model_on_validation_is_the_result(validated, tmp_path):
    """Catches a result that is the last model, or the best of the games it learned in."""
    scores, written = validated
    scores += [5.0, 5.0, 9.0]
    trained(dot_game(laptop=SMALL), tmp_path)
    assert written == [5.0, 9.0]  # of equals the first


def test_the_best_score_survives_a_new_start(validated, tmp_path):
    """Catches a result that is overwritten by a worse model, because a start knows nothing of the one before."""
    scores, written = validated
    scores += [9.0, 3.0, 5.0]
    trained(dot_game(laptop=SMALL), tmp_path, "--episodes", "5")
    trained(dot_game(laptop=SMALL), tmp_path)
    assert scores == []
    assert written == [9.0]


def test_the_frames_of_an_earlier_start_count(validated, tmp_path, monkeypatch):
    """Catches a model that is said to have learned from the frames of its last start only."""
    scores, frames = validated[0], []
    monkeypatch.setattr(planet.runs.Stage, "write_meta", lambda *_, real_frames, **__: frames.append(real_frames))
    scores += [1.0, 2.0, 3.0]
    trained(dot_game(laptop=SMALL), tmp_path, "--episodes", "5")
    trained(dot_game(laptop=SMALL), tmp_path)
    assert frames == [3 * STEPS, 5 * STEPS, 7 * STEPS]


def test_a_run_that_goes_on_forgets_a_validation_at_an_end_off_its_time(tmp_path):
    """Catches a validation, and a model that it made the best, which a run that had not stopped would not have."""
    whole = dot_game(laptop=dataclasses.replace(SMALL, validate_every=4))
    for name in ("parts", "whole"):
        (tmp_path / name).mkdir()
    for episodes in ("5", "7"):  # validated at 5 as at 4, and at 7 because it ends
        trained(whole, tmp_path / "parts", "--episodes", episodes)
    trained(whole, tmp_path / "parts", "--episodes", "9")
    trained(whole, tmp_path / "whole", "--episodes", "9")
    one, other = result_of(tmp_path / "whole"), result_of(tmp_path / "parts")
    for name, array in one.items():
        np.testing.assert_array_equal(array, other[name], err_msg=name)
    assert metrics_of(tmp_path / "parts") == metrics_of(tmp_path / "whole")


def test_a_result_of_an_end_does_not_come_back_after_later_ones(validated, tmp_path, monkeypatch):
    """Catches the model of a first end that replaces that of a second one, as soon as the run goes on to a third."""
    scores, _ = validated
    monkeypatch.setattr(planet.provenance, "copy", lambda source, target: shutil.copy(source, target))
    game, path = dot_game(laptop=dataclasses.replace(SMALL, validate_every=0)), tmp_path / "tf_planet" / "rssm.npz"
    scores += [9.0, 5.0]
    for episodes in ("5", "7"):
        trained(game, tmp_path, "--episodes", episodes)
    second = path.read_bytes()
    monkeypatch.setattr(planet.Learner, "play", lambda self: pytest.fail("to here"))
    with pytest.raises(pytest.fail.Exception, match="to here"):
        trained(game, tmp_path, "--episodes", "9")
    assert path.read_bytes() == second


def test_the_best_of_before_an_end_off_its_time_comes_back(validated, tmp_path, monkeypatch):
    """Catches a result that is kept as the best by a validation that is forgotten."""
    scores, _ = validated
    monkeypatch.setattr(planet.provenance, "copy", lambda source, target: shutil.copy(source, target))
    game, path = dot_game(laptop=dataclasses.replace(SMALL, validate_every=4)), tmp_path / "tf_planet" / "rssm.npz"
    scores += [5.0]
    trained(game, tmp_path, "--episodes", "5")
    first = path.read_bytes()
    scores += [9.0]
    trained(game, tmp_path, "--episodes", "7")
    assert path.read_bytes() != first
    scores += [4.0]
    trained(game, tmp_path, "--episodes", "9")
    assert path.read_bytes() == first


@pytest.mark.parametrize(
    ("flag", "value", "kept"),
    [
        ("validation_episodes", "3", 3.0),
        ("horizon", "3", 3.0),
        ("candidates", "12", 3.0),
        ("backend", "other", 3.0),
        ("noise", "0.1", 9.0),
    ],
)
def test_validations_are_compared_with_their_like_only(validated, tmp_path, flag, value, kept):
    """Catches a model that is the best for ever by games, or by a planner, that are not those of the others."""
    scores, written = validated
    scores += [3.0, 9.0, 1.0]
    trained(dot_game(laptop=SMALL), tmp_path, "--episodes", "5", "--validate_every", "1")
    trained(dot_game(laptop=SMALL), tmp_path, "--validate_every", "1", f"--{flag}", value)
    assert written[-1] == (9.0 if kept == 9.0 else 1.0)


def test_it_learns_from_recordings_in_place_of_random_episodes(undisturbed, tmp_path):
    """Catches recordings that are not read, or pass for verified, and a random policy that plays nevertheless."""
    cfg = dataclasses.replace(
        SMALL, random_episodes=0, episodes=2, recordings=str(undisturbed / "tf_planet" / "record")
    )
    trained(dot_game(laptop=cfg), tmp_path)
    played = [(row["step"], row["planet/episodes"]) for row in metrics_of(tmp_path) if "planet/episodes" in row]
    assert played == [(3, 2)]
    with open(tmp_path / "tf_planet" / "rssm.npz.meta.json") as file:
        meta = json.load(file)
    assert meta["parents"]["recordings"] == [{"unknown": 7, "unverified": True}]
    assert meta["real_frames"] == (7 + 2) * STEPS
    assert meta["unverified"] is True


def test_patience_keeps_the_reward_of_the_game():
    """Catches what is left of an episode charged to its last step, from which the model would learn a reward of -90."""
    game, cfg = find("carracing"), dataclasses.replace(find("carracing").config.PLANET["smoke"], patience=40)
    game = dataclasses.replace(game, real_games=lambda rows, backend, **rules: rules)
    learner = types.SimpleNamespace(_game=game, _cfg=cfg, _games={})
    assert planet.Learner._real_games(learner, True, 2) == {"patience": 40, "charged": False}
    assert planet.Learner._real_games(learner, False, 2) == {}


def test_a_game_without_presets_is_refused(tmp_path):
    """Catches a traceback where a game has a planet.py but no PLANET."""
    game = dot_game()
    del game.config.PLANET
    with pytest.raises(UserError, match=r"dot: its config.py has no PLANET"):
        trained(game, tmp_path)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"overshooting": 3}, "--overshooting 3: a chunk of --sequence_length 3 has no steps so far apart"),
        ({"overshooting_weight": 0.5}, "--overshooting_weight 0.5: without --overshooting it has no effect"),
        ({"overshooting_weight": 0.5, "overshooting": 1}, "--overshooting_weight 0.5: without --overshooting"),
        ({"candidates": 5, "elite": 6}, "--candidates 5: fewer than --elite 6"),
        ({"horizon": 2, "hold": 3}, "--horizon 2: shorter than the 3 actions of one draw"),
        ({"random_episodes": 0}, "--random_episodes 0: there is nothing to learn from at first"),
        ({"random_episodes": 9}, "--random_episodes 9: more than --episodes 7"),
        ({"policy": "nobody"}, "--policy nobody: give one of uniform"),
        ({"backend": "nonsense"}, "--backend nonsense: give one of dots, other"),
        ({"first_seed": 399_999}, "--first_seed and --episodes: the seeds 399999 to 400005 are not all for training"),
        ({"recordings": "nowhere"}, "nowhere: no such file"),
    ],
)
def test_bad_input_is_one_line_before_any_work(tmp_path, change, message):
    """Catches a mistake that shows only after hours, or that leaves a run which then cannot be started otherwise."""
    with pytest.raises(UserError, match=message):
        trained(dot_game(laptop=dataclasses.replace(SMALL, **change)), tmp_path)
    assert os.listdir(tmp_path) == []


def test_the_smoke_preset_on_the_real_carracing(tmp_path):
    """Catches what the toys do not have: EnvPool, three actions that are repeated, patience, and real lengths."""
    game = find("carracing")
    planet.train(game, "", ["--preset", "smoke", "--run", str(tmp_path)])
    lengths = []
    for seed in range(200_000, 200_003):
        episode = recordings.read(str(tmp_path / "tf_planet" / "record" / f"{seed}.npz"))
        lengths.append(len(episode["obs"]))
        assert episode["action"].shape == (lengths[-1], 3)
        changes = np.flatnonzero(np.abs(np.diff(episode["action"], axis=0)).max(axis=1)) + 1
        assert len(changes)
        assert (changes % 4 == 0).all()
        assert episode["reward"][-1] == pytest.approx(-0.1, abs=0.01)  # patience ended it, and charged nothing
    with open(tmp_path / "tf_planet" / "rssm.npz.meta.json") as file:
        assert json.load(file)["real_frames"] == sum(lengths)
    agent = play_planet.load(game, str(tmp_path))
    assert agent.model.shape.end


def test_a_game_without_a_range_of_actions_is_refused(tmp_path):
    """Catches plans in a range that is empty, infinite or of another size."""
    for high in ((), (1.0,), (1.0, -1.0), (1.0, np.inf)):
        game = dot_game(laptop=SMALL)
        game.config.ACTION_HIGH = high
        with pytest.raises(UserError, match=r"dot: its config.py gives no range of actions"):
            trained(game, tmp_path)


def test_an_rssm_survives_its_file_and_other_weights_are_refused(rng, tmp_path):
    """Catches weights that change places, a budget that is lost, and weights of another shape or game."""
    game, path, search = dot_game(), str(tmp_path / "rssm.npz"), Search(3, 4, 50, 5)
    model = tiny_model(rng, action_size=2)
    files_planet.write(path, model, search, 4)
    again, budget, repeat = files_planet.read(path, game)
    assert (budget, repeat, again.shape) == (search, 4, model.shape)
    for one, other in zip(model.trainable_variables, again.trainable_variables, strict=True):
        np.testing.assert_array_equal(one, other)

    game.config.ACTION_SIZE = 3
    with pytest.raises(UserError, match=r"an RSSM for 2 action.s., without an end, not for dot"):
        files_planet.read(path, game)
    game.config.ACTION_SIZE, game.config.RESTART = 2, True
    with pytest.raises(UserError, match=r"without an end, not for dot"):
        files_planet.read(path, game)
    game.config.RESTART = False
    with np.load(path) as archive:
        arrays = {name: archive[name] for name in archive.files}
    np.savez(path, **arrays | {"prior_bias": np.full(8, np.nan, np.float32)})
    with pytest.raises(UserError, match=r"rssm.npz: holds a value that is not finite"):
        files_planet.read(path, game)
    np.savez(path, **arrays | {"prior_bias": np.zeros(5, np.float32)})
    with pytest.raises(UserError, match=r"weights of another shape: prior_bias is \(5,\), not \(8,\)"):
        files_planet.read(path, game)
    del arrays["about"]
    np.savez(path, **arrays)
    with pytest.raises(UserError, match=r"rssm.npz: not an RSSM"):
        files_planet.read(path, game)
    model.biases["prior"].assign(np.full(8, np.nan))
    with pytest.raises(UserError, match="not written, because a weight is not finite"):
        files_planet.write(path, model, search, 4)


def test_a_run_plays_its_own_model_before_the_one_that_ships(rng, tmp_path, capsys):
    """Catches a run that trained a model and plays the one that ships, and a silent choice."""
    game, run = dot_game(), str(tmp_path / "run")
    game.config.__file__ = str(tmp_path / "game" / "config.py")
    with pytest.raises(UserError, match=r"--run .*run: no such folder"):
        files_planet.find(game, run)
    os.makedirs(tmp_path / "run" / "tf_planet")
    with pytest.raises(UserError, match=r"neither .*run/tf_planet/rssm\.npz nor an RSSM that ships is there"):
        files_planet.find(game, run)
    places = tmp_path / "game" / "planet" / "rssm.npz", tmp_path / "run" / "tf_planet" / "rssm.npz"
    for path, said in zip(places, (True, False), strict=True):
        os.makedirs(path.parent, exist_ok=True)
        files_planet.write(str(path), tiny_model(rng, action_size=2), Search(), 1)
        assert os.path.samefile(files_planet.find(game, run, unverified=True)[0], path)
        assert ("run has none of its own" in capsys.readouterr().out) == said


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["train", "--horizon", "0"], "argument --horizon: 0: give a number from 1 to 10000"),
        (["train", "--elite", "300"], "--candidates 100: fewer than --elite 300, the best of them"),
        (["norender", "1000", "--run", "nowhere"], "--run nowhere: no such folder"),
        (["play"], "argument mode: invalid choice: 'play'"),
    ],
)
def test_the_command_line_says_what_is_wrong_in_one_line(arguments, message):
    """Catches a traceback for the user's mistake, and another exit code than 2."""
    command = [sys.executable, "planet.py", *arguments]
    done = subprocess.run(command, cwd=os.path.join(ROOT, "carracing"), capture_output=True, text=True)
    said = [line for line in done.stderr.splitlines() if line.startswith("planet.py")]
    assert done.returncode == 2
    assert len(said) == 1
    assert message in said[0]
    assert "Traceback" not in done.stderr


def test_pieces_inside_of_an_episode_are_equally_likely(rng):
    """Catches first and last pieces that are drawn more often, and one that goes beyond its episode."""
    replay = counted(6)
    replay.add(np.full((2, 64, 64, 3), 90, np.uint8), np.zeros((2, 1), np.float32), np.zeros(2, np.float32), True)
    frames, *_, known = replay.sample(4000, 4, rng, inside=True)
    first, counts = np.unique(frames[0, :, 0, 0, 0], return_counts=True)
    assert first.tolist() == [10, 11, 12]  # the second episode is too short
    assert known.all()
    assert np.abs(counts / 4000 - 1 / 3).max() < 5 * (2 / 9 / 4000) ** 0.5
    assert replay.lengths.tolist() == [6, 2]


# --- shipping ---


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A finished run of the smallest kind, in a folder that `train` made."""
    run = tmp_path_factory.mktemp("planet") / "new" / "run"
    trained(dot_game(laptop=SMALL), run)
    return run


@pytest.fixture
def to_ship(finished, tmp_path, monkeypatch):
    """(game, a copy of the finished run, the file that ships, the log folder)."""
    run, game = tmp_path / "run", dot_game(laptop=SMALL)
    shutil.copytree(finished, run)
    game.config.__file__ = str(tmp_path / "dot" / "config.py")
    monkeypatch.setattr(ship, "ROOT", str(tmp_path))
    return game, run, tmp_path / "dot" / "planet" / "rssm.npz", tmp_path / "log"


def test_the_model_of_a_finished_run_ships_with_its_scores(to_ship, monkeypatch, capsys):
    """Catches another file than the result, a meta that names folders of one machine, and curves left behind."""
    game, run, shipped, log = to_ship
    result = str(run / "tf_planet" / "rssm.npz")
    meta = {name: value for name, value in files.read_json(f"{result}.meta.json").items() if name != provenance.SEAL}
    provenance.save(result, meta | {"command": ["planet.py", "train", "--run", "../runs/mine"]})
    scores = {"planner": dataclasses.asdict(Search(2, 2, 10, 3)), "backend": "dots", "episodes": [{"seed": 1000}]}
    files.write_json(f"{run}/test.json", {"rssm": {"path": result, "sha256": files.sha256(result)}} | scores)
    monkeypatch.setattr(sys, "argv", ["planet.py", "ship", "--run", str(run)])
    planet.main(game, "")
    assert "is the one that ships now" in capsys.readouterr().out
    assert files.sha256(str(shipped)) == files.sha256(result)
    assert provenance.read(str(shipped), "rssm", "dot")["command"] == ["planet.py", "train", "--run", "RUN"]
    assert files.read_json(str(log / "dot.planet.scores.json"))["rssm"]["path"] == "RUN/tf_planet/rssm.npz"
    assert (log / "dot.planet.metrics.jsonl").read_bytes() == (run / "tf_planet" / "metrics.jsonl").read_bytes()


def test_what_is_not_finished_damaged_or_anothers_does_not_ship(to_ship):
    """Catches a model of half a run, scores of another model, and one that no meta vouches for."""
    game, run, shipped, log = to_ship
    stage, result = run / "tf_planet", run / "tf_planet" / "rssm.npz"

    def refused(message):
        with pytest.raises(UserError, match=message):
            ship.ship_planet(game, str(run))
        assert not shipped.exists()
        assert not log.exists()

    scores = {
        "rssm": {"sha256": files.sha256(str(result))}, "planner": dataclasses.asdict(Search(2, 2, 10, 3)),
        "backend": "dots", "episodes": [{"seed": 1000}, {"seed": 1999}, {"seed": 500_000}],
    }  # fmt: skip
    for changes, message in (
        ({"rssm": {"sha256": "of another"}}, r"test\.json: holds no scores of .*rssm\.npz"),
        ({"episodes": [{"seed": 1000}, {"seed": 2000}]}, r"test\.json: was not played with test seeds"),
        ({"planner": dataclasses.asdict(Search(2, 2, 20, 3))}, r"test\.json: was played with another planner"),
        ({"backend": "other"}, r"test\.json: was played with another planner or --backend"),
    ):
        files.write_json(f"{run}/test.json", scores | changes)
        refused(message)
    os.remove(run / "test.json")
    config = files.read_json(str(stage / "config.json"))
    files.write_json(str(stage / "config.json"), {"config": config["config"] | {"episodes": 8}})
    refused("7 of 8 episodes are played and learned from; finish it first")
    files.write_json(str(stage / "config.json"), config)
    meta = files.read_json(f"{result}.meta.json")
    for changes, message in (({"game": "other"}, "other"), ({"unverified": True}, "not verified")):
        provenance.save(str(result), {k: v for k, v in meta.items() if k != provenance.SEAL} | changes)
        refused(message)
    provenance.save(str(result), {k: v for k, v in meta.items() if k != provenance.SEAL})
    files.write_json(f"{run}/test.json", scores)
    ship.ship_planet(game, str(run))
    os.remove(run / "test.json")
    ship.ship_planet(game, str(run))  # the same model again: its scores stay
    assert (log / "dot.planet.scores.json").exists()
    files.write_json(str(log / "dot.planet.scores.json"), {"rssm": {"sha256": "of another"}})
    ship.ship_planet(game, str(run))
    assert not (log / "dot.planet.scores.json").exists()
    for path in (shipped, *log.iterdir()):
        path.unlink()
    log.rmdir()
    shutil.rmtree(stage)
    refused("no run of planet.py train is here")


# --- its dream ---


@pytest.fixture
def dreaming(rng, tmp_path, monkeypatch):
    """A run with an RSSM of random weights for a game that is the dots, with frames to begin at."""
    game, model = dot_game(), tiny_model(rng, action_size=2)
    picture = rng.integers(0, 256, (64, 3 * 64, 3), dtype=np.uint8)
    Image.fromarray(picture).save(tmp_path / "frames.png")
    game.config.__file__ = str(tmp_path / "config.py")
    os.makedirs(tmp_path / "tf_planet")
    files_planet.write(str(tmp_path / "tf_planet" / "rssm.npz"), model, Search(), 3)
    monkeypatch.setattr(rssm_dreams, "find", lambda name: game)
    return str(tmp_path)


def test_the_dream_is_a_gymnasium_environment(dreaming):
    """Catches spaces that do not hold what comes, another length, and a seed that does not decide the dream."""
    with pytest.raises(UserError, match="unverified"):
        gymnasium.make("WorldModels/PlanetDream-v0", game="dot", run=dreaming)
    env = gymnasium.make("WorldModels/PlanetDream-v0", game="dot", run=dreaming, unverified=True)
    check_env(env.unwrapped, skip_render_check=True)
    assert env.observation_space.shape == (8 + 3,)
    assert env.metadata["render_fps"] == 3
    episodes = []
    for seed in (5, 5, 6):
        rows, over = [env.reset(seed=seed)[0]], False
        while not over:
            observation, reward, terminated, over, _ = env.step(np.float32([0.5, -0.5]))
            rows.append(np.append(observation, reward)[:-1])
            assert not terminated
        episodes.append(np.array(rows))
    assert len(episodes[0]) == 1 + -(-STEPS // 3)
    np.testing.assert_array_equal(episodes[0], episodes[1])
    assert np.abs(episodes[0] - episodes[2]).max() > 0.01


def test_ends_are_drawn_as_often_as_they_are_likely(dreaming, rng, monkeypatch):
    """Catches dreams that end only where the end is more likely than not, which is rare, or without a seed."""
    game, shape = dot_game(), dataclasses.replace(tiny_model(rng, action_size=2).shape, end=True)
    game.config.RESTART, game.config.__file__ = True, os.path.join(dreaming, "config.py")
    model = RSSM(shape, "float32")
    model.kernels["end_out"].assign(tf.zeros((8, 1)))
    model.biases["end_out"].assign([np.log(0.2 / 0.8)])
    files_planet.write(os.path.join(dreaming, "tf_planet", "rssm.npz"), model, Search(), 3)
    monkeypatch.setattr(rssm_dreams, "find", lambda name: game)
    dreams, ends = rssm_dreams.RssmDreams.load("dot", dreaming, None, 400, True), []
    for _ in range(2):
        dreams.begin(range(400), range(400))
        ends.append(np.array([dreams.step(np.zeros((400, 2)))[2] for _ in range(3)]))
    np.testing.assert_array_equal(*ends)
    assert ends[0].mean(axis=1) == pytest.approx([0.2] * 3, abs=4 * (0.2 * 0.8 / 400) ** 0.5)
    assert (ends[0][0] != ends[0][1]).any()


def test_dreams_in_lockstep_are_single_dreams_with_the_models_reward(dreaming):
    """Catches rows mixed up, a reward of another state, the temperature ignored, and a picture of another row."""
    made = {"game": "dot", "run": dreaming, "unverified": True, "render_mode": "rgb_array"}
    single = gymnasium.make("WorldModels/PlanetDream-v0", **made)
    many = gymnasium.make_vec("WorldModels/PlanetDream-v0", num_envs=3, **made)
    hot = gymnasium.make("WorldModels/PlanetDream-v0", temperature=4.0, **made)
    together, _ = many.reset(seed=7)
    np.testing.assert_allclose(single.reset(seed=8)[0], together[1], atol=1e-5)
    assert np.abs(hot.reset(seed=8)[0] - together[1]).max() > 0.01
    dreams, noise = single.unwrapped._dreams, []
    for temperature in (1.0, 4.0):  # of the variance
        dreams.begin([0], [8])
        dreams.temperature = temperature
        noise.append(dreams._noise(0))
    np.testing.assert_allclose(noise[1], 2 * noise[0])
    dreams.temperature = 1.0
    single.reset(seed=8)
    model, _, _ = files_planet.read(os.path.join(dreaming, "tf_planet", "rssm.npz"), dot_game())
    for _ in range(3):
        action = np.float32([[0.1, 0.2], [0.3, -0.4], [1, 1]])
        observations, rewards, *_ = many.step(action)
        alone, reward, *_ = single.step(action[1])
        np.testing.assert_allclose(alone, observations[1], atol=1e-5)
        expected = model.reward(model.prepared(), State(observations[:, :8], observations[:, 8:]))
        np.testing.assert_allclose(rewards, expected, atol=0.05)
        assert reward == pytest.approx(rewards[1], abs=0.05)
        decoded = model.decode(State(observations[1:2, :8], observations[1:2, 8:]))[0] + 0.5
        np.testing.assert_allclose(many.render()[1], np.clip(decoded, 0, 1) * 255, atol=3)


def test_the_seed_decides_the_initial_weights(tmp_path, monkeypatch):
    """Catches three seeds that begin with the same weights."""
    asked = []

    def for_training(seed):
        asked.append(seed)
        raise UserError("enough seen")

    monkeypatch.setattr(planet.devices, "for_training", for_training)
    with pytest.raises(UserError, match="enough seen"):
        trained(dot_game(laptop=SMALL), tmp_path, "--seed", "6")
    assert asked == [6]


def learning_from_recordings(undisturbed, tmp_path):
    """A folder of recordings, a game that learns from these only, and the folder of a new run."""
    record, run = tmp_path / "mine", tmp_path / "run"
    shutil.copytree(undisturbed / "tf_planet" / "record", record)
    run.mkdir()
    cfg = dataclasses.replace(SMALL, random_episodes=0, episodes=1, updates=1, recordings=str(record))
    return record, dot_game(laptop=cfg), run


def test_a_run_does_not_go_on_with_other_recordings(undisturbed, tmp_path):
    """Catches a recording that is gone without a word when the same command goes on."""
    record, game, run = learning_from_recordings(undisturbed, tmp_path)
    trained(game, run)
    min(record.glob("*.npz")).unlink()
    with pytest.raises(UserError, match="recordings_read 7 -> 6"):
        trained(game, run)


def test_a_run_does_not_go_on_with_a_recording_that_was_replaced(undisturbed, tmp_path):
    """Catches another recording of the same seed and length, learned from without a word."""
    record, game, run = learning_from_recordings(undisturbed, tmp_path)
    trained(game, run)
    trained(game, run)
    first, second = sorted(record.glob("*.npz"))[:2]
    first.rename(tmp_path / "third"), second.rename(first), (tmp_path / "third").rename(second)
    with pytest.raises(UserError, match=r"recordings_sha256 [0-9a-f]{64} -> [0-9a-f]{64}\)"):
        trained(game, run)


def test_recordings_are_those_of_the_run_and_of_the_game(undisturbed, tmp_path, monkeypatch):
    """Catches a folder that is looked for only from here, and recordings of another game that are learned from."""
    shutil.copytree(undisturbed / "tf_planet" / "record", tmp_path / "mine")
    about = {"game": "other", "config": {"first_seed": 200_000, "episodes": 2}}
    (tmp_path / "mine" / "200000.summary.json").write_text(json.dumps(about))

    def for_training(seed):
        raise UserError("enough seen")

    monkeypatch.setattr(planet.devices, "for_training", for_training)
    with pytest.raises(UserError, match="enough seen"):
        trained(dot_game(laptop=dataclasses.replace(SMALL, recordings="mine")), tmp_path)
    config = json.loads((tmp_path / "tf_planet" / "config.json").read_text())
    assert config["data"]["recordings_read"] == 7 - 2
