"""What each command hands to what: who plays which seeds, by which rules, and what is kept of it.

Exact numbers and spies, so that code can be moved about and the science cannot change unseen.
"""

import argparse
import dataclasses
import json
import shutil
import types

import commands
import keras
import numpy as np
import pytest
import tensorflow as tf
from commands import GAMES, call, in_this_process  # noqa: F401

from common.agent import controller, mdnrnn, vae
from common.data import recordings, series
from common.play import agents, play, record, select
from common.runtime import files, parallel, provenance, runs, settings
from common.training import es, evolution, evolve, trainers, vae_and_rnn
from common.worlds import candidates, encoded, rollouts

from carracing import env
from carracing.game import RandomNetworks
from doomrnn import doomreal

DOOM, CAR = GAMES["doomrnn"], GAMES["carracing"]


# --- the real games ---


@pytest.fixture(scope="module")
def take_cover():
    """The real game."""
    return doomreal.DoomTakeCover()


def test_doom_is_the_same_picture(take_cover):
    """Catches another skill, screen, cut, order of colors or start time: the first frame of seed 1000."""
    frame = take_cover.reset(1000)
    np.testing.assert_allclose(frame.mean(axis=(0, 1)), [82.04, 77.68, 73.93], atol=0.005)


@pytest.mark.parametrize(
    ("actions", "lengths"),
    [((-1.0, -0.4), [289, 242, 142]), ((0.0,), [261, 214, 115]), ((1.0, 0.4), [256, 220, 116])],
)
def test_doom_is_the_same_game(take_cover, actions, lengths):
    """Catches another skill, start time, threshold of the buttons, or left for right: how long a still player lives."""
    for action in actions:
        for seed, length in zip((1000, 1001, 1002), lengths, strict=True):
            take_cover.reset(seed)
            total, steps, done = 0.0, 0, False
            while not done:
                _, reward, done = take_cover.step(action)
                total, steps = total + reward, steps + 1
            assert (steps, total) == (length, float(length))


def test_doom_has_the_time_limit_of_the_config(take_cover):
    """Catches a game that ends by the time of the scenario, or never: the episodes above are far from the limit."""
    assert take_cover._game.get_episode_timeout() == DOOM.config.MAX_STEPS == 2100
    assert take_cover._game.get_episode_start_time() == 14


def test_the_keys_of_doom_are_its_actions():
    """Catches left and right exchanged when a person plays."""
    assert [DOOM.keyboard_action(keys) for keys in ({"left"}, {"right"}, set(), {"left", "right"})] == [
        [-1],
        [1],
        [0],
        [0],
    ]
    buttons = [doomreal.buttons(DOOM.keyboard_action(keys)[0]) for keys in ({"left"}, {"right"}, set())]
    assert buttons == [doomreal.LEFT, doomreal.RIGHT, doomreal.STAY]


def test_the_random_policy_of_doom_goes_both_ways():
    """Catches a player that only ever steps to one side, or has another range than a controller."""
    policy = DOOM.random_policies["held"](np.arange(2000, 2400), DOOM.config.EXTRACT["smoke"])
    actions = np.array([policy.act(None) for _ in range(30)])
    assert actions.shape == (30, 400, 1)
    np.testing.assert_allclose([actions.min(), actions.max()], [-1, 1], atol=0.01)
    assert abs(actions.mean()) < 5 / np.sqrt(3 * 400 * 3)  # an action is held for less than 10 of the 30 steps


class OneCar:
    """Stands for CarRacing: notes how it was made, and ends as it is told."""

    def __init__(self, ends=(False, False), **rules):
        self.rules, self._ends = rules, ends

    def reset(self, seed):
        return np.zeros((96, 96, 3), np.uint8), {}

    def step(self, action):
        return np.zeros((96, 96, 3), np.uint8), 1.0, *self._ends, {}


@pytest.mark.parametrize(("ends", "over"), [((False, False), False), ((True, False), True), ((False, True), True)])
def test_a_lap_ends_with_all_of_its_tiles_in_both_packages(ends, over):
    """Catches a lap that ends at 95 % of the tiles, and gym's finished lap, "truncated", that never ends."""
    tracks = env.PythonTracks(lambda **rules: OneCar(ends, **rules))
    tracks.start([1000])
    assert tracks._games[0].rules == {"lap_complete_percent": 1.0}
    _, _, done = tracks.drive([0], np.zeros((1, 3), np.float32))
    assert done.tolist() == [over]


def test_the_random_weights_are_the_authors():
    """Catches another spread of the random policy's weights: Cauchy, times a number from 0 to 0.01 in each episode."""
    weights = RandomNetworks(range(2000, 2400))._weights
    assert weights.shape == (400, 33, 3)
    assert 0.003 < np.median(np.abs(weights)) < 0.006
    assert np.ptp(np.median(np.abs(weights), axis=(1, 2))) > 0.005  # not the same spread in all of them


# --- recording ---


@pytest.fixture
def doom(monkeypatch):
    """Doom's config, but Counting to play; a list of the worlds that were made."""
    made = []

    def real_games(rows, backend=""):
        made.extend(commands.Counting() for _ in range(rows))
        return commands.games.Games(made[-rows:])

    game = dataclasses.replace(DOOM, real_games=real_games)
    commands.record_in_this_process(monkeypatch, game)
    return game, made


def recorded(game, run, *words):
    done = call(record.main, game, "--run", run, "--first_seed", 2000, "--workers", 1, *words)
    assert done.code == 0, done.err
    found = {int(path.stem): recordings.read(path) for path in (run / "record").glob("*.npz")}
    return dict(sorted(found.items())), json.loads((run / "record" / "2000.summary.json").read_text())


def test_rows_hold_the_frame_before_the_action(doom, tmp_path):
    """Catches the frame after the action, with which the MDN-RNN would learn a world a step late."""
    found, _ = recorded(doom[0], tmp_path / "run", "--episodes", 5, "--min_frames", 20)
    for seed, episode in found.items():
        length = 20 + seed % 5
        assert episode["obs"][:, 0, 0, 0].tolist() == list(range(length))
        assert episode["reward"].tolist() == [1.0] * length
        assert episode["done"].tolist() == [False] * (length - 1) + [True]


