"""bench/variants.py: what it measures, and its table in docs/variants.md; bench/scale.py: what it refuses."""

import contextlib
import dataclasses
import errno
import os
import signal
import sys
import types

import commands
import numpy as np
import pytest
import tensorflow as tf
from commands import in_this_process  # noqa: F401  a fixture
from matplotlib import figure
from PIL import Image

from common.agent import mdnrnn, vae
from common.data import recordings
from common.game import find
from common.runtime import files, provenance
from common.runtime.files import ROOT
from common.training import trainers, vae_and_rnn

from bench import gradient_or_evolution, policy_gradient, running, scale, variants


def test_sharpness_is_the_energy_of_gradients(rng):
    """Catches one direction left out, and a measure that grows with brightness alone."""
    stripes = np.zeros((2, 8, 8, 3))
    stripes[:, ::2] = 1  # every neighbor above and below differs by 1, none to the side
    assert variants.sharpness(stripes) == pytest.approx(1)
    assert variants.sharpness(stripes.transpose(0, 2, 1, 3)) == pytest.approx(1)
    assert variants.sharpness(stripes + 5) == pytest.approx(1)
    assert variants.sharpness(stripes / 2) == pytest.approx(0.25)


def test_losses_are_of_the_models_on_the_recordings(tmp_path, rng):
    """Catches a loss of another episode, a mean over pixels, a gaussian measured by its KL, and no first frame."""
    game = commands.GAMES["doomrnn"]
    commands.write_models(game, str(tmp_path), 1)
    (tmp_path / "record").mkdir()
    zeros = np.zeros(12)
    frames = rng.integers(0, 256, (12, 64, 64, 3), np.uint8)
    recordings.write(str(tmp_path / "record"), 2000, frames, rng.uniform(-1, 1, 12), zeros, zeros)
    found = variants.losses(game, str(tmp_path), str(tmp_path / "record"))
    loaded = variants.models.load(
        game, {name: str(tmp_path / game.config.TRAINED[name]) for name in variants.models.NAMES}
    )
    mu, logvar = loaded.vae.encode(frames)
    made = loaded.vae.decode(mu).numpy()
    assert found["pixels"] == pytest.approx(((frames / 255 - made) ** 2).sum() / 12, rel=1e-4)
    assert found["kl"] == pytest.approx(float(np.mean(vae.kl_to_standard_normal(mu, logvar))), rel=1e-4)
    assert found["sharpness"] == pytest.approx(variants.sharpness(made) / variants.sharpness(frames / 255), rel=1e-3)
    z = np.random.default_rng(0).standard_normal((12, 4), np.float32) * np.exp(logvar / 2) + mu
    action, state = recordings.read(str(tmp_path / "record" / "2000.npz"))["action"], loaded.rnn.initial_state(1)
    nats, prepared = [], loaded.rnn.prepared()
    for t in range(11):
        inputs = mdnrnn.inputs_of(z[t : t + 1], action[None, t : t + 1], np.float32([t == 0]))
        state = loaded.rnn.step(prepared, inputs, state)
        nats.append(-mdnrnn.log_prob(loaded.rnn.predict(prepared, state[0])[0], z[t + 1 : t + 2]))
    assert found["z_nats"] == pytest.approx(np.mean(nats), rel=1e-2)


def test_the_table_has_what_was_measured_and_nothing_else(tmp_path):
    """Catches a figure in another column, a spread of one run, and text around the table that is lost."""
    one = dict(zip(variants.COLUMNS, (12.3456, 0.5, 16.0, 1.25, 700.0, 60.0, 250.0), strict=True)) | {"stderr": 12.0}
    text = variants.table({"standard": one, "ga": {"score": 300.0, "stderr": None}})
    assert text.splitlines()[2:] == [
        "| standard | 12.35 | 0.5 | 16 | 1.25 | 700 ± 12 | 60 | 250 |",
        "| ga |  |  |  |  | 300 |  |  |",
    ]
    page = tmp_path / "variants.md"
    page.write_text("before\n<!-- table x -->\nold\n<!-- end x -->\nafter\n<!-- table y -->\nkept\n<!-- end y -->\n")
    for _ in range(2):
        running.insert(str(page), "x", text)
    assert page.read_text() == (
        f"before\n<!-- table x -->\n{text}\n<!-- end x -->\nafter\n<!-- table y -->\nkept\n<!-- end y -->\n"
    )


