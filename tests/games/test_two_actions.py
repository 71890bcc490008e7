"""CarRacing's variants of recording: two numbers in an action, which all later stages follow, and random starts."""

import argparse
import dataclasses
import json
import os

import commands
import gymnasium
import numpy as np
import pytest
from commands import in_this_process  # noqa: F401  a fixture

from common.agent import mdnrnn
from common.data import recordings
from common.play import agents, play, record
from common.runtime import files, provenance
from common.runtime.cli import UserError
from common.studio import export, session
from common.training import evolve, policy_gradient, vae_and_rnn

from carracing import config, env
from carracing import game as description

THREE, TWO = description.GAME, description.TWO_ACTIONS
SEEDS = np.array([1003, 1000, 1003])
RNN = ["--hidden_size", 8, "--steps", 2, "--streams", 2, "--sequence_length", 8, "--validation_episodes", 2]
FEW = "--steps", 1, "--batch_size", 4
TRAIN = ["-t", 4, "--num_episode", 2, "--generations", 1, "--eval_steps", 1, "--eval_episodes", 2]


@pytest.fixture(scope="module")
def small():
    """CarRacing, but for a game of some twenty frames and dreams of 30 steps; two numbers in an action as well."""
    fewer = commands.counting(TWO, MAX_STEPS=30)
    return dataclasses.replace(commands.counting(THREE, MAX_STEPS=30), with_fewer_actions=fewer)


def test_pedals_are_gas_above_zero_and_brake_below():
    """Catches half a brake at rest, pedals the wrong way round, and three numbers that are changed."""
    actions = np.float32([[0.3, 0.8], [-1, -0.4], [0, 0]])
    apart = env.with_pedals_apart(actions)
    np.testing.assert_array_equal(apart, np.float32([[0.3, 0.8, 0], [-1, 0, 0.4], [0, 0, 0]]))
    np.testing.assert_array_equal(env.with_pedals_apart(apart), apart)
    np.testing.assert_array_equal(TWO.action_of(actions), actions)
    assert TWO.keyboard_action({"left", "up"}).tolist() == [-1, 1]
    np.testing.assert_allclose(TWO.keyboard_action({"down"}), [0, -0.8])


def test_the_game_takes_both_kinds_of_action():
    """Catches pedals that reach the game as gas alone: both cars drive the same when both are told the same."""
    cars = [env.cars_here("envpool"), env.cars_here("envpool")]
    frames = [batch.reset([1000, 1001]) for batch in cars]
    for t in range(20):
        two = np.float32([[0.2, 1 - 0.1 * t], [-0.1, 0.5]])
        frames = [batch.step(action) for batch, action in zip(cars, (two, env.with_pedals_apart(two)), strict=True)]
        np.testing.assert_array_equal(frames[0][0], frames[1][0])
        np.testing.assert_array_equal(frames[0][1], frames[1][1])


def test_sizes_and_who_is_meant():
    """Catches a controller with a third output, an MDN-RNN that reads a third number, and sizes passed over."""
    assert THREE.acting_by(3) is THREE
    assert THREE.acting_by(2) is TWO.acting_by(2) is TWO
    with pytest.raises(UserError, match="CarRacing has 3 or 2 numbers in an action, not 1"):
        THREE.acting_by(1)
    with pytest.raises(UserError, match="has 1 numbers in an action, not 2"):
        commands.GAMES["doomrnn"].acting_by(2)
    rnn = mdnrnn.MDNRNN(mdnrnn.Shape(32, TWO.config.ACTION_SIZE, 256, restart=False), "float32")
    assert agents.controller_on(THREE, rnn).parameters == 578
    assert TWO.config.MIRROR == (-1.0, 1.0)
    assert TWO.config.ACTION_LOW == (-1.0, -1.0)


@pytest.mark.parametrize("policy", ["random_network", "brownian"])
def test_random_policies_use_both_axes(policy):
    """Catches pedals that never brake, and three numbers where two are asked for."""
    cfg = dataclasses.replace(config.EXTRACT["smoke"], actions=2)
    player = description.GAME.random_policies[policy](np.arange(1000, 1100), cfg)
    actions = np.array([player.act(None) for _ in range(100)])
    assert actions.shape == (100, 100, 2)
    assert (np.abs(actions) <= 1).all()
    assert (actions[..., 1] < -0.01).mean() > 0.2
    assert (actions[..., 1] > 0.01).mean() > 0.2


def write_series(run, sha, actions):
    """A series of 9 episodes of 20 frames, encoded by the VAE of the run."""
    rng, path = np.random.default_rng(1000), str(run / "series" / "series.npz")
    os.makedirs(run / "series", exist_ok=True)
    files.write_npz(
        path,
        **{name: rng.normal(0, 1, (180, 4)).astype(np.float16) for name in ("mu", "logvar")},
        action=rng.uniform(-1, 1, (180, actions)).astype(np.float16),
        reward=np.ones(180, np.float32),
        done=np.arange(180) % 20 == 19,
        length=np.full(9, 20, np.int32),
    )
    provenance.write(path, "series", "carracing", {"seed": 1}, {"vae": sha["vae"]}, 1.0, unverified=False)


