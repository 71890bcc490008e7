"""common/training/evolve.py: the loop that evolves, where a search begins, and how candidates are ranked."""

import argparse
import dataclasses
import json
import types

import commands
import numpy as np
import pytest

from common.agent import controller, models
from common.game import find
from common.play import select
from common.runtime import cli, files, mpi, provenance, settings
from common.runtime.cli import UserError
from common.training import dreams, es, evolution, evolve, policy_gradient

GAME = types.SimpleNamespace(name="game")
PARENTS = {"vae": "a" * 64, "rnn": "b" * 64}
BASE = "game.cma.3.6"


class Hill:
    """An arena in which a candidate is worth the more, the nearer it is to 1; episodes differ a little."""

    score_of = "dream"

    def __init__(self):
        self.evaluated = []

    def seeds(self, run):
        return run.seeds()

    def play(self, population, seeds):
        returns = -np.square(population - 1).sum(axis=1)[:, None] + seeds[None] % 10 / 100
        return returns, np.full(returns.shape, 7)

    def evaluate(self, mean, seeds):
        self.evaluated.append(seeds.tolist())
        return self.play(mean[None], seeds)[0][0]

    def fitness(self, returns):
        return returns.mean(axis=1)


def evolved(folder, hill=None, **changes):
    """Evolves in a folder as one start of train.py does; returns the evolution."""
    cfg = settings.Train(
        n=1, t=6, num_episode=3, eval_steps=4, eval_episodes=5, sigma_init=0.5, seed_start=7, checkpoint_seconds=0.0
    )
    cfg = dataclasses.replace(cfg, **changes)
    folder.mkdir(exist_ok=True)
    arguments = argparse.Namespace(run=str(folder), fresh=False)
    strategy = es.CMA(np.zeros(5), 6, cfg.sigma_init, cfg.seed_start)
    run = evolution.Evolution(arguments, GAME, BASE, cfg, PARENTS, strategy)
    evolve.evolve(run, hill or Hill(), cfg)
    run._stage._lock_file.close()
    return run


def written(folder):
    """{file: content} of all that an evolution leaves for others, without what time and the commands were."""
    log = folder / "log"
    found = {kind: json.loads((log / f"{BASE}.{kind}").read_text())
             for kind in ("json", "best.json", "hist.json", "hist_best.json", "log.json", "config.json")}  # fmt: skip
    for kind in ("hist.json", "hist_best.json"):
        for row in found[kind]:
            del row[1]
    found["metrics.jsonl"] = (log / f"{BASE}.metrics.jsonl").read_text()
    for kind in ("json", "best.json", "log.json"):
        meta = json.loads((log / f"{BASE}.{kind}.meta.json").read_text())
        found[f"{kind}.meta.json"] = {
            key: value for key, value in meta.items() if key not in ("seconds", "made", "meta_sha256")
        }
    for kind in ("npz", "checkpoint.npz"):
        with np.load(log / f"{BASE}.{kind}") as archive:
            found |= {f"{kind} {name}": archive[name].tolist() for name in archive.files if name != "logs"}
    return found


@pytest.mark.parametrize("averaging", [0.0, 0.75])
def test_the_mean_is_evaluated_at_every_so_many_generations_and_at_the_end(tmp_path, averaging):
    """Catches an evaluation left out, one too many, on the episodes of candidates, and of another mean than is kept."""
    hill = Hill()
    run = evolved(tmp_path, hill, generations=10, averaging=averaging)
    assert (np.abs(run.mean - run.strategy.mean).max() > 1e-3) == bool(averaging)
    log = select.read_log(tmp_path / "log" / f"{BASE}.log.json")
    assert [generation for generation, _, _ in log] == [4, 8, 10]
    assert hill.evaluated == [[400_000, 400_001, 400_002, 400_003, 400_004]] * 3
    np.testing.assert_array_equal(log[-1][2], run.mean)
    assert log[-1][1] == pytest.approx(hill.play(run.mean[None], np.array(hill.evaluated[0]))[0].mean())
    assert run.hist[-1][2] > run.hist[0][2]


