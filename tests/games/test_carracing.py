"""carracing/: the game on every backend, its rules, its random policies, and every stage on tiny sizes."""

import functools
import importlib
import json
import os
import shutil
import subprocess
import sys
import types

import numpy as np
import pytest
from PIL import Image

from common.data import recordings

FOLDER = os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(__file__))), "carracing")
BACKENDS = ("gymnasium", "gym", "envpool", "draft")
SEEDS = np.array([1003, 1000, 1003])


@pytest.fixture(scope="module")
def game():
    """The folder's modules, imported by bare name as its scripts do, and forgotten again: Doom has some alike."""
    names = ("config", "env", "extract", "model", "train", "carry_over", "mirror")
    before = {name: sys.modules.pop(name) for name in names if name in sys.modules}
    sys.path.insert(0, FOLDER)
    yield types.SimpleNamespace(**{name: importlib.import_module(name) for name in names})
    sys.path.remove(FOLDER)
    for name in names:
        del sys.modules[name]
    sys.modules.update(before)


def run(*command, code=0):
    """Runs a script of the folder; returns what it printed, stdout and stderr."""
    done = subprocess.run([sys.executable, *map(str, command)], cwd=FOLDER, capture_output=True, text=True)
    assert done.returncode == code, done.stderr
    return done.stdout, done.stderr


def test_actions_of_raw_values(game):
    """Catches a brake mapped like the gas, so that the car half-brakes, and axes mixed up."""
    raw = [[-1, -1, -1], [0, 0, 0], [0.5, 1, 0.5], [1, 0.5, -0.5]]
    wanted = [[-1, 0, 0], [0, 0.5, 0], [0.5, 1, 0.5], [1, 0.75, 0]]
    np.testing.assert_array_equal(game.env.action_of(raw), np.float32(wanted))
    np.testing.assert_array_equal(game.env.action_of(raw[3]), np.float32(wanted[3]))


def test_frames_alone_and_in_a_batch_are_the_same(game, rng):
    """Catches a second resize, the dashboard left in, colours or axes swapped."""
    screens = rng.integers(0, 256, (5, 96, 96, 3), np.uint8)
    frames = game.env.frame_of(screens)
    assert frames.shape == (5, 64, 64, 3)
    assert frames.dtype == np.uint8
    for screen, frame in zip(screens, frames, strict=True):
        np.testing.assert_array_equal(game.env.frame_of(screen), frame)
        alone = Image.fromarray(screen[:84]).resize((64, 64), Image.BILINEAR)
        np.testing.assert_array_equal(np.asarray(alone), frame)
    assert game.env.frame_of(screens[:0]).shape == (0, 64, 64, 3)
    dashboard = screens.copy()
    dashboard[:, 84:] = 0
    np.testing.assert_array_equal(game.env.frame_of(dashboard), frames)
    dashboard[:, 83] = 0
    assert (game.env.frame_of(dashboard)[:, 63] != frames[:, 63]).any()
    ramp = np.zeros((96, 96, 3), np.uint8)
    ramp[..., 0], ramp[..., 1] = np.arange(96), np.arange(96)[:, None]
    frame = game.env.frame_of(ramp).astype(float)
    inner = np.arange(2, 62)  # away from the edges the resize of a ramp is a ramp
    np.testing.assert_allclose(frame[5, inner, 0], (inner + 0.5) * 96 / 64 - 0.5, atol=0.6)
    np.testing.assert_allclose(frame[inner, 5, 1], (inner + 0.5) * 84 / 64 - 0.5, atol=0.6)
    assert frame[..., 2].max() == 0


@pytest.mark.parametrize("package", ["gymnasium", "gym"])
def test_drawing_only_what_is_on_the_screen_changes_no_pixel(game, package):
    """Catches a polygon left out, and colours kept from before the car touched a tile."""
    module = importlib.import_module(f"{package}.envs.box2d.car_racing")
    plain, ours = module.CarRacing(), game.env.python_game(package)()
    rng = np.random.default_rng(1000)
    np.testing.assert_array_equal(plain.reset(seed=1000)[0], ours.reset(seed=1000)[0])
    for _ in range(70):
        action = rng.uniform([-1, 0.3, 0], [1, 1, 0.1])
        screen, reward, *_ = plain.step(action)
        other_screen, other_reward, *_ = ours.step(action)
        np.testing.assert_array_equal(screen, other_screen)
        assert reward == other_reward


