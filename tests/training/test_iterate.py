"""iterate.py and its modules: which commands a run gives, what it survives, and what it ships. Stages are stages.py."""

import contextlib
import dataclasses
import glob
import io
import itertools
import json
import os
import shutil
import signal
import subprocess
import sys
import time
import types

import pytest

from common import game as games_here
from common.game import Game
from common.runtime import cli, files, provenance, runs, seeds, settings
from common.runtime.files import ROOT
from common.training import iterate, launch, plan, report, ship
from common.training.layout import Paths
from common.training.state import State

import stages

FIRST = settings.Round(random=6, vae={"steps": 3}, rnn={"steps": 4}, train={"t": 8}, games=5)
SECOND = settings.Round(
    random=2,
    own=8,
    explore=0.3,
    record={"max_frames": 9},
    own_share=0.25,
    rnn={"steps": 2, "validation_episodes": 3},
    more_rnns=2,
    more={"learning_rate": 0.1},
    train={"generations": 1, "sample_z": False},
    games=7,
)
TWO = settings.Iterate((FIRST, SECOND), mb_per_episode=1.0, backend="fast")
PRESETS = "laptop", "small", "other"
RUN_IN_PROCESS = """
import sys
sys.path[:0] = [{tests!r}]
import test_iterate
from common.runtime import cli
from common.training import iterate, launch, ship
launch.NOTE_SECONDS = 0.1
cli.run_main(lambda: iterate.main(test_iterate.game_in({folder!r}), ""))
"""


def game_in(folder, rounds=TWO.rounds, **changes):
    """A game of such stages in a folder, which also stands for the root of the repository."""
    stages.install(folder)
    names = tuple(stages.MODELS)
    config = types.SimpleNamespace(
        __file__=os.path.join(folder, "config.py"),
        GAME="stub",
        RESTART=True,
        DREAM_REWARD=1.0,
        MAX_STEPS=1000,
        CONTROLLER_BIAS=False,
        TRAINED=stages.MODELS,
        SHIPPED=tuple({name: f"{place}/{name}.json" for name in names} for place in ("first", "second")),
        SHIPPED_CONTROLLER="log/stub.best.json",
        EXTRACT=dict.fromkeys(PRESETS, settings.Extract()),
        VAE=dict.fromkeys(PRESETS, settings.Vae()),
        RNN=dict.fromkeys(PRESETS, settings.RestartRnn(validation_episodes=4))
        | {"laptop": settings.RestartRnn(validation_episodes=5)},
        SERIES=dict.fromkeys(PRESETS, settings.Series()),
        TRAIN=dict.fromkeys(PRESETS, settings.DreamTrain()),
        ITERATE={"small": dataclasses.replace(TWO, rounds=rounds), "other": TWO},
    )
    vars(config).update(changes)
    return Game(
        config=config,
        title="Stub",
        goal="",
        reward={},
        keys={},
        actions={},
        keyboard_action=lambda keys: [0],
        real_games=lambda rows, backend="": None,
        random_policies={},
        world_names={"real": "stubreal"},
        backends=("fast", "slow"),
    )


class Here:
    """A stage in this process, for tests in which none is killed."""

    def __init__(self, command):
        argv, self.code = command[command.index(sys.executable, 1) + 1 :], 0
        try:
            stages.main(argv)
        except SystemExit as end:
            self.code = end.code

    def wait(self, timeout=None):
        return self.code

    def send_signal(self, number):
        raise AssertionError("a stage that has ended got a signal")


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """An empty game folder, and stages that are called in this process."""
    here = types.SimpleNamespace(Popen=Here, TimeoutExpired=subprocess.TimeoutExpired)
    monkeypatch.setattr(launch, "subprocess", here)
    monkeypatch.setattr(runs, "LOCK_SECONDS", 0.1)
    monkeypatch.setattr(os, "fsync", lambda file: None)  # which takes most of the time
    monkeypatch.setattr(report, "draw", lambda lines, path, title: files.write_json(path, len(lines)))
    monkeypatch.setattr(ship, "ROOT", str(tmp_path / "root"))
    return str(tmp_path / "game")


def call(game, *words):
    """iterate.py with these words: (exit code, stdout, stderr)."""
    out, err, before, code = io.StringIO(), io.StringIO(), sys.argv, 0
    sys.argv = ["iterate.py", *map(str, words)]
    try:
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            cli.run_main(lambda: iterate.main(game, ""))
    except SystemExit as end:
        code = end.code
    finally:
        sys.argv = before
    return code, out.getvalue(), err.getvalue()


def start(game, run, *words, preset="small", seed=3):
    return call(game, "--preset", preset, "--seed", seed, "--run", run, *words)


def commands(folder):
    """The commands since the last time, and forgets them."""
    path = os.path.join(folder, "commands.jsonl")
    if not os.path.exists(path):
        return []
    with open(path) as file:
        lines = [json.loads(line) for line in file]
    os.remove(path)
    return lines


def fault(folder, script, where, how):
    files.write_json(os.path.join(folder, "fault.json"), {"script": script, "in": where, "how": how})


def lines_of(run):
    """rounds.json without its times."""
    return [
        {k: value for k, value in line.items() if k not in ("minutes", "seconds", "memory_gb", "aside_minutes")}
        for line in files.read_json(os.path.join(run, "rounds.json"))
    ]


def everything(run):
    """{path: content} of the folder of a run, to see that nothing changes; links are not followed."""
    found = {}
    for place, _, names in os.walk(run):
        for name in names:
            path = os.path.join(place, name)
            if name != "lock" and not os.path.islink(path):
                with open(path, "rb") as file:
                    found[os.path.relpath(path, run)] = file.read()
    return found


def refused(result, *words):
    """Whether a start ended with exit code 2 and one line that has these words."""
    code, _, err = result
    assert (code, len(err.strip().splitlines())) == (2, 1), result
    assert all(str(word) in err for word in words), err
    return True


@pytest.fixture
def undisturbed(folder, tmp_path):
    """The lines of rounds.json of a run that nothing disturbed."""
    run = str(tmp_path / "undisturbed")
    assert start(game_in(folder), run)[0] == 0
    commands(folder)
    return lines_of(run)


def test_a_plan_of_two_rounds_gives_these_commands(folder, tmp_path):
    """Catches a flag lost, wrong, of another round or noted otherwise; a seed that two stages share; a wrong order."""
    run = str(tmp_path / "run")
    code, out, err = start(game_in(folder), run)
    assert (code, err) == (0, "")
    one, two = f"{run}/round1", f"{run}/round2"
    small, log = ("--preset", "small"), "log/stub.cma.1.4"
    later = ("--steps", "2", "--validation_episodes", "3")
    # of 8 own games the 3 newest are held out; the preset has no say here
    newest = ("--newest", "5", "--newest_share", "0.25")
    expected = [
        ("extract", *small, "--run", run, "--episodes", 6, "--first_seed", 62000),
        ("vae_train", *small, "--run", one, "--steps", 3, "--seed", 3),
        ("series", *small, "--run", one),
        ("rnn_train", *small, "--run", one, "--steps", 4, "--seed", 301),
        ("train", *small, "--run", one, "--t", 8, "--seed_start", 301),
        ("pick_best", f"{one}/{log}.log.json", "--run", one, "--episodes", 5, "--final_episodes", 10)
        + ("--backend", "fast"),
        ("model", "stubreal", "norender", f"{one}/{log}.picked.json", seeds.REPORT, "--run", one)
        + ("--episodes", 5, "--out", f"{one}/scores.json", "--backend", "fast"),
        ("fidelity", f"{one}/{log}.picked.json", "--run", one, "--games", 10)
        + ("--out", f"{one}/fidelity.json", "--backend", "fast"),
        ("extract", *small, "--run", run, "--max_frames", 9, "--episodes", 2, "--first_seed", 62006),
        ("extract", *small, "--run", one, "--max_frames", 9, "--episodes", 8, "--first_seed", 62008)
        + ("--explore", 0.3, "--controller", f"../round1/{log}.picked.json"),
        ("series", *small, "--run", two),
        ("rnn_train", *small, "--run", two, *newest, *later)
        + ("--start_from", "../round1/tf_rnn/rnn.json", "--seed", 302),
        ("rnn_train", *small, "--run", f"{two}/rnn2", *newest, *later, "--learning_rate", 0.1)
        + ("--start_from", "../../round2/tf_rnn/rnn.json", "--seed", 10_302),
        ("rnn_train", *small, "--run", f"{two}/rnn3", *newest, *later, "--learning_rate", 0.1)
        + ("--start_from", "../../round2/rnn2/tf_rnn/rnn.json", "--seed", 20_302),
        ("train", *small, "--run", two, "--generations", 1, "--no-sample_z", "--seed_start", 302)
        + ("--start_from", f"../round1/{log}.picked.json")
        + ("--also_in", "../round2/rnn2/tf_rnn/rnn.json,../round2/rnn3/tf_rnn/rnn.json"),
        ("model", "stubreal", "norender", f"{two}/{log}.best.json", seeds.REPORT, "--run", two)
        + ("--episodes", 7, "--out", f"{two}/scores.json", "--backend", "fast"),
        ("fidelity", f"{two}/{log}.best.json", "--run", two, "--games", 10)
        + ("--out", f"{two}/fidelity.json", "--backend", "fast"),
    ]
    got = commands(folder)
    for found, wanted in zip(got, expected, strict=False):
        assert found == [str(word) for word in wanted]
    assert len(got) == len(expected)
    noted = [about.get("command") for about in files.read_json(f"{run}/iterate.json")["done"].values()]
    assert [[name.removesuffix(".py"), *words] for name, *words in filter(None, noted)] == got
    links = {"round1/record": "record", "round2/record": "record"}
    links |= {"round2/tf_vae": "round1/tf_vae", "round2/series": "round1/series"}
    links |= {f"round2/rnn{k}/{name}": f"round1/{name}" for k in (2, 3) for name in ("tf_vae", "series")}
    for link, target in links.items():
        assert os.path.islink(os.path.join(run, link))
        assert not os.path.isabs(os.readlink(os.path.join(run, link)))
        assert os.path.samefile(os.path.join(run, link), os.path.join(run, target))
    assert out.count("validation games)") == 2


