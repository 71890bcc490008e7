"""common/play/record.py: the one recording loop, with the small game of tests/catchdot."""

import dataclasses
import json
import os
import shutil
import sys
import types

import commands
import numpy as np
import pytest
from commands import in_this_process  # noqa: F401

from common.data import recordings
from common.play import record
from common.runtime import devices, files, parallel, provenance, settings
from common.runtime.cli import DiedError, UserError, option
from common.training import evolve, vae_and_rnn
from common.worlds import games, rollouts

import toy
from carracing import env
from catchdot.game import GAME


@pytest.fixture
def extract(tmp_path, monkeypatch):
    """(flags of extract.py, game) -> runs it into ./run; returns the recordings by seed."""
    monkeypatch.chdir(tmp_path)

    def extract(*flags, game=GAME):
        monkeypatch.setattr("sys.argv", ["extract.py", "--run", "run", "--workers", "1", *map(str, flags)])
        record.main(game, "What it does.")
        return {int(path.stem): recordings.read(str(path)) for path in (tmp_path / "run" / "record").glob("*.npz")}

    return extract


def summary(seed=2000):
    return files.read_json(os.path.join("run", "record", f"{seed}.summary.json"))


def test_episodes_hold_what_was_seen_before_each_action(extract):
    """Catches another seed's episode, a frame that belongs to the step after, and an action that was not played."""
    found = extract("--episodes", 5)
    assert sorted(found) == [2000, 2001, 2002, 2003, 2004]
    for seed, episode in found.items():
        (world,), rewards = GAME.real_games(1)._games, []
        frame = world.reset(seed)
        for action, seen, over in zip(episode["action"], episode["obs"], episode["done"], strict=True):
            np.testing.assert_array_equal(seen, frame)
            frame, reward, done = world.step(np.float32([action]))
            assert done == over
            rewards.append(reward)
        np.testing.assert_allclose(episode["reward"], rewards)
        policy = rollouts.RandomActions([seed], [-1], [1])
        np.testing.assert_array_equal(episode["action"], [np.float16(policy.act(None)[0, 0]) for _ in rewards])
    about = summary()
    assert (about["game"], about["kept"], about["too_short"], about["lost"]) == ("catchdot", 5, 0, 0)
    assert (about["parents"], about["config"]["first_seed"]) == ({}, 2000)


def test_recordings_are_complete_only_with_the_same_config(extract, capsys):
    """Catches recordings of other rules taken for this run's, and finished ones played again or lost with --fresh."""
    extract("--episodes", 3)
    before = os.stat("run/record/2000.npz").st_mtime_ns
    extract("--episodes", 3)
    assert "already recorded" in capsys.readouterr().out
    extract("--episodes", 3, "--workers", 2)
    assert "already recorded" in capsys.readouterr().out
    assert os.stat("run/record/2000.npz").st_mtime_ns == before
    with pytest.raises(UserError, match=r"2000\.summary\.json: these seeds were recorded with other values"):
        extract("--episodes", 4)
    with pytest.raises(UserError, match=r"2000\.summary\.json: these seeds were recorded with other values"):
        extract("--episodes", 3, "--max_frames", 5)
    with pytest.raises(UserError, match=r"2000\.summary\.json: these seeds were recorded with other values"):
        extract("--episodes", 3, game=dataclasses.replace(GAME, config=Renamed(GAME.config)))
    assert sorted(extract("--episodes", 2, "--first_seed", 3000)) == [2000, 2001, 2002, 3000, 3001]
    assert sorted(extract("--episodes", 1, "--fresh")) == [2000]
    assert sorted(os.listdir("run"))[0] == "record"
    assert len(os.listdir("run")) == 2
    for text in ("{", "[1]", '{"config": {}}'):
        with open("run/record/2000.summary.json", "w") as file:
            file.write(text)
        with pytest.raises(UserError, match=r"2000\.summary\.json: damaged"):
            extract("--episodes", 1)


