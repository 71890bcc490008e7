"""carracing/: the game on every backend, its rules, its random policies, and every stage on tiny sizes."""

import importlib
import json
import os
import shutil
import subprocess
import sys
import types

import commands
import numpy as np
import pytest
from commands import in_this_process  # noqa: F401
from PIL import Image

from common.agent import mdnrnn
from common.data import recordings
from common.play import agents, play, video
from common.runtime import files
from common.runtime.files import ROOT
from common.worlds import games

from carracing import config, env
from carracing import game as description

FOLDER = os.path.join(ROOT, "carracing")
BACKENDS = ("gymnasium", "gym", "envpool", "draft")
SEEDS = np.array([1003, 1000, 1003])
SHORT = 120  # steps of an episode in the scripts of `short`


def run(*command, code=0, cwd=FOLDER):
    """Runs a script of the folder; returns what it printed, stdout and stderr."""
    done = subprocess.run([sys.executable, *map(str, command)], cwd=cwd, capture_output=True, text=True)
    assert done.returncode == code, done.stderr
    return done.stdout, done.stderr


def test_actions_of_raw_values():
    """Catches a brake mapped like the gas, so that the car half-brakes, and axes mixed up."""
    raw = [[-1, -1, -1], [0, 0, 0], [0.5, 1, 0.5], [1, 0.5, -0.5]]
    wanted = [[-1, 0, 0], [0, 0.5, 0], [0.5, 1, 0.5], [1, 0.75, 0]]
    np.testing.assert_array_equal(env.action_of(raw), np.float32(wanted))
    np.testing.assert_array_equal(env.action_of(raw[3]), np.float32(wanted[3]))


def test_frames_alone_and_in_a_batch_are_the_same(rng):
    """Catches a second resize, the dashboard left in, colors or axes swapped."""
    screens = rng.integers(0, 256, (5, 96, 96, 3), np.uint8)
    frames = env.frame_of(screens)
    assert frames.shape == (5, 64, 64, 3)
    assert frames.dtype == np.uint8
    for screen, frame in zip(screens, frames, strict=True):
        np.testing.assert_array_equal(env.frame_of(screen), frame)
        alone = Image.fromarray(screen[:84]).resize((64, 64), Image.BILINEAR)
        np.testing.assert_array_equal(np.asarray(alone), frame)
    assert env.frame_of(screens[:0]).shape == (0, 64, 64, 3)
    dashboard = screens.copy()
    dashboard[:, 84:] = 0
    np.testing.assert_array_equal(env.frame_of(dashboard), frames)
    dashboard[:, 83] = 0
    assert (env.frame_of(dashboard)[:, 63] != frames[:, 63]).any()
    ramp = np.zeros((96, 96, 3), np.uint8)
    ramp[..., 0], ramp[..., 1] = np.arange(96), np.arange(96)[:, None]
    frame = env.frame_of(ramp).astype(float)
    inner = np.arange(2, 62)  # away from the edges the resize of a ramp is a ramp
    np.testing.assert_allclose(frame[5, inner, 0], (inner + 0.5) * 96 / 64 - 0.5, atol=0.6)
    np.testing.assert_allclose(frame[inner, 5, 1], (inner + 0.5) * 84 / 64 - 0.5, atol=0.6)
    assert frame[..., 2].max() == 0


@pytest.mark.parametrize("package", ["gymnasium", "gym"])
def test_drawing_only_what_is_on_the_screen_changes_no_pixel(package):
    """Catches a polygon left out, and colors kept from before the car touched a tile."""
    module = importlib.import_module(f"{package}.envs.box2d.car_racing")
    plain, ours = module.CarRacing(), env.python_game(package)()
    rng = np.random.default_rng(1000)
    np.testing.assert_array_equal(plain.reset(seed=1000)[0], ours.reset(seed=1000)[0])
    for _ in range(70):
        action = rng.uniform([-1, 0.3, 0], [1, 1, 0.1])
        screen, reward, *_ = plain.step(action)
        other_screen, other_reward, *_ = ours.step(action)
        np.testing.assert_array_equal(screen, other_screen)
        assert reward == other_reward


