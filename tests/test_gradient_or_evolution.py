"""bench/gradient_or_evolution.py: what it records and trains, in which models, and what its table says."""

import os

import commands
import pytest
from commands import in_this_process  # noqa: F401  a fixture

from common.game import find
from common.runtime import cli, files

from bench import gradient_or_evolution, running

GAME = find("carracing")


@pytest.fixture
def ran(tmp_path, monkeypatch):
    """What it has run, [script, flags...] each. Every controller has 50 in training, its seed + 1 in the game."""
    ran = []

    def command(game, script, *flags):
        words = [script, *map(str, flags)]
        run = words[words.index("--run") + 1]
        ran.append(words)
        if script == "extract":
            os.makedirs(f"{run}/record", exist_ok=True)
        if script == "rnn_train":
            os.makedirs(f"{run}/tf_rnn", exist_ok=True)
        if script == "train":
            seed, o = int(words[words.index("-s") + 1]), "ppo" if "ppo" in words else "cma"
            best = f"{run}/log/carracing.{o}.1.2.best.json"
            config = {"o": o, "n": 1, "t": 8, "num_episode": 16, "fewer_episodes": "1:3,2:4"}
            files.write_json(best, [[float(seed)], 50.0])
            files.write_json(f"{best}.meta.json", {"config": config})
            # two generations, with episodes of 9 and of 19 steps; for PPO, two updates
            rows = [[1, 60, 0, 0, 0, 0, 0, 10.0, 11], [2, 120, 0, 0, 0, 0, 0, 20.0, 30]]
            files.write_json(best.replace(".best.", ".hist."), [row[:8] for row in rows] if o == "ppo" else rows)
        if script == "model":
            seed = files.read_json(words[2])[0][0]
            rows = [{"return": seed}, {"return": seed + 2}]
            files.write_json(words[words.index("--out") + 1], {"episodes": rows})

    monkeypatch.setattr(running, "command", command)
    return ran


def test_every_method_is_one_that_train_takes_and_has_about_as_many_steps_as_its_like():
    """Catches a flag that train.py refuses after hours of others, and a comparison at another budget."""
    found = {}
    for name, words in gradient_or_evolution.METHODS.items():
        flags, world = list(map(str, words)), "dream" if "dream" in words else "game"
        presets = GAME.ppo_presets(world) if "ppo" in words else GAME.train_presets(world)
        found[name] = cli.check({"train": presets}, flags)["train"][0]
    linear, network, cma, game_ppo, game_cma = found.values()
    dreamt = linear.generations * linear.rows * linear.steps
    assert dreamt == network.generations * network.rows * network.steps
    assert dreamt == pytest.approx(cma.generations * cma.n * cma.t * cma.num_episode * cma.horizon, rel=0.05)
    assert {cfg.horizon for cfg in (linear, network, cma)} == {300}
    played = game_ppo.generations * game_ppo.rows * game_ppo.steps
    assert game_cma.fewer_episodes.startswith("110:1,")
    assert played == game_cma.generations * game_cma.n * game_cma.t * 1000
    assert (linear.hidden, network.hidden, game_ppo.hidden) == ("", "128,64", "128,64")


def test_all_learn_in_the_same_models_and_drive_the_same_tracks(tmp_path, ran):
    """Catches a VAE that is another for each, one seed for all, tracks of another use and another engine."""
    bench = gradient_or_evolution.Bench(str(tmp_path), 2, 7)
    figures = [bench.figures(name) for name in list(gradient_or_evolution.METHODS)[1:3]]
    models = os.path.join(tmp_path, "models")
    extract, series, rnn = ran[:3]
    assert extract[extract.index("--controller") + 1] == os.path.join(files.ROOT, GAME.config.SHIPPED_CONTROLLER)
    assert extract[extract.index("--first_seed") + 1] == "380000"
    assert extract[extract.index("--explore") + 1] == "0.3"
    assert "--max_frames 0 --gymnasium_share 0 " in " ".join(extract)  # whole drives, in one engine
    assert extract[extract.index("--episodes") + 1] == "200"
    assert rnn[-4:] == ["--streams", "16", "--steps", "2000"]
    assert [words[words.index("--run") + 1] for words in (extract, series, rnn)] == [models] * 3
    trains, scored = ([words for words in ran if words[0] == script] for script in ("train", "model"))
    assert [words[words.index("-s") + 1] for words in trains] == ["0", "1", "0", "1"]
    assert len({words[words.index("--run") + 1] for words in trains}) == 4
    for words in trains:
        run = words[words.index("--run") + 1]
        for ending in ("", ".meta.json"):
            there = os.path.join(GAME.folder, f"vae/vae.json{ending}")
            assert os.path.samefile(f"{run}/tf_vae/vae.json{ending}", there)
        assert os.path.samefile(f"{run}/tf_rnn", f"{models}/tf_rnn")
    assert all(words[3:6] == ["460000", "--episodes", "7"] for words in scored)
    assert all(words[-2:] == ["--backend", "envpool"] for words in scored)
    assert [one["means"] for one in figures] == [[1, 2], [1, 2]]
    assert [one["minutes"] for one in figures] == [2, 2]
    assert [one["steps"] for one in figures] == [20, 8 * (3 * 9 + 4 * 19)]
    assert [one["in_training"] for one in figures] == [50, 50]
    assert figures[0]["score"] == 1.5
    assert figures[0]["stderr"] == pytest.approx((1 + 0.25) ** 0.5)


def test_the_table_tells_the_seeds_apart():
    """Catches a mean without its spread, and steps that are no millions."""
    one = {"steps": 6553600, "minutes": 7.6, "in_training": 234.6, "score": 900.4, "stderr": 21.2}
    figures = {"a": one | {"means": [850.2, 950.7]}, "b": one | {"means": [900.4]}}
    lines = gradient_or_evolution.table(figures).splitlines()
    assert lines[2:] == ["| a | 6.6 | 8 | 235 | 900 ± 21 (850, 951) |", "| b | 6.6 | 8 | 235 | 900 ± 21 |"]


@pytest.mark.parametrize(("words", "said"), [(["--only", "PPO"], "--only"), (["--games", 50_000], "--games")])
def test_what_cannot_be_measured_is_refused_at_once(tmp_path, ran, words, said):
    """Catches hours of training before an error."""
    done = commands.call(lambda *_: gradient_or_evolution.main(), None, "--run", tmp_path / "run", *words)
    assert done.refused(said), done
    assert ran == []


def test_the_page_has_a_place_for_the_table():
    """Catches a table that is lost after hours."""
    assert all(running.around(os.path.join(files.ROOT, "docs", "history", "carracing.md"), "methods"))