def flags_of(words):
    """{flag: its value} of a command."""
    return dict(itertools.pairwise(words))


def test_a_third_round_counts_the_games_of_all_rounds_before_it(folder, tmp_path):
    """Catches games of one round taken for those of all, and held-out episodes of another preset's number."""
    assert start(game_in(folder, (FIRST, SECOND, THIRD)), tmp_path / "run")[0] == 0
    last = flags_of([words for words in commands(folder) if words[0] == "rnn_train"][-1])
    assert (last["--newest"], last["--newest_share"]) == ("8", "0.5")  # 8 + 4 own games, of which the preset keeps 4


@pytest.mark.parametrize("own", [2, 3, 4])
def test_own_games_that_are_all_held_out_get_no_streams(folder, own):
    """Catches streams for no games or for less than none, which rnn_train.py refuses after hours: 3 are held out."""
    rounds = FIRST, dataclasses.replace(SECOND, own=own)
    run = plan.Plan(game_in(folder), "small", 3, dataclasses.replace(TWO, rounds=rounds))
    newest = {name: value for name, value in run.rnn_flags(2, SECOND.rnn, "").items() if name.startswith("newest")}
    assert newest == ({"newest": 1, "newest_share": 0.25} if own == 4 else {})


def test_a_vae_is_trained_on_and_its_games_are_encoded_again(folder, tmp_path):
    """Catches a VAE that begins anew in a later round, and an MDN-RNN that learns from what the earlier VAE saw."""
    run = str(tmp_path / "run")
    again = settings.Round(vae={"steps": 5}, rnn={}, train={}, games=5)
    assert start(game_in(folder, (FIRST, again)), run)[0] == 0
    two = [words for words in commands(folder) if words[0] != "model" and f"{run}/round2" in words]
    assert [words[0] for words in two] == ["vae_train", "series", "rnn_train", "train", "pick_best", "fidelity"]
    vae = flags_of(two[0])
    assert (vae["--steps"], vae["--start_from"], vae["--seed"]) == ("5", "../round1/tf_vae/vae.json", "3")


def test_half_as_many_games_as_choose_tell_how_faithful_the_dream_is(folder, tmp_path):
    """Catches a measurement of ten games, whatever the round says."""
    one = dataclasses.replace(FIRST, games=50)
    assert start(game_in(folder, (one,)), tmp_path / "run")[0] == 0
    assert flags_of(commands(folder)[-1])["--games"] == "25"


@pytest.mark.parametrize("heads", [False, True])
def test_a_game_that_cannot_be_lost_has_no_fidelity(folder, tmp_path, heads):
    """Catches a measurement of deaths, or of pay that ends, in a game that has neither and no script for it."""
    rnn = dict.fromkeys(PRESETS, settings.Rnn(heads=heads, validation_episodes=4))
    game = game_in(folder, RESTART=False, RNN=rnn)
    os.remove(os.path.join(folder, "fidelity.py"))
    assert start(game, tmp_path / "run")[0] == 0
    assert "fidelity" not in {script for script, *_ in commands(folder)}
    assert "fidelity" not in files.read_json(tmp_path / "run" / "rounds.json")[0]


def test_an_mdnrnn_that_expects_rewards_has_its_dream_compared(folder, tmp_path):
    """Catches a game without deaths of which nobody learns whether its dream pays as it does, or in another engine."""
    game = game_in(
        folder,
        RESTART=False,
        STOPS_PAYING=(60, 35.0, 5.0),
        RNN=dict.fromkeys(PRESETS, settings.Rnn(heads=True, validation_episodes=4)),
    )
    game.config.ITERATE["small"] = dataclasses.replace(game.config.ITERATE["small"], backend="fast")
    assert start(game, tmp_path / "run")[0] == 0
    asked = [flags_of(words) for words in commands(folder) if words[0] == "fidelity"]
    assert [flags["--backend"] for flags in asked] == ["fast"] * len(game.config.ITERATE["small"].rounds)


def test_the_usual_preset_is_that_of_a_laptop(folder, tmp_path):
    """Catches rounds of another preset, or of another seed than 1, where none is named."""
    game = game_in(folder)
    game.config.ITERATE["laptop"] = TWO
    assert call(game, "--run", tmp_path / "run")[0] == 0
    first = flags_of(commands(folder)[0])
    assert (first["--preset"], first["--first_seed"]) == ("laptop", "2000")


def test_a_seed_beyond_the_games_of_training_is_refused(folder, tmp_path):
    """Catches a run that would record validation games."""
    assert refused(start(game_in(folder), tmp_path / "run", seed=plan.RUNS + 1), "--seed")
    assert commands(folder) == []


def test_a_run_may_record_all_games_of_its_seed(folder):
    """Catches a last game that is refused though no other run has it."""
    rounds = FIRST, dataclasses.replace(SECOND, own=plan.SEEDS_PER_RUN - 8)
    plan.Plan(game_in(folder), "small", 1, dataclasses.replace(TWO, rounds=rounds)).check_flags(range(1, 3))


def test_no_two_trainings_of_all_runs_have_the_same_seed(folder):
    """Catches the second training of run 1 that is the first one of run 11."""
    found, game = [], game_in(folder)
    for seed in range(1, plan.RUNS + 1):
        run = plan.Plan(game, "small", seed, TWO)
        found += [run.seed_of(number, which) for number in range(1, 100) for which in range(1, 10)]
    assert len(set(found)) == len(found)


def test_the_last_line_is_the_command_that_scores_the_best_round_on_validation_games(folder, tmp_path):
    """Catches test games that choose among runs, games that chose the round already, and the agent of another round."""
    run = str(tmp_path / "run")
    last = start(game_in(folder), run)[1].splitlines()[-1]
    best = ship.best_of(files.read_json(f"{run}/rounds.json"))["round"]
    agent = {1: "../round1/log/stub.cma.1.4.picked.json", 2: "../round2/log/stub.cma.1.4.best.json"}[best]
    command = f"python model.py stubreal norender {agent} 460000 --run {run}/round{best}"
    assert last == f"the best round is {best}; its agent plays by: {command}"
    seeds.check([460_000], "validation", "the seed")


def test_the_game_chooses_among_all_trainings_of_a_round(folder, tmp_path):
    """Catches a further training with the same seed, in models of its own, on another start, or that no game judges."""
    run, log = str(tmp_path / "run"), "log/stub.cma.1.4"
    also = {"start_from": "", "generations": 2}, {"starts": 5}
    second = dataclasses.replace(SECOND, more_rnns=1, train={"generations": 1}, also=also)
    fault(folder, "train", "train3", 1)
    assert start(game_in(folder, (FIRST, second)), run)[0] == 2
    shutil.rmtree(f"{run}/round1/series")  # the third reads it, and the others are done
    assert start(game_in(folder, (FIRST, second)), run)[0] == 0
    two, done = f"{run}/round2", commands(folder)
    trains = [words[words.index("--run") + 1 :] for words in done if words[0] == "train"]
    assert [where for where, *_ in trains[1:]] == [two, f"{two}/train2", f"{two}/train3", f"{two}/train3"]
    flags = {words[0]: dict(zip(words[1::2], words[2::2], strict=True)) for words in trains}
    first, second, third = (flags[where] for where in (two, f"{two}/train2", f"{two}/train3"))
    assert [one["--seed_start"] for one in (first, second, third)] == ["302", "10302", "20302"]
    assert [one["--generations"] for one in (first, second, third)] == ["1", "2", "1"]
    assert second["--start_from"] == ""
    assert os.path.samefile(os.path.join(two, "train3", third["--start_from"]), f"{run}/round1/{log}.picked.json")
    assert os.path.samefile(os.path.join(two, "train2", second["--also_in"]), f"{two}/rnn2/tf_rnn/rnn.json")
    for name in ("tf_vae", "tf_rnn", "tf_initial_z", "series"):
        assert os.path.samefile(f"{two}/train3/{name}", f"{two}/{name}")
    chosen = [words for words in done if words[0] == "pick_best"][-1]
    assert chosen[1:5] == [*(f"{two}/{place}{log}.log.json" for place in ("", "train2/", "train3/")), "--run"]


def test_more_rnns_are_for_a_round_in_the_dream(folder, tmp_path):
    """Catches MDN-RNNs that are trained for hours, and a train.py that has no use for them."""
    second = dataclasses.replace(SECOND, train={"world": "game"})
    game = game_in(folder, (FIRST, second), TRAIN_GAME=dict.fromkeys(PRESETS, settings.GameTrain()))
    assert refused(start(game, tmp_path / "run"), "round 2 has more_rnns", "training in the dream")
    assert commands(folder) == []