@pytest.mark.parametrize("kept", ["checkpoint.npz", "npz"])
@pytest.mark.parametrize("stops", [(3, 8), (3, 6, 8), (4, 8), (2, 3, 8)])
def test_a_search_that_goes_on_forgets_what_was_there_only_because_it_had_ended(tmp_path, stops, kept):
    """Catches an evaluation at generation 3 of 3 that is still in a log of 8 generations, or in metrics.jsonl."""
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    evolved(whole, generations=8)
    for generations in stops:
        if kept == "npz":
            (parts / "log" / f"{BASE}.checkpoint.npz").unlink(missing_ok=True)
        evolved(parts, generations=generations)
    if kept == "checkpoint.npz":
        assert written(parts) == written(whole)
        return
    # on another machine the noise is new, but the rows are the same
    for kind in ("log.json", "hist_best.json"):
        rows = [[row[0] for row in written(folder)[kind]] for folder in (parts, whole)]
        assert rows == [[4, 8]] * 2
    lines = [[list(json.loads(line)) for line in written(folder)["metrics.jsonl"].splitlines()]
             for folder in (parts, whole)]  # fmt: skip
    assert lines[0] == lines[1]


def test_a_finished_search_keeps_its_last_evaluation(tmp_path):
    """Catches an evaluation that is forgotten, or made again, by starting the same command twice."""
    evolved(tmp_path, generations=3)
    before = written(tmp_path)
    hill = Hill()
    evolved(tmp_path, hill, generations=3)
    assert hill.evaluated == []
    assert written(tmp_path) == before


def test_a_killed_search_goes_on_from_its_last_checkpoint(tmp_path):
    """Catches a checkpoint that is written at the end only: a kill would lose hours."""

    class Killed(Hill):
        def play(self, population, seeds):
            if len(self.evaluated) == 2:
                raise KeyboardInterrupt
            return super().play(population, seeds)

    with pytest.raises(KeyboardInterrupt):
        evolved(tmp_path, Killed(), generations=10)
    logs = json.loads(str(files.read_npz(tmp_path / "log" / f"{BASE}.checkpoint.npz")["logs"]))
    assert [len(logs[kind]) for kind in ("hist", "log")] == [7, 1]  # the second evaluation has not ended


def test_ranks_share_the_candidates_of_a_search():
    """Catches one rank's candidates taken for the population, in the name of the logs or among the groups of tracks."""
    cfg = settings.GameTrain(n=2, t=3, num_episode=2, track_groups=2)
    assert evolve._base(find("carracing"), cfg) == "carracing.cma.2.6"
    arena = types.SimpleNamespace(_cfg=cfg, _episodes_of=lambda generation: generation)
    run = types.SimpleNamespace(generation=1, seeds=np.arange)
    np.testing.assert_array_equal(evolve.GameArena.seeds(arena, run), [[0, 1], [2, 3]] * 3)


def test_each_mdn_rnn_dreams_from_its_own_starts_with_dropout(monkeypatch):
    """Catches an MDN-RNN given the memory of another, and dropout that is ignored."""
    made = []
    monkeypatch.setattr(mpi, "start", lambda make_worker, threads: make_worker())
    monkeypatch.setattr(dreams, "ensemble", lambda *_: ["one", "other"])
    monkeypatch.setattr(dreams, "starts", lambda *_: ["of one", "of other"])
    monkeypatch.setattr(dreams, "dream_world", lambda game, cfg, loaded, *rest: made.append(rest))
    evolve._dream_arena(find("doomrnn"), settings.DreamTrain(dropout=0.25), None, None, None, None)
    assert len(made) == 4
    assert set(made) == {(rnn, f"of {rnn}", dropout) for rnn in ("one", "other") for dropout in (0.25, 0.0)}


def test_fewer_episodes_at_first():
    """Catches a schedule that is off by a generation."""
    episodes = evolve.episodes_by_generation(settings.GameTrain(fewer_episodes="2:1,4:3", num_episode=16))
    assert [episodes(generation) for generation in range(1, 7)] == [1, 1, 3, 3, 16, 16]
    assert evolve.episodes_by_generation(settings.GameTrain())(1) == 16


def test_fitness_is_above_those_on_the_same_episodes():
    """Catches candidates ranked by their episodes, or measured against another group."""
    episodes = np.array([900.0, 100, 500])  # what the episodes of each group are worth
    skill = np.array([3.0, -1, 4, 1, -5, 9, 2, 6, -4])
    returns = (skill + np.tile(episodes, 3))[:, np.newaxis] + [-7, 7]
    above = skill - np.tile(np.median(skill.reshape(3, 3), axis=0), 3)
    np.testing.assert_allclose(evolve.fitness_above_group(returns, 3), above, atol=1e-9)
    assert evolve.fitness_above_group(returns, 1).argmax() % 3 == 0
    broken = evolve.fitness_above_group(np.where(returns == returns[4], np.nan, returns), 3)
    assert np.flatnonzero(np.isnan(broken)).tolist() == [4]