def test_a_draft_is_the_same_game_drawn_in_less_detail():
    """Catches a view that is shifted, turned or zoomed otherwise, missing polygons, stale colors, another game."""
    fine, draft = env.cars_here("gymnasium"), env.cars_here("draft")
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
def test_a_batch_is_many_of_one(backend):
    """Catches rows mixed up, a seed that is not obeyed, a batch whose cars influence each other."""
    rng = np.random.default_rng(1000)
    actions = rng.uniform(config.ACTION_LOW, config.ACTION_HIGH, (25, 3, 3)).astype(np.float32)
    batch, one = env.real_games(3, backend), env.cars_here(backend)
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
def test_leaving_the_field_ends_an_episode_with_minus_100(backend):
    """Catches a lost car driven on, an end that only one of the packages reports, other cars ending with it."""
    cars = env.cars_here(backend)
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


def test_laps_limits_and_patience():
    """Catches a patience that a new tile does not renew, a wrong charge, and rows that leave with another's frame."""
    rewards = [[3, -0.1, -0.1, -0.1, 3, -0.1], [-0.1] * 6, [3.0] * 6, [-0.1, -0.1, 3, -0.1, -0.1, -0.1]]
    tracks = ScriptedTracks(rewards, ends=[None, None, 2, None])
    cars = env.Cars(tracks, patience=3, max_steps=6)
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
    patient = env.Cars(ScriptedTracks(rewards, [None] * 4), max_steps=6)
    patient.reset([0] * 4)
    ends = [patient.step(np.zeros((4, 3)))[2].tolist() for _ in range(6)]
    assert ends == [[False] * 4] * 5 + [[True] * 4]


def test_a_car_that_has_visited_enough_is_followed_no_further():
    """Catches tiles counted without the cost of their step, costs counted as tiles, and a count that rows share."""
    rewards = [[249.9, -0.1, 499.9, 149.9, -0.1], [249.9, 249.9, 249.9, 149.8, 0.2], [-0.1] * 5]
    cars = env.Cars(ScriptedTracks(rewards, [None] * 3), enough=0.9)
    cars.reset([0] * 3)
    left, lengths = np.arange(3), {}
    for step in range(1, 6):
        _, _, done = cars.step(np.zeros((len(left), 3)))
        lengths |= {int(car): step for car in left[done]}
        left = left[~done]
    assert lengths == {0: 4, 1: 5}  # 1 has visited 0.8999 after four steps
    usual = env.Cars(ScriptedTracks([[999.9, -0.1]], [None]))
    usual.reset([0])
    assert not usual.step(np.zeros((1, 3)))[2].any()  # only the game ends it


def test_grass_on_both_sides_costs_while_learning():
    """Catches a charge on the road or with one side on it, the wrong pixels, and a tile that is no longer counted."""
    tracks = env.PoolTracks()
    screens = tracks.start([470_000, 470_001])
    cars, still = np.arange(2, dtype=np.int32), np.zeros((2, 3), np.float32)
    for _ in range(30):  # the camera is near from then on
        screens, _, _ = tracks.drive(cars, still)
    assert env.on_grass(screens).tolist() == [0, 0]
    grass = np.array([102, 204, 102], np.uint8)
    left, both = screens.copy(), screens.copy()
    left[0, 60:80, :47], both[0, 60:80, :47], both[0, 60:80, 49:] = grass, grass, grass
    assert env.on_grass(left).tolist() == [0, 0]
    assert env.on_grass(both).tolist() == [1, 0]
    for _ in range(120):  # straight on, until no track goes that way
        screens, _, _ = tracks.drive(cars, np.array([[0, 0.5, 0]] * 2, np.float32))
    assert env.on_grass(screens).tolist() == [1, 1]

    green = ScriptedTracks([[600.0, 399.8, -0.1]], [None])
    green.screens = lambda cars: np.full((len(cars), 96, 96, 3), grass)
    charged = env.Cars(green, enough=0.9, grass=2.0)
    charged.reset([0])
    steps = [charged.step(np.zeros((1, 3))) for _ in range(2)]
    assert [reward[0] for _, reward, _ in steps] == [598.0, 397.8]
    assert [done[0] for _, _, done in steps] == [False, True]


