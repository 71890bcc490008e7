"""What ships proves where it came from, and nothing is loaded that does not: every command refuses in one line."""

import contextlib
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import types

import commands
import numpy as np
import pytest
from commands import GAMES, call, in_this_process  # noqa: F401

from common import game as games_here
from common.agent import models, planet, planner, rssm
from common.data import recordings
from common.play import agents, fidelity, play, record, select, video
from common.runtime import files, provenance
from common.runtime.files import ROOT
from common.studio import session
from common.training import evolve, ship, trainers, vae_and_rnn
from common.training import planet as planet_training

META = provenance.ENDING
WORLD = {"doomrnn": ["doomreal"], "carracing": []}
SCRIPTS = {"model": play.main, "extract": record.main, "train": evolve.main, "dream_model": play.watch_dream}
TEXT = ("Makefile", ".bash", ".cff", ".ipynb", ".js", ".mjs", ".html", ".md", ".py", ".toml", ".yml", "run")
SCRIPTS |= {"fidelity": fidelity.main}


def tracked():
    """The files of the repository, from its root."""
    done = subprocess.run(["git", "-C", ROOT, "ls-files"], capture_output=True, text=True, check=True)
    return [name for name in done.stdout.splitlines() if os.path.exists(os.path.join(ROOT, name))]


# --- the chain of what ships ---


def shipped():
    """(game, path from the root, kind) of all that ships, of every game that is in the repository."""
    for name in games_here.names():
        game = games_here.find(name)
        for path, kind in commands.shipped_files(game).items():
            yield game, path, kind


def hashes_in(parents):
    """[(what, text)] of the leaves of `parents` that name a file, at whatever depth."""
    for what, value in parents.items():
        for one in value if isinstance(value, list) else [value]:
            if isinstance(one, dict):
                yield from hashes_in(one.get("parents") or {})
            else:
                yield what, one


def missing_parents(meta, known):
    """What a meta was made from that neither `known` hashes nor its own `by_hand` tell of."""
    said = " ".join(meta.get("by_hand", []))
    parents = [(what, one) for what, one in hashes_in(meta["parents"]) if isinstance(one, str)]
    return [
        (what, one)
        for what, one in parents
        if not one.startswith("gone") and one not in known and not (len(one) == 64 and one[:12] in said)
    ]


def test_everything_that_ships_has_a_meta_of_its_own_and_no_parent_is_missing():
    """Catches a shipped file without its meta, edited since, made from something unverified, or without its parents."""
    metas = {name: files.read_json(os.path.join(ROOT, name)) for name in tracked() if name.endswith(META)}
    runs = [
        meta for name in tracked() if name.endswith(".metas.json") for meta in files.read_json(os.path.join(ROOT, name))
    ]
    known, seen = {meta["sha256"] for meta in [*metas.values(), *runs]}, 0
    for game, path, kind in shipped():
        meta = provenance.read(os.path.join(ROOT, path), kind, game.name)
        assert not meta.get("unverified"), path
        assert missing_parents(meta, known) == [], path
        seen += 1
    assert seen >= 8
    for name, meta in metas.items():  # those beside their files too that no game names
        if os.path.exists(path := os.path.join(ROOT, name.removesuffix(META))):
            assert provenance.read(path, meta["kind"], meta["game"]) == {
                key: value for key, value in meta.items() if key != provenance.SEAL
            }
            assert missing_parents(meta, known) == [], name
    for meta in runs:  # of files that do not ship, but were made on the way to those that do
        assert not meta.get("unverified")
        assert missing_parents(meta, known) == [], meta["command"]


def test_the_walk_sees_a_parent_that_is_missing():
    """Catches a walk that finds nothing missing whatever there is."""
    parent, other = "a" * 64, "b" * 64
    recorded = {"recordings": [{"policy": "held", "parents": {"controller": other}}]}
    meta = {"parents": {"vae": parent, "also_in": [other], **recorded}, "by_hand": [f"{parent[:12]} is gone"]}
    assert missing_parents(meta, set()) == [("also_in", other), ("controller", other)]
    assert missing_parents(meta, {other}) == []


@pytest.mark.parametrize("name", GAMES)
def test_the_shipped_sets_fit_each_other(name):
    """Catches a set of which one file was replaced: every one must be made on the VAE beside it."""
    game = GAMES[name]
    for paths in models.sets(game, "/nowhere"):
        vae_sha = files.sha256(paths["vae"])
        for kind in ("rnn", "initial_z"):
            assert provenance.read(paths[kind], kind, name)["parents"]["vae"] == vae_sha


# --- a byte of what ships, or of a meta ---


@pytest.fixture(scope="module", params=GAMES)
def shipped_copy(request, tmp_path_factory):
    """(game, root): a game that has copies of all that ships."""
    root = tmp_path_factory.mktemp("root")
    return commands.copy_of(GAMES[request.param], root), root


@pytest.fixture
def at_root(shipped_copy, monkeypatch):
    """(game, root), restored after the test."""
    game, root = shipped_copy
    monkeypatch.setattr(agents, "ROOT", str(root))
    monkeypatch.chdir(root)
    before = {path: path.read_bytes() for path in root.rglob("*.json")}
    yield game, root
    for path, data in before.items():
        if path.read_bytes() != data:
            path.write_bytes(data)


class Played(list):
    """Stands for play.measure, and notes what was to be played."""

    def __call__(self, make_world, make_policy, seeds, rows=32):
        self.append(np.array(seeds))
        return np.arange(len(seeds), dtype=float), np.ones(len(seeds), int)


@pytest.fixture
def played(monkeypatch):
    """A spy in place of playing."""
    spy = Played()
    monkeypatch.setattr(play, "measure", spy)
    return spy


@pytest.mark.parametrize("ending", ["", META])
@pytest.mark.parametrize("kind", ["vae", "rnn", "initial_z", "controller"])
def test_one_byte_of_what_ships(at_root, played, tmp_path, kind, ending):
    """Catches a shipped file that plays although it, or its meta, was edited."""
    game, root = at_root
    path = next(path for path, of in commands.shipped_files(game).items() if of == kind) + ending
    commands.edit(root / path)
    out = tmp_path / "scores.json"
    words = [*WORLD[game.name], "norender", game.config.SHIPPED_CONTROLLER, 1000, "--episodes", 2, "--out", out]
    done = call(play.main, game, *words)
    assert done.refused(), done
    assert not played
    assert not out.exists()
    done = call(play.main, game, *words, "--unverified")
    assert done.code == 0, done.err
    assert len(played) == 1
    assert "unverified: " in done.err
    assert json.loads(out.read_text())["unverified"] is True