def test_what_is_recorded_is_what_was_played(doom, tmp_path):
    """Catches a game that plays the action before it is rounded to what the recording holds."""
    game, made = doom
    found, _ = recorded(game, tmp_path / "run", "--episodes", 5, "--min_frames", 20)
    played = np.concatenate([np.ravel(one.actions) for one in made])
    assert played.dtype == np.float32
    np.testing.assert_array_equal(played, np.concatenate([episode["action"] for episode in found.values()]))


def test_holds_are_of_every_length_up_to_the_longest(doom, tmp_path):
    """Catches a hold that is never as long as --max_hold, or longer, and a --max_hold without effect."""
    found, _ = recorded(doom[0], tmp_path / "run", "--episodes", 60, "--min_frames", 20, "--max_hold", 3)
    holds = set()
    for episode in found.values():
        changes = np.flatnonzero(np.diff(episode["action"], prepend=np.inf))
        holds |= set(np.diff(changes).tolist())  # the last one is cut
    assert holds == {1, 2, 3}


def test_an_episode_of_the_least_length_is_kept(doom, tmp_path):
    """Catches "longer than" where "at least" belongs: lengths are 20 to 24."""
    found, about = recorded(doom[0], tmp_path / "run", "--episodes", 50, "--min_frames", 22)
    assert {len(episode["obs"]) for episode in found.values()} == {22, 23, 24}
    assert (about["kept"], about["too_short"], about["lost"]) == (30, 20, 0)


def test_lost_episodes_are_not_counted_as_kept(doom, tmp_path, monkeypatch):
    """Catches a block of a player that died, of which nothing was written, among the episodes that were kept."""

    def in_processes(work, tasks, processes, patience):
        for k, task in enumerate(tasks):
            yield task, None if k < 2 else work(task)

    monkeypatch.setattr(parallel, "in_processes", in_processes)
    found, about = recorded(doom[0], tmp_path / "run", "--episodes", 7, "--min_frames", 20)
    assert (about["kept"], about["too_short"], about["lost"]) == (5, 0, 2)
    assert sorted(found) == [2002, 2003, 2004, 2005, 2006]


@pytest.fixture(scope="module")
def small_run(tmp_path_factory):
    """(folder, hashes): small models for each game and a controller evolved on them, in a folder by its name."""
    folder, hashes = tmp_path_factory.mktemp("small"), {}
    for name, game in GAMES.items():
        hashes[name] = commands.write_models(game, str(folder / name), 1)
        commands.write_controller(game, str(folder / name / "agent.json"), hashes[name], sample_z=False)
    return folder, hashes


def test_explore_has_effect(small_run, doom, tmp_path, monkeypatch):
    """Catches an agent that records without exploring, or explores for another share of the steps than asked for."""
    asked, exploring = [], rollouts.Exploring

    def spy(policy, seeds, share, max_hold, low, high):
        asked.append((share, max_hold, tuple(low), tuple(high)))
        return exploring(policy, seeds, share, max_hold, low, high)

    monkeypatch.setattr(rollouts, "Exploring", spy)
    run, actions = small_run[0] / "doomrnn", {}
    for k, share in enumerate((0.0, 0.5)):
        words = ["--controller", "agent.json", "--explore", share, "--max_hold", 3, "--min_frames", 5]
        words += ["--run", run, "--first_seed", 2000 + 100 * k, "--episodes", 4, "--workers", 1]
        done = call(record.main, doom[0], *words)
        assert done.code == 0, done.err
        assert set(asked) == {(share, 3, (-1.0,), (1.0,))}
        asked.clear()
        paths = [run / "record" / f"{2000 + 100 * k + seed}.npz" for seed in range(4)]
        actions[share] = np.concatenate([recordings.read(path)["action"] for path in paths])
    assert len(np.unique(actions[0.0])) < 0.6 * len(np.unique(actions[0.5])) or np.ptp(actions[0.0]) < 0.5
    assert np.ptp(actions[0.5]) > 1.0


# --- train.py ---


class Tried(list):
    """Stands for candidates.evaluate: notes every block, and returns what `score` says of it."""

    def __init__(self, score=lambda population, seeds: np.zeros((len(population), seeds.shape[-1]))):
        super().__init__()
        self.score = score

    def __call__(self, world, controller, population, seeds, action_of=None):
        seeds = np.broadcast_to(seeds, (len(population), np.shape(seeds)[-1]))
        self.append(types.SimpleNamespace(world=world, population=population, seeds=seeds, action_of=action_of))
        return self.score(population, seeds), np.full(seeds.shape, 7)

    def training(self):
        """The blocks of candidates."""
        return [block for block in self if block.seeds.max() < 400_000]

    def evaluation(self):
        """The blocks of the mean."""
        return [block for block in self if block.seeds.max() >= 400_000]


@pytest.fixture
def tried(monkeypatch):
    """A spy in place of all play of candidates; block by block in this thread."""
    spy = Tried()
    monkeypatch.setattr(candidates, "evaluate", spy)
    monkeypatch.setattr(parallel, "cores", lambda: 1)
    monkeypatch.setattr(evolve, "GAME_THREADS_PER_CORE", 1)
    return spy


@pytest.fixture
def told(monkeypatch):
    """What the strategy was told, generation by generation."""
    fitness, tell = [], es.CMA.tell

    def spy(self, values):
        fitness.append(np.array(values))
        return tell(self, values)

    monkeypatch.setattr(es.CMA, "tell", spy)
    return fitness


def trained(game, run, *words):
    done = call(evolve.main, game, "--preset", "smoke", "-n", 1, "--run", run, *words)
    assert done.code == 0, done.err
    return done


def copy_run(small_run, name, target):
    for kind in ("vae", "rnn", "initial_z"):
        path = GAMES[name].config.TRAINED[kind]
        provenance.copy(str(small_run[0] / name / path), str(target / path))
    return target