def test_a_search_starts_at_zero_or_at_the_controller_named(tmp_path):
    """Catches a start that is ignored, is of another length, or of which nothing tells where it comes from."""
    shape = controller.Controller("z", 4, 2, 1, bias=False)

    def first(start_from, unverified=False):
        cfg = settings.Train(start_from=start_from)
        arguments = argparse.Namespace(run=str(tmp_path), unverified=unverified)
        made_of = provenance.Parents({}, False)
        return evolve._first_mean(GAME, cfg, arguments, loaded, shape, made_of), made_of

    loaded = models.Models(None, None, None, PARENTS, {"rnn": "rnn.json"}, {"rnn": {"parents": {}}})
    mean, made_of = first("")
    np.testing.assert_array_equal(mean, np.zeros(4))
    assert (made_of.hashes, made_of.unverified) == ({}, False)
    for name, length in (("good.json", 4), ("long.json", 5), ("unknown.json", 4)):
        controller.write(tmp_path / name, np.arange(length) / 8, 700)
        if name != "unknown.json":
            provenance.write(
                str(tmp_path / name), "controller", "game", settings.Train(), PARENTS, 1.0, unverified=False
            )
    mean, made_of = first("good.json")
    np.testing.assert_array_equal(mean, np.arange(4) / 8)
    assert (made_of.hashes, made_of.unverified) == ({"start_from": files.sha256(tmp_path / "good.json")}, False)
    with pytest.raises(UserError, match="holds 5 parameters"):
        first("long.json")
    with pytest.raises(UserError, match=r"unknown\.json: has no unknown\.json\.meta\.json"):
        first("unknown.json")
    mean, made_of = first("unknown.json", unverified=True)
    np.testing.assert_array_equal(mean, np.arange(4) / 8)
    assert made_of.unverified


def test_a_search_starts_in_the_memory_of_its_own_mdn_rnn_or_of_one_that_this_was_trained_on_from(tmp_path):
    """Catches a controller that goes on in an MDN-RNN, the numbers of which mean something else to it."""
    shape = controller.Controller("zh", 2, 2, 1, bias=False)
    path = str(tmp_path / "c.json")
    controller.write(path, np.zeros(4))
    cfg, made_of = settings.Train(start_from="c.json"), provenance.Parents({}, False)
    for evolved_in, meta, refused in (
        (PARENTS["rnn"], {"parents": {}}, False),
        ("c" * 64, {"parents": {"start_from": "c" * 64}}, False),
        ("c" * 64, {"parents": {"start_from": "d" * 64}, "trained_on_from": ["d" * 64, "c" * 64]}, False),
        ("c" * 64, {"parents": {"start_from": "d" * 64}}, True),
        ("c" * 64, {"parents": {}}, True),
    ):
        loaded = models.Models(None, None, None, PARENTS, {"rnn": "rnn.json"}, {"rnn": meta})
        parents = PARENTS | {"rnn": evolved_in}
        provenance.write(path, "controller", "game", settings.Train(), parents, 1.0, unverified=False)
        arguments = argparse.Namespace(run=str(tmp_path), unverified=False)
        if refused:
            with pytest.raises(UserError, match=r"--start_from .*c\.json: was evolved in another MDN-RNN"):
                evolve._first_mean(GAME, cfg, arguments, loaded, shape, made_of)
            arguments.unverified = True
        evolve._first_mean(GAME, cfg, arguments, loaded, shape, made_of)
        assert made_of.unverified == refused


@pytest.mark.parametrize(
    ("cfg", "says"),
    [
        (settings.Train(n=1, t=2), "at least 3"),
        (settings.Train(n=2, t=60_000), "120000 candidates are more than 100000"),
        (settings.Train(n=3, t=1, o="openes"), "is odd"),
        (settings.Train(n=3, t=1, o="pepg"), "pepg has pairs of candidates, and 3 is odd"),
        (settings.Train(n=1, t=1, o="ga"), "ga needs at least 2"),
        *((settings.Train(o=name, learning_rate=2.0), f"not of {name}") for name in ("cma", "ses", "ga")),
        (settings.GameTrain(n=1, t=8, track_groups=3), "--track_groups 3"),
        (settings.GameTrain(n=1, t=8, track_groups=8), "leaves one candidate of 8 in a group"),
        (settings.GameTrain(fewer_episodes="often"), "--fewer_episodes often"),
        (settings.GameTrain(fewer_episodes="9:2,4:1"), "--fewer_episodes 9:2,4:1"),
        (settings.GameTrain(fewer_episodes="9:0"), "--fewer_episodes 9:0"),
        (settings.GameTrain(fewer_episodes="9:1000000000"), "--fewer_episodes 9:1000000000"),
        (settings.GameTrain(fewer_episodes="-5:2"), "--fewer_episodes -5:2"),
        (settings.GameTrain(fewer_episodes="20:2,20:4"), "--fewer_episodes 20:2,20:4"),
        *(
            (settings.DreamTrain(also_in="a,b", **few), "--also_in: 3 MDN-RNNs")
            for few in ({"num_episode": 2}, {"eval_episodes": 2})
        ),
    ],
)
def test_options_that_exclude_each_other_are_the_users_mistake(cfg, says):
    """Catches a search that fails, or ranks by something else, hours later."""
    with pytest.raises(UserError, match=says):
        evolve._check_evolution(cfg)
    evolve._check_evolution(settings.DreamTrain(also_in="a,b", num_episode=3, eval_episodes=3))
    evolve._check_evolution(settings.GameTrain(n=2, t=6, track_groups=3, fewer_episodes="4:1,9:2"))
    for o in ("openes", "pepg"):
        evolve._check_evolution(settings.Train(o=o, learning_rate=2.0))
    for just in (settings.Train(n=1, t=3), settings.Train(n=1, t=2, o="ga"), settings.GameTrain(n=6, track_groups=3)):
        evolve._check_evolution(just)