def test_each_round_has_a_line_and_the_picture_shows_it(folder, tmp_path):
    """Catches games of one round counted for another, a dream score that is the real one, and time that falls."""
    run = str(tmp_path / "run")
    start(game_in(folder), run)
    one, two = files.read_json(f"{run}/rounds.json")
    assert [(line["round"], line["random_games"], line["own_games"]) for line in (one, two)] == [(1, 6, 0), (2, 8, 8)]
    assert (one["dream"], two["dream"]) == (650.0, 700.0)  # of the mean that was picked, and of the best
    for line, ending, games in ((one, "picked", 5), (two, "best", 7)):
        path = f"{run}/round{line['round']}/log/stub.cma.1.4.{ending}.json"
        scores = files.read_json(f"{run}/round{line['round']}/scores.json")
        assert line["controller"] == files.sha256(path)
        real = {
            "mean": scores["mean"],
            "std": 10.0,
            "stderr": 1.0,
            "n": games,
            "backend": "stub",
            "first_seed": seeds.REPORT,
        }
        assert line["real"] == real
        assert line["fidelity"] == {"dream": {"mean": 500.0}, "recall": 0.5}
    assert list(one["seconds"]) == ["random", "vae", "series", "rnn", "train", "pick", "score", "fidelity"]
    assert list(two["seconds"]) == ["random", "own", "series", "rnn", "rnn2", "rnn3", "train", "score", "fidelity"]
    assert one["minutes"] <= two["minutes"]
    assert files.read_json(f"{run}/rounds.png") == 2
    assert "dream 650, dream at temperature 1 500, game" in report.words(one)


def test_the_minutes_of_a_round_are_those_of_all_rounds_up_to_it(folder, tmp_path):
    """Catches the time of one round alone, and that of later ones where the lines are written again."""
    run, game = tmp_path / "run", game_in(folder)
    start(game, str(run))
    state = files.read_json(run / "iterate.json")
    files.write_json(
        str(run / "iterate.json"), state | {"seconds": {"1/vae": 120.0, "1/train": 480.0, "2/own": 1200.0}}
    )
    os.remove(run / "rounds.json")
    assert start(game, str(run))[0] == 0
    lines = files.read_json(run / "rounds.json")
    assert [line["minutes"] for line in lines] == [10.0, 30.0]
    assert [line["seconds"] for line in lines] == [{"vae": 120.0, "train": 480.0}, {"own": 1200.0}]


def test_the_time_of_a_stage_is_noted_when_it_ends(folder, tmp_path, monkeypatch):
    """Catches the time at the last note, ten seconds apart: of a short stage it is none at all."""
    clock = [1000.0]

    class Slow(Here):
        def wait(self, timeout=None):
            clock[0] += 5
            return super().wait(timeout)

    monkeypatch.setattr(launch.subprocess, "Popen", Slow)
    monkeypatch.setattr(launch, "time", types.SimpleNamespace(monotonic=lambda: clock[0]))
    assert start(game_in(folder, (FIRST,)), tmp_path / "run")[0] == 0
    (line,) = files.read_json(tmp_path / "run" / "rounds.json")
    assert (set(line["seconds"].values()), len(line["seconds"]), line["minutes"]) == ({5.0}, 8, 0.7)


def test_the_memory_of_a_stage_is_the_most_of_all_its_starts(folder, tmp_path):
    """Catches the peak of the last start, which may have ended at once, and one that a short start forgets."""
    state = State(plan.Plan(game_in(folder), "small", 3, TWO), Paths(str(tmp_path)))
    for seconds, memory_gb in ((1.0, 2.0), (2.0, 1.0), (3.0, None)):
        state.note_time("1/rnn", seconds, memory_gb)
    noted = files.read_json(tmp_path / "iterate.json")
    assert (noted["seconds"], noted["memory_gb"]) == ({"1/rnn": 3.0}, {"1/rnn": 2.0})


@pytest.mark.parametrize(("of", "dream"), [("dream", 700.0), ("game", None)])
def test_only_the_score_of_a_dream_is_one(folder, tmp_path, of, dream):
    """Catches the score of an evolution in the game, told as that of a dream which nobody dreamt."""
    path, scores = str(tmp_path / "best.json"), str(tmp_path / "scores.json")
    files.write_json(path, [[0.5]])
    score = {"of": of, "mean": 700.0}
    provenance.write(path, "controller", "stub", {}, {}, 1.0, unverified=False, score=score)
    files.write_json(scores, {"mean": 5.0, "std": 1.0, "stderr": 0.5, "n": 4, "backend": "stub"})
    one = report.scored(game_in(folder), path, scores)
    assert (one["dream"], one["real"]["mean"]) == (dream, 5.0)


def test_the_series_of_every_round_is_known_by_its_meta(folder, tmp_path):
    """Catches models made from a series of which nothing is left, once a later round has added to it."""
    run = str(tmp_path / "run")
    assert start(game_in(folder), run)[0] == 0
    metas = ship._metas(run)
    known, used = {meta["sha256"] for meta in metas}, {meta["parents"].get("series") for meta in metas} - {None}
    assert len(used) == 2
    assert used <= known


def test_a_round_is_done_before_its_picture_is_drawn(folder, tmp_path, monkeypatch):
    """Catches a round of hours that is done again, or never counts, because of its picture."""
    real = report.draw
    monkeypatch.setattr(report, "draw", lambda *_: 1 / 0)
    for rounds in (1, 2):
        with pytest.raises(ZeroDivisionError):
            start(game_in(folder), tmp_path / "run")
        assert len(files.read_json(tmp_path / "run" / "rounds.json")) == rounds
    monkeypatch.setattr(report, "draw", real)
    commands(folder)
    assert start(game_in(folder), tmp_path / "run")[0] == 0
    assert files.read_json(tmp_path / "run" / "rounds.png") == 2
    assert commands(folder) == []


def test_a_round_without_flags_of_its_own_runs_every_stage(folder, tmp_path):
    """Catches {} taken for None: the paper's round trains with the numbers of the preset, and no flag."""
    bare = settings.Round(random=6, vae={}, rnn={}, train={})
    assert start(game_in(folder, (bare,)), tmp_path / "run")[0] == 0
    scripts = [script for script, *_ in commands(folder)]
    assert scripts == ["extract", "vae_train", "series", "rnn_train", "train", "pick_best", "model", "fidelity"]


def test_a_round_that_only_trains_on_keeps_the_other_models_and_the_controller(folder, tmp_path):
    """Catches a link to nothing, recordings that are asked for, and a controller of no round."""
    again = settings.Round(train={"t": 4, "generations": 1}, games=5)
    idle = settings.Round(games=6)
    run = str(tmp_path / "run")
    assert start(game_in(folder, (FIRST, again, idle)), run)[0] == 0
    scripts = [(script, words[words.index("--run") + 1][-6:]) for script, *words in commands(folder)][8:]
    assert scripts == [("train", "round2"), *[(name, f"round{k}") for k in (2, 3) for name in ("model", "fidelity")]]
    for name in ("vae", "rnn", "initial_z"):
        path = stages.MODELS[name]
        assert os.path.samefile(f"{run}/round3/{path}", f"{run}/round1/{path}")
    one, two, three = lines_of(run)
    assert one["controller"] != two["controller"] == three["controller"]


@pytest.mark.parametrize(("generations", "chosen"), [(1, "best"), (3, "picked")])
def test_the_real_game_chooses_only_where_there_is_a_choice(folder, tmp_path, generations, chosen):
    """Catches hundreds of real games played to choose among one, and a mean that the dream alone chose."""
    one = dataclasses.replace(FIRST, train={"generations": generations})
    start(game_in(folder, (one,)), tmp_path / "run")
    assert ("pick_best" in [script for script, *_ in commands(folder)]) == (chosen == "picked")
    controller = files.read_json(tmp_path / "run" / "iterate.json")["done"]["1/agent"]["controller"]
    assert controller == f"round1/log/stub.cma.1.4.{chosen}.json"


def test_the_linear_controller_is_evolved_at_the_end_in_the_dream_of_the_best_round(folder, tmp_path):
    """Catches a linear controller on the models of another round, one evolved twice, and one that is never reported."""
    game, run = game_in(folder), str(tmp_path / "run")
    game.config.ITERATE["small"] = dataclasses.replace(TWO, linear={"generations": 3})
    fault(folder, "train", "linear", 1)
    assert start(game, run)[0] == 2
    best = ship.best_of(files.read_json(f"{run}/rounds.json"))
    where, log = f"{run}/round{best['round']}/linear", "log/stub.cma.1.4"
    assert "linear" not in best
    assert commands(folder)[-1][-1] == "300"
    code, out, _ = start(game, run)
    assert (code, out.count("linear controller: game")) == (0, 1)
    games = best["real"]["n"]
    assert commands(folder) == [
        [str(word) for word in words]
        for words in (
            ("train", "--preset", "small", "--run", where, "--generations", 3, "--seed_start", 300),
            (
                "pick_best",
                f"{where}/{log}.log.json",
                "--run",
                where,
                "--episodes",
                games,
                "--final_episodes",
                2 * games,
                "--backend",
                "fast",
            ),
            ("model", "stubreal", "norender", f"{where}/{log}.picked.json", seeds.REPORT, "--run", where)
            + ("--episodes", games, "--out", f"{where}/scores.json", "--backend", "fast"),
        )
    ]
    for name in ("vae", "rnn", "initial_z"):
        path = stages.MODELS[name]
        assert os.path.samefile(f"{where}/{path}", f"{run}/round{best['round']}/{path}")
    lines = files.read_json(f"{run}/rounds.json")
    found = next(line for line in lines if "linear" in line)
    assert found["round"] == best["round"]
    assert found["linear"]["controller"] == files.sha256(f"{where}/{log}.picked.json")
    assert found["linear"]["real"]["mean"] == files.read_json(f"{where}/scores.json")["mean"]
    assert "nothing to do" in start(game, run)[1]
    assert commands(folder) == []