def test_several_mdn_rnns_share_the_dreams_at_their_temperature(small_run, tmp_path, tried, told):
    """Catches every MDN-RNN dreaming every episode, one never used, and the temperature of the config ignored."""
    run = copy_run(small_run, "doomrnn", tmp_path)
    other = str(tmp_path / "other.json")
    shape = mdnrnn.Shape(4, 1, 8, True)
    keras.utils.set_random_seed(5)
    commands.weights.write_rnn(other, mdnrnn.MDNRNN(shape), DOOM.config.RNN_FILE_ORDER)
    own = {name: small_run[1]["doomrnn"][of] for name, of in (("vae", "vae"), ("start_from", "rnn"))}
    provenance.write(other, "rnn", DOOM.name, {}, own, 1.0, unverified=False)
    tried.score = lambda population, seeds: seeds % 97 + np.arange(len(population))[:, None]
    words = ["--also_in", other, "-t", 4, "--num_episode", 3, "--generations", 1, "--temperature", 0.9]
    trained(DOOM, run, *words, "--eval_episodes", 2)
    assert {block.world.temperature for block in tried} == {0.9}
    assert {block.world.max_steps for block in tried} == {2100}
    own, also = (
        [block for block in tried.training() if which == id(block.world.rnn)]
        for which in dict.fromkeys(id(block.world.rnn) for block in tried)
    )
    assert [block.seeds.shape for block in own + also] == [(4, 2), (4, 1)]
    seeds = np.concatenate([own[0].seeds[0], also[0].seeds[0]])
    assert len(set(seeds.tolist())) == 3
    assert all((block.seeds == block.seeds[0]).all() for block in tried)  # all candidates dream the same
    np.testing.assert_allclose(told[0], (seeds % 97).mean() + np.arange(4))
    assert [block.seeds.tolist() for block in tried.evaluation()] == [[[400_000]], [[400_001]]]


@pytest.mark.parametrize("name", GAMES)
def test_the_mean_is_scored_by_the_mean_of_validation_episodes(small_run, tmp_path, tried, name):
    """Catches the mean scored on training's episodes, and the median for the mean."""
    game, run = GAMES[name], copy_run(small_run, name, tmp_path)
    returns = {400_000: 0.0, 400_001: 2.0, 400_002: 10.0}
    tried.score = lambda population, seeds: np.vectorize(lambda seed: returns.get(int(seed), -50.0))(seeds)
    words = ["-t", 4, "--num_episode", 2, "--generations", 2, "--eval_steps", 2, "--eval_episodes", 3]
    trained(game, run, *words)
    log = json.loads((run / "log" / f"{name}.cma.2.4.log.json").read_text())
    assert [(generation, score) for generation, score, *_ in log] == [(2, 4.0)]
    seeds = np.concatenate([block.seeds.ravel() for block in tried.evaluation()])
    assert seeds.tolist() == [400_000, 400_001, 400_002]
    assert {len(block.population) for block in tried.evaluation()} == {1}
    training = np.concatenate([block.seeds.ravel() for block in tried.training()])
    assert training.min() >= 20_000
    meta = json.loads((run / "log" / f"{name}.cma.2.4.best.json.meta.json").read_text())
    of = {"of": "dream"} if name == "doomrnn" else {"of": "game", "backend": "envpool"}
    assert meta["score"] == of | {"mean": 4.0, "n": 3, "first_seed": 400_000}


@pytest.fixture
def car(monkeypatch):
    """CarRacing without cars: real games are what they were asked to be."""
    return dataclasses.replace(
        CAR, real_games=lambda rows=0, backend="", **rules: types.SimpleNamespace(backend=backend, rules=rules)
    )


def test_what_may_change_when_a_search_goes_on(small_run, tmp_path, car, tried):
    """Catches a search that refuses what changes no candidate, and one that goes on with another sigma."""
    run, words = copy_run(small_run, "carracing", tmp_path / "1"), ["-t", 4, "--num_episode", 2]
    trained(car, run, *words, "--generations", 1)
    changes = {"patience": 9, "backend": "gym", "eval_episodes": 3, "block_rows": 5, "track_groups": 2}
    for generations, (flag, value) in enumerate(changes.items(), 2):
        # the spies keep what holds the lock of the folder, as a process would until its end
        run = shutil.copytree(run, tmp_path / str(generations))
        trained(car, run, *words, f"--{flag}", value, "--generations", generations)
    run = shutil.copytree(run, tmp_path / "last")
    again = ["--preset", "smoke", "-n", 1, "--run", run, *words, "--generations", 9, "--sigma_init", 0.2]
    assert call(evolve.main, car, *again).refused("sigma_init 0.1 -> 0.2")


@pytest.mark.parametrize("sample_z", [True, False])
def test_training_has_rules_of_its_own_and_the_mean_has_the_games(small_run, tmp_path, car, tried, sample_z):
    """Catches a mean scored under the patience of training, candidates without it, and --no-sample_z ignored."""
    run = copy_run(small_run, "carracing", tmp_path)
    words = ["-t", 4, "--num_episode", 2, "--generations", 1, "--eval_episodes", 2, "--patience", 8, "--backend", "gym"]
    trained(car, run, *words, "--sample_z" if sample_z else "--no-sample_z")
    for blocks, rules in ((tried.training(), {"patience": 8}), (tried.evaluation(), {})):
        assert blocks
        for block in blocks:
            assert (block.world.games.rules, block.world.games.backend) == (rules, "gym")
            assert block.world._sample_z is sample_z
            assert block.action_of is env.action_of


def test_what_plays_is_told(small_run, tmp_path, car, tried):
    """Catches scores of one implementation of the game that are said to be another's."""
    run = copy_run(small_run, "carracing", tmp_path)
    game = dataclasses.replace(car, backend_here=lambda name: {"envpool": "gym"}[name])
    words = ["-t", 4, "--num_episode", 1, "--generations", 1, "--eval_episodes", 1, "--backend", "envpool"]
    trained(game, run, *words)
    assert {block.world.games.backend for block in tried} == {"gym"}
    meta = json.loads((run / "log" / "carracing.cma.1.4.best.json.meta.json").read_text())
    assert (meta["score"]["backend"], meta["config"]["backend"]) == ("gym", "gym")