def test_a_draft_is_the_same_game_drawn_in_less_detail(game):
    """Catches a view that is shifted, turned or zoomed otherwise, missing polygons, stale colours, another game."""
    fine, draft = game.env.cars_here("gymnasium"), game.env.cars_here("draft")
    frames, drafts = fine.reset([1000, 1001]), draft.reset([1000, 1001])
    rng = np.random.default_rng(1000)
    for step in range(70):  # the view zooms in over the first 50
        difference = np.abs(frames.astype(float) - drafts)
        assert difference.mean() < 0.4, step  # one pixel to the side makes 0.6 to 4
        action = rng.uniform([-1, 0.3, 0], [1, 1, 0.1], (2, 3))
        frames, reward, done = fine.step(action)
        drafts, draft_reward, draft_done = draft.step(action)
        np.testing.assert_array_equal(reward, draft_reward)
        np.testing.assert_array_equal(done, draft_done)


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_batch_is_many_of_one(game, backend):
    """Catches rows mixed up, a seed that is not obeyed, a batch whose cars influence each other."""
    rng = np.random.default_rng(1000)
    actions = rng.uniform(game.env.LOW, game.env.HIGH, (25, 3, 3)).astype(np.float32)
    batch, one = game.env.cars(backend), game.env.cars_here(backend)
    first, steps = batch.reset(SEEDS), [batch.step(action) for action in actions]
    assert first.shape == (3, 64, 64, 3)
    assert (first[0] == first[2]).all()
    assert (first[0] != first[1]).any()
    for row, seed in enumerate(SEEDS):
        np.testing.assert_array_equal(one.reset([seed])[0], first[row])
        for action, (frames, reward, done) in zip(actions, steps, strict=True):
            frame, one_reward, one_done = one.step(action[row : row + 1])
            np.testing.assert_array_equal(frame[0], frames[row])
            assert (one_reward[0], one_done[0]) == (reward[row], done[row])


@pytest.mark.parametrize("backend", BACKENDS)
def test_leaving_the_field_ends_an_episode_with_minus_100(game, backend):
    """Catches a lost car driven on, an end that only one of the packages reports, other cars ending with it."""
    cars = game.env.cars_here(backend)
    cars.reset([{"envpool": 1011}.get(backend, 1000), 1001])  # of many seeds the car only spins on the grass
    lengths, last, live = np.zeros(2, int), np.zeros(2), np.arange(2)
    for _ in range(400):
        action = np.float32([[0, 1, 0], [0, 0, 0]])[live]  # one straight off the track, one stays
        frames, reward, done = cars.step(action)
        lengths[live] += 1
        last[live] = reward
        live = live[~done]
        assert len(frames) == len(live)
        if len(live) == 1:
            break
    assert live.tolist() == [1]
    assert last[0] == pytest.approx(-100, abs=0.01)
    assert 100 < lengths[0] < 400
    assert cars.step(np.zeros((1, 3)))[1].shape == (1,)


class ScriptedTracks:
    """Tracks whose rewards and ends are written down; the screen shows the car's number and the step."""

    def __init__(self, rewards, ends):
        self.rewards, self.ends = rewards, ends

    def screens(self, cars):
        """uint8 [B, 96, 96, 3]"""
        screens = np.zeros((len(cars), 96, 96, 3), np.uint8)
        screens[..., 0], screens[..., 1] = np.asarray(cars)[:, None, None], self.step % 256
        return screens

    def start(self, seeds):
        self.step = 0
        return self.screens(range(len(seeds)))

    def drive(self, cars, action):
        rewards = np.array([self.rewards[car][self.step] for car in cars])
        done = np.array([self.ends[car] == self.step + 1 for car in cars])
        self.step += 1
        return self.screens(cars), rewards, done