STAGES_OF_TWO = [  # script, the end of its --run, and how many commands of the plan come before it
    ("extract", "run", 0),
    ("vae_train", "round1", 1),
    ("series", "round1", 2),
    ("rnn_train", "round1", 3),
    ("train", "round1", 4),
    ("pick_best", "round1", 5),
    ("model", "round1", 6),
    ("fidelity", "round1", 7),
    ("extract", "round1", 9),
    ("rnn_train", "rnn2", 12),
    ("train", "round2", 14),
    ("fidelity", "round2", 16),
]


@pytest.mark.parametrize(("script", "where", "before"), STAGES_OF_TWO)
def test_a_stage_that_fails_is_run_again_alone(folder, tmp_path, undisturbed, script, where, before):
    """Catches a failed stage noted as done, a finished one run again, and a round that differs afterwards."""
    run, game = str(tmp_path / "run"), game_in(folder)
    fault(folder, script, where, 3)
    assert refused(start(game, run), f"round {1 if before < 8 else 2}", f"{script}.py", "code 3")
    assert len(commands(folder)) == before + 1
    assert start(game, run)[0] == 0
    assert len(commands(folder)) == 17 - before
    assert lines_of(run) == undisturbed
    code, out, _ = start(game, run)
    assert (code, commands(folder)) == (0, [])
    assert "nothing to do" in out


def test_a_kill_between_two_files_loses_nothing(folder, tmp_path, monkeypatch, undisturbed):
    """Catches a line that is doubled or missing where iterate.py itself is killed before or after any write."""
    run, game = str(tmp_path / "run"), game_in(folder)
    write, left, deaths = files.write_json, [0], 0

    class Killed(BaseException):
        pass

    def dying(path, *value, **how):
        if os.path.dirname(path) == run:
            left[0] -= 1
            if not left[0] and not deaths % 2:
                raise Killed
        write(path, *value, **how)
        if not left[0]:
            raise Killed

    monkeypatch.setattr(files, "write_json", dying)
    while True:
        left[0] = 5 + deaths % 4 if deaths else 1  # a stage takes four writes
        try:
            assert start(game, run)[0] == 0
            break
        except Killed:
            deaths += 1
    assert deaths > 8
    monkeypatch.undo()
    assert lines_of(run) == undisturbed


def process_of(folder, run, **options):
    """iterate.py in a process of its own."""
    code = RUN_IN_PROCESS.format(tests=os.path.dirname(__file__), folder=folder)
    words = [sys.executable, "-c", code, "--preset", "small", "--seed", "3", "--run", run]
    environment = os.environ | {"PYTHONPATH": ROOT}
    return subprocess.Popen(words, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, **options)


def wait_for(path):
    until = time.monotonic() + 30
    while not os.path.exists(path):
        assert time.monotonic() < until, f"{path}: not within 30 s"
        time.sleep(0.02)
    return files.read_json(path)


def is_alive(pid):
    try:
        with open(f"/proc/{pid}/stat") as file:
            return file.read().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


@pytest.mark.skipif(sys.platform != "linux", reason="stages are bound to iterate.py on Linux only")
@pytest.mark.parametrize("how", ["stage killed", "killed", "Ctrl-C", "Ctrl-C to it alone"])
def test_whatever_ends_it_the_same_command_goes_on(tmp_path, monkeypatch, undisturbed, folder, how):
    """Catches a stage that outlives iterate.py, one that is not let end by itself, and time that is not counted."""
    run = str(tmp_path / "run")
    fault(folder, "rnn_train", "round1", "kill" if how == "stage killed" else "hang")
    process = process_of(folder, run, start_new_session=True)
    try:
        if how != "stage killed":
            stage = wait_for(os.path.join(folder, "hangs.json"))
            time.sleep(0.3)  # three notes of the time
            if how == "killed":
                process.kill()
            else:
                (os.killpg if how == "Ctrl-C" else os.kill)(process.pid, signal.SIGINT)
        _, err = process.communicate(timeout=30)
    finally:
        process.kill()
    code = {"stage killed": 2, "killed": -signal.SIGKILL}.get(how, 130)
    assert process.returncode == code, err
    if how == "stage killed":
        assert b"rnn_train.py ended with code -9" in err
    else:
        until = time.monotonic() + 5  # the kernel needs a moment
        while is_alive(stage) and time.monotonic() < until:
            time.sleep(0.02)
        assert not is_alive(stage)
        noted = files.read_json(f"{run}/iterate.json")
        assert noted["seconds"]["1/rnn"] > 0.2
        assert 0.005 < noted["memory_gb"]["1/rnn"] < 1  # of a process that has loaded NumPy at most
        assert os.path.exists(os.path.join(folder, "ended.json")) == (how != "killed")
    assert len(commands(folder)) == 4
    assert start(game_in(folder), run)[0] == 0
    assert len(commands(folder)) == 17 - 3
    assert lines_of(run) == undisturbed
    if how != "stage killed":
        assert files.read_json(f"{run}/iterate.json")["seconds"]["1/rnn"] >= noted["seconds"]["1/rnn"]


def test_what_is_not_this_run_is_refused_and_kept(folder, tmp_path):
    """Catches two runs mixed in a folder: another preset, seed or game, and rounds that were edited."""
    run, game = str(tmp_path / "run"), game_in(folder)
    fault(folder, "rnn_train", "round1", 3)
    start(game, run)
    commands(folder)
    before = everything(run)
    assert refused(start(game, run, preset="other"), run, "preset small, not other")
    assert refused(start(game, run, seed=4), run, "seed 3, not 4")
    assert refused(start(game_in(folder, GAME="another"), run), run, "game stub, not another")
    edited = dataclasses.replace(FIRST, games=6), SECOND
    assert refused(start(game_in(folder, edited), run), "iterate.json", "round 1 was edited")
    assert everything(run) == before
    assert commands(folder) == []
    later = FIRST, dataclasses.replace(SECOND, games=6)
    assert start(game_in(folder, later), run)[0] == 0
    assert files.read_json(f"{run}/rounds.json")[1]["real"]["n"] == 6
    assert "nothing to do" in start(game_in(folder, later), run)[1], "it was edited before it began"
    assert refused(start(game, run), "round 2 was edited")


def test_a_run_goes_on_that_began_before_a_field_of_rounds_was_there(folder, tmp_path):
    """Catches a round that counts as edited because it says nothing of an option that is younger."""
    run, game = str(tmp_path / "run"), game_in(folder)
    fault(folder, "rnn_train", "round1", 3)
    start(game, run)
    state = files.read_json(f"{run}/iterate.json")
    usual = json.loads(json.dumps(dataclasses.asdict(settings.Round())))
    state["rounds"] = [{name: value for name, value in one.items() if value != usual[name]} for one in state["rounds"]]
    assert "also" not in state["rounds"][0]
    files.write_json(f"{run}/iterate.json", state)
    assert start(game, run)[0] == 0


EDITED = FIRST, dataclasses.replace(SECOND, own=4, games=6)


def test_an_edited_round_is_played_anew_and_nothing_is_lost(folder, tmp_path):
    """Catches models, games or lines of the round as it was that count on; a file that is lost; a second beginning."""
    straight, run = str(tmp_path / "straight"), str(tmp_path / "run")
    assert start(game_in(folder, EDITED), straight)[0] == 0
    start(game_in(folder), run)
    commands(folder)
    before = everything(run)
    said = "or --edited, which plays it anew (own 8 -> 4, games 7 -> 6)"
    assert refused(start(game_in(folder, EDITED), run), "round 2 was edited", said)
    wrong = FIRST, dataclasses.replace(EDITED[1], train={"generatons": 1})
    assert start(game_in(folder, wrong), run, "--edited")[0] == 2
    assert everything(run) == before, "a flag that does not exist is known before anything is moved"
    state = files.read_json(f"{run}/iterate.json")
    state["seconds"]["2/train"] = 600.0
    files.write_json(f"{run}/iterate.json", state)
    before = everything(run)
    code, out, _ = start(game_in(folder, EDITED), run, "--edited")
    assert code == 0
    assert f"{run}/aside1" in out
    scripts = [words[0] for words in commands(folder)]
    assert scripts == ["extract"] * 2 + ["series"] + ["rnn_train"] * 3 + ["train", "model", "fidelity"]
    assert lines_of(run) == lines_of(straight)
    assert files.read_json(f"{run}/rounds.json")[1]["aside_minutes"] == pytest.approx(10, abs=1)
    assert len(ship._metas(run)) == len(ship._metas(straight))
    state, wanted = (files.read_json(f"{place}/iterate.json") for place in (run, straight))
    assert state["done"].keys() == wanted["done"].keys()
    assert state["seconds"].keys() == wanted["seconds"].keys()
    after = everything(run)
    assert after.keys() - {name for name in after if name.startswith("aside1")} == everything(straight).keys()
    for name, content in before.items():
        kept = "aside1/series/" + name.removeprefix("round1/series/") if "/series/" in name else f"aside1/{name}"
        assert content == after.get(kept, after.get(name)), name
    code, out, _ = start(game_in(folder, EDITED), run, "--edited")
    assert (code, commands(folder)) == (0, [])
    assert "nothing to do" in out
    assert "no round that has begun was edited" in out
    first = dataclasses.replace(FIRST, games=6), EDITED[1]
    assert refused(start(game_in(folder, first), run, "--edited"), "round 1 was edited", "give another --run")
    assert refused(call(game_in(folder), "--ship", run, "--edited"), "--edited: goes with --run")