@pytest.mark.parametrize("mode", ["z", "zch"])
def test_directions_are_of_what_the_controller_named_reads(small_run, tmp_path, monkeypatch, mode):
    """Catches a search along directions that begins at zero, and --controller_mode or --directions without effect."""
    run, found, asked = copy_run(small_run, "doomrnn", tmp_path), [], []
    shape = controller.Controller(mode, 4, 8, 1, bias=False)
    start = np.linspace(0.1, 0.9, shape.parameters).round(4)
    controller.write(str(run / "start.json"), start)
    about = {"controller_mode": mode}, small_run[1]["doomrnn"], 1.0
    provenance.write(str(run / "start.json"), "controller", "doomrnn", *about, unverified=False)

    def features_of_play(world, shape, mean, seeds, action_of):
        asked.append((mean, seeds.tolist()))
        return np.random.default_rng(1).normal(size=(50, shape.input_size))

    monkeypatch.setattr(candidates, "features_of_play", features_of_play)
    monkeypatch.setattr(evolve, "evolve", lambda run, arena, cfg: found.append((run.mean, run.strategy.ask())))
    words = ["-t", 200, "--directions", 2, "--start_from", "start.json", "--controller_mode", mode, "--sigma_init", 0.1]
    trained(DOOM, run, *words)
    (mean, population), ((played, seeds),) = *found, asked
    np.testing.assert_allclose(mean, start, atol=1e-6)
    np.testing.assert_allclose(played, start, atol=1e-6)
    assert seeds == es.DIRECTION_SEEDS.tolist()
    assert np.linalg.matrix_rank(population - start, tol=0.01) == 2


def test_directions_that_are_refused_leave_no_trace(small_run, tmp_path, monkeypatch):
    """Catches a log that is begun before the directions are found: then fewer of them are refused as well."""
    run, play = copy_run(small_run, "doomrnn", tmp_path), candidates.features_of_play
    monkeypatch.setattr(candidates, "features_of_play", lambda *given: play(*given)[:3])
    words = "--run", run, "--preset", "smoke", "--directions"
    assert call(evolve.main, DOOM, *words, 4).refused("--directions 4: what the controller read varies in 3 directions")
    assert not (run / "log").exists()
    monkeypatch.setattr(evolve, "evolve", lambda run, arena, cfg: None)
    assert call(evolve.main, DOOM, *words, 3).code == 0


def test_a_log_that_nobody_could_read_leaves_no_trace(small_run, tmp_path, monkeypatch):
    """Catches a search that is known to end with a log that pick_best.py refuses."""
    run = copy_run(small_run, "doomrnn", tmp_path)
    monkeypatch.setattr(files, "JSON_LIMIT", 2 * 20 * evolution.NUMBER_BYTES - 1)
    monkeypatch.setattr(evolve, "evolve", lambda run, arena, cfg: None)
    done = call(evolve.main, DOOM, "--preset", "smoke", "--run", run)
    assert done.refused("--eval_steps 5: a log of 2 evaluations of 20 parameters")
    assert not (run / "log").exists()


def test_unverified_models_are_trained_in_if_that_is_asked_for_and_the_logs_say_so(small_run, tmp_path, tried):
    """Catches --unverified without effect or without need, and a controller that looks like all others afterwards."""
    run = copy_run(small_run, "doomrnn", tmp_path)
    (run / (DOOM.config.TRAINED["rnn"] + provenance.ENDING)).unlink()
    words = ["-t", 4, "--num_episode", 2, "--generations", 1, "--eval_episodes", 2]
    done = call(evolve.main, DOOM, "--preset", "smoke", "-n", 1, "--run", run, *words)
    assert done.refused("has no rnn.json.meta.json", "--unverified")
    assert not (run / "log").exists()
    trained(DOOM, run, *words, "--unverified")
    metas = [json.loads(path.read_text()) for path in (run / "log").glob(f"*{provenance.ENDING}")]
    assert [meta.get("unverified") for meta in metas] == [True] * 3


def test_more_tracks_come_with_the_generation_they_are_told_for(small_run, tmp_path, car, tried, told):
    """Catches a schedule of tracks that is a generation late: "1:1" is one track in the first generation only."""
    run = copy_run(small_run, "carracing", tmp_path)
    words = ["-t", 6, "--num_episode", 2, "--fewer_episodes", "1:1", "--generations", 2, "--eval_episodes", 1]
    trained(car, run, *words)
    blocks = tried.training()
    rows = [sum(len(block.seeds) for block in blocks if block.seeds.shape[1] == tracks) for tracks in (1, 2)]
    assert rows == [6, 6]
    assert [block.seeds.shape[1] for block in blocks] == sorted(block.seeds.shape[1] for block in blocks)
    for tracks in (1, 2):  # without groups all candidates race on the same
        assert len(np.unique(np.concatenate([b.seeds for b in blocks if b.seeds.shape[1] == tracks]), axis=0)) == 1


def test_groups_are_compared_within_themselves(small_run, tmp_path, car, tried, told):
    """Catches candidates ranked by their tracks: what is told is each one's distance from the median of its group."""
    run = copy_run(small_run, "carracing", tmp_path)
    words = ["-t", 6, "--num_episode", 2, "--fewer_episodes", "", "--track_groups", 2, "--generations", 1]
    rng, value = np.random.default_rng(3), {}

    def score(population, seeds):
        value.update({row.tobytes(): value.get(row.tobytes(), rng.normal()) for row in population})
        return seeds % 1000 + np.array([value[row.tobytes()] for row in population])[:, None]

    tried.score = score
    trained(car, run, *words, "--eval_episodes", 1)
    population = np.concatenate([block.population for block in tried.training()])
    seeds = np.concatenate([block.seeds for block in tried.training()])
    assert len(np.unique(seeds, axis=0)) == 2
    np.testing.assert_array_equal(seeds, np.tile(seeds[:2], (3, 1)))  # candidate k is of group k modulo 2
    skill = np.array([value[row.tobytes()] for row in population])
    np.testing.assert_allclose(told[0], (skill.reshape(3, 2) - np.median(skill.reshape(3, 2), axis=0)).ravel())