def test_grass_is_looked_for_right_beside_the_car():
    """Catches pixels before, behind, under or far beside the car, and a white curb that is taken for grass."""
    road, grass, white = (np.array(color, np.uint8) for color in ([105] * 3, [102, 204, 102], [255] * 3))
    screens = np.empty((3, 96, 96, 3), np.uint8)
    screens[[0, 2]], screens[1] = road, grass
    for screen, color in zip(screens, (grass, road, white), strict=True):
        screen[67:77, [44, 51]] = color
    assert env.on_grass(screens).tolist() == [1, 0, 0]


def test_a_lost_car_is_not_charged_for_its_patience_and_the_next_episode_begins_anew():
    """Catches a cost on top of the -100, and tiles, idle steps or a time of the episode before."""
    rewards = [[-0.1, -0.1, -100.0], [399.9, -0.1, 399.9]]
    cars = env.Cars(ScriptedTracks(rewards, ends=[3, None]), patience=3, max_steps=5, enough=0.9)
    for _ in range(2):
        cars.reset([0, 0])
        steps = []
        while not steps or not steps[-1][2].any():
            steps.append(cars.step(np.zeros((2, 3))))
        assert [done.tolist() for _, _, done in steps] == [[False, False], [False, False], [True, False]]
        assert steps[-1][1].tolist() == [-100.0, 399.9]


@pytest.mark.parametrize("kind", ["Extract", "Train", "GamePpo", "Planet"])
def test_the_rules_of_a_config(kind):
    """Catches rules that the games are not told of, and a charge in what a model or a value network learns from."""
    of = getattr(config, kind)
    charged = {} if kind == "Train" else {"charged": False}
    assert of().rules() == {}
    assert of(patience=7).rules() == {"patience": 7} | charged
    others = {"Extract": {"random_start": True}, "GamePpo": {"enough": 0.5, "grass": 2.0}}.get(kind, {})
    assert of(**others).rules() == others


def test_the_limit_is_a_thousand_steps():
    """Catches an episode of 999 or 1001 steps."""
    cars = env.Cars(ScriptedTracks([[-0.1] * 1001], [None]))
    cars.reset([0])
    assert [cars.step(np.zeros((1, 3)))[2][0] for _ in range(1000)] == [False] * 999 + [True]


def test_the_tracks_of_envpool_are_those_of_the_seeds_and_end_with_their_last_tile():
    """Catches a lap that ends at EnvPool's 95 % of the tiles, and one seed for all cars."""
    tracks, asked = env.PoolTracks(), []
    screens = np.zeros((2, 96, 96, 3), np.uint8)

    def make(name, **options):
        asked.append(options)
        return types.SimpleNamespace(reset=lambda: (screens, {}))

    tracks._make = make
    assert tracks.start(np.array([1003, 1000])) is screens
    (options,) = asked
    assert (options["env_seed"], options["num_envs"]) == ([1003, 1000], 2)
    assert options["lap_complete_percent"] == 1.0
    assert options["max_episode_steps"] > config.MAX_STEPS