def test_two_edited_rounds_are_played_anew_from_the_first_of_them(folder, tmp_path):
    """Catches a round that stays as it was because a later one was edited too; time of what is aside that is lost."""
    straight, run = str(tmp_path / "straight"), tmp_path / "run"
    third = dataclasses.replace(THIRD, own=3)
    assert start(game_in(folder, (*EDITED, third)), straight)[0] == 0
    start(game_in(folder, (FIRST, SECOND, THIRD)), run)
    change_state(run, seconds={"2/train": 600.0}, memory_gb={"1/rnn": 2.0, "2/rnn": 3.0})
    assert start(game_in(folder, (*EDITED, third)), run, "--edited")[0] == 0
    assert lines_of(run) == lines_of(straight)
    assert files.read_json(run / "iterate.json")["memory_gb"] == {"1/rnn": 2.0}
    change_state(run, seconds={"3/train": 1200.0})
    assert start(game_in(folder, (*EDITED, THIRD)), run, "--edited")[0] == 0
    assert files.read_json(run / "rounds.json")[2]["aside_minutes"] == pytest.approx(30, abs=1)


def change_state(run, **changes):
    """Changes values of dicts in iterate.json."""
    state = files.read_json(run / "iterate.json")
    changed = {name: state.get(name, {}) | values for name, values in changes.items()}
    files.write_json(str(run / "iterate.json"), state | changed)


def test_a_run_that_was_moved_can_be_edited(folder, tmp_path):
    """Catches a traceback where recordings and series, which need not be kept, are to be set aside."""
    straight, run = str(tmp_path / "straight"), str(tmp_path / "run")
    assert start(game_in(folder, EDITED), straight)[0] == 0
    assert start(game_in(folder), run)[0] == 0
    there = moved(run, tmp_path / "moved")
    assert start(game_in(folder, EDITED), there, "--edited")[0] == 0
    assert lines_of(there) == lines_of(straight)


def test_games_of_a_later_round_that_was_edited_are_in_no_series(folder, tmp_path):
    """Catches a link that is moved for the series that it leads to, and models of a round aside that are not found."""
    straight, run = str(tmp_path / "straight"), str(tmp_path / "run")
    third = dataclasses.replace(SECOND, more_rnns=0, own=3)
    assert start(game_in(folder, (FIRST, SECOND, third)), straight)[0] == 0
    assert start(game_in(folder, (FIRST, SECOND, dataclasses.replace(third, own=5))), run)[0] == 0
    old = everything(run)["round1/series/series.npz"]
    assert start(game_in(folder, (FIRST, SECOND, third)), run, "--edited")[0] == 0
    assert lines_of(run) == lines_of(straight)
    assert not os.path.islink(f"{run}/aside1/series")
    assert everything(run)["aside1/series/series.npz"] == old
    assert everything(run)["round1/series/series.npz"] == everything(straight)["round1/series/series.npz"]
    assert os.path.samefile(f"{run}/aside1/round3/tf_vae", f"{run}/round1/tf_vae")


@pytest.mark.parametrize(("name", "before_it"), [("rename", 0), ("rename", 5), ("write_json", 0), ("write_json", 1)])
def test_a_kill_while_an_edited_round_is_set_aside_loses_nothing(folder, tmp_path, monkeypatch, name, before_it):
    """Catches a state that is written before all is moved, and a rest that is taken for the edited round's."""
    straight, run = str(tmp_path / "straight"), str(tmp_path / "run")
    assert start(game_in(folder, EDITED), straight)[0] == 0
    assert start(game_in(folder), run)[0] == 0
    where, calls = (os if name == "rename" else files), []
    done = getattr(where, name)

    def ended(*given, **words):
        calls.append(given)
        if len(calls) > before_it:
            raise KeyboardInterrupt
        return done(*given, **words)

    with monkeypatch.context() as patch:
        patch.setattr(where, name, ended)
        assert start(game_in(folder, EDITED), run, "--edited")[0] == 130
    assert len(calls) == before_it + 1
    assert refused(start(game_in(folder, EDITED), run), "round 2 was edited")
    assert start(game_in(folder, EDITED), run, "--edited")[0] == 0
    assert lines_of(run) == lines_of(straight)


def test_a_round_has_begun_with_its_first_stage(folder, tmp_path, monkeypatch):
    """Catches a run of another seed, or an edited one, begun over the recordings of one that was killed at once."""
    run, game = str(tmp_path / "run"), game_in(folder)

    class Killed(BaseException):
        pass

    def killed(command):
        raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(launch.subprocess, "Popen", killed)
        with pytest.raises(Killed):
            start(game, run)
    assert refused(start(game, run, seed=4), "seed 3, not 4")
    assert refused(start(game_in(folder, (dataclasses.replace(FIRST, random=7), SECOND)), run), "round 1 was edited")


@pytest.mark.parametrize("damage", ['{"game": "stub"', '["stub"]', '{"game": "stub"}', "", '{"seconds": {"x/y": 1}}'])
def test_a_damaged_iterate_json_is_named_and_kept(folder, tmp_path, damage):
    """Catches a traceback, and a run that begins anew over its old files."""
    run, game = str(tmp_path / "run"), game_in(folder)
    fault(folder, "rnn_train", "round1", 3)
    start(game, run)
    path = tmp_path / "run" / "iterate.json"
    if damage.startswith('{"seconds'):
        damage = json.dumps(files.read_json(path) | json.loads(damage))
    path.write_text(damage)
    before = everything(run)
    assert refused(start(game, run), "iterate.json: damaged")
    assert everything(run) == before


def test_a_damaged_or_lost_rounds_json_is_written_again(folder, tmp_path, undisturbed):
    """Catches a traceback, and rounds that are played again."""
    run, game = tmp_path / "run", game_in(folder)
    start(game, run)
    commands(folder)
    (run / "rounds.json").write_text("[{")
    assert refused(start(game, run), "rounds.json", "remove it")
    (run / "rounds.json").unlink()
    assert start(game, run)[0] == 0
    assert commands(folder) == []
    assert lines_of(run) == undisturbed


def test_what_lies_there_already_is_not_taken_for_the_run(folder, tmp_path):
    """Catches recordings, models or rounds of unknown origin that become those of the run; a folder that is a file."""
    for name in ("record", "round1", "rounds.json"):
        os.makedirs(tmp_path / f"run with {name}" / name)
        assert refused(start(game_in(folder), tmp_path / f"run with {name}"), f"has {name} but no iterate.json")
    (tmp_path / "file").write_text("")
    assert refused(start(game_in(folder), tmp_path / "file"), "is not a folder")
    assert commands(folder) == []


@pytest.mark.parametrize(("stopped", "seed"), [("vae_train", 61_999), ("vae_train", 62_006), ("rnn_train", 62_016)])
def test_a_recording_of_another_run_is_refused(folder, tmp_path, stopped, seed):
    """Catches models that learn from games that are not the run's own; a later round's games are not there yet."""
    run, game = tmp_path / "run", game_in(folder)
    fault(folder, stopped, "round1", 3)
    start(game, str(run))
    foreign = run / "record" / f"{seed}.npz"  # the run has 62,000 to 62,015, its first round six of them
    foreign.write_bytes(b"%d random" % seed)
    assert refused(start(game, str(run)), str(foreign), "not of this run")
    foreign.unlink()
    assert start(game, str(run))[0] == 0


def test_a_second_process_is_refused(folder, tmp_path):
    """Catches two processes that train the same models at the same time, and what a killed one wrote that stays."""
    run = str(tmp_path / "run")
    os.makedirs(run)
    held = runs.lock(os.path.join(run, "lock"))
    assert refused(start(game_in(folder), run), run, "another process")
    held.close()
    assert os.listdir(run) == ["lock"]
    torn = os.path.join(run, "rounds.json.tmp123")
    open(torn, "w").close()
    assert start(game_in(folder), run)[0] == 0
    assert not os.path.exists(torn)


def test_a_disk_that_is_too_small_is_said_before_round_1(folder, tmp_path, monkeypatch):
    """Catches a disk that is full after hours; only what is still to be recorded counts, so that a run can go on."""
    run, game = str(tmp_path / "run"), game_in(folder)
    game.config.ITERATE["small"] = dataclasses.replace(game.config.ITERATE["small"], mb_per_episode=1000.0)
    free = [15.9e9]
    monkeypatch.setattr(shutil, "disk_usage", lambda path: types.SimpleNamespace(free=free[0]))
    assert refused(start(game, run), "needs about 16 GB of disk", "16 GB are free")
    assert not os.path.exists(run)
    free[0] = 16e9
    fault(folder, "extract", "run", 3)  # after three of six
    start(game, run)
    free[0] = 12.9e9
    assert refused(start(game, run), "needs about 13 GB")
    free[0] = 13.1e9
    assert start(game, run)[0] == 0
    free[0] = 16.1e9
    monkeypatch.setattr(launch, "MEMORY_GB", 1e5)
    assert refused(start(game, tmp_path / "other"), "100000 GB of memory")
    assert start(game, run)[0] == 0, "nothing is left to do"