def test_any_byte_of_a_meta(at_root):
    """Catches a meta that may be edited in places: its own text is what its seal is of, white space too."""
    game, root = at_root
    path = str(root / game.config.SHIPPED_CONTROLLER)
    whole = (root / (game.config.SHIPPED_CONTROLLER + META)).read_bytes()
    for k in range(0, len(whole), 7):
        commands.edit_exactly(path + META, k)
        with pytest.raises(provenance.UserError):
            provenance.read(path, "controller", game.name)
        commands.edit_exactly(path + META, k)
    assert provenance.read(path, "controller", game.name)["sha256"] == files.sha256(path)


def test_a_meta_that_was_edited_and_is_good_json(at_root):
    """Catches a check of the file's hash alone: how the agent sees is in the config."""
    game, root = at_root
    path = str(root / game.config.SHIPPED_CONTROLLER)
    meta = files.read_json(path + META)
    meta["config"]["sample_z"] = not meta["config"].get("sample_z", True)
    files.write_json(path + META, meta, indent=1)
    with pytest.raises(provenance.UserError, match="was changed since it was written"):
        provenance.read(path, "controller", game.name)


def test_what_is_no_meta_at_all(tmp_path):
    """Catches a traceback where the file beside it is JSON of another kind, or a seal on half a meta."""
    path = str(tmp_path / "x.json")
    files.write_json(path, [1])
    about = {"sha256": files.sha256(path), "kind": "vae", "game": "toy", "config": {}, "parents": {}}
    for content in ([], 7, "meta", None, *({**about, name: None} for name in ("config", "parents")), about):
        if isinstance(content, dict):
            provenance.save(path, content)
        else:
            files.write_json(path + META, content)
        if content is about:
            assert provenance.read(path, "vae", "toy") == about
        else:
            with pytest.raises(provenance.UserError, match=r"x\.json\.meta\.json: not a meta of a file"):
                provenance.read(path, "vae", "toy")


def test_as_a_user_sees_it(tmp_path):
    """Catches a traceback, or another exit code, where the scripts themselves are called."""
    shutil.copy(agents.shipped(GAMES["doomrnn"]), tmp_path / "agent.json")
    command = [sys.executable, "model.py", "doomreal", "norender", tmp_path / "agent.json", "--episodes", "1"]
    done = subprocess.run(command, cwd=os.path.join(ROOT, "doomrnn"), capture_output=True, text=True)
    assert done.returncode == 2
    assert len(done.stderr.splitlines()) == 1
    assert f"agent.json: has no agent.json{META} beside it" in done.stderr


# --- a controller elsewhere ---


def without_meta(source, target):
    shutil.copy(source, target)


def edited(source, target):
    provenance.copy(source, target)
    commands.edit(target)


def with_edited_meta(source, target):
    provenance.copy(source, target)
    commands.edit(target + META)


def with_the_meta_of_another(source, target):
    provenance.copy(source, target)
    other = next(game for game in GAMES.values() if not source.endswith(game.config.SHIPPED_CONTROLLER))
    shutil.copy(os.path.join(ROOT, other.config.SHIPPED_CONTROLLER) + META, target + META)


def with_a_torn_meta(source, target):
    provenance.copy(source, target)
    os.truncate(target + META, 100)


PLAYERS = [(name, script) for name in GAMES for script in ("model", "extract", "train", "dream_model")]
PLAYERS.append(("doomrnn", "fidelity"))  # the models here expect no reward, of which CarRacing's would tell
DAMAGES = (without_meta, edited, with_edited_meta, with_the_meta_of_another, with_a_torn_meta)


@pytest.fixture
def nothing_plays(monkeypatch, played):
    """The list of what would have been played, recorded, evolved or shown."""
    monkeypatch.setattr(record, "_record_agent", lambda agent, *more: played.append(agent))
    monkeypatch.setattr(play, "watch", lambda *more: played.append(more) or (0.0, 1))
    monkeypatch.setattr(video, "screen", lambda *more: contextlib.nullcontext())
    monkeypatch.setattr(evolve, "evolve", lambda run, arena, cfg: played.append("evolve") or run.save())
    return played


def words_of(script, game, path, run):
    """A command line of a script that loads the controller at `path`."""
    few = ["--preset", "smoke", "--run", run]
    return {
        "model": [*WORLD[game.name], "norender", path, 1000, "--episodes", 2, "--run", run, "--out", run / "out.json"],
        "extract": ["--controller", path, "--episodes", 2, "--first_seed", 2000, *few],
        "train": ["--start_from", path, "--generations", 1, *few],
        "dream_model": [path, 1000, "--video", run / "dream.mp4", "--run", run],
        "fidelity": [path, "--games", 10, "--dreams", 10, "--run", run],
    }[script]


def written(run):
    """{name: content} of the JSON files that a command wrote into a run and that say what they come from."""
    names = [path for path in run.rglob("*.json") if path.name.endswith((META, "summary.json", "out.json"))]
    return {path.name: json.loads(path.read_text()) for path in names}


@pytest.mark.parametrize("damage", DAMAGES)
@pytest.mark.parametrize(("name", "script"), PLAYERS)
def test_a_controller_that_proves_nothing_is_refused(nothing_plays, tmp_path, name, damage, script):
    """Catches a command that plays a controller copied without its meta, or edited, or with another's meta."""
    game, path, run = GAMES[name], str(tmp_path / "agent.json"), tmp_path / "run"
    run.mkdir()
    damage(agents.shipped(game), path)
    done = call(SCRIPTS[script], game, *words_of(script, game, path, run))
    assert done.refused(path), done
    assert "--unverified" in done.err
    assert not nothing_plays
    assert not any(path.is_file() for path in run.rglob("*"))  # an error leaves no trace


@pytest.mark.parametrize("name", GAMES)
def test_a_file_is_of_its_game_and_of_its_kind(nothing_plays, tmp_path, name):
    """Catches the controller of the other game, and another kind of file, each with its own meta."""
    game = GAMES[name]
    (other,) = (one for one in GAMES.values() if one is not game)
    words = words_of("model", game, agents.shipped(other), tmp_path)
    done = call(play.main, game, *words)
    assert done.refused(f"is the controller of {other.name}, not the controller of {name}"), done
    rnn = os.path.join(game.folder, game.config.SHIPPED[0]["rnn"])
    done = call(play.main, game, *words_of("model", game, rnn, tmp_path))
    assert done.refused(f"is the rnn of {name}, not the controller of {name}"), done
    assert not nothing_plays


@pytest.mark.parametrize("script", ["model", "extract", "train", "dream_model"])
@pytest.mark.parametrize("name", GAMES)
def test_unverified_plays_and_what_it_makes_says_so(nothing_plays, tmp_path, name, script):
    """Catches --unverified without effect, and results that look like all others afterwards."""
    game, path = GAMES[name], str(tmp_path / "agent.json")
    for damage, sign in ((without_meta, True), (provenance.copy, False)):
        run = tmp_path / damage.__name__
        run.mkdir()
        nothing_plays.clear()
        damage(agents.shipped(game), path)
        done = call(SCRIPTS[script], game, *words_of(script, game, path, run), *(["--unverified"] if sign else []))
        assert done.code == 0, done.err
        assert len(nothing_plays) == 1
        assert ("unverified: " in done.err) == sign
        found = written(run)
        assert bool(found) == (script != "dream_model")
        assert {name: content.get("unverified", False) for name, content in found.items()} == dict.fromkeys(found, sign)