def test_every_variant_differs_in_one_stage_and_shares_those_before(tmp_path):
    """Catches a variant that changes two stages, and one that changes the files of another."""
    for differs, flags in variants.VARIANTS.values():
        assert differs in variants.STAGES
        assert differs == "extract" or len(flags) in (0, 1, 2)
    (tmp_path / "a" / "tf_vae").mkdir(parents=True)
    for _ in range(2):
        running.share(str(tmp_path / "a"), str(tmp_path / "b"), ("tf_vae",))
    assert os.path.samefile(tmp_path / "a" / "tf_vae", tmp_path / "b" / "tf_vae")


def test_a_variant_is_trained_from_its_stage_on_and_measured_on_unseen_episodes(tmp_path, monkeypatch):
    """Catches the stage of a variant taken from the standard, flags in another one, and losses on known episodes."""
    budget = {"preset": "smoke", "episodes": None, "vae_steps": None, "rnn_steps": 3, "generations": None, "unseen": 3}
    arguments = types.SimpleNamespace(run=str(tmp_path), games=2, seeds=1, train=[], world="", **budget)
    bench, ran, measured = variants.Bench(find("carracing"), arguments), [], []

    def command(_, script, *flags):
        words = list(map(str, flags))
        run = words[words.index("--run") + 1]
        ran.append((script, os.path.relpath(run, tmp_path), words[words.index("--run") + 2 :]))
        if script == "train":
            cfg = {"n": 1, "t": 3, "num_episode": 1, "o": "cma"}
            for ending, value in (
                ("best.json", [[0.0]]),
                ("hist.json", [[1, 2.0, 3.0]]),
                ("best.json.meta.json", {"config": cfg}),
            ):
                base = f"{run}/log/carracing.cma.{bench._config(flags).num_episode}.{bench._config(flags).t}"
                files.write_json(f"{base}.{ending}", value)
        if script == "model":
            assert str(variants.SCORE_SEED) in words
            files.write_json(words[words.index("--out") + 1], {"episodes": [{"return": 1.0}] * 2})

    monkeypatch.setattr(running, "command", command)
    monkeypatch.setattr(variants, "losses", lambda game, run, record: measured.append((run, record)) or {})
    monkeypatch.setattr(variants, "RESULT", {})
    for name in ("gaussian", "two actions"):
        found = bench.figures(name)
        assert found["curves"] == [[[3], [3.0]]]
        assert found["seconds_per_generation"] == 2.0
    unseen = ["--first_seed", "390000", "--episodes", "3"]
    assert [part for part in ran if part[0] not in ("train", "model")] == [
        ("rnn_train", "gaussian", ["--steps", "3", "--output", "gaussian"]),
        ("extract", "unseen", unseen),
        ("extract", "two_actions", ["--actions", "2"]),
        ("vae_train", "two_actions", []),
        ("series", "two_actions", []),
        ("rnn_train", "two_actions", ["--steps", "3"]),
        ("extract", "unseen_two", [*unseen, "--actions", "2"]),
    ]
    assert sorted(os.listdir(tmp_path / "gaussian")) == ["evolved0", "record", "series", "tf_vae"]
    paths = [tuple(os.path.relpath(path, tmp_path) for path in pair) for pair in measured]
    assert paths == [("gaussian", "unseen/record"), ("two_actions", "unseen_two/record")]