@pytest.fixture(scope="module")
def run(tmp_path_factory, small):
    """A run by two numbers: recordings by the random policy, an MDN-RNN of a made-up series, a controller."""
    folder = tmp_path_factory.mktemp("two")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("common.runtime.devices.for_blocks", lambda: None)
        commands.record_in_this_process(patch, small)
        words = "--preset", "smoke", "--run", folder
        extract = "--episodes", 4, "--first_seed", 3000, "--min_frames", 5, "--actions", 2
        for main, more in (
            (record.main, extract),
            (vae_and_rnn.train_vae, ("--z_size", 4, "--steps", 2, "--batch_size", 8)),
            (vae_and_rnn.encode, ()),
            (vae_and_rnn.train_rnn, (*RNN, "--streams", 1, "--validation_episodes", 1)),
            (evolve.main, TRAIN),
        ):
            done = commands.call(main, small, *words, *more)
            assert done.code == 0, done.err
    return folder


CONTROLLER = "log/carracing.cma.2.4.best.json"


def test_every_stage_follows_the_recordings(run, small):
    """Catches a stage that goes on with three numbers."""
    assert recordings.read(str(run / "record" / "3001.npz"))["action"].shape[1] == 2
    assert files.read_npz(str(run / "series" / "series.npz"))["action"].shape[1] == 2
    shapes = [np.shape(array) for array in json.loads((run / "tf_rnn" / "rnn.json").read_text())]
    assert (4 + 2 + 8, 32) in shapes
    assert len(json.loads((run / CONTROLLER).read_text())[0]) == 2 * (1 + 4 + 8)


def test_it_is_played_recorded_with_and_seen_in_the_studio(run, small, tmp_path, monkeypatch):
    """Catches a command that gives the game, or the MDN-RNN, another kind of action than the controller's."""
    monkeypatch.chdir(tmp_path)
    commands.record_in_this_process(monkeypatch, small)
    played = commands.call(play.main, small, "norender", CONTROLLER, "--run", run, "--episodes", 2)
    assert (played.code, "average_reward" in played.out) == (0, True), played.err
    shown = commands.call(play.watch_dream, small, CONTROLLER, "--run", run, "--video", "dream.gif")
    assert shown.code == 0, shown.err
    own = "--controller", CONTROLLER, "--first_seed", 9000, "--episodes", 2, "--min_frames", 5, "--run", run
    assert commands.call(record.main, small, *own).refused("--actions 3", "give --actions 2")
    assert commands.call(record.main, small, *own, "--actions", 2).code == 0
    assert recordings.read(str(run / "record" / "9000.npz"))["action"].shape[1] == 2

    stage = session.Stage(small, str(run), controller=str(run / CONTROLLER))
    page = session.Session(lambda name: stage, seed=1000)

    def ask(**message):
        about = json.loads(page.answer(json.dumps({"temperature": 1.0, "held": {}} | message)).split(b"\n")[0])
        assert "error" not in about, about
        return about

    assert ask(do="open", game="carracing")["actions"] == {"steering": -1, "pedals": -1}
    for world in ("dream", "game"):
        ask(do="start", world=world, frame=0)
        assert len(ask(do="step", driver="agent", keys=[])["action"]) == 2
        assert ask(do="step", driver="you", keys=["right", "down"])["action"] == [1, -0.8]

    class Believed:
        """PlaNet's dream, of which only what it is given counts here."""

        state = None

        def __init__(self, played, agent):
            self.game = played

        def begin(self, frame, seed):
            return None

        def step(self, action):
            assert action.shape == (1, 3)
            return None, np.zeros(1), np.zeros(1, bool)

        def look(self, temperature):
            return np.zeros((64, 64, 3), np.uint8)

    monkeypatch.setattr(session, "PlanetDream", Believed)
    stage.planet = object()
    ask(do="start", world="planet", frame=0)
    assert len(ask(do="step", driver="you", keys=["right", "down"])["action"]) == 3  # an RSSM acts by three
    manifest, _ = export.manifest_of(stage)
    assert manifest["rnn"]["action_size"] == 2
    assert manifest["keyboard"]["left up"] == [-1, 1]
    assert len(manifest["controller"]["rule"]) == 2


def test_the_policy_gradient_learns_with_two_numbers(run, small):
    """Catches a network of three numbers in a dream of two."""
    tiny = "--rows", 4, "--steps", 8, "--minibatch", 32, "--generations", 2, "--eval_steps", 2, "--eval_episodes", 2
    tiny += "--value_updates", 1, "--hidden", "4", "--value_hidden", "4", "--starts", 0, "--horizon", 0
    done = commands.call(policy_gradient.main, small, "-o", "ppo", "--preset", "smoke", "--run", run, *tiny)
    assert done.code == 0, done.err
    file = "log/carracing.dream.ppo.8.4.best.json"
    played = commands.call(play.main, small, "norender", file, "--run", run, "--episodes", 1)
    assert (played.code, "average_reward" in played.out) == (0, True), played.err