@pytest.mark.parametrize("damage", DAMAGES)
def test_the_studio_says_why_there_is_no_agent(tmp_path, damage):
    """Catches a studio in which such a controller plays, or in which none does and nothing says why."""
    game, path = GAMES["doomrnn"], str(tmp_path / "agent.json")
    damage(agents.shipped(game), path)
    stage = session.Stage(game, game.folder, controller=path)
    assert stage.agent is None
    answer = session.Session(lambda name: stage, 0).answer('{"do": "open", "game": "doomrnn"}')
    assert path in json.loads(answer.split(b"\n")[0])["no_agent"]
    assert session.Stage(game, game.folder, unverified=True, controller=path).agent.unverified


def test_a_controller_copied_with_its_meta_plays_the_same(tmp_path, monkeypatch):
    """Catches an agent that depends on its path: played for real, in dreams of 40 steps."""
    game = commands.copy_of(GAMES["doomrnn"], tmp_path, MAX_STEPS=40)
    provenance.copy(agents.shipped(GAMES["doomrnn"]), str(tmp_path / "elsewhere" / "other.name.json"))
    returns = []
    for path in (tmp_path / game.config.SHIPPED_CONTROLLER, tmp_path / "elsewhere" / "other.name.json"):
        words = ["doomrnn", "norender", path, 1000, "--episodes", 4, "--temperature", 2.0, "--out", tmp_path / "s.json"]
        done = call(play.main, game, *words)
        assert done.code == 0, done.err
        scores = json.loads((tmp_path / "s.json").read_text())
        assert "unverified" not in scores
        returns.append([row["return"] for row in scores["episodes"]])
    assert returns[0] == returns[1]


@pytest.mark.parametrize("name", GAMES)
def test_a_copy_sees_as_the_original_does(tmp_path, name):
    """Catches a copy that samples z where the original does not (41 points instead of 915)."""
    game, path = GAMES[name], str(tmp_path / "agent.json")
    provenance.copy(agents.shipped(game), path)
    one, other = (agents.load(game, commands.namespace(file=file)) for file in (agents.shipped(game), path))
    assert one.sample_z == other.sample_z == (name == "doomrnn")
    assert one.controller == other.controller
    assert one.models.hashes == other.models.hashes
    np.testing.assert_array_equal(one.parameters, other.parameters)


# --- models and controllers of runs ---


@pytest.fixture(scope="module")
def two_runs(tmp_path_factory):
    """(folder, hashes): two runs of Doom with other models, each with a controller of its own."""
    folder, game = tmp_path_factory.mktemp("runs"), GAMES["doomrnn"]
    hashes = {}
    for seed, run in enumerate(("one", "two")):
        hashes[run] = commands.write_models(game, str(folder / run), seed)
        commands.write_controller(game, str(folder / run / "log" / "doomrnn.cma.4.4.best.json"), hashes[run])
    return folder, hashes


@pytest.fixture
def runs_copy(two_runs, tmp_path):
    """The same for a test that changes them."""
    folder, hashes = two_runs
    shutil.copytree(folder, tmp_path / "runs")
    return tmp_path / "runs", hashes


def load(run, file, **more):
    return agents.load(GAMES["doomrnn"], commands.namespace(file=str(file), run=str(run), **more))


def test_a_controller_finds_its_models_by_hash(two_runs, capsys):
    """Catches a controller that plays on whatever models are in the run."""
    folder, hashes = two_runs
    own = folder / "one" / "log" / "doomrnn.cma.4.4.best.json"
    assert load(folder / "one", own).models.hashes == hashes["one"]
    with pytest.raises(provenance.UserError, match=r"neither in .*two nor among those that ship; give the run"):
        load(folder / "two", own)
    assert load(folder / "two", own, unverified=True).unverified
    shipped = agents.shipped(GAMES["doomrnn"])
    assert load(folder / "one", shipped).models.hashes == load(ROOT, shipped).models.hashes  # those that ship


@pytest.mark.parametrize("kind", models.NAMES)
def test_each_of_the_models_counts(runs_copy, kind):
    """Catches one of the three files being exchanged for another run's, with its meta."""
    folder, _ = runs_copy
    provenance.copy(*(str(folder / run / GAMES["doomrnn"].config.TRAINED[kind]) for run in ("two", "one")))
    with pytest.raises(provenance.UserError, match="neither in"):
        load(folder / "one", folder / "one" / "log" / "doomrnn.cma.4.4.best.json")


def test_models_that_were_made_for_another_vae(tmp_path):
    """Catches an MDN-RNN, or first frames, on a VAE that they were not made on, with and without a parent named."""
    game = GAMES["doomrnn"]
    hashes = commands.write_models(game, str(tmp_path), 3, "f" * 64)
    commands.write_controller(game, str(tmp_path / "agent.json"), hashes)
    for attempt in (
        lambda: load(tmp_path, tmp_path / "agent.json"),
        lambda: models.load_run(game, str(tmp_path)),
        lambda: session.Stage(game, str(tmp_path)),
    ):
        with pytest.raises(provenance.UserError, match=r"rnn.json: was made on another VAE \(ffffffffffff\)"):
            attempt()
    assert models.load_run(game, str(tmp_path), unverified=True).unverified
    for name in ("rnn", "initial_z"):
        path = str(tmp_path / game.config.TRAINED[name])
        provenance.write(path, name, game.name, {}, {}, 1.0, unverified=False)
    with pytest.raises(provenance.UserError, match="was made on another VAE"):
        models.load_run(game, str(tmp_path))


def test_start_from_needs_a_memory_that_this_one_goes_on_from(runs_copy, nothing_plays):
    """Catches a search that begins at a controller whose h means nothing here, and one refused though it does."""
    folder, hashes = runs_copy
    game, start = GAMES["doomrnn"], folder / "one" / "log" / "doomrnn.cma.4.4.best.json"
    words = ["--preset", "smoke", "--generations", 1, "--run", folder / "two", "--start_from", start]
    done = call(evolve.main, game, *words)
    assert done.refused("was evolved in another MDN-RNN", hashes["one"]["rnn"][:12]), done
    assert not nothing_plays
    path, vae_sha = str(folder / "two" / game.config.TRAINED["rnn"]), hashes["two"]["vae"]
    for parents, more in (
        ({"start_from": hashes["one"]["rnn"]}, {}),
        ({"start_from": "a" * 64}, {"trained_on_from": ["a" * 64, hashes["one"]["rnn"]]}),
    ):
        provenance.write(path, "rnn", game.name, {}, {"vae": vae_sha} | parents, 1.0, unverified=False, **more)
        done = call(evolve.main, game, *words, "--fresh")
        assert done.code == 0, done.err
    evolved = f"log/{game.name}.cma.4.16.json"
    assert not meta_of(folder / "two", evolved).get("unverified")
    provenance.write(path, "rnn", game.name, {}, {"vae": vae_sha}, 1.0, unverified=False)
    assert call(evolve.main, game, *words, "--fresh", "--unverified").code == 0
    assert meta_of(folder / "two", evolved)["unverified"] is True