@pytest.mark.parametrize(("name", "trainings"), [("standard", 3), ("openes", 3), ("gaussian", 1)])
def test_strategies_are_compared_over_all_seeds(tmp_path, monkeypatch, name, trainings):
    """Catches a strategy of one seed beside another one's three."""
    bench = variants.Bench(find("doomrnn"), types.SimpleNamespace(run=str(tmp_path), seeds=3, games=2))
    made = []

    def evolved(run, seed, flags):
        base = str(tmp_path / f"{seed}.best.json")
        files.write_json(base, [[0.0], 1.0])
        files.write_json(f"{tmp_path}/{seed}.hist.json", [[1, 2.0, 3.0]])
        files.write_json(f"{base}.meta.json", {"config": {"n": 1, "t": 4, "num_episode": 1, "o": "openes"}})
        made.append(seed)
        return base

    monkeypatch.setattr(bench, "trained", lambda name: str(tmp_path))
    monkeypatch.setattr(bench, "_unseen", lambda flags: "")
    monkeypatch.setattr(bench, "_evolved", evolved)
    monkeypatch.setattr(variants, "losses", lambda *_: {})
    monkeypatch.setattr(variants, "RESULT", {})
    monkeypatch.setattr(running, "returns", lambda game, best, *_: np.full(2, float(os.path.basename(best)[0])))
    assert bench.figures(name)["means"] == made == list(range(trainings))


def test_a_controller_that_has_evolved_on_plays_anew(tmp_path, monkeypatch):
    """Catches the scores of the controller that lay in the same file before."""
    best, played = str(tmp_path / "log" / "x.best.json"), []

    def command(game, script, *words):
        played.append(files.read_json(best))
        rows = [{"return": played[-1][1]}]
        files.write_json(words[words.index("--out") + 1], {"episodes": rows, "commit": provenance.commit()})

    monkeypatch.setattr(running, "command", command)
    for score in (1.0, 1.0, 2.0):
        files.write_json(best, [[0.5], score])
        assert running.returns(find("carracing"), best, 460_000, 1).tolist() == [score]
    assert len(played) == 2


def test_what_is_played_otherwise_is_played_again(tmp_path, monkeypatch):
    """Catches the scores of other games, of another backend or of other code taken for those that are asked for."""
    game, best, played = find("carracing"), str(tmp_path / "log" / "x.best.json"), []
    files.write_json(best, [[0.5], 1.0])

    def command(game, script, *words):
        played.append((words[2], words[words.index("--episodes") + 1], words[words.index("--backend") + 1]))
        about = {"episodes": [{"return": len(played)}], "commit": running.provenance.commit()}
        files.write_json(words[words.index("--out") + 1], about)

    monkeypatch.setattr(running, "command", command)
    asked = [(460_000, 2, "draft"), (470_000, 2, "draft"), (460_000, 3, "draft"), (460_000, 2, "gymnasium")]
    for _ in range(2):
        assert [running.returns(game, best, *one).tolist() for one in asked] == [[1], [2], [3], [4]]
    assert played == [(seed, count, backend) for seed, count, backend in asked]
    monkeypatch.setattr(running.provenance, "commit", lambda: "another")
    assert running.returns(game, best, *asked[0]).tolist() == [5]
    assert running.returns(game, best, *asked[0]).tolist() == [5]
    running.returns(dataclasses.replace(game, backend_here={"envpool": "gym"}.get), best, 460_000, 2, "envpool")
    assert played[-1] == (460_000, 2, "gym")


@pytest.mark.parametrize(
    ("bench", "page", "mark", "file", "words"),
    [
        (variants, "variants.md", "doomrnn", "doomrnn.variants.json", ("--game", "doomrnn")),
        (policy_gradient, "history/policy_gradient.md", "settings", "doomrnn.settings.json", ()),
        (gradient_or_evolution, "history/carracing.md", "methods", "carracing.methods.json", ()),
    ],
)
def test_rows_that_are_not_measured_again_are_kept(tmp_path, monkeypatch, bench, page, mark, file, words):
    """Catches --only that deletes the other rows, another order, and a row that tells the commit of another start."""
    row = dict.fromkeys(("steps", "minutes", "dream", "in_training", "score", "stderr"), 1.0) | {"means": [1.0]}
    places = {name: str(tmp_path / "log") if name == "LOG" else str(tmp_path) for name in ("ROOT", "LOG")}
    for name, place in places.items():
        monkeypatch.setattr(bench, name, place, raising=False)
    fake = types.SimpleNamespace(check=lambda names: None, figures=lambda name: row)
    monkeypatch.setattr(bench, "Bench", lambda *_: fake)
    path = tmp_path / "docs" / page
    path.parent.mkdir(parents=True)
    path.write_text(f"<!-- table {mark} -->\n<!-- end {mark} -->\n")
    names = ["gaussian", "mode z"] if bench is variants else list(getattr(bench, "METHODS", None) or bench.SETTINGS)[:2]
    for commit, name in (("late", names[1]), ("early", names[0])):
        monkeypatch.setattr(provenance, "about_now", lambda commit=commit: {"commit": commit, "made": "today"})
        done = commands.call(
            lambda *_: bench.main(), None, *words, "--run", tmp_path / "run", "--only", name, "--write"
        )
        assert done.code == 0, done
    figures = files.read_json(str(tmp_path / "log" / file))["figures"]
    assert {name: found["commit"] for name, found in figures.items() if name != "standard"} == {
        names[0]: "early",
        names[1]: "late",
    }
    assert [name for name in figures if name != "standard"] == names
    assert figures[names[1]]["budget"]["only"] == names[1]
    rows = [line.split(" | ")[0][2:] for line in path.read_text().splitlines() if line.startswith("| ")]
    assert [name for name in rows[1:] if name != "standard"] == names