def test_laps_limits_and_patience(game):
    """Catches a patience that a new tile does not renew, a wrong charge, and rows that leave with another's frame."""
    rewards = [[3, -0.1, -0.1, -0.1, 3, -0.1], [-0.1] * 6, [3.0] * 6, [-0.1, -0.1, 3, -0.1, -0.1, -0.1]]
    tracks = ScriptedTracks(rewards, ends=[None, None, 2, None])
    cars = game.env.Cars(tracks, patience=3, max_steps=6)
    assert cars.reset([0] * 4)[:, 0, 0, 0].tolist() == [0, 1, 2, 3]
    total, left = np.zeros(4), np.arange(4)
    who = []
    for step in range(1, 7):
        frames, reward, done = cars.step(np.zeros((len(left), 3)))
        total[left] += reward
        left = left[~done]
        who.append(left.tolist())
        assert frames[:, 0, 0, 0].tolist() == left.tolist()
        assert (frames[..., 1] == step).all()
    # 2 finishes its lap, 1 is idle for three steps from the first, 0 and 3 (idle for exactly three) from later ones
    assert who == [[0, 1, 2, 3], [0, 1, 3], [0, 3], [3], [3], []]
    np.testing.assert_allclose(total, [3 - 0.5, -0.6, 6, -0.2 + 3 - 0.3], atol=1e-9)
    patient = game.env.Cars(ScriptedTracks(rewards, [None] * 4), max_steps=6)
    patient.reset([0] * 4)
    ends = [patient.step(np.zeros((4, 3)))[2].tolist() for _ in range(6)]
    assert ends == [[False] * 4] * 5 + [[True] * 4]


def test_the_limit_is_a_thousand_steps(game):
    """Catches an episode of 999 or 1001 steps."""
    cars = game.env.Cars(ScriptedTracks([[-0.1] * 1001], [None]))
    cars.reset([0])
    assert [cars.step(np.zeros((1, 3)))[2][0] for _ in range(1000)] == [False] * 999 + [True]


@pytest.mark.parametrize("policy", ["random_network", "brownian"])
def test_random_policies(game, policy):
    """Catches actions out of range, and episodes whose randomness depends on their neighbours."""
    make = game.extract.POLICIES[policy]
    together, alone = make(SEEDS), make(SEEDS[1:2])
    actions = np.array([together.act(None) for _ in range(200)])
    assert actions.shape == (200, 3, 3)
    assert (actions >= game.env.LOW).all()
    assert (actions <= game.env.HIGH).all()
    np.testing.assert_array_equal(actions[:, 0], actions[:, 2])
    np.testing.assert_allclose([alone.act(None)[0] for _ in range(200)], actions[:, 1], rtol=1e-6)
    together.keep(np.array([1]))
    np.testing.assert_allclose(together.act(None), alone.act(None), rtol=1e-6)
    if policy == "brownian":
        many = make(np.arange(1000, 1200))
        steps = np.diff([many.act(None)[:, 0] for _ in range(2)], axis=0)
        inner = steps[np.abs(steps) < 0.4]
        assert np.sqrt(np.mean(inner**2)) == pytest.approx(np.sqrt(1 / 50), rel=0.2)


def test_both_renderers_have_their_share(game):
    """Catches episodes that change their backend when a recording is resumed."""
    cfg = game.config.Extract(episodes=40, first_seed=2000, gymnasium_share=0.25, rows=4)
    backend_of = {
        seed: backend for backend, part in game.extract.blocks_of(range(2000, 2040), cfg) for seed in part.tolist()
    }
    assert sum(backend == "gymnasium" for backend in backend_of.values()) == 10
    resumed = game.extract.blocks_of(range(2007, 2040, 3), cfg)
    assert all(backend_of[seed] == backend for backend, part in resumed for seed in part.tolist())


def test_fewer_tracks_at_first(game):
    """Catches a schedule that is off by a generation."""
    tracks = game.train.tracks_by_generation(game.config.Train(fewer_episodes="2:1,4:3", num_episode=16))
    assert [tracks(generation) for generation in range(1, 7)] == [1, 1, 3, 3, 16, 16]
    assert game.train.tracks_by_generation(game.config.Train())(1) == 16


def test_fitness_is_above_those_on_the_same_tracks(game):
    """Catches candidates ranked by their luck with tracks, or measured against another group."""
    tracks = np.array([900.0, 100, 500])  # what each group's tracks are worth
    skill = np.array([3.0, -1, 4, 1, -5, 9, 2, 6, -4])
    returns = (skill + np.tile(tracks, 3))[:, np.newaxis] + [-7, 7]
    above = skill - np.tile(np.median(skill.reshape(3, 3), axis=0), 3)
    np.testing.assert_allclose(game.train.fitness_of(returns, 3), above, atol=1e-9)
    assert game.train.fitness_of(returns, 1).argmax() % 3 == 0
    broken = game.train.fitness_of(np.where(returns == returns[4], np.nan, returns), 3)
    assert np.flatnonzero(np.isnan(broken)).tolist() == [4]