@pytest.mark.parametrize("damage", [os.remove, lambda path: os.truncate(path, 100)])
def test_what_is_lost_of_a_finished_recording_is_recorded_again(extract, capsys, damage):
    """Catches "nothing to do" where a file is gone or cut short."""
    whole = extract("--episodes", 4)
    kept = os.stat("run/record/2002.npz").st_mtime_ns
    damage("run/record/2001.npz")
    again = extract("--episodes", 4)
    assert "1 of its 4 recordings are gone or damaged" in capsys.readouterr().out
    assert os.stat("run/record/2002.npz").st_mtime_ns == kept
    for seed, episode in whole.items():
        np.testing.assert_array_equal(again[seed]["obs"], episode["obs"])
    assert summary()["kept"] == 4
    extract("--episodes", 4)
    assert "already recorded" in capsys.readouterr().out


class Renamed:
    """A config under another game's name."""

    def __init__(self, config):
        self._config, self.GAME = config, "chess"

    def __getattr__(self, name):
        return getattr(self._config, name)


def test_only_what_is_missing_is_played_after_an_interruption(extract):
    """Catches episodes that are played twice or never, and a torn file that counts as an episode."""
    whole = extract("--episodes", 4)
    os.remove("run/record/2000.summary.json")
    os.remove("run/record/2001.npz")
    with open("run/record/2003.npz", "r+b") as file:
        file.truncate(100)
    kept = os.stat("run/record/2002.npz").st_mtime_ns
    again = extract("--episodes", 4)
    assert os.stat("run/record/2002.npz").st_mtime_ns == kept
    for seed, episode in whole.items():
        np.testing.assert_array_equal(again[seed]["obs"], episode["obs"])
    assert (summary()["kept"], summary()["set_aside"]) == (4, 1)