def test_rollouts_are_those_that_were_played():
    """Catches the episodes of the last generations counted for the first, which play fewer."""
    config = {"n": 2, "t": 4, "num_episode": 16}
    assert variants.rollouts_of(config, 2).tolist() == [128, 256]
    assert variants.rollouts_of(config | {"fewer_episodes": "1:1,3:4"}, 4).tolist() == [8, 40, 72, 200]


def test_the_standard_error_is_of_seeds_and_of_games(rng):
    """Catches games that all seeds share counted as so many more, and seeds that differ taken for one."""
    seed, game, noise = (rng.normal(0, 1, shape) for shape in ((4000, 3, 1), (4000, 1, 50), (4000, 3, 50)))
    returns = 10 * seed + 40 * game + 5 * noise
    found = np.mean([running.standard_error(each) ** 2 for each in returns])
    true = returns.mean(axis=(1, 2)).var()
    assert found == pytest.approx(true, rel=0.15)
    assert running.standard_error(np.array([[1.0, 3.0]])) == pytest.approx(1)  # one seed: sqrt(2 / 2)


def test_the_time_of_a_strategy_is_that_of_ask_and_tell_after_the_first_generation(monkeypatch):
    """Catches the first generation in the mean (it sets things up), seconds for milliseconds, a sum for a mean."""
    clock = types.SimpleNamespace(now=0.0, generations=0)

    class Slow:
        def __init__(self, start, popsize, sigma, seed):
            assert start.shape == (400,)

        def ask(self):
            clock.now += 0.25 if clock.generations else 100

        def tell(self, fitness):
            assert fitness.shape == (8,)
            clock.now += 0.5
            clock.generations += 1

    monkeypatch.setitem(variants.es.STRATEGIES, "slow", Slow)
    monkeypatch.setattr(variants.time, "perf_counter", lambda: clock.now)
    assert variants.ask_tell_ms("slow", 400, 8, 3) == 750
    assert clock.generations == 4


def test_every_game_has_the_variants_of_its_options():
    """Catches a mode that is the standard of a game compared with itself, and one that is not compared."""
    doom, cars = (variants.variants_of(find(name)) for name in ("doomrnn", "carracing"))
    modes = {f"mode {mode}" for mode in variants.settings.CONTROLLER_MODES}
    assert modes - set(doom) == {"mode zch"}
    assert modes - set(cars) == {"mode zh"}
    assert set(cars) - set(doom) == {"two actions", "random starts", "mode zch"}


def test_a_collapse_is_noise_one_picture_for_all_or_pixels_that_are_missed():
    """Catches a run that counts as sound because one of the three is."""
    assert not variants.collapsed(missed=0.6, sharpness=0.8, spread=0.7)
    assert variants.collapsed(missed=1.0, sharpness=0.8, spread=0.7)
    assert variants.collapsed(missed=0.6, sharpness=9.0, spread=0.7)
    assert variants.collapsed(missed=0.6, sharpness=0.8, spread=0.05)
    assert variants.collapsed(missed=float("nan"), sharpness=0.8, spread=0.7)