KEPT = ("iterate.json", "rounds.json")


def moved(run, target):
    """A run as the docstring of iterate.py says that it can be kept: without recordings, series, links, checkpoints."""
    for place, _, names in os.walk(run):
        inside = os.path.relpath(place, run)
        for name in names:
            if name in KEPT or "/log" in inside or ("/tf_" in inside and name.endswith(".json")):
                os.makedirs(os.path.join(target, inside), exist_ok=True)
                shutil.copy(os.path.join(place, name), os.path.join(target, inside, name))
    return str(target)


def played(seen):
    """[(script, the end of its --run, its first seed or None, whether what it had begun was set aside)] of commands."""
    found = []
    for script, *words in seen:
        flags = dict(zip(words, [*words[1:], ""], strict=True))
        assert "--fresh" not in words, "a second start would set aside what the first one made"
        asides = [aside for name in launch.MADE.get(script, ()) for aside in set_aside(flags["--run"], name)]
        found.append((script, os.path.basename(flags["--run"]), flags.get("--first_seed"), bool(asides)))
    return found


def set_aside(run, name):
    """The earlier versions of a folder of a run, which may be a link, that were set aside."""
    return glob.glob(glob.escape(os.path.realpath(os.path.join(run, name))) + ".2*")


THIRD = settings.Round(own=4, rnn={"steps": 2}, train={"generations": 1}, games=5)
REPORT = [("model", "round1", None, False), ("fidelity", "round1", None, False)]
NEXT = [("extract", "round2", "62016", False)]
ALL = [
    ("extract", "moved", "62000", False),
    ("extract", "moved", "62006", False),
    ("extract", "round1", "62008", False),
]


@pytest.mark.parametrize(
    ("stopped", "again"),
    [
        # what a stage that is not done reads is made again, by the round that made it; what began on it begins anew
        (("vae_train", "round1"), [ALL[0], ("vae_train", "round1", None, True), ("series", "round1", None, False)]),
        (("rnn_train", "round1"), [ALL[0], ("series", "round1", None, False), ("rnn_train", "round1", None, True)]),
        (("train", "round1"), [("train", "round1", None, False)]),
        (("fidelity", "round1"), [*REPORT, *ALL[1:], ALL[0]]),
        (("rnn_train", "rnn2"), [*ALL, ("series", "round2", None, False), ("rnn_train", "rnn2", None, True)]),
        (("extract", "round2"), [*NEXT, *ALL, ("series", "round3", None, False)]),
        (
            ("rnn_train", "round3"),
            [*ALL, *NEXT, ("series", "round3", None, False), ("rnn_train", "round3", None, True)],
        ),
        (("train", "round3"), [("train", "round3", None, False), ("model", "round3", None, False)]),
    ],
)
def test_a_run_goes_on_on_another_machine(folder, tmp_path, stopped, again):
    """Catches a stage that asks for what did not come along, and recordings made again that nothing needs."""
    rounds, run = (FIRST, SECOND, THIRD), str(tmp_path / "run")
    game = game_in(folder, rounds)
    start(game, str(tmp_path / "whole"))
    fault(folder, *stopped, 3)
    start(game, run)
    commands(folder)
    there = moved(run, tmp_path / "elsewhere" / "moved")
    code, _, err = start(game, there)
    assert (code, err) == (0, "")
    assert played(commands(folder))[: len(again)] == again
    assert lines_of(there) == lines_of(tmp_path / "whole")


def test_what_is_made_again_is_made_again_after_a_kill_too(folder, tmp_path):
    """Catches half of the lost recordings taken for all, and an MDN-RNN that goes on with a series it did not begin."""
    rounds, run = (FIRST, SECOND, THIRD), str(tmp_path / "run")
    game = game_in(folder, rounds)
    start(game, str(tmp_path / "whole"))
    fault(folder, "rnn_train", "round3", 3)
    start(game, run)
    there = moved(run, tmp_path / "moved")
    for k, (script, where) in enumerate([("extract", "round1"), ("extract", "round2"), ("series", "round3")]):
        fault(folder, script, where, 3)
        commands(folder)
        assert refused(start(game, there), script)
        assert len(commands(folder)) == (3, 2, 2)[k]
    assert start(game, there)[0] == 0
    assert played(commands(folder))[:2] == [("series", "round3", None, False), ("rnn_train", "round3", None, True)]
    assert lines_of(there) == lines_of(tmp_path / "whole")


@pytest.mark.parametrize("killed", ["", "before", "after", "as it is noted"])
def test_what_began_on_lost_recordings_is_set_aside_once(folder, tmp_path, monkeypatch, undisturbed, killed):
    """Catches hours that are set aside again at every start, and a kill in between that loses or doubles something."""
    run, game = str(tmp_path / "run"), game_in(folder)
    fault(folder, "rnn_train", "round1", 3)
    start(game, run)
    begun = f"{run}/round1/tf_rnn/config.json"
    files.write_json(begun, "on recordings that differ in the last bits")
    os.remove(f"{run}/record/62003.npz")
    shutil.rmtree(f"{run}/round1/series")

    class Killed(BaseException):
        pass

    aside, save = runs.set_aside, State.save

    def dying(folder):
        if folder.endswith("tf_rnn"):
            if killed == "after":
                aside(folder)
            raise Killed
        aside(folder)

    def unsaved(self):
        if set_aside(f"{run}/round1", "tf_rnn"):
            raise Killed
        save(self)

    if killed:
        with monkeypatch.context() as patch:
            if killed == "as it is noted":
                patch.setattr(State, "save", unsaved)
            else:
                patch.setattr(runs, "set_aside", dying)
            with pytest.raises(Killed):
                start(game, run)
    fault(folder, "rnn_train", "round1", 3)
    commands(folder)
    assert refused(start(game, run), "rnn_train.py ended with code 3")
    again = os.stat(begun).st_mtime_ns
    assert files.read_json(f"{run}/iterate.json")["anew"] == []
    assert start(game, run)[0] == 0
    assert os.stat(begun).st_mtime_ns == again, "it continues"
    assert [len(set_aside(f"{run}/round1", name)) for name in ("series", "tf_rnn", "tf_vae")] == [0, 1, 0]
    assert lines_of(run) == undisturbed


def test_a_single_lost_recording_is_made_again(folder, tmp_path, undisturbed):
    """Catches a VAE that learns from fewer games than its run has: the summary alone proves nothing."""
    run, game = str(tmp_path / "run"), game_in(folder)
    fault(folder, "series", "round2", 3)
    start(game, run)
    commands(folder)
    os.remove(f"{run}/record/62003.npz")
    kept = os.stat(f"{run}/record/62002.npz")
    assert start(game, run)[0] == 0
    again = [("extract", "run", "62000", False), ("series", "round2", None, True)]
    assert played(commands(folder))[:2] == again
    assert os.path.samefile(f"{run}/round2/series", f"{run}/round1/series")
    assert os.stat(f"{run}/record/62002.npz").st_mtime_ns == kept.st_mtime_ns
    assert lines_of(run) == undisturbed


def test_games_that_were_too_short_are_not_missed(folder, tmp_path):
    """Catches games recorded again at every start, and hours of what began on them set aside, though none is lost."""
    run, game = str(tmp_path / "run"), game_in(folder)
    fault(folder, "series", "round1", 3)
    start(game, run)
    commands(folder)
    os.remove(f"{run}/record/62003.npz")
    files.write_json(f"{run}/record/62000.summary.json", {"kept": 5})
    assert start(game, run)[0] == 0
    assert played(commands(folder))[0] == ("series", "round1", None, False)


@pytest.mark.parametrize("damage", ["{", "[]", "{}", '{"kept": "all"}'])
def test_recordings_of_which_no_summary_can_be_read_are_made_again(folder, tmp_path, undisturbed, damage):
    """Catches a traceback at every start, and games that nobody knows to be all."""
    run, game = tmp_path / "run", game_in(folder)
    fault(folder, "series", "round1", 3)
    start(game, str(run))
    commands(folder)
    (run / "record" / "62000.summary.json").write_text(damage)
    assert start(game, str(run))[0] == 0
    assert played(commands(folder))[:2] == [("extract", "run", "62000", False), ("series", "round1", None, True)]
    assert lines_of(run) == undisturbed


def test_a_series_that_is_brought_back_too_late_is_made_again(folder, tmp_path):
    """Catches a series of lost games, used beside those that have been made in their place."""
    run, game = tmp_path / "run", game_in(folder)
    fault(folder, "rnn_train", "round1", 3)
    start(game, str(run))
    aside = shutil.move(run / "round1" / "series" / "series.npz", tmp_path)
    os.remove(run / "record" / "62004.npz")
    fault(folder, "extract", "run", 3)
    assert refused(start(game, str(run)), "extract.py")
    shutil.move(aside, run / "round1" / "series")
    commands(folder)
    assert start(game, str(run))[0] == 0
    again = [("extract", "run", "62000", False), ("series", "round1", None, True), ("rnn_train", "round1", None, True)]
    assert played(commands(folder))[:3] == again