def test_also_in_compares_content(runs_copy, nothing_plays):
    """Catches the same MDN-RNN dreamt in twice, by another path; and one of another VAE."""
    folder, hashes = runs_copy
    game, own = GAMES["doomrnn"], str(folder / "one" / GAMES["doomrnn"].config.TRAINED["rnn"])
    words = ["--preset", "smoke", "--generations", 1, "--run", folder / "one", "--also_in"]
    provenance.copy(own, str(folder / "copy.json"))
    done = call(evolve.main, game, *words, folder / "copy.json")
    assert done.refused("holds the weights of an MDN-RNN that is dreamt in already"), done
    other = str(folder / "two" / game.config.TRAINED["rnn"])
    done = call(evolve.main, game, *words, other)
    assert done.refused("was trained on another VAE"), done
    unrelated = {"vae": hashes["one"]["vae"]}
    related = unrelated | {"start_from": files.sha256(own)}
    for parents in (related, unrelated, {}):
        provenance.write(other, "rnn", game.name, {}, parents, 1.0, unverified=False)
        done = call(evolve.main, game, *words, other, "--fresh")
        assert done.code == (0 if parents == related else 2), done.err
        assert ("is no relation of" in done.err) == (parents == unrelated)
    provenance.write(other, "rnn", game.name, {"restart_weight": 3.0}, related, 1.0, unverified=False)
    done = call(evolve.main, game, *words, other, "--fresh")
    assert done.refused("was trained with --restart_weight 3.0"), done
    provenance.write(other, "rnn", game.name, {}, related, 1.0, unverified=False)
    provenance.copy(other, str(folder / "third.json"))
    done = call(evolve.main, game, *words, f"{other},{folder / 'third.json'}", "--fresh")
    assert done.refused("third.json: holds the weights"), done
    os.remove(other + META)
    assert call(evolve.main, game, *words, other, "--fresh").refused("has no rnn.json.meta.json")
    assert len(nothing_plays) == 1


# --- which controller plays ---


def test_no_other_controller_is_hard_wired():
    """Catches a path of a controller, in a script, notebook or document, that is not the constant of its game."""
    allowed = {path for game in GAMES.values() for path in commands.controllers(game)}
    for game in GAMES.values():
        cfg = game.config.TRAIN["smoke"]  # what make run evolves and then plays
        allowed.add(f"log/{game.name}.{cfg.o}.{cfg.num_episode}.{cfg.n * cfg.t}.best.json")
    found = {}
    for name in tracked():
        if name.startswith(("tests/", "log/", "docs/history/")) or not name.endswith(TEXT):
            continue
        with open(os.path.join(ROOT, name), encoding="utf-8") as file:
            paths = re.findall(r"(?:^|[\s\"'`(=\\]|\.\./)(log/[\w.]+?\.(?:best|picked)\.json)", file.read(), re.M)
        found |= dict.fromkeys([(name, path) for path in paths if path not in allowed and "/mygame." not in path])
    assert list(found) == []


def test_the_studio_plays_the_controller_that_ships(at_root):
    """Catches make play playing a newer file beside it, or one that a user evolved in the folder of the game."""
    game, root = at_root
    for folder in ("log", f"{game.name}/log"):
        for name in ("zzz.best.json", "aaa.best.json", "zzz.picked.json"):
            other = str(root / folder / f"{game.name}.{name}")
            provenance.copy(str(root / game.config.SHIPPED_CONTROLLER), other)
            os.utime(other, (2e9, 2e9))
    provenance.copy(other, str(root / game.name / game.config.SHIPPED_CONTROLLER))
    stage = session.Stage(game, str(root / game.name))
    assert stage.no_agent == ""
    assert stage.agent.path == str(root / game.config.SHIPPED_CONTROLLER)


def test_the_studio_does_not_guess_among_the_controllers_of_a_run(runs_copy):
    """Catches one of several being played without a word, and the controller that ships being played for the run's."""
    folder, _ = runs_copy
    game, run = GAMES["doomrnn"], str(folder / "one")
    best = str(folder / "one" / "log" / "doomrnn.cma.4.4.best.json")
    assert session.Stage(game, run).agent.path == best
    provenance.copy(best, best.replace("cma", "openes"))
    stage = session.Stage(game, run)
    assert stage.agent is None
    assert "doomrnn.cma.4.4.best.json, doomrnn.openes.4.4.best.json" in stage.no_agent
    provenance.copy(best, best.replace("best", "picked"))
    assert session.Stage(game, run).agent.path.endswith("picked.json")
    for name in os.listdir(folder / "one" / "log"):
        os.remove(folder / "one" / "log" / name)
    assert "has no one controller (none)" in session.Stage(game, run).no_agent
    assert session.Stage(game, run, controller=agents.shipped(game)).agent is not None


# --- score files ---


@pytest.mark.parametrize("name", GAMES)
def test_score_files_name_what_they_are_scores_of(tmp_path, played, name):
    """Catches a score file that does not say which file played, on what, by which command, code and versions."""
    game, out = GAMES[name], tmp_path / "scores.json"
    words = [*WORLD[name], "norender", game.config.SHIPPED_CONTROLLER, 1500, "--episodes", 3, "--out", out]
    assert call(play.main, game, *words).code == 0
    scores, path = json.loads(out.read_text()), os.path.join(ROOT, game.config.SHIPPED_CONTROLLER)
    assert scores["controller"] == {"path": game.config.SHIPPED_CONTROLLER, "sha256": files.sha256(path)}
    sets = game.config.SHIPPED[0].items()
    assert scores["models"] == {kind: files.sha256(os.path.join(game.folder, file)) for kind, file in sets}
    assert scores["command"] == ["script.py", *map(str, words)]
    assert scores["commit"] == provenance.commit()
    assert re.fullmatch(r"[0-9a-f]{40}(-dirty)?", scores["commit"])
    assert {"python", "tensorflow", "numpy", "gymnasium"} <= scores["versions"].keys()
    assert scores["dtype"] in ("float32", "bfloat16")
    assert scores["backend"] == game.backends[0]
    assert scores["seed"] == 1500
    assert [row["seed"] for row in scores["episodes"]] == [1500, 1501, 1502]
    assert "unverified" not in scores