def test_health_is_measured_on_unseen_frames(tmp_path, rng, monkeypatch):
    """Catches errors that are no share of the variance, and one that is taken over the wrong axis."""
    frames, zeros = rng.integers(0, 256, (12, 64, 64, 3), np.uint8), np.zeros(12)
    recordings.write(str(tmp_path), 2000, frames, zeros, zeros, zeros)
    real = frames / np.float32(255)
    for share, missed in ((1.0, 0.0), (0.5, 0.25), (0.0, 1.0)):
        made = real.mean(axis=0) + share * (real - real.mean(axis=0))
        drawn = types.SimpleNamespace(encode=lambda obs: (obs, obs), decode=lambda _, made=made: tf.constant(made))
        monkeypatch.setattr(variants.weights, "read_vae", lambda _, drawn=drawn: drawn)
        found = variants.health("run", str(tmp_path), "vae.json")
        assert (found["missed"], found["spread"]) == pytest.approx((missed, share**2), abs=1e-4)
        assert found["collapsed"] == (share == 0)


def test_seeds_of_a_vae_gan_are_trained_once_and_measured(tmp_path, rng, monkeypatch):
    """Catches a seed trained anew, one seed for all, a collapse that ends the bench, and a full disk that is one."""
    game, trained, budget = find("doomrnn"), [], {"preset": "smoke", "vae_steps": 2, "unseen": 1, "episodes": None}
    bench = variants.Bench(game, types.SimpleNamespace(run=str(tmp_path), **budget))

    def command(_, script, *flags):
        run = flags[flags.index("--run") + 1]
        if script == "extract" and not os.path.exists(f"{run}/record"):
            os.makedirs(f"{run}/record")
            frames, zeros = rng.integers(0, 256, (12, 64, 64, 3), np.uint8), np.zeros(12)
            recordings.write(f"{run}/record", 2000, frames, zeros, zeros, zeros)
        elif script == "vae_train":
            small = "--z_size", 4, "--batch_size", 4, "--report_every", 1, "--unverified"
            seed = flags[flags.index("--seed") + 1] if "--gan" in flags else None
            if seed == 2:
                raise running.NotFinite("vae_train.py: failed")
            if seed == 3:
                raise variants.cli.UserError("No space left on device")
            done = commands.call(vae_and_rnn.train_vae, game, *flags, *small)
            assert done.code == 0, done.err
            trained.append((os.path.basename(run), seed, "already made" in done.out))

    monkeypatch.setattr(running, "command", command)
    first, again = bench.gan_seeds(2), bench.gan_seeds(2)
    once = [("short", None, False), ("gan1", 1, False)]
    assert trained == once + [(*one[:2], True) for one in once]
    assert again == first
    with pytest.raises(variants.cli.UserError, match="No space left"):  # which says nothing of the seed
        bench.gan_seeds(3)
    assert first[2] == {"name": "seed 2", "collapsed": True}
    assert first[1]["spread"] < 0.1  # after two steps all frames are decoded alike
    assert first[1]["collapsed"]
    lines = variants.seeds_table(first).splitlines()
    assert lines[2].startswith("| without --gan | ")
    assert lines[4] == "| seed 2 |  |  |  | yes |"
    assert {line.count("|") for line in lines} == {6}


@pytest.mark.parametrize("flags", [("--gan", "--seed", 3), ()])
def test_a_command_ends_with_the_bench_and_tells_of_numbers_that_are_not_finite(tmp_path, capfd, flags):
    """Catches a child that outlives the bench, errors that are not seen, and a locked folder taken for a collapse."""
    here = types.SimpleNamespace(_stage=types.SimpleNamespace(folder="tf_vae"))
    with pytest.raises(variants.cli.UserError) as not_finite:
        trainers.Trainer._checked(here, 7, (float("nan"), 1.0))
    script, wanted = tmp_path / "vae_train.py", (running.NotFinite if flags else variants.cli.UserError)
    game = types.SimpleNamespace(folder=str(tmp_path))
    for error, kind in (not_finite.value, wanted), ("tf_vae: is used by another process", variants.cli.UserError):
        script.write_text(
            "import ctypes, sys\nfound = ctypes.c_int()\nctypes.CDLL(None).prctl(2, ctypes.byref(found))\n"  # PDEATHSIG
            f"print(found.value, sys.argv[1:])\nsys.exit(f'{{sys.argv[0]}}: ' + {str(error)!r})\n"
        )
        with pytest.raises(variants.cli.UserError, match=r"vae_train.py.*: failed, see above") as failed:
            running.command(game, "vae_train", *flags)
        assert type(failed.value) is kind
        out, err = capfd.readouterr()
        assert err == f"vae_train.py: {error}\n"
        if sys.platform == "linux":
            assert out == f"{signal.SIGKILL} {[str(flag) for flag in flags]}\n"
    script.write_text("")
    running.command(game, "vae_train", *flags)