@pytest.mark.parametrize(
    ("cfg", "says"),
    [
        (settings.Ppo(rows=64, steps=3, minibatch=100), "--minibatch 100: does not divide the 64 x 3 steps"),
        (settings.Ppo(rows=64, steps=3, minibatch=400), "--minibatch 400: is more than the 64 x 3 steps"),
        (settings.GamePpo(rows=64, steps=3, minibatch=400), "--minibatch 400: is more than the 64 x 3 steps"),
        (settings.GamePpo(minibatch=99), "--minibatch 99: does not divide into 2 --blocks"),
        (settings.GamePpo(minibatch=2), "--minibatch 2: give 4 or more"),
        (settings.GamePpo(rows=33), "--rows 33: do not divide into 2 --blocks"),
        (settings.GamePpo(steps=1001), "--steps 1001: an episode of CarRacing has 1000 at most"),
        (settings.DreamTrain(starts=30, directions=30), "--directions 30: 30 --starts do not vary in so many"),
        (settings.Ppo(hidden="128x64"), "hidden layers 128x64"),
        (settings.GamePpo(value_hidden="8,0"), "hidden layers 8,0"),
        (settings.Ppo(also_in="a,b"), "--rows 1024: do not divide among 3 MDN-RNNs or blocks"),
        (settings.Ppo(rows=1026, blocks=4, also_in="a", steps=2, minibatch=684), "do not divide among 4 MDN-RNNs"),
        (settings.Ppo(ends="drawn"), "--ends drawn: the MDN-RNNs of CarRacing predict no end"),
        (settings.DreamTrain(ends="drawn"), "--ends drawn: the MDN-RNNs of CarRacing predict no end"),
        (settings.Ppo(tether=0.1), "--tether 0.1: .* --start_from"),
    ],
)
def test_options_that_do_not_fit_the_game_or_each_other_are_the_users_mistake(cfg, says):
    """Catches a round that ends with code 2 after its models are trained, for what was known before."""
    with pytest.raises(UserError, match=says):
        evolve.check(find("carracing"), cfg)
    evolve.check(find("carracing"), settings.GamePpo(minibatch=3000))
    evolve.check(find("carracing"), settings.Ppo(rows=1023, blocks=5, also_in="a,b", steps=5, minibatch=5115))
    evolve.check(find("carracing"), settings.DreamTrain(starts=30, directions=29))
    evolve.check(find("doomrnn"), settings.DreamTrain(starts=30, directions=30))
    for cfg in (settings.Ppo, settings.DreamTrain):
        evolve.check(find("doomrnn"), cfg(ends="drawn"))


@pytest.mark.parametrize("stage", ["evolution", "policy gradient"])
def test_ends_that_cannot_be_drawn_are_known_before_games_are_replayed(monkeypatch, tmp_path, stage):
    """Catches a refusal by a worker after the log is begun: then the advice, other --ends, is refused as well."""
    game, rnn = find("doomrnn"), types.SimpleNamespace(shape=None)
    loaded = models.Models(None, rnn, None, {}, {"rnn": "rnn.json"}, {"rnn": {"config": {}}})
    monkeypatch.setattr(dreams, "starts", lambda *_: pytest.fail("games are replayed"))
    run, made_of = argparse.Namespace(run=str(tmp_path)), provenance.Parents({}, False)
    begin, cfg, more = {
        "evolution": (evolve._dream_arena, settings.DreamTrain(ends="drawn"), (None, made_of)),
        "policy gradient": (policy_gradient._dream, settings.Ppo(ends="drawn"), (made_of, "name")),
    }[stage]
    with pytest.raises(UserError, match=r"rnn\.json does not tell the weight .* give --ends threshold"):
        begin(game, cfg, run, loaded, *more)