@pytest.mark.parametrize("backend", BACKENDS)
def test_the_rules_reach_the_cars(monkeypatch, backend):
    """Catches cars without the patience that was asked for, or at the start line where a random start was."""
    monkeypatch.setattr(games, "OwnProcess", lambda make: make())
    more = {} if backend == "envpool" else {"random_start": True}
    cars = env.real_games(4, backend, patience=7, charged=False, **more)
    assert (cars._patience, cars._charged) == (7, False)
    assert isinstance(cars._tracks, env.PoolTracks) == (backend == "envpool")
    assert getattr(cars._tracks, "_random_start", True)
    usual = env.real_games(4, backend)
    assert (usual._patience, usual._charged, usual._max_steps) == (0, True, 1000)
    assert not getattr(usual._tracks, "_random_start", False)


def test_a_backend_that_is_not_here_is_named_by_what_plays(monkeypatch):
    """Catches scores that are said to be EnvPool's where Gymnasium has played."""
    monkeypatch.setitem(sys.modules, "envpool", None)
    env.available.cache_clear()
    try:
        assert [description.GAME.backend_here(name) for name in ("envpool", "gym", "")] == [
            "gymnasium",
            "gym",
            "gymnasium",
        ]
        cfg = config.Extract(episodes=4, gymnasium_share=0.25)
        assert {backend for backend, _ in description.blocks_of(range(2000, 2004), cfg)} == {"gymnasium"}
    finally:
        env.available.cache_clear()


class Lap:
    """Stands for CarRacing: a step brings 2, and the lap ends after `length` of them. Notes how it was made."""

    made: list = []  # noqa: RUF012

    def __init__(self, length, **rules):
        self.length, self.rules, self.actions = length, rules, []
        self.made.append(self)

    def reset(self, seed):
        self.seed = seed

    def step(self, action):
        self.actions.append(action.tolist())
        return None, 2.0, len(self.actions) == self.length, False, {}

    def render(self):
        return np.full((64, 96, 3), 200, np.uint8)


@pytest.mark.parametrize("length", [4, 2000])
def test_a_person_plays_the_seed_that_was_asked_for(monkeypatch, tmp_path, capsys, length):
    """Catches --seed without effect, a lap that ends early or never, and a time that is not that of the game."""
    monkeypatch.setattr(env, "python_game", lambda package: lambda **rules: Lap(length, **rules))
    monkeypatch.setattr(config, "MAX_STEPS", 9)
    monkeypatch.setattr(Lap, "made", [])
    monkeypatch.setattr(video, "has_display", lambda: False)
    for name, module in (("play", play), ("video", video)):
        monkeypatch.setattr(env, name, module, raising=False)
    monkeypatch.setattr("sys.argv", ["env.py", "--seed", "1234", "--video", str(tmp_path / "lap.gif")])
    env.main()
    (game,) = Lap.made
    steps = min(length, 9)
    assert (game.seed, game.rules["lap_complete_percent"], game.rules["render_mode"]) == (1234, 1.0, "rgb_array")
    assert game.actions == [[0, 0, 0]] * steps
    with Image.open(tmp_path / "lap.gif") as gif:
        assert gif.n_frames == steps
    assert f"{2 * steps}.0 points in {steps} steps" in capsys.readouterr().out


@pytest.mark.parametrize("policy", ["random_network", "brownian"])
def test_random_policies(policy):
    """Catches actions out of range, and episodes whose randomness depends on their neighbors."""

    def make(seeds):
        return description.GAME.random_policies[policy](seeds, config.EXTRACT["smoke"])

    together, alone = make(SEEDS), make(SEEDS[1:2])
    actions = np.array([together.act(None) for _ in range(200)])
    assert actions.shape == (200, 3, 3)
    assert (actions >= config.ACTION_LOW).all()
    assert (actions <= config.ACTION_HIGH).all()
    np.testing.assert_array_equal(actions[:, 0], actions[:, 2])
    np.testing.assert_allclose([alone.act(None)[0] for _ in range(200)], actions[:, 1], rtol=1e-6)
    together.keep(np.array([1]))
    np.testing.assert_allclose(together.act(None), alone.act(None), rtol=1e-6)
    if policy == "brownian":
        many = make(np.arange(1000, 1200))
        steps = np.diff([many.act(None)[:, 0] for _ in range(2)], axis=0)
        inner = steps[np.abs(steps) < 0.4]
        assert np.sqrt(np.mean(inner**2)) == pytest.approx(np.sqrt(1 / 50), rel=0.2)