def test_a_variant_that_a_game_lacks_is_refused(tmp_path):
    """Catches two actions asked of Doom, after hours of the others."""
    words = "--game", "doomrnn", "--run", tmp_path, "--only", "two actions"
    assert commands.call(lambda *_: variants.main(), find("doomrnn"), *words).refused("--only two actions")


FIXED = "--game", "doomrnn", "--preset", "smoke", "--only", "gaussian"


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--train=--popsize 3"], "--popsize"),
        (["--train=-t 2"], "CMA-ES needs at least 3"),
        (["--train=-o ppo"], "-o ppo"),
        (["--train=--world game --ends drawn"], "--ends"),
        (["--only", "openes", "--train=-t 33"], "openes has pairs"),
        (["--preset", "paper", "--world", "game"], "paper"),
        (["--unseen", 10_001], "--unseen"),
        (["--gan_seeds", 3, "--unseen", 10_001], "--unseen"),
        (["--games", 40_001], "--games"),
    ],
)
def test_what_a_later_command_would_refuse_is_refused_at_once(tmp_path, monkeypatch, words, said):
    """Catches flags of an evolution, and seeds of others, that are found to be wrong after hours of training."""
    monkeypatch.setattr(running, "command", lambda *_: pytest.fail("a command ran"))
    done = commands.call(lambda *_: variants.main(), None, *FIXED, "--run", tmp_path / "run", *words)
    assert done.refused(said), done
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("missing", ["<!-- table gan doomrnn -->", "<!-- end gan doomrnn -->"])
def test_a_page_without_a_place_for_the_table_is_refused_at_once(tmp_path, monkeypatch, missing):
    """Catches a ValueError after ten trainings, and a table that the page of this repository has no place for."""
    page = os.path.join(ROOT, "docs", "variants.md")
    for mark in (f"{kind}{name}" for kind in ("", "gan ") for name in commands.GAMES):
        before, after = running.around(page, mark)
        assert before
        assert after
    monkeypatch.setattr(running, "command", lambda *_: pytest.fail("a command ran"))
    monkeypatch.setattr(variants, "ROOT", str(tmp_path))
    (tmp_path / "docs").mkdir()
    (tmp_path / "docs" / "variants.md").write_text(
        "<!-- table gan doomrnn -->\n<!-- end gan doomrnn -->\n".replace(missing, "")
    )
    words = "--game", "doomrnn", "--run", tmp_path / "run", "--gan_seeds", 2, "--write"
    done = commands.call(lambda *_: variants.main(), None, *words)
    assert done.refused("variants.md", "<!-- table gan doomrnn -->", "<!-- end gan doomrnn -->"), done


def broken_save(monkeypatch):
    """Whatever saves a picture writes a part of it, then finds the disk full."""

    def save(self, target, *_, **__):
        with open(target, "wb") if isinstance(target, str) else contextlib.nullcontext(target) as file:
            file.write(b"half")
        raise OSError(errno.ENOSPC, "full")

    monkeypatch.setattr(figure.Figure, "savefig", save)
    monkeypatch.setattr(Image.Image, "save", save)