def test_a_controller_is_fitted_where_it_matters(game, rng):
    """Catches a bias or an axis out of place, and weights that do not follow what the action does."""
    read = np.concatenate([np.ones((400, 1)), rng.standard_normal((400, 6))], axis=1).astype(np.float32)
    linear = rng.standard_normal((7, 3))
    np.testing.assert_allclose(game.carry_over.fit(read, read @ linear), linear, atol=1e-3)
    wanted = read @ linear
    far = np.abs(wanted[:, 0]) > 3
    assert 10 < far.sum() < 390
    wanted[far, 0] *= 2  # the same action, for the tanh is full
    plain = np.linalg.lstsq(read, wanted[:, 0], rcond=None)[0]
    ours = game.carry_over.fit(read, wanted)[:, 0]
    missed, plainly = (np.square(np.tanh(read @ w) - np.tanh(wanted[:, 0])).mean() for w in (ours, plain))
    assert missed < 0.7 * plainly


def test_paper_sizes(game):
    """Catches a controller or an M of another size than the paper's."""
    from common.agent import mdnrnn

    m = mdnrnn.MDNRNN(mdnrnn.Shape(32, game.config.ACTION_SIZE, 256, restart=False), "float32")
    assert game.model.controller_on(m).parameters == 867
    assert m.count_params() == 422_368


def test_recorders_do_without_tensorflow():
    """Catches an import that costs every recording process and every game process 215 MB."""
    run("-c", "import sys, extract, env; assert 'tensorflow' not in sys.modules and 'keras' not in sys.modules")


def test_no_envpool_is_said_once():
    """Catches a crash, or a message per thread, where EnvPool has no wheel."""
    out, _ = run(
        "-c",
        "import sys; sys.modules['envpool'] = None; import env; "
        "assert [env.available('envpool'), env.available('envpool')] == ['gymnasium'] * 2",
    )
    assert out.count("EnvPool") == out.count("\n") == 1


@pytest.fixture(scope="module")
def smoke(tmp_path_factory):
    """A run in which every stage was played once, on sizes tinier than the smoke preset's."""
    folder = tmp_path_factory.mktemp("carracing")
    stage = functools.partial(lambda name, *flags: run(f"{name}.py", "--preset", "smoke", "--run", folder, *flags))
    stage("extract", "--episodes", 8, "--max_frames", 30, "--workers", 2)
    stage("vae_train", "--steps", 4, "--z_size", 8)
    stage("series")
    stage("rnn_train", "--steps", 4, "--hidden_size", 16, "--validation_episodes", 2)
    stage("train", "-t", 4, "--num_episode", 2, "--patience", 8, "--eval_episodes", 1)
    return folder


def test_every_stage(smoke):
    """Catches a stage that does not hand on what the next one reads, or writes another format than the paper's."""
    for seed in range(2000, 2008):
        episode = recordings.read(smoke / "record" / f"{seed}.npz")
        assert episode["obs"].shape == (30, 64, 64, 3)
        assert episode["action"].shape == (30, 3)
        assert episode["reward"].dtype == np.float32
        assert episode["done"].tolist() == [False] * 29 + [True]
    with np.load(smoke / "series" / "series.npz") as series:
        assert series["mu"].shape == (240, 8)
        assert series["length"].tolist() == [30] * 8
    with open(smoke / "tf_rnn" / "rnn.json") as file:
        shapes = [np.shape(array) for array in json.load(file)]
    assert shapes == [(16, 120), (120,), (8 + 3 + 16, 64), (64,)]
    with open(smoke / "log" / "carracing.cma.2.4.hist.json") as file:
        assert len(json.load(file)) == 2
    with open(smoke / "log" / "carracing.cma.2.4.config.json") as file:
        assert json.load(file)["config"]["sample_z"] is False
    out, _ = run("train.py", "--preset", "smoke", "--run", smoke, "-t", 4, "--patience", 8, "--eval_episodes", 1)
    assert "nothing to do" in out