def test_random_policies_by_hand():
    """Catches a bias or tanh left out, noise that is drawn once, and a walk that is a step ahead of its start."""
    cfg, rng = config.EXTRACT["smoke"], np.random.default_rng([2000, 6])
    network = description.GAME.random_policies["random_network"]([2000], cfg)
    weights = rng.standard_cauchy((33, 3)) * rng.uniform(0, 0.01)
    walk, walking = description.GAME.random_policies["brownian"]([2000], cfg), np.random.default_rng([2000, 6])
    place = walking.uniform([-1, 0, 0], [1, 1, 1])
    for _ in range(4):
        raw = np.tanh(weights[0] + rng.standard_normal(32) @ weights[1:])
        np.testing.assert_allclose(network.act(None)[0], env.action_of(raw), atol=1e-6)
        np.testing.assert_allclose(walk.act(None)[0], place, atol=1e-6)
        place = np.clip(place + np.sqrt(1 / 50) * walking.standard_normal(3), [-1, 0, 0], [1, 1, 1])


def test_both_renderers_have_their_share():
    """Catches episodes that change their backend when a recording is resumed."""
    cfg = config.Extract(episodes=40, first_seed=2000, gymnasium_share=0.25, rows=4)
    backend_of = {
        seed: backend for backend, part in description.blocks_of(range(2000, 2040), cfg) for seed in part.tolist()
    }
    assert sum(backend == "gymnasium" for backend in backend_of.values()) == 10
    sizes = [(backend, len(part)) for backend, part in description.blocks_of(range(2000, 2040), cfg)]
    assert sizes == [("gymnasium", 4), ("gymnasium", 4), ("gymnasium", 2), *[("envpool", 4)] * 7, ("envpool", 2)]
    resumed = description.blocks_of(range(2007, 2040, 3), cfg)
    assert all(backend_of[seed] == backend for backend, part in resumed for seed in part.tolist())


def test_paper_sizes():
    """Catches a controller or an MDN-RNN of another size than the paper's."""
    rnn = mdnrnn.MDNRNN(mdnrnn.Shape(32, config.ACTION_SIZE, 256, restart=config.RESTART), "float32")
    assert agents.controller_on(description.GAME, rnn).parameters == 867
    assert rnn.count_params() == 422_368


def test_recorders_do_without_tensorflow():
    """Catches an import that costs every recording process and every game process 215 MB."""
    modules = "carracing.game, carracing.env, common.play.record, doomrnn.game, doomrnn.doomreal"
    run("-c", f"import sys, {modules}; assert 'tensorflow' not in sys.modules and 'keras' not in sys.modules", cwd=ROOT)


def test_no_envpool_is_said_once():
    """Catches a crash, or a message per thread, where EnvPool has no wheel."""
    out, _ = run(
        "-c",
        "import sys; sys.modules['envpool'] = None; from carracing import env; "
        "assert [env.available('envpool'), env.available('envpool')] == ['gymnasium'] * 2",
        cwd=ROOT,
    )
    assert out.count("EnvPool") == out.count("\n") == 1


@pytest.fixture(scope="module")
def short(tmp_path_factory):
    """Folder of the scripts of the game, but an episode has SHORT steps at most."""
    folder = tmp_path_factory.mktemp("scripts")
    for name in ("extract", "vae_train", "series", "rnn_train", "train", "model", "dream_model"):
        with open(os.path.join(FOLDER, f"{name}.py")) as file:
            text = file.read()
        (folder / f"{name}.py").write_text(f"from carracing import config\n\nconfig.MAX_STEPS = {SHORT}\n{text}")
    return folder