def test_a_lost_series_is_encoded_again_in_the_round_that_had_encoded_it(folder, tmp_path):
    """Catches a series that never counts as made again, and what began on the lost one that goes on with another."""
    later = settings.Round(rnn={"steps": 2}, train={"generations": 1}, games=5)
    run, game = tmp_path / "run", game_in(folder, (FIRST, later))
    start(game, str(tmp_path / "whole"))
    fault(folder, "rnn_train", "round2", 3)
    start(game, str(run))
    commands(folder)
    shutil.rmtree(run / "round1" / "series")
    assert start(game, str(run))[0] == 0
    assert played(commands(folder))[:2] == [("series", "round1", None, False), ("rnn_train", "round2", None, True)]
    whole = files.read_json(tmp_path / "whole" / "iterate.json")
    assert files.read_json(run / "iterate.json")["done"].keys() == whole["done"].keys()
    assert lines_of(run) == lines_of(tmp_path / "whole")


@pytest.mark.parametrize("where", ["round", "preset"])
def test_a_lost_series_is_encoded_again_for_who_reads_it(folder, tmp_path, where):
    """Catches an evolution along recorded games that finds no series, and recordings made again that are there."""
    along = dataclasses.replace(FIRST, train={"starts": 3} if where == "round" else {})
    run, game = tmp_path / "run", game_in(folder, (along,))
    if where == "preset":
        game.config.TRAIN["small"] = settings.DreamTrain(starts=3)
    start(game, str(tmp_path / "whole"))
    fault(folder, "train", "round1", 3)
    start(game, str(run))
    commands(folder)
    shutil.rmtree(run / "round1" / "series")
    assert start(game, str(run))[0] == 0
    again = [("series", "round1", None, False), ("train", "round1", None, True)]
    assert played(commands(folder))[:2] == again
    assert lines_of(run) == lines_of(tmp_path / "whole")


def test_what_must_be_kept_is_named_if_it_is_gone(folder, tmp_path, undisturbed):
    """Catches a VAE trained anew under an MDN-RNN that knows another one; the very last result is made again."""
    run, game = tmp_path / "run", game_in(folder)
    fault(folder, "train", "round1", 3)
    start(game, str(run))
    aside = shutil.move(run / "round1" / "tf_vae", tmp_path / "aside")
    assert refused(start(game, str(run)), "round1/tf_vae/vae.json", "is gone")
    shutil.move(aside, run / "round1" / "tf_vae")
    os.remove(run / "round1" / "tf_rnn" / "rnn.json")
    commands(folder)
    assert start(game, str(run))[0] == 0
    assert [script for script, *_ in commands(folder)][:2] == ["rnn_train", "train"]
    assert lines_of(run) == undisturbed


@pytest.mark.parametrize("count", [0, 2])
def test_a_training_has_one_log(folder, tmp_path, count):
    """Catches a controller of another search in the same folder, taken for that of the round."""
    run, game = tmp_path / "run", game_in(folder)
    fault(folder, "pick_best", "round1", 3)
    start(game, str(run))
    commands(folder)
    log = run / "round1" / "log" / "stub.cma.1.4.log.json"
    if count:
        shutil.copy(log, log.with_name("stub.openes.1.4.log.json"))
    else:
        log.unlink()
    assert refused(start(game, str(run)), f"holds {count} files *.log.json, not one")
    assert commands(folder) == []


def test_a_round_may_begin_anew(folder, tmp_path):
    """Catches a stage that goes on from the round before though its flags say that it starts from random weights."""
    anew = dataclasses.replace(SECOND, more_rnns=0, **{name: {"start_from": ""} for name in ("vae", "rnn", "train")})
    assert start(game_in(folder, (FIRST, anew)), str(tmp_path / "run"))[0] == 0
    second = [words for words in commands(folder) if str(tmp_path / "run" / "round2") in words]
    starts = {script: words[words.index("--start_from") + 1] for script, *words in second if "--start_from" in words}
    assert starts == dict.fromkeys(("vae_train", "rnn_train", "train"), "")


def test_a_file_of_that_name_where_the_user_is_does_not_come_in_between(folder, tmp_path, monkeypatch):
    """Catches a stage that starts from a model of another run, because stages look in the current folder first."""
    game = game_in(folder)
    for seed, name in ((4, "other"), (3, "run")):
        os.makedirs(tmp_path / name / "here", exist_ok=seed == 3)
        monkeypatch.chdir(tmp_path / "other" / "here")
        commands(folder)
        assert start(game, str(tmp_path / name), seed=seed)[0] == 0
    starts = [words[words.index("--start_from") + 1] for _, *words in commands(folder) if "--start_from" in words]
    assert starts[0] == str(tmp_path / "run" / "round1" / "tf_rnn" / "rnn.json")


@pytest.fixture
def root(folder, tmp_path):
    """What stands for the root of the repository."""
    os.makedirs(tmp_path / "root" / "log")
    return tmp_path / "root"


def test_ship_copies_the_best_round_with_its_metas(folder, root, tmp_path):
    """Catches the last round shipped for the best, a set that is not this preset's, and a meta left behind."""
    run, game = tmp_path / "run", game_in(folder)
    start(game, str(run))
    lines = files.read_json(run / "rounds.json")
    best = max(lines, key=lambda line: line["real"]["mean"])["round"]
    for ships, controller, place, target in ((0, "", "first", "log/stub.best.json"), (1, "log/b.json", "second", "")):
        game.config.ITERATE["small"] = dataclasses.replace(
            game.config.ITERATE["small"], ships=ships, controller=controller
        )
        for number in (best, 3 - best):
            changed = [line | {"real": line["real"] | {"mean": float(line["round"] == number)}} for line in lines]
            files.write_json(str(run / "rounds.json"), changed)
            code, out, _ = call(game, "--ship", run)
            assert code == 0
            assert f"round {number}" in out
            shipped = root / (target or controller)
            assert files.sha256(shipped) == lines[number - 1]["controller"]
            provenance.read(str(shipped), "controller", "stub")
            for name in stages.MODELS:
                made = provenance.read(os.path.join(folder, place, f"{name}.json"), name, "stub")
                assert made["sha256"] == files.sha256(run / f"round{number}" / stages.MODELS[name])
            assert files.read_json(root / "log" / "stub.small.3.rounds.json") == changed


def test_ship_refuses_what_does_not_prove_itself(folder, root, tmp_path):
    """Catches an agent that ships half made, of another game, edited, from unverified files, or on other models."""
    run, game = tmp_path / "run", game_in(folder, (FIRST,))
    assert refused(call(game, "--ship", run), "not a run of iterate.py with a round that is done")
    start(game, str(run))
    before = everything(folder)
    log, models = run / "round1" / "log" / "stub.cma.1.4.picked.json", run / "round1"
    assert refused(call(game_in(folder, GAME="another"), "--ship", run), "of stub, not of another")
    state = files.read_json(run / "iterate.json")
    files.write_json(str(run / "iterate.json"), state | {"rounds": [*state["rounds"], {}]})
    assert refused(call(game, "--ship", run), "1 of 2 rounds are done")
    files.write_json(str(run / "iterate.json"), state | {"preset": "gone"})
    assert refused(call(game, "--ship", run), "preset gone")
    for damaged in ({}, [], {"game": "stub"}):
        files.write_json(str(run / "iterate.json"), damaged)
        assert refused(call(game, "--ship", run), "not a run of iterate.py with a round that is done")
    files.write_json(str(run / "iterate.json"), state)
    meta = files.read_json(str(log) + provenance.ENDING)
    meta.pop(provenance.SEAL)
    for path, change, word in (
        (log, {"unverified": True}, "not verified"),
        (log, {"parents": meta["parents"] | {"rnn": "0" * 64}}, "evolved on another rnn"),
        (models / stages.MODELS["vae"], {"sha256": "0" * 64}, "is not the file"),
    ):
        own = files.read_json(str(path) + provenance.ENDING)
        own.pop(provenance.SEAL)
        provenance.save(str(path), own | change)
        assert refused(call(game, "--ship", run), word)
        provenance.save(str(path), own)
    log.write_text("edited")
    assert refused(call(game, "--ship", run), "is not the file")
    assert everything(folder) == before
    assert os.listdir(root) == ["log"]
    assert os.listdir(root / "log") == []


def test_one_of_run_and_ship(folder, tmp_path):
    """Catches a run that is shipped before it is played."""
    words = "--run", "--ship", "--log"
    for given in ((), words[:2], words[1:]):
        done = call(game_in(folder), *(part for word in given for part in (word, tmp_path / "a")))
        assert refused(done, "give one of --run DIR, --ship DIR and --log DIR")
    for word in words[1:]:
        assert refused(call(game_in(folder), word, tmp_path / "a"), f"{word} {tmp_path / 'a'}: not a run of iterate.py")
    assert os.listdir(tmp_path) == ["game"]


@pytest.mark.parametrize("words", [("--preset", "small"), ("--seed", 1), ("--edited",)])
def test_what_ships_has_its_preset_and_seed(folder, tmp_path, words):
    """Catches the agent of one preset shipped where another one was asked for."""
    done = call(game_in(folder), "--ship", tmp_path / "none", *words)
    assert refused(done, f"{words[0]}: goes with --run DIR, not with --ship or --log")


