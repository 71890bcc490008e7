"""iterate.py --ship: which round ships, and to where. No stage is run here."""

import dataclasses
import json
import os

import pytest

from common.runtime import files, provenance, settings
from common.runtime.cli import UserError
from common.training import ship

import toy


@pytest.fixture
def game(tmp_path, monkeypatch):
    """The toy, with two sets of weights that ship and a preset that ships the second."""
    (tmp_path / "toy").mkdir()
    made = toy.game_in(str(tmp_path / "toy"))
    rounds = tuple(settings.Round(own=k and 2, rnn={}, train={}) for k in range(3))
    made.config.ITERATE = {
        "laptop": settings.Iterate(rounds, 0.1),
        "dream": settings.Iterate(rounds, 0.1, backend="fast", ships=1, controller="log/toy.dream.best.json"),
    }
    monkeypatch.setattr(ship, "ROOT", str(tmp_path))
    return made


def finished_run(game, tmp_path, preset, means, linear_in=0, stderr=1.0, told=""):
    """A run of rounds with these validation scores; every file of it says its kind and its round.

    `told` is how the stages were told its folder.
    """
    run = tmp_path / "run"
    state = {"game": "toy", "preset": preset, "seed": 3, "rounds": [{}] * len(means), "done": {}, "seconds": {}}
    lines = []
    for number, mean in enumerate(means, 1):
        folder, controller = run / f"round{number}", f"round{number}/log/c.best.json"
        paths = toy.in_run(game, str(folder)) | {"controller": str(run / controller)}
        if number == linear_in:
            paths["linear"] = str(folder / "linear" / "log" / "c.best.json")
            state["done"][f"{number}/linear_agent"] = {"controller": os.path.relpath(paths["linear"], run)}
        for name, path in paths.items():
            files.write_json(path, [name, number])
            evolved = name in ("controller", "linear")
            made_on = {other: files.sha256(paths[other]) for other in game.config.TRAINED if evolved}
            kind = "controller" if evolved else name
            provenance.write(path, kind, "toy", settings.Rnn(), made_on, 1.0, unverified=False)
            meta = files.read_json(path + provenance.ENDING)
            del meta[provenance.SEAL]
            provenance.save(path, meta | {"command": ["train.py", "--run", f"{told or run}/round{number}"]})
        state["done"][f"{number}/agent"] = {"controller": controller}
        curves = ["tf_vae/metrics.jsonl", "tf_rnn/metrics.jsonl"]
        curves += [f"{place}log/{name}" for place in ("", "linear/") for name in ("c.hist.json", "c.hist_best.json")]
        for name in curves:
            files.write_json(str(folder / name), [name, number])
        line = {"round": number, "real": {"mean": mean, "stderr": stderr if number == 1 else 1.0}}
        line["fidelity"] = {"controller": str(run / controller)}
        line["controller"] = files.sha256(paths["controller"])
        linear = {"linear": {"controller": files.sha256(paths["linear"])}} if number == linear_in else {}
        lines.append(line | linear)
    files.write_json(str(run / "iterate.json"), state)
    files.write_json(str(run / "rounds.json"), lines)
    return str(run)


@pytest.mark.parametrize(
    ("preset", "place", "controller"),
    [("laptop", "first", "log/toy.cma.1.4.best.json"), ("dream", "second", "log/toy.dream.best.json")],
)
def test_the_best_round_ships_to_the_place_of_its_preset(game, tmp_path, preset, place, controller):
    """Catches the last round shipped where an earlier one plays better, and one preset's agent over another's."""
    ship.ship(game, finished_run(game, tmp_path, preset, [5.0, 9.0, 7.0]))
    for name in ("vae", "rnn", "initial_z"):
        path = str(tmp_path / "toy" / place / f"{name}.json")
        assert files.read_json(path) == [name, 2]
        provenance.read(path, name, "toy")
    assert files.read_json(str(tmp_path / controller)) == ["controller", 2]
    assert not (tmp_path / "toy" / {"first": "second", "second": "first"}[place]).exists()
    assert (tmp_path / "log" / f"toy.{preset}.3.rounds.json").exists()
    curves = sorted(path.name for path in (tmp_path / "log").glob("*.metrics.jsonl"))
    assert curves == [f"toy{'.dream' * (preset == 'dream')}.{name}.metrics.jsonl" for name in ("rnn", "vae")]