def test_score_files_of_the_random_policy(tmp_path, played):
    """Catches scores in a dream that do not say in which."""
    game = GAMES["doomrnn"]
    for world, has_models in (("doomreal", False), ("doomrnn", True)):
        words = [world, "norender", "random", 1500, "--episodes", 2, "--out", tmp_path / "scores.json"]
        assert call(play.main, game, *words).code == 0
        scores = json.loads((tmp_path / "scores.json").read_text())
        assert scores["controller"] == "random"
        assert ("models" in scores) == has_models
        assert scores["backend"] == ("dream" if has_models else "vizdoom")
        assert "unverified" not in scores


def test_dreams_of_unverified_models_say_so(runs_copy, tmp_path, played):
    """Catches scores of the random policy in the dream of nobody knows which models, that look like all others."""
    folder, _ = runs_copy
    os.remove(str(folder / "one" / GAMES["doomrnn"].config.TRAINED["rnn"]) + META)
    words = ["doomrnn", "norender", "random", 1500, "--run", folder / "one", "--out", tmp_path / "scores.json"]
    assert call(play.main, GAMES["doomrnn"], *words).refused("has no rnn.json.meta.json")
    assert not played
    assert call(play.main, GAMES["doomrnn"], *words, "--unverified").code == 0
    assert json.loads((tmp_path / "scores.json").read_text())["unverified"] is True


# --- from recordings to a controller ---

OUTSIDE = []
_watching = types.SimpleNamespace(run=None)


def _audit(event, arguments, watching=_watching):
    """Notes what is written, moved or removed outside of the run while one is watched.

    Such a hook stays until the interpreter has ended, when the names of a module are gone and its defaults are not.
    """
    if watching.run is None or event not in ("open", "os.rename", "os.remove", "os.mkdir", "os.rmdir", "os.truncate"):
        return
    if event == "open":
        _, mode, flags = arguments
        if not (flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT)) and not (
            isinstance(mode, str) and set(mode) & set("wax+")
        ):
            return
    for path in arguments[: 2 if event == "os.rename" else 1]:
        if isinstance(path, (str, bytes, os.PathLike)):
            full = os.path.realpath(os.fsdecode(path))
            temporary = tempfile.gettempdir() in (full, os.path.dirname(full))  # where TensorFlow compiles
            if not temporary and not full.startswith((watching.run, "/dev/")) and "__pycache__" not in full:
                OUTSIDE.append((event, full))


sys.addaudithook(_audit)

EXTRACT = ["--episodes", 8, "--first_seed", 3000, "--min_frames", 5, "--workers", 1]
VAE = ["--z_size", 4, "--steps", 2, "--batch_size", 8]
RNN = ["--hidden_size", 8, "--steps", 3, "--streams", 2, "--sequence_length", 8, "--validation_episodes", 2]
TRAIN = ["-t", 4, "--num_episode", 2, "--generations", 2, "--eval_steps", 1, "--eval_episodes", 2]
LOG = "doomrnn.cma.2.4"


@pytest.fixture(scope="module")
def small():
    """Doom, but for a game of some twenty frames and dreams of 30 steps."""
    return commands.counting(GAMES["doomrnn"], MAX_STEPS=30)


def stage(main, game, run, words=(), preset=True):
    done = call(main, game, *(["--preset", "smoke"] if preset else []), "--run", run, *words)
    assert done.code == 0, done.err
    return done


@pytest.fixture(scope="module")
def pipeline(tmp_path_factory, small):
    """A run in which every stage was called once, from recordings to a controller that games chose."""
    run = tmp_path_factory.mktemp("pipeline") / "run"
    run.mkdir()
    before = {name: files.sha256(os.path.join(ROOT, name)) for name in tracked()}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("common.runtime.devices.for_blocks", lambda **_: None)
        commands.record_in_this_process(patch, small)
        patch.chdir(ROOT)
        _watching.run = os.path.realpath(run)
        try:
            stage(record.main, small, run, EXTRACT)
            stage(vae_and_rnn.train_vae, small, run, VAE)
            stage(vae_and_rnn.encode, small, run)
            stage(vae_and_rnn.train_rnn, small, run, RNN)
            stage(evolve.main, small, run, TRAIN)
            stage(
                select.main, small, run, [f"log/{LOG}.log.json", "--episodes", 3, "--final_episodes", 2], preset=False
            )
            own = ["--controller", f"log/{LOG}.picked.json", "--first_seed", 9000, "--episodes", 2, "--min_frames", 5]
            stage(record.main, small, run, own)
        finally:
            _watching.run = None
    after = {name: files.sha256(os.path.join(ROOT, name)) for name in before}
    assert before == after
    return run


@pytest.fixture(scope="module")
def another_vae(pipeline, small, tmp_path_factory):
    """A tf_vae/ as `vae_train.py --fresh` leaves it in that run with another seed."""
    run = tmp_path_factory.mktemp("another")
    shutil.copytree(pipeline / "record", run / "record")
    stage(vae_and_rnn.train_vae, small, run, [*VAE, "--seed", 2])
    return run / "tf_vae"


def train_vae_anew(run, another_vae):
    shutil.rmtree(run / "tf_vae")
    shutil.copytree(another_vae, run / "tf_vae")


@pytest.fixture
def run(pipeline, tmp_path, monkeypatch, small):
    """A copy of that run."""
    commands.record_in_this_process(monkeypatch, small)
    shutil.copytree(pipeline, tmp_path / "run")
    shutil.rmtree(tmp_path / "run" / "log", ignore_errors=False)
    shutil.copytree(pipeline / "log", tmp_path / "run" / "log")
    for path in (tmp_path / "run" / "record").glob("900*"):
        path.unlink()
    return tmp_path / "run"


def meta_of(run, path):
    return json.loads((run / (path + META)).read_text())


def test_no_stage_writes_outside_of_its_run(pipeline):
    """Catches a command that changes what ships, or anything else than its --run; all files opened, moved, removed."""
    assert OUTSIDE == []
    with open(pipeline / "seen", "w"):  # the watch itself works
        pass
    _watching.run = str(pipeline / "record")
    with open(pipeline / "seen", "w"):
        pass
    _watching.run = None
    assert [path for _, path in OUTSIDE] == [os.path.realpath(pipeline / "seen")]
    OUTSIDE.clear()