def test_the_dream_as_an_environment_takes_two_numbers(run):
    """Catches an action space of three numbers for an MDN-RNN that reads two."""
    import common  # noqa: F401  registers the environments

    dreams = gymnasium.make("WorldModels/CarRacingDream-v0", run=str(run), disable_env_checker=True)
    assert dreams.action_space.shape == (2,)
    assert dreams.action_space.low.tolist() == [-1, -1]
    dreams.reset(seed=1000)
    assert np.isfinite(dreams.step(dreams.action_space.sample())[0]).all()


def test_the_two_kinds_are_not_mixed(run, small, tmp_path):
    """Catches a VAE or a series of both, and a controller of one kind on the models of the other."""
    (tmp_path / "record").mkdir()
    for seed, size in ((2000, 2), (2001, 3), (2002, 3)):
        frames, zeros = np.zeros((10, 64, 64, 3), np.uint8), np.zeros(10)
        recordings.write(str(tmp_path / "record"), seed, frames, np.zeros((10, size)), zeros, zeros)
    sha = commands.write_models(small, str(tmp_path), 1)
    for main, words in ((vae_and_rnn.encode, ()), (vae_and_rnn.train_vae, ("--fresh", "--z_size", 4, *FEW))):
        done = commands.call(main, small, "--run", tmp_path, "--unverified", *words)
        assert done.code == 0, done.err
        assert f"skipped: {tmp_path}/record/2000.npz: has 2 numbers in an action, most others here 3" in done.out
    assert files.read_npz(str(tmp_path / "series" / "series.npz"))["recording"].tolist() == ["2001", "2002"]
    sha = commands.write_models(small, str(tmp_path), 1)
    refused = commands.call(play.main, small, "norender", run / CONTROLLER, "--run", tmp_path, "--episodes", 1)
    assert refused.refused("carracing.cma.2.4.best.json", "the models that it was evolved on")
    write_series(tmp_path, sha, 4)
    assert commands.call(vae_and_rnn.train_rnn, small, *RNN, "--run", tmp_path).refused("3 or 2 numbers", "not 4")


def test_a_random_start_is_a_place_on_the_same_track():
    """Catches another track, a car beside the road, tiles in another order, and a start that no seed decides."""
    plain, moved, again = (env.PythonTracks(env.python_game("gymnasium"), start) for start in (False, True, True))
    first = [tracks.start(SEEDS) for tracks in (plain, moved, again)]
    np.testing.assert_array_equal(first[1], first[2])
    np.testing.assert_array_equal(first[1][0], first[1][2])
    for one, other in zip(plain._games, moved._games, strict=True):
        places = [place for place in one.track if place == other.track[0]]
        assert len(places) == 1
        shift = one.track.index(places[0])
        assert shift > 0
        assert one.track[shift:] + one.track[:shift] == other.track
        assert np.hypot(*(np.array(other.car.hull.position) - other.track[0][2:4])) < 1.5
        assert [tile.idx for tile in one.road] == [tile.idx for tile in other.road]
    reward = [moved.drive(np.arange(3), np.float32([[0, 0.5, 0]] * 3))[1] for _ in range(30)]
    assert (np.sum(reward, axis=0) > 0).all()  # it drives onto tiles
    plain.start(SEEDS)
    np.testing.assert_array_equal(plain.start(SEEDS), first[0])


def test_random_starts_are_for_recording_in_gymnasium_only(small, tmp_path, monkeypatch):
    """Catches cars of EnvPool that begin at the line all the same, and starts that an evaluation could have."""
    words = "--preset", "smoke", "--run", tmp_path, "--random_start", "--episodes", 2, "--min_frames", 1
    assert commands.call(record.main, small, *words).refused("--random_start", "--gymnasium_share 1")
    assert not os.path.exists(tmp_path / "record")
    commands.record_in_this_process(monkeypatch, small)
    rules = []
    seen = dataclasses.replace(
        small, real_games=lambda rows, backend, **more: [rules.append((backend, more)), small.real_games(rows)][1]
    )
    monkeypatch.setattr(record, "find", lambda name: seen)
    assert commands.call(record.main, seen, *words, "--gymnasium_share", 1).code == 0
    assert rules
    assert all(rule == ("gymnasium", {"random_start": True}) for rule in rules)
    assert not any(hasattr(cfg, "random_start") for cfg in (config.TRAIN["laptop"], config.PLANET["laptop"]))
    assert argparse.Namespace(**dataclasses.asdict(config.EXTRACT["paper"])).random_start is False


def test_keys_and_random_play_have_two_numbers(run, small, tmp_path, monkeypatch):
    """Catches three numbers that reach an MDN-RNN which reads two."""
    shown, where = [], ("--run", run, "--video", tmp_path / "a.gif")
    monkeypatch.setattr(play, "watch", lambda world, policy, *more: shown.append(policy) or (0.0, 1))
    monkeypatch.setattr(play.video, "has_display", lambda: False)
    for main, words in ((play.play_dream, ()), (play.main, ("render", "random"))):
        done = commands.call(main, small, *words, *where)
        assert done.code == 0, done.err
    assert shown[0]._action_of({"down"}).tolist() == pytest.approx([0, -0.8])
    assert shown[1].act(None).shape == (1, 2)