@pytest.fixture(scope="module")
def smoke(short, tmp_path_factory):
    """A run in which every stage was played once, on sizes tinier than the smoke preset's."""
    folder = tmp_path_factory.mktemp("carracing")

    def stage(name, *flags):
        run(short / f"{name}.py", "--preset", "smoke", "--run", folder, *flags)

    stage("extract", "--episodes", 8, "--max_frames", 30, "--workers", 2)
    stage("vae_train", "--steps", 4, "--z_size", 8)
    stage("series")
    stage("rnn_train", "--steps", 4, "--hidden_size", 16, "--validation_episodes", 2)
    stage("train", "-t", 4, "--num_episode", 2, "--patience", 8, "--eval_episodes", 1)
    return folder


def test_every_stage(short, smoke):
    """Catches a stage that does not hand on what the next one reads, or writes another format than the paper's."""
    for seed in range(2000, 2008):
        episode = recordings.read(smoke / "record" / f"{seed}.npz")
        assert episode["obs"].shape == (30, 64, 64, 3)
        assert episode["action"].shape == (30, 3)
        assert episode["reward"].dtype == np.float32
        assert episode["done"].tolist() == [False] * 30  # cut, not ended
    with np.load(smoke / "series" / "series.npz") as series:
        assert series["mu"].shape == (240, 8)
        assert series["length"].tolist() == [30] * 8
    with open(smoke / "tf_rnn" / "rnn.json") as file:
        shapes = [np.shape(array) for array in json.load(file)]
    assert shapes == [(16, 120), (120,), (8 + 3 + 16, 64), (64,), (16, 2), (2,)]  # the last two are the heads
    with open(smoke / "log" / "carracing.cma.2.4.hist.json") as file:
        assert len(json.load(file)) == 2
    with open(smoke / "log" / "carracing.cma.2.4.config.json") as file:
        assert json.load(file)["config"]["sample_z"] is False
    out, _ = run(
        short / "train.py", "--preset", "smoke", "--run", smoke, "-t", 4, "--patience", 8, "--eval_episodes", 1
    )
    assert "nothing to do" in out


def test_evolution_is_the_same_over_mpi_ranks_in_smaller_blocks(short, smoke, tmp_path):
    """Catches candidates or tracks that get mixed up on their way to ranks and blocks."""
    flags = ["--num_episode", 2, "--patience", 40, "--sigma_init", 1, "--eval_episodes", 1]
    hists, means = [], []
    for name, division in (("alone", ["-t", 4]), ("ranks", ["-n", 2, "-t", 2, "--block_rows", 1])):
        for trained in ("tf_vae", "tf_rnn", "tf_initial_z"):
            shutil.copytree(smoke / trained, tmp_path / name / trained)
        run(short / "train.py", "--preset", "smoke", "--run", tmp_path / name, *flags, *division)
        log = tmp_path / name / "log"
        hists.append(json.loads((log / "carracing.cma.2.4.hist.json").read_text()))
        means.append(json.loads((log / "carracing.cma.2.4.json").read_text()))
    for row in hists[0] + hists[1]:
        del row[1]  # seconds
    assert hists[0] == hists[1]
    assert means[0] == means[1]
    assert hists[0][0][4] > 0  # the first candidates' returns differ, so that their order moves the mean


def test_a_further_round_of_data(short, smoke):
    """Catches an agent that cannot record for its successor."""
    flags = ["--controller", "log/carracing.cma.2.4.json", "--first_seed", 3000, "--episodes", 2, "--max_frames", 20]
    run(short / "extract.py", "--preset", "smoke", "--run", smoke, "--gymnasium_share", 0.5, *flags)
    assert recordings.read(smoke / "record" / "3001.npz")["action"].shape == (20, 3)


