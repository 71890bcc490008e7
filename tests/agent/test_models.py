"""common/agent/models.py: which set of weights is used, and that its parts were made for each other."""

import os

import pytest

from common.agent import models, vae, weights
from common.runtime import files, provenance
from common.runtime.cli import UserError

import toy


@pytest.fixture
def game(tmp_path, monkeypatch):
    """The toy, which ships nothing yet, in ./game; the run is ./run."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "run").mkdir()
    return toy.game_in(str(tmp_path / "game"))


def shipped(game, which):
    """{name: path} of a set that ships."""
    return {name: os.path.join("game", path) for name, path in game.config.SHIPPED[which].items()}


def test_a_run_uses_its_own_weights_when_it_has_all_of_them(game, capsys):
    """Catches a run's VAE paired with a shipped MDN-RNN, a silent choice, and a wrong one of the sets that ship."""
    own = toy.in_run(game, "run")
    files.write_json(own["vae"], [])
    with pytest.raises(UserError, match=r"neither run/tf_rnn/rnn\.json nor weights that ship are there"):
        models.find(game, "run")
    for which in (1, 0):
        for path in shipped(game, which).values():
            files.write_json(path, [])
        assert models.find(game, "run") == shipped(game, which)
        out = capsys.readouterr().out
        assert shipped(game, which)["vae"] in out
        assert "run has no complete set of its own" in out
    files.write_json(own["rnn"], [])
    assert models.find(game, "run") == shipped(game, 0)
    files.write_json(own["initial_z"], [])
    assert models.find(game, "run") == own
    assert own["rnn"] in capsys.readouterr().out
    with pytest.raises(UserError, match="--run nowhere: no such folder"):
        models.find(game, "nowhere")


def test_the_set_that_a_controller_was_evolved_on_is_found_by_its_hash(game):
    """Catches a controller that plays on the set that a run uses by default, or on half of its own."""
    sets = [toy.in_run(game, "run"), shipped(game, 0), shipped(game, 1)]
    for number, paths in enumerate(sets):
        for name, path in paths.items():
            files.write_json(path, [number, name])
    hashes = [{name: files.sha256(path) for name, path in paths.items()} for paths in sets]
    for wanted, paths in zip(hashes, sets, strict=True):
        assert models.find_by_hash(game, "run", wanted, "c.json") == paths
    for wanted in (*(hashes[0] | {name: hashes[1][name]} for name in models.NAMES), {"vae": hashes[0]["vae"]}, {}):
        with pytest.raises(UserError, match=r"c\.json: the models that it was evolved on .* are neither in run"):
            models.find_by_hash(game, "run", wanted, "c.json")


def test_a_run_of_rounds_is_asked_for_one_but_finds_the_models_of_a_controller(game):
    """Catches models that ship in place of those of a run of iterate.py, and rounds in the order of their text."""
    for path in shipped(game, 0).values():
        files.write_json(path, [])
    files.write_json("run/iterate.json", {})
    hashes = {}
    for number in (9, 10):
        paths = toy.in_run(game, f"run/round{number}")
        for name, path in paths.items():
            files.write_json(path, [name, number])
        hashes[number] = {name: files.sha256(path) for name, path in paths.items()}
        assert models.find_by_hash(game, "run", hashes[number], "c.json") == paths
        assert models.find(game, f"run/round{number}") == paths
    with pytest.raises(UserError, match=r"is a run of iterate\.py, with models in each round; give --run run/round10"):
        models.find(game, "run")


def test_only_what_was_made_for_each_other_is_loaded(game, capsys):
    """Catches a VAE that was trained anew below an MDN-RNN, a file without a meta, and an --unverified that refuses."""
    paths = toy.in_run(game, "run")
    hashes = toy.write_models(game, paths)
    loaded = models.load(game, paths)
    assert (loaded.hashes, loaded.paths, loaded.unverified) == (hashes, paths, False)
    assert loaded.about() == {"models": hashes}
    assert (loaded.vae.z_size, loaded.rnn.shape.hidden_size, loaded.initial_z[0].shape) == (toy.Z, toy.H, (3, toy.Z))
    for name in ("rnn", "initial_z"):
        whole = provenance.read(paths[name], name, "toy")
        provenance.save(paths[name], whole | {"parents": {"vae": "0" * 64}})
        with pytest.raises(UserError, match=rf"{name}\.json: was made on another VAE \(000000000000\)"):
            models.load(game, paths)
        mixed = models.load(game, paths, unverified=True)
        assert (mixed.unverified, mixed.about()) == (True, {"models": hashes, "unverified": True})
        provenance.save(paths[name], whole)
    for name in models.NAMES:
        os.rename(paths[name] + provenance.ENDING, "aside")
        with pytest.raises(UserError, match=rf"{name}\.json: has no {name}\.json\.meta\.json .*--unverified"):
            models.load(game, paths)
        os.rename("aside", paths[name] + provenance.ENDING)
    for name in models.NAMES:
        os.remove(paths[name] + provenance.ENDING)
    capsys.readouterr()
    loaded = models.load(game, paths, unverified=True)
    assert (loaded.hashes, loaded.unverified) == (hashes, True)
    assert capsys.readouterr().err.count("unverified: ") == 3


def test_an_mdn_rnn_goes_on_from_all_that_were_before_it():
    """Catches the one before it alone, or the first of several alone."""
    for parents, more, known in (
        ({}, {}, "a"),
        ({"start_from": "b"}, {}, "ab"),
        ({"start_from": "b"}, {"trained_on_from": ["b", "c"]}, "abc"),
    ):
        metas = {"rnn": {"parents": parents} | more}
        loaded = models.Models(None, None, None, {"rnn": "a"}, {}, metas)
        assert [name for name in "abcd" if loaded.goes_on_from(name)] == list(known)


def test_dreams_are_shown_with_the_runs_own_vae_only(game):
    """Catches a VAE of another size, or a damaged one, that stops the training of the MDN-RNN."""
    assert models.own_vae(game, "run", toy.Z) is None
    path = toy.in_run(game, "run")["vae"]
    weights.write_vae(path, vae.ConvVAE(toy.Z, "float32"))
    assert models.own_vae(game, "run", toy.Z).z_size == toy.Z
    assert models.own_vae(game, "run", toy.Z + 1) is None
    files.write_json(path, [])
    assert models.own_vae(game, "run", toy.Z) is None