@pytest.mark.parametrize("checkpoint", [True, False])
def test_best_json_is_the_best_of_all(small_run, tmp_path, tried, checkpoint):
    """Catches the latest that improved on the one before, and a best that another machine, or a restart, forgets."""
    run, scores = copy_run(small_run, "doomrnn", tmp_path), iter([4.0, 9.0, 6.0, 7.0, 5.0])

    def score(population, seeds):
        return np.full(seeds.shape, next(scores) if seeds.max() >= 400_000 else 0.0)

    tried.score = score
    words = ["-t", 4, "--num_episode", 2, "--eval_steps", 1, "--eval_episodes", 2]
    trained(DOOM, run, *words, "--generations", 4)
    if not checkpoint:
        (run / "log" / "doomrnn.cma.2.4.checkpoint.npz").unlink()
    for generations, last in ((4, 7.0), (5, 5.0)):
        trained(DOOM, run, *words, "--generations", generations)
        log = json.loads((run / "log" / "doomrnn.cma.2.4.log.json").read_text())
        assert log[-1][1] == last
        parameters, best = json.loads((run / "log" / "doomrnn.cma.2.4.best.json").read_text())
        assert best == 9.0
        assert parameters == log[1][2]
        meta = json.loads((run / "log" / "doomrnn.cma.2.4.best.json.meta.json").read_text())
        assert (meta["score"]["mean"], meta["generation"]) == (9.0, 2)


# --- model.py and choosing ---


@pytest.fixture
def worlds(monkeypatch):
    """The worlds and policies that play.measure was given."""
    found = []

    def measure(make_world, make_policy, seeds, rows=32):
        found.append(types.SimpleNamespace(world=make_world(2), policy=make_policy(seeds), seeds=seeds.tolist()))
        return np.zeros(len(seeds)), np.ones(len(seeds), int)

    monkeypatch.setattr(play, "measure", measure)
    return found


@pytest.mark.parametrize(
    ("world", "words", "said"),
    [
        ("doomrnn", ["--temperature", 0.5], {"game": "doomrnn", "backend": "dream", "temperature": 0.5}),
        ("doomreal", [], {"game": "doomreal", "backend": "vizdoom", "temperature": None}),
    ],
)
def test_a_score_file_says_which_world_was_played(small_run, worlds, tmp_path, world, words, said):
    """Catches a score of the dream that is told as one of the game, and one at another temperature."""
    game, out = dataclasses.replace(DOOM, real_games=lambda rows, backend="": None), tmp_path / "scores.json"
    run = small_run[0] / "doomrnn"
    done = call(play.main, game, world, "norender", "agent.json", 460_000, "--run", run, "--out", out, *words)
    assert done.code == 0, done.err
    assert {name: json.loads(out.read_text()).get(name) for name in said} == said


def test_the_dream_has_the_temperature_asked_for(small_run, worlds):
    """Catches --temperature ignored; without it, it is the game's."""
    run = small_run[0] / "doomrnn"
    for words, temperature in ((["--temperature", 0.5], 0.5), ([], 1.25)):
        done = call(play.main, DOOM, "doomrnn", "norender", "agent.json", 1000, "--run", run, *words)
        assert done.code == 0, done.err
        assert worlds[-1].world.temperature == temperature
        assert worlds[-1].seeds == list(range(1000, 1100))


@pytest.mark.parametrize("sample_z", [True, False, None])
@pytest.mark.parametrize("name", GAMES)
def test_an_agent_sees_as_it_was_evolved_to(small_run, tmp_path, worlds, name, sample_z):
    """Catches an agent scored otherwise than it was trained: with a sample of z, or its mean; by default a sample."""
    game = dataclasses.replace(GAMES[name], real_games=lambda rows, backend="", **rules: backend)
    config = {} if sample_z is None else {"sample_z": sample_z}
    path = str(tmp_path / "agent.json")
    commands.write_controller(game, path, small_run[1][name], **config)
    words = [*(["doomreal"] if name == "doomrnn" else []), "norender", path, 1000, "--run", small_run[0] / name]
    done = call(play.main, game, *words)
    assert done.code == 0, done.err
    assert isinstance(worlds[-1].world, encoded.EncodedGames)
    assert worlds[-1].world._sample_z is (sample_z is not False)
    assert worlds[-1].world.games == game.backends[0]


def test_select_plays_exact_seeds_and_takes_the_best_finalist(small_run, tmp_path, monkeypatch):
    """Catches the worst finalists, a second round on the seeds of the first, test seeds, and a best of round one."""
    run = copy_run(small_run, "doomrnn", tmp_path)
    shape = agents.controller_on(DOOM, types.SimpleNamespace(shape=mdnrnn.Shape(4, 1, 8, True)))
    path = str(run / "log" / "doomrnn.cma.2.4.log.json")
    means = {1: (30.0, 30.0), 2: (50.0, 35.0), 3: (41.0, 46.0), 4: (np.nan, 99.0), 5: (10.0, 99.0)}
    log = [[10 * which, 100.0 + which, np.full(shape.parameters, which).tolist()] for which in means]
    files.write_json(path, log)
    score = {"of": "dream"}
    provenance.write(
        path, "evolution", "doomrnn", {"sample_z": False}, small_run[1]["doomrnn"], 1.0, unverified=False, score=score
    )
    played = []

    def measure(make_world, make_policy, seeds, rows=32):
        which = int(make_policy.__self__.parameters[0])
        played.append((which, seeds.tolist()))
        return np.full(len(seeds), means[which][int(seeds[0] > 420_000)]), np.ones(len(seeds), int)

    monkeypatch.setattr(play, "measure", measure)
    words = ["--episodes", 2, "--final_episodes", 3, "--finalists", 2, "--run", run]
    done = call(select.main, DOOM, path, *words)
    assert done.code == 0, done.err
    assert "picked.json: " in (last := done.out.splitlines()[-1])
    assert "generation 30: game 44.0 ± 1.2 (standard error, 5 games)" in last
    first, more = [420_000, 420_001], [420_002, 420_003, 420_004]
    assert played == [*((which, first) for which in means), (2, more), (3, more)]
    parameters, best = json.loads((run / "log" / "doomrnn.cma.2.4.picked.json").read_text())
    assert best == 44.0
    assert parameters == [3.0] * shape.parameters
    meta = json.loads((run / "log" / "doomrnn.cma.2.4.picked.json.meta.json").read_text())
    stderr = pytest.approx(np.std([41, 41, 46, 46, 46], ddof=1) / 5**0.5)
    assert meta["score"] == {"of": "game", "mean": 44.0, "stderr": stderr, "n": 5, "first_seed": 420_000}
    assert (meta["generation"], meta["dream"], meta["config"]) == (30, 103.0, {"sample_z": False})
    played.clear()
    done = call(select.main, DOOM, path, "--episodes", 2, "--final_episodes", 0, "--finalists", 2, "--run", run)
    assert done.code == 0, done.err
    assert played == [(which, first) for which in means]
    assert json.loads((run / "log" / "doomrnn.cma.2.4.picked.json").read_text())[1] == 50.0
    played.clear()
    assert call(select.main, DOOM, path, "--from_generation", 40, "--final_episodes", 0, "--run", run).code == 0
    assert [which for which, _ in played] == [4, 5]