def test_pictures_are_complete_or_as_they_were(tmp_path, rng, monkeypatch):
    """Catches half a picture in docs/ after a full disk, and one of another format than its name says."""
    frames, zeros = rng.integers(0, 256, (12, 64, 64, 3), np.uint8), np.zeros(12)
    recordings.write(str(tmp_path / "unseen" / "record"), 2000, frames, zeros, zeros, zeros)
    drawn = types.SimpleNamespace(encode=lambda obs: (obs, obs), decode=lambda obs: tf.constant(obs / np.float32(255)))
    monkeypatch.setattr(variants.weights, "read_vae", lambda _: drawn)
    bench = variants.Bench(find("doomrnn"), types.SimpleNamespace(run=str(tmp_path)))
    curves = {"standard": {"curves": [[[1, 2], [3, 4]]]}}
    pictures = str(tmp_path / "frames.png"), str(tmp_path / "curves.png")
    for failing in (False, True):
        if failing:
            before = [files.sha256(path) for path in pictures]
            broken_save(monkeypatch)
        with pytest.raises(OSError, match="full") if failing else contextlib.nullcontext():
            bench.show(pictures[0])
        with pytest.raises(OSError, match="full") if failing else contextlib.nullcontext():
            variants.plot(curves, pictures[1])
    assert [files.sha256(path) for path in pictures] == before
    assert sorted(os.listdir(tmp_path)) == ["curves.png", "frames.png", "unseen"]
    for path in pictures:
        with Image.open(path) as picture:
            assert picture.format == "PNG"


def test_the_most_that_is_allowed_is_not_refused(tmp_path):
    """Catches limits that are one too low, and the command lines of docs/variants.md refused."""
    budget = {"preset": "laptop", "generations": 20, "unseen": 10_000, "games": 40_000, "gan_seeds": None}
    for name, world, train in (
        ("doomrnn", "", "-t 32 --num_episode 8 --ends drawn --horizon 500 --eval_steps 20 --eval_episodes 64"),
        ("doomrnn", "game", "-t 32"),
        ("doomrnn", "", "-t 32 --world=game"),
        ("carracing", "", "-t 24 --num_episode 1 --fewer_episodes= --eval_steps 40 --eval_episodes 8"),
    ):
        arguments = types.SimpleNamespace(run=str(tmp_path), world=world, train=train.split(), **budget)
        bench = variants.Bench(find(name), arguments)
        bench.check(variants.variants_of(find(name)))


def test_the_bench_asks_for_its_seeds_where_nobody_learns(tmp_path, monkeypatch):
    """Catches losses on episodes that were trained on, scores of test games or another start, and one seed for all."""
    budget = {"preset": "smoke", "episodes": None, "generations": 5, "games": 7, "unseen": 3, "world": ""}
    budget |= {"train": ["-t", "32"]}
    bench, ran = variants.Bench(find("doomrnn"), types.SimpleNamespace(run=str(tmp_path), **budget)), []

    def command(_, script, *flags):
        words = [script, *map(str, flags)]
        ran.append(words)
        if script == "train":
            for base in ("doomrnn.ga.4.16", "doomrnn.ga.4.32", "doomrnn.ga.4.64"):  # two are of earlier starts
                path = os.path.join(words[words.index("--run") + 1], "log", f"{base}.best.json")
                variants.files.write_json(path, [[0.0]])
        if script == "model":
            variants.files.write_json(words[words.index("--out") + 1], {"episodes": [{"return": 1.0}] * 7})

    monkeypatch.setattr(running, "command", command)
    bench._unseen()
    for seed in (0, 1):
        best = bench._evolved(str(tmp_path / "standard"), seed, ("-o", "ga"))
        running.returns(bench.game, best, variants.SCORE_SEED, 7)
    assert ran[0][-4:] == ["--first_seed", "390000", "--episodes", "3"]
    trains = [words for words in ran if words[0] == "train"]
    assert [words[words.index("-s") + 1] for words in trains] == ["0", "1"]
    assert all(words[-4:] == ["-t", "32", "-o", "ga"] for words in trains)
    scored = [words for words in ran if words[0] == "model"]
    assert all(words[1:3] == ["doomreal", "norender"] and words[4] == "460000" for words in scored)
    assert {os.path.basename(words[3]) for words in scored} == {"doomrnn.ga.4.32.best.json"}
    assert all(words[words.index("--episodes") + 1] == "7" for words in scored)
    for game in commands.GAMES.values():
        assert all(cfg.first_seed + cfg.episodes <= variants.UNSEEN_SEED for cfg in game.config.EXTRACT.values())