@pytest.mark.parametrize("script", stages.SCRIPTS)
def test_a_script_that_a_later_stage_needs_is_missed_at_the_start(folder, tmp_path, script):
    """Catches a whole round trained in vain, because the game has not all of its scripts."""
    game = game_in(folder)
    os.remove(os.path.join(folder, f"{script}.py"))
    assert refused(start(game, str(tmp_path / "run")), f"has no {script}.py", "docs/new_game.md")
    assert commands(folder) == []


@pytest.mark.parametrize("change", [{"random": 0}, {"own": 1}, {"vae": None}, {"rnn": None}, {"train": None}])
def test_a_first_round_begins_from_nothing(folder, tmp_path, change):
    """Catches a link to the models of no round, which a stage finds missing after an hour of recording."""
    rounds = dataclasses.replace(FIRST, **change), SECOND
    assert refused(start(game_in(folder, rounds), tmp_path / "run"), "first round")
    assert commands(folder) == []


@pytest.mark.parametrize(
    ("number", "change", "said"),
    [
        (1, {"record": {"max_frame": 9}}, "round 1, extract.py: unrecognized arguments: --max_frame 9"),
        (1, {"vae": {"steps": "many"}}, "round 1, vae_train.py: argument --steps"),
        (1, {"rnn": {"step": 9}}, "round 1, rnn_train.py: unrecognized arguments: --step 9"),
        (2, {"rnn": {"steps": 0}}, "round 2, rnn_train.py: argument --steps"),
        (2, {"more": {"rate": 1}}, "round 2, rnn_train.py: unrecognized arguments: --rate 1"),
        (2, {"train": {"o": "cmaes"}}, "round 2, train.py: argument"),
        (2, {"train": {"o": "ppo"}}, "-o ppo: Stub has no PPO"),
        (2, {"train": {"world": "game"}}, "--world game"),
        (2, {"also": ({}, {"o": "cmaes"})}, "round 2, train.py: argument"),
        (2, {"also": ({},), "train": None, "rnn": None, "more_rnns": 0}, "round 2 has also but no train"),
        (2, {"train": {"n": 1, "t": 2}}, "round 2, train.py: -n 1 -t 2: CMA-ES needs at least 3"),
        (2, {"train": {"o": "ppo", "world": "game"}, "more_rnns": 1}, "has no PPO_GAME"),
        (1, {"vae": {"gan": True, "rare_pixels": 1.0}}, "round 1, vae_train.py: --rare_pixels weighs"),
        (1, {"rnn": {"mirror": True}}, "round 1, rnn_train.py: --mirror: series.py encodes no mirror images"),
        (2, {"more": {"mirror": True}}, "round 2, rnn_train.py: --mirror: series.py encodes no mirror images"),
        (1, {"rnn": {"output": "gaussian", "mixtures": 3}}, "round 1, rnn_train.py: --output gaussian is one normal"),
        (2, {"rnn": {"output": "gaussian"}, "more": {"mixtures": 3}}, "round 2, rnn_train.py: --output gaussian is"),
        (2, {"vae": {}, "rnn": None}, "round 2 has a new vae but no rnn"),
        (2, {"train": None}, "round 2 has new models but no train"),
        (2, {"train": {"num_episode": 2}}, "round 2, train.py: --also_in: 3 MDN-RNNs need as many episodes"),
        (2, {"explore": 1.0}, "round 2, extract.py: argument --explore"),
        (2, {"own_share": 1.5}, "round 2, rnn_train.py: argument --newest_share"),
        (2, {"record": {"policy": "nobody"}}, "round 2, extract.py: --policy nobody"),
        (1, {"rnn": {"validation_episodes": 6}}, "round 1, rnn_train.py: --validation_episodes 6: these leave none of"),
        (2, {"rnn": {"validation_episodes": 16}}, "--validation_episodes 16: these leave none of the 16 games"),
        (2, {"own": -1}, "round 2 has own=-1; give a whole number"),
        (2, {"random": -1}, "round 2 has random=-1; give a whole number"),
        (2, {"more_rnns": 1.5}, "round 2 has more_rnns=1.5; give a whole number"),
        (1, {"games": 0}, "round 1 has games=0; give 1 to 3333"),
        (2, {"games": 3334}, "round 2 has games=3334; give 1 to 3333"),
        (2, {"own": 29_993}, "its rounds record 30001 games; 30000 at most"),
        (0, {"backend": "envpol"}, "has backend='envpol'; give one of fast, slow"),
        (0, {"linear": {"starts": 3000}}, "linear, train.py: --starts 3000: its dreams start at first frames only"),
        (0, {"linear": {"popsize": 8}}, "linear, train.py: unrecognized arguments: --popsize 8"),
    ],
)
def test_a_flag_that_a_stage_refuses_is_known_before_round_1(folder, tmp_path, number, change, said):
    """Catches a run of hours that ends at a typo in config.py, and a refusal that leaves a folder."""
    rounds = [FIRST, SECOND]
    if number:
        rounds[number - 1] = dataclasses.replace(rounds[number - 1], **change)
        change = {}
    preset = dataclasses.replace(TWO, rounds=tuple(rounds), **change)
    assert refused(start(game_in(folder, ITERATE={"small": preset}), tmp_path / "run"), said)
    assert commands(folder) == []
    assert not os.path.exists(tmp_path / "run")


@pytest.mark.parametrize("heads", [False, True])
def test_a_dream_that_has_nothing_to_teach_is_known_before_round_1(folder, tmp_path, heads):
    """Catches hours of recording and training before train.py says that the MDN-RNN expects no reward."""
    first = dataclasses.replace(FIRST, rnn={"steps": 4, "heads": heads})
    game = game_in(folder, (first,), DREAM_REWARD=0.0)
    done = start(game, tmp_path / "run")
    said = "round 1, train.py: --world dream: its MDN-RNN expects no reward"
    assert done[0] == 0 if heads else refused(done, said)
    assert bool(commands(folder)) == heads


def test_a_linear_controller_that_would_start_along_games_by_its_preset_is_refused(folder, tmp_path):
    """Catches a series that is missed after all rounds, at every start; a round may start along its own."""
    game = game_in(folder, (FIRST,))
    game.config.TRAIN["small"] = settings.DreamTrain(starts=3)
    game.config.ITERATE["small"] = dataclasses.replace(TWO, rounds=(FIRST,), linear={"generations": 3})
    assert refused(start(game, tmp_path / "run"), "linear, train.py: --starts 3", "give it starts=0")
    game.config.ITERATE["small"] = dataclasses.replace(TWO, rounds=(FIRST,), linear={"starts": 0})
    assert start(game, tmp_path / "run")[0] == 0


def test_images_are_mirrored_where_their_series_is(folder, tmp_path):
    """Catches --mirror that is refused though series.py encodes mirror images, and one that no stage is given."""
    mirrored = {"rnn": {"mirror": True}, "more_rnns": 0, "more": {}}
    game = game_in(folder, (dataclasses.replace(FIRST, **mirrored), dataclasses.replace(SECOND, **mirrored)))
    game.config.SERIES["small"] = settings.Series(mirror=True)
    assert start(game, tmp_path / "run")[0] == 0
    plain = game_in(folder, (dataclasses.replace(FIRST, rnn={"mirror": False}),))
    plain.config.RNN["small"] = settings.RestartRnn(mirror=True, validation_episodes=4)
    assert start(plain, tmp_path / "plain")[0] == 0
    plain = game_in(folder, (FIRST,))
    plain.config.RNN["small"] = settings.RestartRnn(mirror=True, validation_episodes=4)
    assert refused(start(plain, tmp_path / "other"), "round 1, rnn_train.py: --mirror")


def test_flags_are_checked_as_a_round_gives_them(folder, tmp_path):
    """Catches a tether that is refused because its round names no controller, and starts at that of the round before.

    In round 1, or where the round begins anew, there is none to be held to.
    """
    tied, ppo = dataclasses.replace(SECOND, more_rnns=0, train={"o": "ppo", "tether": 0.1}), settings.Ppo()

    def started(name, *rounds):
        game = game_in(folder, rounds, PPO=dict.fromkeys(PRESETS, ppo), MAX_STEPS=100)
        return start(game, str(tmp_path / name))

    assert started("tied", FIRST, tied)[0] == 0
    assert "--start_from" in [words for words in commands(folder) if words[0] == "train"][-1]
    says = "train.py: --tether 0.1: holds the policy to that of --start_from"
    assert refused(started("first", dataclasses.replace(FIRST, train=tied.train)), "round 1", says)
    anew = dataclasses.replace(tied, train=tied.train | {"start_from": ""})
    assert refused(started("anew", FIRST, anew), "round 2", says)
    three = dataclasses.replace(SECOND, train={"o": "ppo"})
    assert refused(started("three", FIRST, three), "round 2, train.py: --rows 1024: do not divide among 3 MDN-RNNs")
    assert commands(folder) == []


def test_the_rounds_of_every_game_are_what_their_stages_take(tmp_path):
    """Catches the same typo in the presets that are here."""
    for name in games_here.names():
        game = games_here.find(name)
        for preset, cfg in getattr(game.config, "ITERATE", {}).items():
            run = str(tmp_path / name / preset)
            os.makedirs(run)
            iterate.Iteration(game, run, preset, 1, dataclasses.replace(cfg, mb_per_episode=0.0))