def test_the_last_of_a_flag_counts_as_argparse_has_it():
    """Catches the flags of one world read with the presets of another."""
    words = ["-o", "ppo", "--world", "dream", "--world=game"]
    assert evolve._given(words, "--world") == "game"
    assert evolve._given(words, "-o", "--optimizer") == "ppo"
    assert evolve._given(words, "--run") == ""


@pytest.mark.parametrize("share", ["1", "-0.1"])
def test_an_average_without_the_present_is_refused(share, capsys):
    """Catches an average that never moves from where the search began."""
    with pytest.raises(SystemExit) as ended:
        cli.parse({"laptop": settings.Train()}, "", ["--averaging", share])
    assert ended.value.code == 2
    assert "--averaging" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("name", "world", "called"),
    [
        ("doomrnn", "", "doomrnn"),
        ("doomrnn", "dream", "doomrnn"),
        ("doomrnn", "game", "doomrnn.game"),
        ("carracing", "", "carracing"),
        ("carracing", "game", "carracing"),
        ("carracing", "dream", "carracing.dream"),
    ],
)
def test_each_world_has_presets_and_a_name_of_its_own(name, world, called):
    """Catches an evolution in the game that goes on in the logs of the dream, or with its flags."""
    game = find(name)
    cfg = game.train_presets(world)["laptop"]
    kind = settings.DreamTrain if cfg.world == "dream" else settings.GameTrain
    assert isinstance(cfg, kind)
    assert world in ("", cfg.world), "the presets of the other world"
    assert game.log_name(cfg.world) == called


def test_a_game_without_presets_for_a_world_says_so():
    """Catches an evolution in the dream when the game was asked for."""
    config = types.SimpleNamespace(TRAIN={"laptop": settings.DreamTrain()})
    game = dataclasses.replace(find("doomrnn"), title="Dots", config=config)
    with pytest.raises(UserError, match="--world game: Dots has no TRAIN_GAME"):
        game.train_presets("game")


@pytest.mark.parametrize(("patience", "rules"), [({}, [{}]), ({"patience": 9}, [{}, {"patience": 9}])])
def test_games_are_made_once_for_each_set_of_rules(patience, rules, monkeypatch):
    """Catches twice as many engines as are played, and an evaluation with the patience of training."""
    made = []
    monkeypatch.setattr(mpi, "start", lambda make_worker, threads: make_worker())
    cfg = types.SimpleNamespace(rules=lambda: patience, fewer_episodes="", num_episode=2)
    evolve.GameArena(lambda hurried: made.append(dict(patience) if hurried else {}), None, None, cfg, 2)
    assert sorted(made, key=len) == rules


@pytest.mark.parametrize("rows", [3, 16, 100])
def test_directions_are_found_in_as_many_games_as_step_together(rows, monkeypatch):
    """Catches more episodes than games, some of them that are not played, and games that end early as in training."""
    monkeypatch.setattr(mpi, "start", lambda make_worker, threads: make_worker())
    played = []

    def features_of_play(world, shape, mean, seeds, action_of):
        assert (len(seeds) <= rows, world) == (True, "under the rules of the game")
        played.extend(seeds)
        return np.ones((2 * len(seeds), 5))

    cfg = types.SimpleNamespace(fewer_episodes="", num_episode=2, block_rows=rows, rules=lambda: {"patience": 9})
    worlds = {True: "hurried", False: "under the rules of the game"}
    arena = evolve.GameArena(worlds.get, None, None, cfg, 2)
    arena._candidates = types.SimpleNamespace(features_of_play=features_of_play)
    assert arena.features(np.zeros(4)).shape == (32, 5)
    np.testing.assert_array_equal(played, es.DIRECTION_SEEDS)


def test_a_job_is_counted_by_the_checkpoint_of_its_search(tmp_path, monkeypatch):
    """Catches a file that no generation changes: a night over MPI would be given up after three deaths in all."""
    asked = []

    def launch(*how):
        asked.append(how)
        raise UserError("enough seen")

    monkeypatch.setattr(mpi, "launch", launch)
    words = "--preset", "smoke", "-n", 2, "-t", 3, "--run", tmp_path
    assert commands.call(evolve.main, find("doomrnn"), *words).refused("enough seen")
    assert asked == [(2, str(tmp_path / "log" / "doomrnn.cma.4.6.checkpoint.npz"))]