def test_every_step_names_its_parents(pipeline):
    """Catches a chain that breaks: from the controller back to random play, each by the sha256 of the file."""
    sha = {
        name: files.sha256(pipeline / path)
        for name, path in {
            "vae": "tf_vae/vae.json",
            "rnn": "tf_rnn/rnn.json",
            "initial_z": "tf_initial_z/initial_z.json",
            "series": "series/series.npz",
            "evolution": f"log/{LOG}.log.json",
            "controller": f"log/{LOG}.picked.json",
        }.items()
    }
    picked = meta_of(pipeline, f"log/{LOG}.picked.json")
    assert picked["parents"] == {name: sha[name] for name in ("vae", "rnn", "initial_z", "evolution")}
    assert meta_of(pipeline, f"log/{LOG}.best.json")["parents"] == {name: sha[name] for name in models.NAMES}
    for name in ("tf_rnn/rnn.json", "tf_initial_z/initial_z.json"):
        parents = meta_of(pipeline, name)["parents"]
        assert {name: parents[name] for name in ("series", "vae")} == {name: sha[name] for name in ("series", "vae")}
    series = meta_of(pipeline, "series/series.npz")["parents"]
    assert series["vae"] == sha["vae"]
    assert meta_of(pipeline, "tf_rnn/rnn.json")["parents"]["recordings"] == series["recordings"]
    random = {"first_seed": 3000, "episodes": 8, "count": 8, "policy": ""}
    for recorded in (series["recordings"], meta_of(pipeline, "tf_vae/vae.json")["parents"]["recordings"]):
        assert [{key: row[key] for key in random} for row in recorded] == [random]
        assert recorded[0]["parents"] == {}
    own = json.loads((pipeline / "record" / "9000.summary.json").read_text())
    assert own["parents"] == {name: sha[name] for name in ("controller", *models.NAMES)}
    assert not any(content.get("unverified") for content in written(pipeline).values())
    for path in pipeline.rglob("*" + META):
        meta = json.loads(path.read_text())
        assert {
            "sha256",
            "command",
            "commit",
            "config",
            "seed",
            "versions",
            "dtype",
            "machine",
            "seconds",
        } <= meta.keys()


def test_a_vae_trained_anew_leaves_nothing_of_the_old_one_in_use(run, small, another_vae):
    """Catches an old series, MDN-RNN or agent on a new VAE: each stage refuses and says what to do."""
    agent = commands.namespace(file=str(run / "log" / f"{LOG}.picked.json"), run=str(run))
    assert agents.load(small, agent).models.hashes["vae"] == files.sha256(run / "tf_vae" / "vae.json")
    train_vae_anew(run, another_vae)
    done = call(vae_and_rnn.train_rnn, small, "--preset", "smoke", "--run", run, *RNN)
    assert done.refused("was encoded by another VAE", "python series.py --fresh"), done
    assert "already made" not in done.out
    done = call(vae_and_rnn.encode, small, "--preset", "smoke", "--run", run)
    assert done.refused("--fresh"), done
    with pytest.raises(provenance.UserError, match="was made on another VAE"):
        models.load_run(small, str(run))
    with pytest.raises(provenance.UserError, match="neither in"):
        agents.load(small, agent)
    assert call(evolve.main, small, "--preset", "smoke", "--run", run, *TRAIN).refused("was made on another VAE")
    stage(vae_and_rnn.encode, small, run, ["--fresh"])
    done = call(vae_and_rnn.train_rnn, small, "--preset", "smoke", "--run", run, *RNN)
    assert done.refused("rnn.json: was trained on another VAE", "--fresh"), done
    stage(vae_and_rnn.train_rnn, small, run, [*RNN, "--fresh"])
    assert models.load_run(small, str(run)).hashes["vae"] == files.sha256(run / "tf_vae" / "vae.json")
    assert len(list(run.glob("tf_initial_z.*"))) == 1  # an earlier agent plays from those


def test_an_interrupted_rnn_does_not_go_on_on_another_series(run, small, monkeypatch, another_vae):
    """Catches an MDN-RNN that began on one VAE's series and ends on another's."""
    step = trainers.RnnTrainer.step

    def interrupted(self, number):
        if number == 3:
            raise KeyboardInterrupt
        return step(self, number)

    words = ["--preset", "smoke", "--run", run, *RNN, "--checkpoint_seconds", 0]
    with monkeypatch.context() as patch:
        patch.setattr(trainers.RnnTrainer, "step", interrupted)
        assert call(vae_and_rnn.train_rnn, small, *words, "--fresh").code == 130
    train_vae_anew(run, another_vae)
    stage(vae_and_rnn.encode, small, run, ["--fresh"])
    done = call(vae_and_rnn.train_rnn, small, *words)
    assert done.refused("its training began on other data"), done
    assert not (run / "tf_rnn" / "rnn.json").exists()


def test_a_training_does_not_go_on_from_other_weights(run, small, monkeypatch, another_vae):
    """Catches a meta that names a parent which the training did not start from: the file changed in between."""
    step, start = trainers.VaeTrainer.step, run / "start.json"

    def interrupted(self, number):
        if number == 2:
            raise KeyboardInterrupt
        return step(self, number)

    provenance.copy(str(run / "tf_vae" / "vae.json"), str(start))
    words = ["--preset", "smoke", "--run", run, *VAE, "--start_from", start, "--checkpoint_seconds", 0]
    with monkeypatch.context() as patch:
        patch.setattr(trainers.VaeTrainer, "step", interrupted)
        assert call(vae_and_rnn.train_vae, small, *words, "--fresh").code == 130
    provenance.copy(str(another_vae / "vae.json"), str(start))
    assert call(vae_and_rnn.train_vae, small, *words).refused("its training began on other data")


@pytest.mark.parametrize(("main", "path", "words"), [
    (vae_and_rnn.train_vae, "tf_vae/vae.json", VAE),
    (vae_and_rnn.encode, "series/series.npz", []),
    (vae_and_rnn.train_rnn, "tf_rnn/rnn.json", RNN),
])  # fmt: skip
def test_a_stage_killed_before_it_wrote_its_meta_ends_again(run, small, main, path, words):
    """Catches "already made" of a result that no later command takes, and work done again that was done."""
    sha, whole = files.sha256(run / path), stage(main, small, run, words).out
    assert "already made" in whole
    os.remove(run / (path + META))
    assert "already made" not in stage(main, small, run, words).out
    assert files.sha256(run / path) == sha
    assert meta_of(run, path)["sha256"] == sha
    assert "already made" in stage(main, small, run, words).out


def test_a_series_that_was_copied_without_its_meta_gets_none(run, small, tmp_path):
    """Catches a series of unknown origin that series.py gives a meta of this run's VAE."""
    other = tmp_path / "other"
    (other / "series").mkdir(parents=True)
    shutil.copytree(run / "record", other / "record")
    shutil.copytree(run / "tf_vae", other / "tf_vae")
    shutil.copy(run / "series" / "series.npz", other / "series")
    for _ in range(2):
        done = call(vae_and_rnn.encode, small, "--preset", "smoke", "--run", other)
        assert done.refused("was not made in this folder"), done
    assert call(vae_and_rnn.train_rnn, small, "--preset", "smoke", "--run", other, *RNN).refused(
        "has no series.npz.meta"
    )
    stage(vae_and_rnn.encode, small, other, ["--fresh"])
    assert meta_of(other, "series/series.npz")["parents"]["vae"] == files.sha256(other / "tf_vae" / "vae.json")