# --- rollouts and series ---


def test_exploring_rows_are_kept_by_index():
    """Catches rows kept by position: an episode must not depend on which others ended before it, 50 steps on."""

    def exploring(seeds):
        still = types.SimpleNamespace(act=lambda state: np.zeros((state, 1)), keep=lambda on: None)
        return rollouts.Exploring(still, seeds, 0.5, 3, [-1.0], [1.0])

    together = exploring([7, 8, 9, 10])
    for _ in range(10):
        together.act(4)
    together.keep(np.array([1, 3]))
    alone = [exploring([8]), exploring([10])]
    for policy in alone:
        for _ in range(10):
            policy.act(1)
    steps = [(together.act(2)[:, 0], [policy.act(1)[0, 0] for policy in alone]) for _ in range(50)]
    np.testing.assert_array_equal(*map(np.array, zip(*steps, strict=True)))
    assert len(np.unique([row for row, _ in steps])) > 10


@pytest.fixture
def blind():
    """Stands for a VAE: the mean is the first pixel."""
    return types.SimpleNamespace(
        encode=lambda obs: (tf.cast(obs[:, 0, 0, :1], tf.float32), tf.zeros((tf.shape(obs)[0], 1)))
    )


def test_episodes_are_in_the_order_of_their_seeds_as_numbers(tmp_path, blind):
    """Catches the order of the text (10, 100, 9), with which other episodes would be held out for validation."""
    folder = tmp_path / "series"
    folder.mkdir()
    for seed in (100, 9, 10):
        frames = np.full((3, 64, 64, 3), seed, np.uint8)
        recordings.write(str(tmp_path / "record"), seed, frames, np.zeros(3), np.zeros(3), [False, False, True])
        missing, parts, _ = series.not_encoded([str(tmp_path / "record" / f"{seed}.npz")], str(folder))
        series.encode(missing, parts, blind, str(folder), 1)
    found = files.read_npz(str(folder / "series.npz"))
    assert found["recording"].tolist() == ["9", "10", "100"]
    assert found["mu"][:, 0].tolist() == [9, 9, 9, 10, 10, 10, 100, 100, 100]


def test_recordings_without_ends_end_with_their_last_frame(tmp_path, blind):
    """Catches recordings of the authors' code, which hold no `done`, from which no end could be learned."""
    (tmp_path / "record").mkdir()
    (tmp_path / "series").mkdir()
    path = str(tmp_path / "record" / "7.npz")
    files.write_npz(path, obs=np.zeros((5, 64, 64, 3), np.uint8), action=np.zeros(5, np.float16))
    series.encode([path], [], blind, str(tmp_path / "series"), 1)
    found = files.read_npz(str(tmp_path / "series" / "series.npz"))
    assert found["done"].tolist() == [False, False, False, False, True]
    assert np.isnan(found["reward"]).all()


# --- the trainers ---

RNN = settings.RestartRnn(
    hidden_size=16, streams=4, sequence_length=8, steps=60, learning_rate=1e-2, validation_episodes=2, clip=0.5
)


def write_series(path, length, rng):
    """A series of episodes of these lengths; an episode ends where the action of the step before was above 0."""
    frames, ends = sum(length), np.cumsum(length) - 1
    action = -rng.uniform(0.2, 1, (frames, 1))
    action[ends] *= -1  # the action of the last step foretells the restart after it
    seeds = np.arange(len(length)) + 2000
    files.write_npz(
        path,
        mu=rng.normal(0, 1, (frames, 4)).astype(np.float16),
        logvar=np.full((frames, 4), -2, np.float16),
        action=action.astype(np.float16),
        reward=np.ones(frames, np.float32),
        done=np.isin(np.arange(frames), ends),
        length=np.array(length, np.int32),
        recording=np.array(list(map(str, seeds))),
        bytes=np.full(len(length), 100),
    )
    return series.Series(path)


@pytest.fixture
def data(tmp_path, rng):
    """A series of 24 episodes of 10 to 15 frames."""
    return write_series(str(tmp_path / "series.npz"), (10 + np.arange(24) % 6).tolist(), rng)


def trainer_of(run, data, cfg=RNN, weight=10.0):
    run.mkdir(exist_ok=True)
    stage = runs.Stage(argparse.Namespace(run=str(run), fresh=False), "tf_rnn", "rnn.json", cfg)
    trainer = trainers.RnnTrainer(cfg, mdnrnn.Shape(4, 1, cfg.hidden_size, True), weight)
    trainer.resume(stage, series.StreamBatches(data, cfg.streams, cfg.sequence_length, cfg.seed), "source")
    return trainer


def test_the_restart_loss_is_trained(tmp_path, data):
    """Catches the restart loss left out of the sum that is trained, with which no dream would ever end."""
    longer = dataclasses.replace(RNN, steps=200)
    trainer = trainer_of(tmp_path / "run", data, longer)
    losses = [trainer.step(step)[1] for step in range(1, longer.steps + 1)]
    assert np.mean(losses[-5:]) < losses[0] / 2


def test_the_weight_of_restarts_matters(tmp_path, data):
    """Catches --restart_weight ignored."""
    first = [trainer_of(tmp_path / f"run{weight}", data, weight=weight).step(1) for weight in (1.0, 10.0)]
    assert first[0][0] == pytest.approx(first[1][0])
    assert first[1][1] > 1.5 * first[0][1]