def test_in_a_world_that_is_named_all_search_along_every_weight(tmp_path):
    """Catches strategies and modes that hardly differ, because a preset searches in a subspace."""
    budget = {"preset": "laptop", "generations": 5, "world": "dream", "train": ["-t", "8"]}
    bench = variants.Bench(find("carracing"), types.SimpleNamespace(run=str(tmp_path), **budget))
    words = " ".join(map(str, bench._evolution("run", 3, ("-o", "ga"))))
    assert words == "--preset laptop --run run --generations 5 -s 3 --world dream --directions 0 -t 8 -o ga"


@pytest.mark.parametrize("name", commands.GAMES)
def test_every_variant_but_the_standard_changes_its_stage(name):
    """Catches a variant that is the standard compared with itself."""
    config = find(name).config
    of = {"extract": config.EXTRACT, "vae_train": config.VAE, "rnn_train": config.RNN, "train": config.TRAIN}
    for variant in variants.variants_of(find(name)):
        stage, flags = variants.VARIANTS[variant]
        changed = variants.cli.parse(of[stage], None, ["--preset", "smoke", *flags])[0] != of[stage]["smoke"]
        assert changed == (variant != "standard"), variant


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--ranks", 1, 3], "3: "),
        (["--ranks", 128], "128: "),
        (["--out", "."], "--out"),
        (["--rank", 1], "--rank"),
    ],
)
def test_scale_refuses_at_once_what_it_cannot_measure(monkeypatch, words, said):
    """Catches ranks that share the population out unequally, and figures that cannot be written, after the work."""
    monkeypatch.setattr(scale, "measure", lambda *_: pytest.fail("measured"))
    assert commands.call(lambda *_: scale.main(), None, *words).refused(said)


def test_scale_writes_what_it_measured(tmp_path, monkeypatch):
    """Catches ranks that divide the population refused, and a file without the figures."""
    monkeypatch.setattr(scale, "measure", lambda ranks, generations: {"ranks": ranks, "generations": generations})
    out = tmp_path / "new" / "scale.json"
    done = commands.call(lambda *_: scale.main(), None, "--ranks", 1, 64, "--generations", 2, "--out", out)
    assert done.code == 0, done.err
    found = files.read_json(str(out))
    assert found["rows"] == [{"ranks": ranks, "generations": 2} for ranks in (1, 64)]
    assert found.keys() == files.read_json(os.path.join(ROOT, "bench", "scale.json")).keys()


def test_scale_does_not_count_the_first_generation(monkeypatch):
    """Catches the time of the first, in which the functions are compiled, in the mean of all; two kinds of memory."""

    class Evolution:
        returncode = 0

        def __init__(self, command, **_):
            run = command[command.index("--run") + 1]
            hist = [[k, 100.0 + 2 * k, 0, 0, 0, 0, 0, 1 + k] for k in range(5)]
            files.write_json(f"{run}/log/doomrnn.cma.{scale.EPISODES}.{scale.POPULATION}.hist.json", hist)
            self.polls = iter([None, 0])

        def poll(self):
            return next(self.polls)

    monkeypatch.setattr(scale.subprocess, "Popen", Evolution)
    monkeypatch.setattr(scale, "memory", lambda run: {0: (2.0, 3.0), 1: (4.0, 5.0)})
    monkeypatch.setattr(scale.time, "sleep", lambda _: None)
    found = scale.measure(1, 4)
    assert found["seconds_per_generation"] == 2.0
    assert (found["private_mb_per_rank"], found["proportional_mb_per_rank"]) == (3, 4)
    assert found["steps_in_the_last"] == 4 * 64 * 4  # the authors' figure, 5, is one more than the mean


def test_scale_says_that_an_evolution_failed(monkeypatch):
    """Catches a FileNotFoundError where train.py said what is wrong, such as no MPI."""
    monkeypatch.setattr(scale, "SETTINGS", ["--no_such_flag"])
    with pytest.raises(variants.cli.UserError, match=r"train\.py"):
        scale.measure(1, 1)