def test_the_curves_are_those_of_the_training_that_the_game_chose(game, tmp_path):
    """Catches the curve of the first training beside the controller of another one."""
    run = finished_run(game, tmp_path, "laptop", [5.0, 9.0, 7.0])
    path, other = f"{run}/round2/log/c.best.json", f"{run}/round2/train2/log/c."
    for name in ("log.json", "hist.json"):
        files.write_json(other + name, ["of the second training"])
    meta = files.read_json(path + provenance.ENDING)
    del meta[provenance.SEAL]
    meta["parents"]["evolution"] = files.sha256(other + "log.json")
    provenance.save(path, meta)
    ship.ship(game, run)
    assert files.read_json(str(tmp_path / "log" / "toy.cma.1.4.hist.json")) == ["of the second training"]


def test_a_run_is_nameless_however_its_stages_were_told_its_folder(game, tmp_path):
    """Catches paths of one machine in what ships, where --ship names the run in other words than its command did."""
    ship.ship(game, finished_run(game, tmp_path, "laptop", [5.0, 9.0, 7.0], told="../runs/mine"))
    metas = files.read_json(str(tmp_path / "log" / "toy.laptop.3.metas.json"))
    metas.append(files.read_json(str(tmp_path / game.config.SHIPPED_CONTROLLER) + provenance.ENDING))
    assert {meta["command"][2].rstrip("0123456789") for meta in metas} == {"RUN/round"}


def test_a_mean_of_few_games_does_not_ship(game, tmp_path):
    """Catches a round that is chosen because a few of its games went well."""
    ship.ship(game, finished_run(game, tmp_path, "laptop", [9.0, 8.0, 7.0], stderr=3.0))
    assert files.read_json(str(tmp_path / game.config.SHIPPED_CONTROLLER)) == ["controller", 2]


def test_the_linear_controller_and_the_metas_of_the_whole_run_ship_too(game, tmp_path):
    """Catches an agent that cannot be followed back to its first recordings, and a linear one that is left behind."""
    run = finished_run(game, tmp_path, "laptop", [5.0, 9.0, 7.0], linear_in=2)
    ship.ship(game, run)
    linear = tmp_path / "log" / "toy.cma.1.4.linear.best.json"
    assert files.read_json(str(linear)) == ["linear", 2]
    provenance.read(str(linear), "controller", "toy")
    metas = files.read_json(str(tmp_path / "log" / "toy.laptop.3.metas.json"))
    made = {files.sha256(str(path)) for path in tmp_path.rglob("run/**/*.json") if path.name != "iterate.json"}
    assert {meta["sha256"] for meta in metas} <= made
    assert len(metas) == 3 * 4 + 1
    shipped = [path.read_text() for path in tmp_path.rglob("*.meta.json") if "run" not in path.parts]
    assert len(shipped) == 5
    for text in (*shipped, json.dumps(metas), (tmp_path / "log" / "toy.laptop.3.rounds.json").read_text()):
        assert str(tmp_path) not in text, "a place on the machine of the run"
        assert "RUN/round2" in text
    for name in ("vae", "rnn"):
        curve = files.read_json(str(tmp_path / "log" / f"toy.{name}.metrics.jsonl"))
        assert curve == [f"tf_{name}/metrics.jsonl", 2]
    for place, name in (("", "toy.cma.1.4"), ("linear/", "toy.cma.1.4.linear")):  # as their controllers, and no other's
        assert files.read_json(str(tmp_path / "log" / f"{name}.hist.json")) == [f"{place}log/c.hist.json", 2]


def test_a_preset_that_names_no_set_of_weights_does_not_ship(game, tmp_path):
    """Catches a traceback for a set beyond those of config.py."""
    game.config.ITERATE["laptop"] = dataclasses.replace(game.config.ITERATE["laptop"], ships=2)
    with pytest.raises(UserError, match="does not say where an agent of the preset laptop ships"):
        ship.ship(game, finished_run(game, tmp_path, "laptop", [5.0, 9.0]))
    assert not (tmp_path / "log").exists()