def test_a_search_along_directions_starts_at_a_controller(short, smoke):
    """Catches an openes, a start or directions that the game's own arena does not know."""
    best = smoke / "log" / "carracing.cma.2.4.best.json"
    search = ["--preset", "smoke", "--run", smoke, "-o", "openes", "-t", 4, "--directions", 3, "--eval_episodes", 1]
    # steps so large that the candidates differ: the mean of equal ones would stay where it is
    search += ["--patience", 40, "--sigma_init", 3, "--start_from", best, "--generations", 1]
    run(short / "train.py", *search)
    found = smoke / "log" / "carracing.openes.2.4.json"
    before, after = (json.loads(path.read_text())[0] for path in (best, found))
    assert np.shape(after) == (3 * (1 + 8 + 16),)
    assert np.abs(np.subtract(before, after)).max() > 0
    meta = json.loads((smoke / "log" / "carracing.openes.2.4.json.meta.json").read_text())
    assert meta["parents"]["start_from"] == files.sha256(best)


@pytest.mark.parametrize(("backend", "count"), [("gymnasium", 1), ("envpool", 3)])
def test_scores(short, smoke, backend, count):
    """Catches scores that are not those of the seeds asked for, and another backend than the one asked for."""
    flags = ["--episodes", count, "--backend", backend, "--run", smoke, "--out", smoke / "scores.json"]
    out, _ = run(short / "model.py", "norender", "log/carracing.cma.2.4.best.json", 1000, *flags)
    with open(smoke / "scores.json") as file:
        scores = json.load(file)
    assert out.splitlines()[-1].startswith("seed 1000 average_reward ")
    assert [episode["seed"] for episode in scores["episodes"]] == list(range(1000, 1000 + count))
    assert (scores["game"], scores["backend"], scores["n"]) == ("carracing", backend, count)
    assert set(scores["models"]) == {"vae", "rnn", "initial_z"}
    assert scores["controller"]["sha256"] == files.sha256(smoke / "log" / "carracing.cma.2.4.best.json")
    assert "unverified" not in scores
    assert all(-200 < episode["return"] < 1000 for episode in scores["episodes"])


def test_the_random_policy_needs_no_weights(short, tmp_path):
    """Catches a random score that differs from one run to the next, or loads V and M for nothing."""
    flags = ["random", 1000, "--episodes", 2, "--backend", "envpool", "--run", tmp_path]
    first, again = (run(short / "model.py", "norender", *flags)[0].splitlines()[-1] for _ in range(2))
    assert first == again
    assert first.startswith("seed 1000 average_reward ")


def test_watching_the_agent_and_its_dream(short, smoke):
    """Catches a film that is not written where there is no display."""
    best = "log/carracing.cma.2.4.best.json"
    run(short / "model.py", "render", best, 1000, "--backend", "envpool", "--run", smoke, "--video", smoke / "a.mp4")
    run(short / "dream_model.py", best, 1000, "--run", smoke, "--video", smoke / "b.mp4")
    assert (smoke / "a.mp4").stat().st_size > 10_000
    assert (smoke / "b.mp4").stat().st_size > 10_000


@pytest.mark.parametrize(
    ("command", "culprit"),
    [
        (["model", "norender", "nothing.json"], "nothing.json"),
        (["model", "norender", "random", "--backend", "atari"], "atari"),
        (["model", "watch", "random"], "watch"),
        (["extract", "--policy", "asleep"], "asleep"),
        (["extract", "--run", "config.py"], "config.py"),
        (["train", "--preset", "smoke", "--fewer_episodes", "often"], "often"),
        (["train", "--num_epsiode", "2"], "--num_epsiode"),
        (["series", "--preset", "huge"], "huge"),
        (["dream_model", "nothing.json"], "nothing.json"),
    ],
)
def test_a_users_mistake_is_one_line_and_exit_code_2(smoke, command, culprit):
    """Catches tracebacks, and flags that are silently ignored."""
    if "nothing.json" in command and "--run" not in command:
        command = [*command, "--run", smoke]
    script, *words = command
    done = commands.script("carracing", script, *words)
    assert done.refused(culprit), done


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