def test_what_is_made_from_something_unverified_says_so_all_the_way(run, small):
    """Catches the sign being lost on the way from a VAE to the controller and to what that records."""
    start = str(run / "start.json")
    shutil.copy(run / "tf_vae" / "vae.json", start)
    words = [*VAE, "--start_from", start, "--fresh"]
    assert call(vae_and_rnn.train_vae, small, "--preset", "smoke", "--run", run, *words).refused(
        "has no start.json.meta"
    )
    stage(vae_and_rnn.train_vae, small, run, [*words, "--unverified"])
    stage(vae_and_rnn.encode, small, run, ["--fresh"])  # from here on every file has a meta that matches
    stage(vae_and_rnn.train_rnn, small, run, [*RNN, "--fresh"])
    shutil.rmtree(run / "log")
    stage(evolve.main, small, run, TRAIN)
    stage(select.main, small, run, [f"log/{LOG}.log.json", "--episodes", 2, "--final_episodes", 0], preset=False)
    own = ["--controller", f"log/{LOG}.picked.json", "--first_seed", 9000, "--episodes", 2, "--min_frames", 5]
    stage(record.main, small, run, own)
    names = ["tf_vae/vae.json", "series/series.npz", "tf_rnn/rnn.json", "tf_initial_z/initial_z.json"]
    names += [f"log/{LOG}.{ending}" for ending in ("json", "best.json", "log.json", "picked.json")]
    assert {name: meta_of(run, name).get("unverified") for name in names} == dict.fromkeys(names, True)
    assert json.loads((run / "record" / "9000.summary.json").read_text())["unverified"] is True
    assert json.loads((run / "log" / f"{LOG}.validation.json").read_text())["unverified"] is True
    own_vae = [
        "--z_size",
        4,
        "--steps",
        1,
        "--batch_size",
        8,
        "--fresh",
    ]  # from random weights, but on those recordings
    stage(vae_and_rnn.train_vae, small, run, own_vae)
    assert meta_of(run, "tf_vae/vae.json")["unverified"] is True


def test_recordings_that_no_summary_tells_of(run, small):
    """Catches a series that seems to come from random play, and comes from nobody knows what."""
    os.remove(run / "record" / "3000.summary.json")
    done = stage(vae_and_rnn.encode, small, run, ["--fresh"])
    assert "no summary tells who played 8 of the recordings" in done.err
    meta = meta_of(run, "series/series.npz")
    assert meta["unverified"] is True
    assert meta["parents"]["recordings"] == [{"unknown": 8, "unverified": True}]


@pytest.mark.parametrize("seed", [7, 1000, 1999, 400_000, 499_999, 500_000, 1_000_003_000])
def test_no_model_learns_from_a_seed_that_is_not_for_training(run, small, seed):
    """Catches training on test games, and on mirror images of held-out ones, which were recorded as seed + 10^9."""
    shutil.copy(run / "record" / "3000.npz", run / "record" / f"{seed}.npz")
    shutil.rmtree(run / "tf_vae")
    for main, words in ((vae_and_rnn.train_vae, VAE), (vae_and_rnn.encode, [])):
        done = call(main, small, "--preset", "smoke", "--run", run, *words)
        assert done.code == 2, done
        assert "are not all for training" in done.err


def test_what_learns_from_other_seeds_all_the_same_says_so(run, small):
    """Catches recordings with the authors' seeds, which --unverified lets in, and nothing says so afterwards."""
    files.write_json(run / "record" / "7.summary.json", {"config": {"first_seed": 7, "episodes": 1}})
    shutil.copy(run / "record" / "3000.npz", run / "record" / "7.npz")
    stage(vae_and_rnn.encode, small, run, ["--unverified"])
    assert meta_of(run, "series/series.npz")["unverified"] is True


def test_validation_episodes_are_those_with_the_largest_seeds(run, small, monkeypatch):
    """Catches episodes held out by their place in the file, or in the order of the text of their seeds."""
    lengths = {2005: 31, 10_000: 32, 9_999: 33, 300_000: 34}
    for later in ((10_000, 300_000), (2005, 9_999)):  # recorded later, encoded in other parts
        for seed in later:
            frames = np.zeros((lengths[seed], 64, 64, 3), np.uint8)
            done = np.arange(len(frames)) == len(frames) - 1
            recordings.write(run / "record", seed, frames, np.zeros(len(frames)), np.ones(len(frames)), done)
        stage(vae_and_rnn.encode, small, run)
    seen = []
    monkeypatch.setattr(trainers.RnnTrainer, "losses_on", lambda self, unseen: seen.append(unseen) or np.zeros(2))
    stage(vae_and_rnn.train_rnn, small, run, [*RNN, "--validation_episodes", 3, "--fresh"])
    assert seen[0].length.tolist() == [33, 32, 34]


# --- choosing by real games ---


def test_choosing_leaves_best_json_as_it_is(pipeline):
    """Catches a real score in a best.json, which the evolution would compare with dreams when it goes on."""
    log = json.loads((pipeline / "log" / f"{LOG}.log.json").read_text())
    best = json.loads((pipeline / "log" / f"{LOG}.best.json").read_text())
    assert best[1] == max(score for _, score, *_ in log)
    assert meta_of(pipeline, f"log/{LOG}.best.json")["score"]["of"] == "dream"
    picked = meta_of(pipeline, f"log/{LOG}.picked.json")
    assert picked["score"].keys() == {"of", "mean", "stderr", "n", "first_seed"}
    assert (picked["score"]["of"], picked["score"]["n"], picked["score"]["first_seed"]) == ("game", 5, 420_000)
    assert picked["dream"] in [score for _, score, *_ in log]
    validation = json.loads((pipeline / "log" / f"{LOG}.validation.json").read_text())
    assert validation["evolutions"][0]["sha256"] == files.sha256(pipeline / "log" / f"{LOG}.log.json")
    assert validation["seeds"] == [420_000, 420_004]


def test_choosing_writes_into_its_run_whatever_log_it_reads(run, small, tmp_path, played):
    """Catches pick_best.py writing beside the log that it reads, which in a fresh clone was the one that ships."""
    elsewhere, before = tmp_path / "elsewhere", {path: path.read_bytes() for path in (run / "log").glob("*.json")}
    shutil.copytree(run / "tf_vae", elsewhere / "tf_vae")
    shutil.copytree(run / "tf_rnn", elsewhere / "tf_rnn")
    shutil.copytree(run / "tf_initial_z", elsewhere / "tf_initial_z")
    path = run / "log" / f"{LOG}.log.json"
    stage(select.main, small, elsewhere, [path, "--episodes", 2, "--final_episodes", 0], preset=False)
    assert {path: path.read_bytes() for path in (run / "log").glob("*.json")} == before
    assert sorted(os.listdir(elsewhere / "log")) == [
        f"{LOG}.picked.json", f"{LOG}.picked.json{META}", f"{LOG}.validation.json"
    ]  # fmt: skip