def test_a_run_beside_it_keeps_its_name():
    """Catches a file of run12 that is told as one of run1."""
    assert ship._placeless(["/a/run", "/a/run/x", "/a/run2/x"], ["/a/run"]) == ["RUN", "RUN/x", "/a/run2/x"]


def test_an_unfinished_run_does_not_ship(game, tmp_path):
    """Catches a run that is shipped before it could be chosen among all its rounds."""
    run = finished_run(game, tmp_path, "dream", [5.0, 9.0])
    state = files.read_json(os.path.join(run, "iterate.json"))
    files.write_json(os.path.join(run, "iterate.json"), state | {"rounds": [{}] * 3})
    with pytest.raises(UserError, match="2 of 3 rounds are done"):
        ship.ship(game, run)


def test_a_run_that_does_not_ship_can_be_followed_back_too(game, tmp_path, capsys):
    """Catches a run of which only the score is known, and a log that ships its agent."""
    run = finished_run(game, tmp_path, "laptop", [5.0, 9.0, 7.0], linear_in=2)
    before = {path.name for path in (tmp_path / "log").glob("*")} if (tmp_path / "log").exists() else set()
    ship.log(game, run)
    assert {path.name for path in (tmp_path / "log").glob("*")} - before == {
        "toy.laptop.3.metas.json", "toy.laptop.3.rounds.json"
    }  # fmt: skip
    assert "toy.laptop.3.rounds.json: written" in capsys.readouterr().out
    told = [(tmp_path / "log" / f"toy.laptop.3.{name}.json").read_text() for name in ("metas", "rounds")]
    ship.ship(game, run)
    assert told == [(tmp_path / "log" / f"toy.laptop.3.{name}.json").read_text() for name in ("metas", "rounds")]
    os.unlink(os.path.join(run, "rounds.json"))
    with pytest.raises(UserError, match=r"--log .*: not a run of iterate.py with a round that is done"):
        ship.log(game, run)


@pytest.mark.parametrize("tell", [ship.ship, ship.log])
def test_scores_in_test_games_come_along_if_they_are_of_the_agent(game, tmp_path, tell):
    """Catches scores of another round under the name of the agent, or with a place on the machine of the run."""
    run = finished_run(game, tmp_path, "laptop", [5.0, 9.0, 7.0])
    best, other = (os.path.join(run, f"round{number}", "log", "c.best.json") for number in (2, 3))
    scores = {"command": ["model.py", best], "mean": 7.0, "controller": {"sha256": files.sha256(best)}}
    scores |= {"episodes": [{"seed": 1000}]}
    files.write_json(os.path.join(run, ship.TESTED), scores | {"controller": {"sha256": files.sha256(other)}})
    with pytest.raises(UserError, match="holds no scores of"):
        tell(game, run)
    assert not (tmp_path / "log").exists()
    files.write_json(os.path.join(run, ship.TESTED), scores | {"episodes": [{"seed": 1000}, {"seed": 430_000}]})
    with pytest.raises(UserError, match="was not played with test seeds"):
        tell(game, run)
    assert not (tmp_path / "log").exists()
    files.write_json(os.path.join(run, ship.TESTED), scores)
    tell(game, run)
    told = files.read_json(str(tmp_path / "log" / "toy.laptop.3.scores.json"))
    assert told == scores | {"command": ["model.py", "RUN/round2/log/c.best.json"]}


@pytest.mark.parametrize("tell", [ship.ship, ship.log])
@pytest.mark.parametrize("damaged", ["test.json", "round1/tf_vae/vae.json.meta.json"])
def test_a_damaged_file_of_the_run_is_named_before_anything_is_replaced(game, tmp_path, tell, damaged):
    """Catches weights that ship without their metas, and a traceback."""
    run = finished_run(game, tmp_path, "laptop", [5.0, 9.0, 7.0])
    with open(os.path.join(run, damaged), "w") as file:
        file.write("{")
    with pytest.raises(UserError, match=damaged):
        tell(game, run)
    assert not (tmp_path / "log").exists()
    assert not (tmp_path / "toy" / "first").exists()