def test_an_interrupted_recording_does_not_go_on_with_other_values(extract, monkeypatch):
    """Catches episodes of two policies under a summary that names one of them."""
    whole = extract("--episodes", 3, "--max_frames", 9)
    os.remove("run/record/2000.summary.json")
    with monkeypatch.context() as patch:
        patch.setattr(record, "_record_random", lambda *_: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            extract("--episodes", 3, "--max_frames", 9)
    with pytest.raises(UserError, match=r"2000\.begun\.json: recording these seeds was begun with other values"):
        extract("--episodes", 3, "--max_frames", 5)
    assert extract("--episodes", 4, "--max_frames", 9, "--workers", 2).keys() > whole.keys()
    assert summary()["kept"] == 4
    assert not os.path.exists("run/record/2000.begun.json")


def test_recordings_do_not_overlap(extract, monkeypatch):
    """Catches seeds of another recording that count as there, so that nothing is played and all is said to be."""
    extract("--episodes", 3)
    extract("--episodes", 2, "--first_seed", 10_000)
    said = r"run/record: the seeds {} overlap those of another recording there, {}; give a --first_seed after 10001"
    with pytest.raises(UserError, match=said.format("2002 to 2003", "2000 to 2002") + "$"):
        extract("--episodes", 2, "--first_seed", 2002)
    with pytest.raises(UserError, match=said.format("1999 to 2000", "2000 to 2002") + ", or at most 1 --episodes$"):
        record._check_seeds_are_free("run/record", settings.Extract(first_seed=1999, episodes=2))
    monkeypatch.setattr(record, "_agent", lambda *_: pytest.fail("it loads the agent first"))
    with pytest.raises(UserError, match=said.format("9999 to 10000", "10000 to 10001")):
        extract("--episodes", 2, "--first_seed", 9999, "--controller", "c.json")
    with pytest.raises(UserError, match=said.format("10001 to 10001", "10000 to 10001")):  # under the lock
        record.record(GAME, "run/record", settings.Extract(first_seed=10_001, episodes=1))
    assert sorted(extract("--episodes", 7, "--first_seed", 2003))[-3:] == [2009, 10_000, 10_001]
    assert sorted(extract("--episodes", 2, "--first_seed", 2002, "--fresh")) == [2002, 2003]


def test_an_interrupted_recording_keeps_its_seeds(extract, monkeypatch):
    """Catches recordings that another agent takes for its own before the first one is complete."""
    with monkeypatch.context() as patch:
        patch.setattr(record, "_record_random", lambda *_: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            extract("--episodes", 3)
    with pytest.raises(UserError, match=r"another recording there, 2000 to 2002; give a --first_seed after 2002$"):
        extract("--episodes", 1, "--first_seed", 2002)
    extract("--episodes", 1, "--first_seed", 2005)
    with pytest.raises(UserError, match=r"2000 to 2005 .*, 2005 to 2005; .* after 2005, or at most 5 --episodes$"):
        extract("--episodes", 6)
    assert sorted(extract("--episodes", 5)) == [2000, 2001, 2002, 2003, 2004, 2005]


def test_cut_and_short_episodes(extract):
    """Catches an episode of exactly the least length dropped, shorter ones kept, and a cut that is off by one."""
    lengths = {seed: len(episode["obs"]) for seed, episode in extract("--episodes", 40).items()}
    least, most = sorted(set(lengths.values()))[1], max(lengths.values())
    assert min(lengths.values()) < least < most
    found = extract("--episodes", 40, "--fresh", "--min_frames", least, "--max_frames", most - 1)
    expected = {seed: min(length, most - 1) for seed, length in lengths.items() if length >= least}
    assert {seed: len(episode["obs"]) for seed, episode in found.items()} == expected
    assert (summary()["kept"], summary()["too_short"]) == (len(expected), 40 - len(expected))


@pytest.mark.parametrize(
    ("flags", "says"),
    [
        (["--policy", "asleep"], "--policy asleep: give one of random"),
        (["--first_seed", 399_999, "--episodes", 2], "--first_seed and --episodes: the seeds 399999 to 400000"),
        (["--controller", "nowhere.json"], "nowhere.json"),
        (["--max_frames", 7, "--min_frames", 8], "--min_frames 8: no episode has more than 7 frames"),
        (["--min_frames", GAME.config.MAX_STEPS + 1], f"no episode has more than {GAME.config.MAX_STEPS} frames"),
        (["--episodes", 77], "a game that cannot do that"),
    ],
)
def test_what_may_not_be_recorded_is_the_users_mistake(extract, monkeypatch, flags, says):
    """Catches a policy that is replaced silently, recordings of validation or test seeds, and a run left behind."""
    game = GAME

    def blocks_of(seeds, cfg):
        raise UserError("a game that cannot do that")

    if 77 in flags:
        game = dataclasses.replace(game, recording_blocks=blocks_of)
    monkeypatch.setattr(devices, "for_blocks", lambda: None)
    for run in ("run", "run/of/mine"):
        with pytest.raises(UserError, match=says):
            extract("--run", run, *flags, game=game)
        assert not os.path.exists("run")


def test_recording_begins_a_run_and_the_later_stages_do_not(extract):
    """Catches "no such folder" from the command that makes a run, and a mistyped run that a later stage makes."""
    assert not os.path.exists("run")
    assert sorted(extract("--episodes", 2)) == [2000, 2001]
    game = commands.GAMES["doomrnn"]
    for stage in (vae_and_rnn.train_vae, vae_and_rnn.encode, vae_and_rnn.train_rnn, evolve.main):
        assert commands.call(stage, game, "--preset", "smoke", "--run", "ruin").refused("ruin", "no such f")
        assert not os.path.exists("ruin")


def test_a_controller_records_and_explores(extract, monkeypatch, tmp_path):
    """Catches --controller or --explore without effect, and recordings that do not say who played."""
    monkeypatch.setattr(devices, "for_blocks", lambda: None)  # this process has used TensorFlow already
    game = toy.game_in(str(tmp_path))
    game.config.EXTRACT = {"laptop": settings.Extract(episodes=3, rows=2)}
    os.makedirs("run")
    hashes = toy.write_models(game, toy.in_run(game, "run"))
    toy.write_controller("run/c.json", game, hashes, [0.5, 0, 0, 0, 0])
    alone = extract("--controller", "c.json", "--explore", 0, game=game)
    assert sorted(alone) == [2000, 2001, 2002]
    for episode in alone.values():
        np.testing.assert_allclose(episode["action"], np.tanh(0.5), atol=1e-3)
        assert episode["obs"][:, 0, 0, 0].tolist() == [0, 10, 20, 30, 40]
    about = summary()
    assert about["parents"] == {"controller": files.sha256("run/c.json"), **hashes}
    flags = ["--controller", "c.json", "--explore", 0.9, "--first_seed", 3000, "--episodes", 20]
    explored = extract(*flags, game=game)
    steps = np.concatenate([explored[seed]["action"] for seed in range(3000, 3020)])
    assert 0.6 < (np.abs(steps - np.tanh(0.5)) > 1e-3).mean() < 1
    toy.write_controller("run/c.json", game, hashes, [0.7, 0, 0, 0, 0])
    with pytest.raises(UserError, match="by another agent"):
        extract(*flags, game=game)


def test_where_recordings_come_from(extract, monkeypatch):
    """Catches a VAE whose meta does not tell which games it has seen, and recordings counted under two commands."""
    extract("--episodes", 3)
    extract("--episodes", 2, "--first_seed", 3000)
    extract("--episodes", 1, "--first_seed", 10_000)
    recordings.write("run/record", 9, np.zeros((2, 64, 64, 3)), np.zeros(2), np.zeros(2), np.zeros(2))
    paths, _ = recordings.scan("run/record")
    told = recordings.sources("run/record", paths)
    spans = [(row["first_seed"], row["episodes"], row["count"], row["game"]) for row in told[:-1]]
    assert spans == [(2000, 3, 3, "catchdot"), (3000, 2, 2, "catchdot"), (10_000, 1, 1, "catchdot")]
    assert told[-1] == {"unknown": 1, "unverified": True}
    with open("run/record/3000.summary.json", "w") as file:
        json.dump({"config": {}}, file)
    assert recordings.sources("run/record", paths)[-1] == {"unknown": 3, "unverified": True}


class Idle:
    """Tracks with a tile on the first step and none after it; a step costs 0.1."""

    steps = 0

    def start(self, seeds):
        return np.zeros((len(seeds), 96, 96, 3), np.uint8)

    def drive(self, cars, action):
        self.steps += 1
        return self.start(cars), np.full(len(cars), 3.0 if self.steps == 1 else -0.1), np.zeros(len(cars), bool)


def test_recordings_on_a_short_leash_keep_the_reward_of_the_game():
    """Catches a charge of patience in a recording, which an MDN-RNN would take for leaving the field."""
    rewards, done = [], False
    cars = env.Cars(Idle(), patience=3, charged=False)
    cars.reset([0])
    while not done:
        _, reward, (done,) = cars.step(np.zeros((1, 3)))
        rewards.append(reward[0])
    assert rewards == [3, -0.1, -0.1, -0.1]


def test_patience_reaches_the_games_that_know_it(extract):
    """Catches a leash that neither random policies nor the rules of the game are told of."""
    asked = []
    config = types.SimpleNamespace(**{name: value for name, value in vars(GAME.config).items() if name.isupper()})
    config.EXTRACT = {"laptop": PatientExtract(episodes=2)}

    def real_games(rows, backend="", **rules):
        asked.append(rules)
        return GAME.real_games(rows)

    cfg = PatientExtract(patience=7)
    record._worlds.clear()
    game = dataclasses.replace(GAME, config=config, real_games=real_games)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(record, "find", lambda name: game)
        os.makedirs("here")
        record._play_block("catchdot", "here", cfg, ("", np.array([2000])))
    record._worlds.clear()
    assert asked == [{"patient": 7}]


@dataclasses.dataclass(frozen=True)
class PatientExtract(settings.Extract):
    """Of a game that knows patience."""

    patience: int = option(0, "steps", least=0)

    def rules(self):
        return {"patient": self.patience} if self.patience else {}


class Still:
    """A policy that does nothing."""

    def __init__(self, seeds, cfg):
        self.rows = len(seeds)

    def act(self, state):
        return np.zeros((self.rows, 1))

    def keep(self, on):
        self.rows = len(on)


def changed(game, **changes):
    """The game with another config."""
    own = {name: value for name, value in vars(game.config).items() if name.isupper() or name == "__file__"}
    return dataclasses.replace(game, config=types.SimpleNamespace(**own | changes))


def test_the_policy_that_is_asked_for_plays(extract, monkeypatch):
    """Catches --policy without effect but in the summary, which would say what did not play."""
    game = dataclasses.replace(GAME, random_policies=GAME.random_policies | {"still": Still})
    commands.record_in_this_process(monkeypatch, game)
    still = extract("--episodes", 2, "--policy", "still", game=game)
    usual = extract("--episodes", 2, "--first_seed", 3000, game=game)
    assert not np.concatenate([still[seed]["action"] for seed in (2000, 2001)]).any()
    assert np.concatenate([usual[seed]["action"] for seed in (3000, 3001)]).all()


def test_random_players_have_the_workers_and_the_time_that_they_need(extract, monkeypatch):
    """Catches --workers without effect, and a block of many games killed after the time that one of them may take."""
    asked = []

    def in_processes(work, tasks, processes, patience):
        asked.append((processes, patience))
        return []

    monkeypatch.setattr(parallel, "in_processes", in_processes)
    monkeypatch.setattr(parallel, "cores", lambda: 5)
    one = dataclasses.replace(changed(GAME, MAX_STEPS=70), seconds_per_step=2.0)
    four = dataclasses.replace(one, recording_blocks=lambda seeds, cfg: [("", np.array([1])), ("", np.arange(4))])
    extract("--workers", 3, game=one)
    extract("--workers", 0, "--first_seed", 3000, game=one)
    extract("--workers", 1, "--first_seed", 4000, "--max_frames", 30, game=four)
    start = record.START_SECONDS
    assert asked == [(3, start + 2 * 70), (5, start + 2 * 70), (1, start + 2 * 30 * 4)]


def test_when_the_time_of_the_game_is_up_is_no_end(extract, monkeypatch):
    """Catches the limit of the game learned as a death where --max_frames is 0."""
    game = commands.counting(GAME, MAX_STEPS=12)  # which goes on for 20 to 24 steps
    commands.record_in_this_process(monkeypatch, game)
    for episode in extract("--episodes", 2, "--max_frames", 0, game=game).values():
        assert episode["done"].tolist() == [False] * 12


class Told(games.Games):
    """The toy, which notes on which backend and by which rules it was made."""

    made: list = []  # noqa: RUF012

    def __init__(self, rows, backend="", **rules):
        super().__init__([toy.Counting() for _ in range(rows)])
        self.made.append((rows, backend, rules))


@pytest.fixture(scope="module")
def pushing(tmp_path_factory):
    """A run with small models of the toy and an agent on them, c.json, which pushes by tanh(0.5)."""
    run = tmp_path_factory.mktemp("pushing")
    game = toy.game_in(str(run))
    hashes = toy.write_models(game, toy.in_run(game, str(run)))
    toy.write_controller(str(run / "c.json"), game, hashes, [0.5, 0, 0, 0, 0])
    return run


@pytest.fixture
def played_by_agent(extract, pushing, monkeypatch, tmp_path):
    """(flags, changes of the config) -> the recordings of that agent."""
    monkeypatch.setattr(devices, "for_blocks", lambda: None)  # this process has used TensorFlow already
    monkeypatch.setattr(Told, "made", [])
    game = toy.game_in(str(tmp_path))
    game.config.EXTRACT = {"laptop": PatientExtract(episodes=4, rows=2)}
    shutil.copytree(pushing, "run")

    def blocks_of(seeds, cfg):
        return [("fast" if seed % 2 else "slow", np.array([seed])) for seed in seeds]

    def run(*flags, **changes):
        vars(game.config).update(changes)
        own = dataclasses.replace(game, real_games=Told, recording_blocks=blocks_of, backends=("slow", "fast"))
        return extract("--controller", "c.json", *flags, game=own)

    return run


def test_an_agent_records_on_the_backends_and_by_the_rules_of_random_players(played_by_agent):
    """Catches an agent that is recorded on one backend only, or without the patience that was asked for."""
    assert len(played_by_agent("--patience", 3, "--workers", 1)) == 4
    rules = {"patient": 3}
    assert sorted(Told.made) == [(2, "fast", rules), (2, "slow", rules)]


def test_an_agent_plays_many_blocks_in_the_same_games(played_by_agent):
    """Catches games that are started anew for every block, which in Doom takes seconds each."""
    assert len(played_by_agent("--workers", 1, "--rows", 1)) == 4
    assert sorted(Told.made) == [(1, "fast", {}), (1, "slow", {})]


def test_an_interrupted_recording_does_not_go_on_with_another_agent(played_by_agent, monkeypatch):
    """Catches games of two agents under the name of one."""
    with monkeypatch.context() as patch:
        patch.setattr(record, "_record_agent", lambda *_: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            played_by_agent()
    hashes = provenance.read("run/c.json", "controller", "toy")["parents"]
    toy.write_controller("run/c.json", toy.game_in("run"), hashes, [0.7, 0, 0, 0, 0])
    with pytest.raises(UserError, match=r"2000\.begun\.json: .*by another agent"):
        played_by_agent()


def test_each_episode_of_an_agent_explores_by_its_seed(played_by_agent):
    """Catches the same random actions, at the same steps, in the first episode of every block."""
    found = played_by_agent("--explore", 0.9, "--rows", 1)
    assert len({episode["action"].tobytes() for episode in found.values()}) == 4


def test_when_the_time_of_the_game_is_up_is_no_end_for_an_agent_either(played_by_agent):
    """Catches the limit of the game learned as a death in the games of an agent: the toy would go on for 5 steps."""
    for episode in played_by_agent("--max_frames", 0, MAX_STEPS=3).values():
        assert episode["done"].tolist() == [False] * 3


def test_an_agent_plays_in_as_many_threads_as_asked_for(played_by_agent, monkeypatch):
    """Catches --workers without effect with a controller."""
    asked, threads = [], parallel.Threads
    monkeypatch.setattr(parallel, "Threads", lambda make, count: [asked.append(count), threads(make, count)][1])
    monkeypatch.setattr(parallel, "cores", lambda: 5)
    played_by_agent("--workers", 3)
    played_by_agent("--workers", 0, "--first_seed", 3000)
    assert asked == [3, 5]


class Dying:
    """Games of the toy, of which some die in their second step."""

    def __init__(self, games, dies):
        self._games, self._dies, self._steps = games, dies, 0

    def reset(self, seeds):
        self._steps = 0
        return self._games.reset(seeds)

    def step(self, action):
        self._steps += 1
        if self._dies and self._steps == 2:
            raise DiedError("the process of the games died with code -9")
        return self._games.step(action)


@pytest.fixture
def dying(played_by_agent, monkeypatch):
    """(which of the batches that are made have a game that dies) -> the recordings of the agent."""

    def run(dies, *flags):
        made = []

        def told(rows, backend="", **rules):
            made.append(backend)
            return Dying(toy_games(rows, backend, **rules), len(made) in dies)

        toy_games = Told
        monkeypatch.setattr(sys.modules[__name__], "Told", told)
        return played_by_agent(*flags, "--workers", 1, "--rows", 2)

    return run


def test_a_game_that_dies_is_replaced_while_an_agent_records(played_by_agent, dying, capsys):
    """Catches a traceback and episodes that are never recorded, or twice."""
    assert sorted(dying([1])) == [2000, 2001, 2002, 2003]
    assert "died with code -9); those that are not finished are played again" in capsys.readouterr().err
    about = summary()
    assert (about["kept"], about["lost"]) == (4, 0)


def test_episodes_whose_games_die_again_and_again_are_lost(played_by_agent, dying, capsys):
    """Catches a recorder that never ends, and episodes that are gone without a word."""
    assert len(dying([2, 3, 4])) == 2
    assert capsys.readouterr().err.count("those that are not finished are played again") == 2
    about = summary()
    assert (about["kept"], about["lost"]) == (2, 2)


def test_games_that_never_work_are_an_error(played_by_agent, dying):
    """Catches a recording of no episodes that ends as if all were well."""
    with pytest.raises(DiedError, match="died with code -9"):
        dying(range(1, 100))