def test_evolution_is_the_same_over_mpi_ranks_in_smaller_blocks(smoke, tmp_path):
    """Catches candidates or tracks that get mixed up on their way to ranks and blocks."""
    flags = ["--num_episode", 2, "--patience", 40, "--sigma_init", 1, "--eval_episodes", 1]
    hists, means = [], []
    for name, division in (("alone", ["-t", 4]), ("ranks", ["-n", 2, "-t", 2, "--block_rows", 1])):
        for trained in ("tf_vae", "tf_rnn", "tf_initial_z"):
            shutil.copytree(smoke / trained, tmp_path / name / trained)
        run("train.py", "--preset", "smoke", "--run", tmp_path / name, *flags, *division)
        log = tmp_path / name / "log"
        hists.append(json.loads((log / "carracing.cma.2.4.hist.json").read_text()))
        means.append(json.loads((log / "carracing.cma.2.4.json").read_text()))
    for row in hists[0] + hists[1]:
        del row[1]  # seconds
    assert hists[0] == hists[1]
    assert means[0] == means[1]
    assert hists[0][0][4] > 0  # the first candidates' returns differ, so that their order moves the mean


def test_a_further_round_of_data(smoke):
    """Catches an agent that cannot record for its successor."""
    flags = ["--controller", "log/carracing.cma.2.4.json", "--first_seed", 3000, "--episodes", 2, "--max_frames", 20]
    run("extract.py", "--preset", "smoke", "--run", smoke, "--gymnasium_share", 0.5, *flags)
    assert recordings.read(smoke / "record" / "3001.npz")["action"].shape == (20, 3)


@pytest.mark.parametrize(("backend", "count"), [("gymnasium", 1), ("envpool", 3)])
def test_scores(smoke, backend, count):
    """Catches scores that are not those of the seeds asked for, and another backend than the one asked for."""
    flags = ["--episodes", count, "--backend", backend, "--run", smoke, "--out", smoke / "scores.json"]
    out, _ = run("model.py", "norender", "log/carracing.cma.2.4.best.json", 1000, *flags)
    with open(smoke / "scores.json") as file:
        scores = json.load(file)
    assert out.splitlines()[-1].startswith("seed 1000 average_reward ")
    assert [episode["seed"] for episode in scores["episodes"]] == list(range(1000, 1000 + count))
    assert (scores["game"], scores["backend"], scores["n"]) == ("carracing", backend, count)
    assert set(scores["hashes"]) == {"vae", "rnn"}
    assert all(-200 < episode["return"] < 1000 for episode in scores["episodes"])


def test_the_random_policy_needs_no_weights(tmp_path):
    """Catches a random score that differs from one run to the next, or loads V and M for nothing."""
    flags = ["random", 1000, "--episodes", 2, "--backend", "envpool", "--run", tmp_path]
    first, again = (run("model.py", "norender", *flags)[0].splitlines()[-1] for _ in range(2))
    assert first == again
    assert first.startswith("seed 1000 average_reward ")


class Flicker:
    """A game of 2 to 6 steps, by its seed, of noise."""

    def reset(self, seed):
        self.rng, self.left = np.random.default_rng(seed), 2 + seed % 5
        return self.rng.integers(0, 256, (64, 64, 3), np.uint8)

    def step(self, action):
        self.left -= 1
        return self.rng.integers(0, 256, (64, 64, 3), np.uint8), 1.0, self.left == 0


def test_a_lesson_of_an_m_to_itself_has_nothing_to_teach(game, rng):
    """Catches memories out of step with what is seen and done, or with the rows that are left; and the wrong driver."""
    from common.agent import mdnrnn, vae
    from common.worlds import encoded, games, rollouts

    rnn = mdnrnn.MDNRNN(mdnrnn.Shape(4, 3, 8, restart=False), "float32")
    world = encoded.EncodedGames(games.Games([Flicker() for _ in range(6)]), vae.ConvVAE(4), rnn, sample_z=False)
    old, new = rng.normal(0, 1, (2, 13, 3)).astype(np.float32)
    driven = []
    for driver in (None, old, new):
        lesson = game.carry_over.Lesson(world, world.vae, rnn, old, driver)
        rollouts.rollout(world, lesson, np.arange(6))
        read, wanted = map(np.concatenate, zip(*lesson.notes, strict=True))
        assert read.shape == (2 + 3 + 4 + 5 + 6 + 2, 13)
        np.testing.assert_allclose(read @ old, wanted, rtol=1e-5, atol=1e-5)
        driven.append(read)
    np.testing.assert_allclose(driven[0], driven[1], rtol=1e-5, atol=1e-5)
    assert np.abs(driven[2] - driven[0]).max() > 0.01