@pytest.mark.parametrize("tell", [ship.ship, ship.log])
@pytest.mark.parametrize("before", ["{", "[1]", '{"controller": {"sha256": "of another"}}'])
def test_a_run_without_scores_leaves_none_that_are_not_its_own(game, tmp_path, capsys, tell, before):
    """Catches the scores of another agent beside the new rounds, and a traceback where the older file is damaged."""
    run = finished_run(game, tmp_path, "laptop", [5.0, 9.0, 7.0])
    older = tmp_path / "log" / "toy.laptop.3.scores.json"
    older.parent.mkdir()
    older.write_text(before)
    tell(game, run)
    assert not older.exists()
    assert "toy.laptop.3.scores.json: removed" in capsys.readouterr().out
    own = {"controller": {"sha256": files.sha256(os.path.join(run, "round2", "log", "c.best.json"))}}
    files.write_json(str(older), own)
    tell(game, run)
    assert files.read_json(str(older)) == own


def test_of_equal_rounds_the_last_ships(game, tmp_path):
    """Catches an earlier one, in which the world was learned from fewer games."""
    ship.ship(game, finished_run(game, tmp_path, "laptop", [5.0, 9.0, 9.0]))
    assert files.read_json(str(tmp_path / game.config.SHIPPED_CONTROLLER)) == ["controller", 3]


def test_a_run_does_not_ship_without_its_linear_controller(game, tmp_path):
    """Catches a run that is shipped before the linear controller of its preset is evolved."""
    game.config.ITERATE["laptop"] = dataclasses.replace(game.config.ITERATE["laptop"], linear={})
    with pytest.raises(UserError, match="its linear controller is not evolved"):
        ship.ship(game, finished_run(game, tmp_path, "laptop", [5.0, 9.0, 7.0], linear_in=1))
    assert not (tmp_path / "log").exists()


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"parents": {"vae": "0" * 64}}, "was evolved on another vae"),
        ({"unverified": True}, "was made from files that were not verified"),
        ({}, "is not the controller that rounds.json tells the score of"),
    ],
)
def test_the_linear_controller_proves_itself_as_well(game, tmp_path, change, says):
    """Catches a linear controller on other models than ship, of unknown origin, or of which there is no score."""
    run = finished_run(game, tmp_path, "laptop", [5.0, 9.0, 7.0], linear_in=2)
    path = os.path.join(run, "round2", "linear", "log", "c.best.json")
    meta = provenance.read(path, "controller", "toy")
    if not change:
        files.write_json(path, ["linear", "evolved again"])
        change = {"sha256": files.sha256(path)}
    provenance.save(path, meta | change)
    with pytest.raises(UserError, match=says):
        ship.ship(game, run)
    assert not (tmp_path / "log").exists()


def test_only_the_controller_that_was_scored_ships(game, tmp_path):
    """Catches another search in the folder of the best round, shipped under the score of the one before."""
    run = finished_run(game, tmp_path, "laptop", [5.0, 9.0, 7.0])
    path = os.path.join(run, "round2", "log", "c.best.json")
    meta = provenance.read(path, "controller", "toy")
    files.write_json(path, ["controller", "evolved again"])
    provenance.write(path, "controller", "toy", settings.Rnn(), meta["parents"], 1.0, unverified=False)
    with pytest.raises(UserError, match=r"c\.best\.json is not the controller that rounds\.json tells the score of"):
        ship.ship(game, run)
    assert not (tmp_path / "log").exists()


def test_rounds_are_compared_with_those_of_the_same_backend():
    """Catches the best of two implementations of a game, in one of which all agents score higher."""
    lines = [
        {"round": number, "real": {"mean": mean, "stderr": 1.0, "backend": backend}}
        for number, (mean, backend) in enumerate([(850, "envpool"), (820, "gymnasium"), (810, "gymnasium")], 1)
    ]
    assert ship.best_of(lines)["round"] == 2
    assert ship.best_of(lines[:1])["round"] == 1