@pytest.mark.parametrize("damage", [without_meta, edited, with_edited_meta, with_a_torn_meta])
def test_choosing_verifies_the_log(run, small, tmp_path, played, damage):
    """Catches means of unknown models being played, and not said."""
    path = str(tmp_path / "other.log.json")
    damage(str(run / "log" / f"{LOG}.log.json"), path)
    words = [path, "--episodes", 2, "--final_episodes", 0, "--run", run]
    assert call(select.main, small, *words).refused(path, "--unverified")
    assert not played
    assert call(select.main, small, *words, "--unverified").code == 0
    assert meta_of(run, "log/other.picked.json")["unverified"] is True


@pytest.mark.parametrize("words", [["--episodes", 80_001], ["--episodes", 1, "--final_episodes", 80_000]])
def test_choosing_stays_in_the_range_of_validation(run, small, played, words):
    """Catches test games that choose: the range is checked before anything is played."""
    done = call(select.main, small, run / "log" / f"{LOG}.log.json", "--run", run, "--final_episodes", 0, *words)
    assert done.refused("are not all for validation"), done
    assert not played


def test_the_evolution_of_a_log_is_of_its_kind(run, small, played):
    """Catches a controller given for a log, and a log for a controller."""
    provenance.copy(str(run / "log" / f"{LOG}.best.json"), str(run / "log" / "x.log.json"))
    assert call(select.main, small, run / "log" / "x.log.json", "--run", run).code == 2
    done = call(play.main, small, "doomreal", "norender", run / "log" / f"{LOG}.log.json", "--run", run)
    assert done.refused("is the evolution of doomrnn, not the controller of doomrnn"), done
    assert not played


# --- planet.py ---


def test_an_rssm_without_its_meta(tmp_path, played):
    """Catches a planner that plays by an RSSM of unknown origin, and scores of it that look like all others."""
    shape = rssm.Shape(1, True, deterministic=8, stochastic=3, hidden=8, head=8, depth=1)
    path, out = str(tmp_path / planet.FOLDER / planet.FILE), tmp_path / "scores.json"
    planet.write(path, rssm.RSSM(shape), planner.Search(3, 2, 10, 2), 4)
    words = ["norender", 1000, "--episodes", 2, "--run", tmp_path, "--out", out]
    done = call(planet_training.main, GAMES["doomrnn"], *words)
    assert done.refused("has no rssm.npz.meta.json", "--unverified"), done
    assert not played
    assert call(planet_training.main, GAMES["doomrnn"], *words, "--unverified").code == 0
    assert json.loads(out.read_text())["unverified"] is True
    provenance.write(path, "rssm", "doomrnn", {}, {}, 1.0, unverified=False)
    assert call(planet_training.main, GAMES["doomrnn"], *words).code == 0
    assert "unverified" not in json.loads(out.read_text())


@pytest.mark.parametrize("seed", [1000, 400_000, 500_000])
def test_an_rssm_learns_from_training_seeds_only(tmp_path, seed):
    """Catches test games in the memory of a planner."""
    frames = np.zeros((30, 64, 64, 3), np.uint8)
    for one in (3000, seed):
        recordings.write(str(tmp_path / "record"), one, frames, np.zeros(30), np.ones(30), np.arange(30) == 29)
    words = ["train", "--preset", "smoke", "--run", tmp_path, "--recordings", tmp_path / "record"]
    done = call(planet_training.main, GAMES["doomrnn"], *words)
    assert done.code == 2, done
    assert "are not all for training" in done.err
    assert not (tmp_path / planet.FOLDER).exists()


def test_the_scores_of_a_run_are_of_a_controller_that_its_metas_tell_of():
    """Catches scores of one run under the name of another, and an agent that cannot be followed back."""
    found = sorted(name for name in tracked() if re.fullmatch(r"log/\w+\.\w+\.[0-9]+\.scores\.json", name))
    assert len(found) >= 3
    for name in found:
        scores = files.read_json(os.path.join(ROOT, name))
        metas = files.read_json(os.path.join(ROOT, name.replace(".scores.", ".metas.")))
        lines = files.read_json(os.path.join(ROOT, name.replace(".scores.", ".rounds.")))
        played = scores["controller"]["sha256"]
        assert played in {meta["sha256"] for meta in metas if meta["kind"] == "controller"}, name
        assert played == ship.best_of(lines)["controller"], name


def test_an_edited_file_shows_in_the_commit(tmp_path, monkeypatch):
    """Catches results of edited code that claim to be those of the commit."""
    git = ["git", "-C", tmp_path, "-c", "user.name=x", "-c", "user.email=x@x"]
    (tmp_path / "code.py").write_text("1")
    for words in (["init", "-q"], ["add", "-A"], ["commit", "-qm", "x"], ["tag", "-am", "x", "v1"]):
        subprocess.run([*git, *words], check=True)
    monkeypatch.setattr(files, "ROOT", str(tmp_path))
    said = []
    for text in ("1", "2"):
        (tmp_path / "code.py").write_text(text)
        provenance.commit.cache_clear()
        said.append(provenance.commit())
    provenance.commit.cache_clear()
    assert re.fullmatch("[0-9a-f]{40}", said[0])
    assert said[1] == f"{said[0]}-dirty"


def test_a_meta_goes_with_its_file(tmp_path, monkeypatch):
    """Catches a copy without its meta, a meta that stays while its file changes, and one torn by Ctrl-C."""
    monkeypatch.setattr("sys.argv", ["/home/somebody/train.py", "-s", "7"])
    path, copy = str(tmp_path / "x.json"), str(tmp_path / "y.json")
    files.write_json(path, [1])
    provenance.write(path, "controller", "toy", {"seed_start": 7}, {}, 1.0, unverified=False)
    meta = provenance.read(path, "controller", "toy")
    assert (meta["seed"], meta["command"]) == (7, ["train.py", "-s", "7"])
    for kind, game in (("rnn", "toy"), ("controller", "other")):
        with pytest.raises(provenance.UserError, match=f"is the controller of toy, not the {kind} of {game}"):
            provenance.read(path, kind, game)
    provenance.copy(path, copy)
    assert provenance.read(copy, "controller", "toy") == meta

    def interrupted(_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", interrupted)
        with pytest.raises(KeyboardInterrupt):
            provenance.save(path, {})
    assert provenance.read(path, "controller", "toy") == meta
    for _ in range(2):
        provenance.forget(path)
    assert sorted(file.name for file in tmp_path.iterdir()) == ["x.json", "y.json", f"y.json{META}"]


def test_one_unverified_file_is_enough():
    """Catches a file that looks like all others, because only one of those that it was made from is unverified."""
    assert provenance.any_unverified({}, {"unverified": True})
    assert not provenance.any_unverified({}, {"unverified": False})
    assert not provenance.any_unverified()