def test_gradients_are_clipped_to_the_configs_value(tmp_path, data):
    """Catches clipping left out, or by another number."""
    assert trainer_of(tmp_path / "run", data)._optimizer.clipvalue == 0.5


def test_memory_is_carried_and_noise_is_new(tmp_path, data):
    """Catches a memory that begins anew in each chunk, in training or in validation, and one noise for all steps."""
    trainer, handed = trainer_of(tmp_path / "run", data), []

    def stub(batch, memory, seed):
        handed.append((float(np.array(memory[0]).flat[0]), tuple(np.array(seed).tolist())))
        return (1.0, 3.0), (memory[0] + 1, memory[1] + 1)

    trainer._train = trainer._evaluate = stub
    for step in range(1, 9):
        trainer.step(step)
    assert [memory for memory, _ in handed] == list(range(8))
    assert len({seed for _, seed in handed}) == 8
    handed.clear()
    np.testing.assert_array_equal(trainer.losses_on(data), [1, 3])  # a mean over the chunks, not a sum
    assert [memory for memory, _ in handed] == list(range(len(handed)))
    assert len({seed for _, seed in handed}) == len(handed) > 8


def test_validation_does_not_change_the_memory_of_the_training(tmp_path, data):
    """Catches a training that goes on with the memory of the episodes it must not know."""
    trainer = trainer_of(tmp_path / "run", data)
    trainer.step(1)
    before = trainer._state()["state"]
    trainer.losses_on(data)
    np.testing.assert_array_equal(trainer._state()["state"], before)


def test_the_noise_of_the_mdn_rnn_follows_from_the_seed_and_the_step(tmp_path, data):
    """Catches z drawn the same way at every step, to which the MDN-RNN over-fits."""
    trainer = trainer_of(tmp_path / "run", data)
    batch = next(iter(series.StreamBatches(data, 4, 8, 1).dataset()))
    losses = [
        float(trainer._evaluate(batch, trainer._no_memory(4), np.array(seed, np.int32))[0][0])
        for seed in ([1000, 1], [1000, 1], [1000, 2], [1001, 1])
    ]
    assert losses[0] == losses[1]
    assert len(set(losses)) == 3


def test_the_noise_of_the_vae_follows_from_the_seed_and_the_step(rng):
    """Catches z drawn the same way at every step, to which the VAE over-fits; the number of the step not handed on."""
    model, optimizer = vae.ConvVAE(4, "float32"), keras.optimizers.SGD(0.0)
    optimizer.build(model.trainable_variables)
    step = vae.train_step_of(model, optimizer, tf.distribute.get_strategy())
    frames = rng.integers(0, 256, (4, 64, 64, 3), np.uint8)
    seeds = ([1000, 1], [1000, 1], [1000, 2])
    losses = [float(step(tf.constant(frames), np.array(seed, np.int32))[0]) for seed in seeds]
    assert losses[0] == losses[1] != losses[2]
    trainer = trainers.VaeTrainer.__new__(trainers.VaeTrainer)
    handed = []
    trainer.cfg, trainer._batches = settings.Vae(seed=3), iter([frames] * 3)
    trainer._train = lambda batch, seed: handed.append(seed.tolist()) or (1.0, 1.0)
    for number in (1, 2, 3):
        trainer.step(number)
    assert handed == [[3, 1], [3, 2], [3, 3]]


@pytest.fixture
def recorded_run(small_run, tmp_path):
    """A run of Doom with two recordings, and an earlier VAE in earlier.json."""
    for seed in (2000, 2001):
        frames, none = np.full((6, 64, 64, 3), seed % 256, np.uint8), np.zeros(6)
        recordings.write(str(tmp_path / "record"), seed, frames, none, none, np.arange(6) == 5)
    provenance.copy(str(small_run[0] / "doomrnn" / DOOM.config.TRAINED["vae"]), str(tmp_path / "earlier.json"))
    return tmp_path


def test_the_vae_trains_as_its_options_say(recorded_run, monkeypatch):
    """Catches --mirror, --seed or --start_from without effect, and a start that its checkpoint or its meta forgets."""
    asked, begun, stream, run = [], [], recordings.FrameStream, recorded_run

    def spy(folder, batch_size, seed, **how):
        asked.append((batch_size, seed, how["mirror"]))
        return stream(folder, batch_size, seed, **how)

    def step(self, number):
        begun.append([variable.numpy() for variable in self.model.paper_weights])
        return 1.0, 2.0

    monkeypatch.setattr(recordings, "FrameStream", spy)
    monkeypatch.setattr(trainers.VaeTrainer, "step", step)
    monkeypatch.setattr(trainers.VaeTrainer, "reconstructions", lambda self: np.zeros((128, 64, 3)))
    words = ["--z_size", 4, "--batch_size", 4, "--steps", 2, "--seed", 5, "--mirror", "--start_from", "earlier.json"]
    done = call(vae_and_rnn.train_vae, DOOM, "--preset", "smoke", "--run", run, *words, "--unverified")
    assert done.code == 0, done.err
    assert asked == [(4, 5, True)]
    earlier = str(run / "earlier.json")
    for found, wanted in zip(begun[0], commands.weights.read(earlier), strict=True):
        np.testing.assert_allclose(found, wanted, atol=1e-6)
    meta = json.loads((run / "tf_vae" / "vae.json.meta.json").read_text())
    assert meta["parents"]["start_from"] == files.sha256(earlier)
    source = str(files.read_npz(str(run / "tf_vae" / "checkpoint.npz"))["state_source"])
    assert source != stream(str(run / "record"), 4, 5, game="doomrnn").source


def test_the_series_is_encoded_as_its_options_say(small_run, recorded_run, monkeypatch):
    """Catches --mirror, --z_noise or --episodes_per_part without effect, and a VAE that is not the run's own."""
    run, asked, real = copy_run(small_run, "doomrnn", recorded_run), [], series.encode

    def encode(missing, parts, coder, folder, *how):
        asked.append((len(missing), coder.z_size, *how))
        real(missing, parts, coder, folder, *how)

    monkeypatch.setattr(series, "encode", encode)
    words = ["--mirror", "--episodes_per_part", 1, "--z_noise", 0.5, "--unverified"]
    done = call(vae_and_rnn.encode, DOOM, "--preset", "smoke", "--run", run, *words)
    assert done.code == 0, done.err
    assert asked == [(2, 4, 1, True, 0.5)]
    meta = json.loads((run / "series" / "series.npz.meta.json").read_text())
    assert meta["parents"]["vae"] == small_run[1]["doomrnn"]["vae"]