def test_an_agent_that_sees_all_in_a_mirror(game, rng):
    """Catches frames or steering that only one of the two ways is reversed, and a memory without the action."""
    from common.agent import mdnrnn, vae

    v, rnn = vae.ConvVAE(4), mdnrnn.MDNRNN(mdnrnn.Shape(4, 3, 8, restart=False), "float32")
    parameters = rng.normal(0, 1, (13, 3)).astype(np.float32)
    plain = game.carry_over.Watcher(v, rnn, parameters)
    looking = game.carry_over.Watcher(v, rnn, parameters, in_mirror=True)
    for k in range(3):
        frames = rng.integers(0, 256, (2 if k < 2 else 1, 64, 64, 3), np.uint8)
        action = rng.uniform(-1, 1, (len(frames), 3)).astype(np.float32)
        wanted, seen = plain.wants(frames), looking.wants(np.flip(frames, axis=2))
        np.testing.assert_allclose(wanted * [-1, 1, 1], seen, rtol=1e-4, atol=1e-4)
        plain.remember(action)
        looking.remember(action * np.float32([-1, 1, 1]))
        if k == 1:
            plain.keep([1])
            looking.keep([1])


def test_a_lesson_in_symmetry(game, rng):
    """Catches a share that reaches gas and brake, or is taken of the wrong agent."""
    from common.agent import mdnrnn, vae
    from common.worlds import encoded, games, rollouts

    rnn = mdnrnn.MDNRNN(mdnrnn.Shape(4, 3, 8, restart=False), "float32")
    world = encoded.EncodedGames(games.Games([Flicker() for _ in range(6)]), vae.ConvVAE(4), rnn, sample_z=False)
    old, new = rng.normal(0, 1, (2, 13, 3)).astype(np.float32)

    def wanted(symmetry):
        lesson = game.carry_over.Lesson(world, world.vae, rnn, old, new, symmetry)
        rollouts.rollout(world, lesson, np.arange(6))
        return np.concatenate([wanted for _, wanted in lesson.notes])

    plain, half, whole = wanted(0), wanted(0.5), wanted(1)
    np.testing.assert_allclose(half, (plain + whole) / 2, rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(whole[:, 1:], plain[:, 1:], rtol=1e-4, atol=1e-4)
    assert np.abs(whole[:, 0] - plain[:, 0]).max() > 0.01


def test_mirror_images_of_recordings(game, tmp_path, rng):
    """Catches an image that is not one: rows flipped, gas reversed, its own image made at the next start."""
    frames, action = rng.integers(0, 256, (5, 64, 64, 3), np.uint8), rng.uniform(-1, 1, (5, 3))
    record, done = tmp_path / "record", np.arange(5) == 4
    record.mkdir()
    for seed in (7, 8):
        recordings.write(record, seed, frames, action, np.arange(5), done)
    for _ in range(2):
        out, _ = run("mirror.py", "--run", tmp_path)
        assert "2 episodes have" in out
    assert sorted(int(path.stem) for path in record.glob("*.npz")) == [7, 8, 1_000_000_007, 1_000_000_008]
    image, original = (recordings.read(record / f"{seed}.npz") for seed in (1_000_000_008, 8))
    np.testing.assert_array_equal(image["obs"][:, :, 0], frames[:, :, 63])
    np.testing.assert_array_equal(image["obs"], np.flip(frames, axis=2))
    np.testing.assert_array_equal(image["action"], original["action"] * np.float16([-1, 1, 1]))
    np.testing.assert_array_equal(image["reward"], original["reward"])
    assert image["done"].tolist() == done.tolist()
    (record / "9.npz").write_bytes((record / "8.npz").read_bytes()[:-200])
    np.savez(record / "10.npz", obs=frames, action=action)
    out, _ = run("mirror.py", "--run", tmp_path)
    assert "skipped" in out
    assert "2 episodes have" in out
    assert "no such folder" in run("mirror.py", "--run", tmp_path / "nothing", code=2)[1]


def test_a_controller_carried_over(smoke):
    """Catches a file that train.py cannot start from."""
    best, carried = "log/carracing.cma.2.4.best.json", smoke / "carried.json"
    out, _ = run(
        "carry_over.py",
        best,
        "--old",
        smoke,
        "--run",
        smoke,
        "--out",
        carried,
        "--rounds",
        2,
        "--tracks",
        1,
        "--symmetry",
        0.25,
    )
    assert out.count("drove") == 2
    assert np.shape(json.loads(carried.read_text())[0]) == (3 * (1 + 8 + 16),)
    search = ["--preset", "smoke", "--run", smoke, "-o", "openes", "-t", 4, "--directions", 3, "--eval_episodes", 1]
    run("train.py", *search, "--patience", 8, "--start_from", carried, "--generations", 1)
    parameters = [json.loads(path.read_text())[0] for path in (carried, smoke / "log" / "carracing.openes.2.4.json")]
    assert np.abs(np.subtract(*parameters)).max() > 0


def test_watching_the_agent_and_its_dream(smoke):
    """Catches a film that is not written where there is no display."""
    best = "log/carracing.cma.2.4.best.json"
    run("model.py", "render", best, 1000, "--backend", "envpool", "--run", smoke, "--video", smoke / "a.mp4")
    run("dream_model.py", best, 1000, "--run", smoke, "--video", smoke / "b.mp4")
    assert (smoke / "a.mp4").stat().st_size > 10_000
    assert (smoke / "b.mp4").stat().st_size > 10_000


@pytest.mark.parametrize(
    ("command", "culprit"),
    [
        (["model.py", "norender", "nothing.json"], "nothing.json"),
        (["model.py", "norender", "random", "--backend", "atari"], "atari"),
        (["model.py", "watch", "random"], "watch"),
        (["extract.py", "--policy", "asleep"], "asleep"),
        (["extract.py", "--run", "/nowhere"], "/nowhere"),
        (["train.py", "--preset", "smoke", "--fewer_episodes", "often"], "often"),
        (["train.py", "--preset", "smoke", "--fewer_episodes", "9:2,4:1"], "9:2,4:1"),
        (["train.py", "--num_epsiode", "2"], "--num_epsiode"),
        (["train.py", "--preset", "smoke", "--track_groups", "3"], "--track_groups"),
        (["carry_over.py", "nothing.json", "--run", ".", "--out", "x.json"], "nothing.json"),
        (["series.py", "--preset", "huge"], "huge"),
        (["dream_model.py", "nothing.json"], "nothing.json"),
    ],
)
def test_a_users_mistake_is_one_line_and_exit_code_2(smoke, command, culprit):
    """Catches tracebacks, and flags that are silently ignored."""
    if "nothing.json" in command and "--run" not in command:
        command = [*command, "--run", smoke]
    _, error = run(*command, code=2)
    assert error.count("\n") == 1
    assert culprit in error


def test_playing_needs_a_display(monkeypatch):
    """Catches a traceback of the window library."""
    for name in ("DISPLAY", "WAYLAND_DISPLAY"):
        monkeypatch.delenv(name, raising=False)
    if sys.platform in ("darwin", "win32"):
        pytest.skip("there is always a display")
    for script in ("env.py", "dream_env.py"):
        _, error = run(script, code=2)
        assert "display" in error
        assert error.count("\n") == 1


def test_a_controller_of_another_v_is_refused(smoke, tmp_path):
    """Catches a controller that is played on weights it was not evolved with."""
    for name in ("tf_vae", "tf_rnn", "tf_initial_z"):
        (tmp_path / name).symlink_to(smoke / name)
    log = tmp_path / "log"
    log.mkdir()
    for name in ("best.json", "config.json"):
        (log / f"carracing.cma.2.4.{name}").write_bytes((smoke / "log" / f"carracing.cma.2.4.{name}").read_bytes())
    about = log / "carracing.cma.2.4.config.json"
    content = json.loads(about.read_text())
    content["hashes"]["vae"] = "0" * 64
    about.write_text(json.dumps(content))
    _, error = run("model.py", "norender", "log/carracing.cma.2.4.best.json", "--run", tmp_path, code=2)
    assert "another vae" in error