@pytest.mark.parametrize("mirror", [False, True])
def test_chunks_are_of_the_episodes_and_sizes_of_the_config(monkeypatch, mirror):
    """Catches mirror images left out, or of another game; the share of the newest, a seed or a size without effect."""
    monkeypatch.setattr(series, "StreamBatches", lambda *how: how)
    monkeypatch.setattr(series, "MixedBatches", lambda *how: how)

    class Part(str):
        def with_mirror_images(self, factors):
            return f"{self} and images by {factors}"

        def split(self, count, flag):
            assert (count, flag) == (3, "--newest")
            return Part("old"), Part("new")

    images = f" and images by {CAR.config.MIRROR}" * mirror
    cfg = settings.Rnn(mirror=mirror, newest_share=0.25, streams=4, sequence_length=9, seed=7, heads=True)
    assert vae_and_rnn._chunks(CAR, cfg, Part("all")) == (f"all{images}", 4, 9, 7, True)
    mixed = vae_and_rnn._chunks(CAR, dataclasses.replace(cfg, newest=3), Part("all"))
    assert mixed == (f"old{images}", f"new{images}", 0.25, 4, 9, 7, True)


def test_an_mdn_rnn_knows_all_that_it_goes_on_from(small_run):
    """Catches the first of several that is forgotten: a controller evolved in that one could not go on."""
    run = small_run[0] / "doomrnn"
    path = str(run / "later.json")
    model = mdnrnn.MDNRNN(mdnrnn.Shape(4, 1, 8, True))
    commands.weights.write_rnn(path, model, DOOM.config.RNN_FILE_ORDER)
    about = {}, {"vae": small_run[1]["doomrnn"]["vae"], "start_from": "b" * 64}, 1.0
    provenance.write(path, "rnn", "doomrnn", *about, unverified=False, trained_on_from=["b" * 64, "a" * 64])
    cfg, parents, made_of = settings.Rnn(start_from="later.json"), {}, []
    here = commands.namespace(run=str(run))
    known = vae_and_rnn._start_rnn(DOOM, cfg, here, model, parents, made_of)
    assert known == [files.sha256(path), "b" * 64, "a" * 64]
    assert parents == {"start_from": files.sha256(path)}
    assert [meta["sha256"] for meta in made_of] == [files.sha256(path)]


def test_the_mdn_rnn_trains_on_known_and_is_validated_on_unseen_episodes(small_run, tmp_path, rng, monkeypatch):
    """Catches training on the held-out episodes, validating on the others, and options or origins not handed on."""
    run = copy_run(small_run, "doomrnn", tmp_path)
    length = [10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 30, 50]
    (run / "series").mkdir()
    path = str(run / "series" / "series.npz")
    write_series(path, length, rng)
    provenance.write(path, "series", "doomrnn", {}, {"vae": small_run[1]["doomrnn"]["vae"]}, 1.0, unverified=False)
    (run / "tf_rnn" / "rnn.json").unlink()
    (run / "tf_rnn" / "rnn.json.meta.json").unlink()
    seen = types.SimpleNamespace(frames=[], unseen=[], weight=[], mixtures=[])
    resume, init = trainers.RnnTrainer.resume, trainers.RnnTrainer.__init__

    def spy_resume(self, stage, batches, source):
        seen.frames.append((batches.series.length.tolist(), len(batches.series.mu)))
        return resume(self, stage, batches, source)

    def spy_init(self, cfg, shape, restart_weight, *more):
        seen.weight.append(restart_weight)
        seen.mixtures.append(shape.mixtures)
        init(self, cfg, shape, restart_weight, *more)

    monkeypatch.setattr(trainers.RnnTrainer, "resume", spy_resume)
    monkeypatch.setattr(trainers.RnnTrainer, "__init__", spy_init)
    monkeypatch.setattr(
        trainers.RnnTrainer, "losses_on", lambda self, unseen: seen.unseen.append(unseen.length.tolist()) or (0, 0)
    )
    monkeypatch.setattr(trainers.RnnTrainer, "dreams", lambda *more: np.zeros((128, 64, 3)))
    monkeypatch.setattr(vae_and_rnn, "_start_rnn", lambda *more: ["a" * 64, "b" * 64])
    words = ["--start_from", "earlier.json", "--mixtures", 3, "--hidden_size", 8, "--streams", 2, "--steps", 2]
    words += ["--sequence_length", 8, "--restart_weight", 7.5, "--validate_every", 1]
    done = call(vae_and_rnn.train_rnn, DOOM, "--preset", "smoke", "--run", run, *words, "--validation_episodes", 2)
    assert done.code == 0, done.err
    assert seen.frames == [(length[:-2], sum(length[:-2]))]
    assert seen.unseen == [[30, 50]] * 2
    assert (seen.weight, seen.mixtures) == ([7.5], [3])
    first, _ = json.loads((run / "tf_initial_z" / "initial_z.json").read_text())
    assert len(np.unique(first, axis=0)) == len(length)  # of all episodes, those of the validation too
    meta = json.loads((run / "tf_rnn" / "rnn.json.meta.json").read_text())
    assert meta["trained_on_from"] == ["a" * 64, "b" * 64]


def test_evolution_asks_for_what_the_config_says():
    """Catches --seed_start, --sigma_init or the start without effect."""
    cfg, mean = settings.Train(n=1, t=200, sigma_init=0.3, seed_start=1), np.linspace(-1, 1, 20)
    one, same, other = (
        es.strategy(dataclasses.replace(cfg, seed_start=seed), None, mean, None).ask() for seed in (1, 1, 2)
    )
    np.testing.assert_array_equal(one, same)
    assert not np.array_equal(one, other)
    np.testing.assert_allclose(es.strategy(cfg, None, mean, None).mean, mean, atol=1e-4)
    assert np.sqrt(np.square(one - mean).mean()) == pytest.approx(0.3, rel=0.05)
    assert evolution.FIRST_SEED == 20_000
