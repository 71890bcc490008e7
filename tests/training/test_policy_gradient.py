"""common/training/policy_gradient.py: train.py -o ppo on tiny models, its files, and who plays them."""

import argparse
import dataclasses
import gc
import json
import os
import shutil
import types

import commands
import numpy as np
import pytest
from PIL import Image

from common.agent import controller, mdnrnn, models, network, weights
from common.play import agents, play
from common.runtime import cli, devices, files, provenance, settings
from common.runtime.cli import UserError
from common.studio import session
from common.training import dreams, evolution, evolve, policy_gradient, ppo
from common.worlds import games, tensor_dreams

import toy

CHOICES = ((-1.0,), (0.0,), (1.0,))
FEATURES = toy.Z + 2 * toy.H
TINY = settings.Ppo(
    generations=4, rows=16, steps=8, minibatch=64, epochs=1, value_updates=2, hidden="6,5", value_hidden="6",
    eval_steps=2, eval_episodes=12, temperature=1.5, dropout=0.1, seed_start=7, checkpoint_seconds=0.0,
)  # fmt: skip
TINY_GAME = settings.GamePpo(
    generations=4, rows=6, steps=8, minibatch=16, epochs=1, value_updates=2, hidden="6,5", value_hidden="6",
    eval_steps=2, eval_episodes=7, seed_start=7, checkpoint_seconds=0.0,
)  # fmt: skip
BASE = f"log/toy.ppo.{TINY.steps}.{TINY.rows}"
IN_GAME = f"log/toy.game.ppo.{TINY_GAME.steps}.{TINY_GAME.rows}"


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """(game, its run with models in which some dreams end early, the run of an undisturbed training)."""
    root = tmp_path_factory.mktemp("ppo")
    for name in ("toy", "run"):
        (root / name).mkdir()
    game = toy.game_in(str(root / "toy"))
    game.config.CHOICES, game.config.PPO, game.config.CONTROLLER_BIAS = CHOICES, {"laptop": TINY}, False
    game.config.PPO_GAME = {"laptop": TINY_GAME}
    game.config.CONTROLLER_MODE, game.config.TRAIN = "zch", {"laptop": settings.DreamTrain(n=1)}
    game = dataclasses.replace(game, world_names={"real": "toyreal", "dream": "toydream"}, title="the toy")
    noise = np.random.default_rng(1000).integers(0, 256, (8 * 64, 64, 3), np.uint8)
    Image.fromarray(noise).save(game.frames_picture)
    run = str(root / "run")
    paths = toy.in_run(game, run)
    toy.write_models(game, paths)
    rnn = weights.read_rnn(paths["rnn"], game.config.RNN_FILE_ORDER, toy.Z, 1, True)
    kernel, bias, output_w, output_b = (array.copy() for array in rnn.get_weights())
    output_w[:, 0], output_b[0] = 30 * np.sign(output_w[:, 0]), -15
    rnn.set_weights([kernel, bias, output_w, output_b])
    weights.write_rnn(paths["rnn"], rnn, game.config.RNN_FILE_ORDER)
    parents = {"vae": files.sha256(paths["vae"])}
    provenance.write(paths["rnn"], "rnn", "toy", settings.Rnn(), parents, 1.0, unverified=False)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(devices, "for_blocks", lambda **_: None)  # TensorFlow has its threads already
        patch.setattr(weights, "read_vae", commands.read_vae)
        patch.setenv("WORLDMODELS_DTYPE", "float32")
        assert train(game, run).code == 0
        yield game, run


def train(game, run, *flags):
    """`python train.py -o ppo --run RUN *flags`."""
    done = commands.call(evolve.main, game, "-o", "ppo", "--run", run, *flags)
    gc.collect()  # of the lock that a process would give up with its end
    return done


def another(made, tmp_path):
    """A run with the same models and nothing trained."""
    for name in ("tf_vae", "tf_rnn", "tf_initial_z"):
        os.symlink(os.path.join(made[1], name), tmp_path / name)
    return str(tmp_path)


def linear(made, run):
    """Writes a linear controller of the models to log/linear.json of a run; returns its weights, float [F]."""
    game, models_of = made
    hashes = {name: files.sha256(path) for name, path in toy.in_run(game, models_of).items()}
    weight = np.round(np.random.default_rng(1000).normal(size=FEATURES), 4)
    path = os.path.join(run, "log", "linear.json")
    controller.write(path, weight, 7.0)
    provenance.write(path, "controller", "toy", settings.Train(), hashes, 1.0, unverified=False)
    return weight


def agent_of(game, run, file):
    return agents.load(game, argparse.Namespace(file=os.path.join(run, file), run=run, unverified=False))


def states(rng, rows=200):
    """(z, h, c) at random, float32."""
    return tuple(rng.normal(size=(rows, size)).astype(np.float32) for size in (toy.Z, toy.H, toy.H))


def bytes_of(path):
    with open(path, "rb") as file:
        return file.read()


def written(run, base=BASE):
    """{file: content} of all that a training leaves for others, without times and commands."""
    found = {}
    for kind in ("json", "best.json", "hist.json", "hist_best.json", "log.json", "config.json"):
        found[kind] = files.read_json(f"{run}/{base}.{kind}")
    for kind in ("hist.json", "hist_best.json"):
        for row in found[kind]:
            del row[1]
    found["metrics.jsonl"] = bytes_of(f"{run}/{base}.metrics.jsonl")
    for kind in ("json", "best.json", "log.json"):
        meta = files.read_json(f"{run}/{base}.{kind}.meta.json")
        skipped = ("seconds", "made", "command", "meta_sha256")
        found[f"{kind}.meta.json"] = {key: value for key, value in meta.items() if key not in skipped}
    for kind in ("npz", "checkpoint.npz"):
        with np.load(f"{run}/{base}.{kind}") as archive:
            found |= {f"{kind} {name}": archive[name].tolist() for name in archive.files if name != "logs"}
    return found


@pytest.mark.parametrize(("base", "flags"), [(BASE, ()), (IN_GAME, ("--world", "game"))])
def test_a_stopped_and_resumed_training_is_an_undisturbed_one(made, tmp_path, monkeypatch, base, flags):
    """Catches state that the checkpoint forgets, a learning rate that begins anew, and rows logged twice."""
    game, whole = made
    run, update, done = another(made, tmp_path), ppo.PPO.update, []
    if flags:
        (tmp_path / "whole").mkdir()
        whole = another(made, tmp_path / "whole")
        assert train(game, whole, *flags).code == 0

    def stopping(self, *arguments):
        if len(done) == 3:
            raise KeyboardInterrupt
        done.append(arguments)
        return update(self, *arguments)

    monkeypatch.setattr(ppo.PPO, "update", stopping)
    assert train(game, run, *flags).code == 130
    monkeypatch.undo()
    resumed = train(game, run, *flags)
    assert "continuing from generation 3" in resumed.out
    assert written(run, base) == written(whole, base)
    log = files.read_json(f"{run}/{base}.log.json")
    assert [row[0] for row in log] == [2, 4]
    rates = np.array([rate for rate, _ in done])
    np.testing.assert_allclose(rates, {BASE: TINY, IN_GAME: TINY_GAME}[base].learning_rate * np.array([1, 0.775, 0.55]))
    again = train(game, run, *flags)
    assert (again.code, "nothing to do" in again.out) == (0, True)
    assert written(run, base) == written(whole, base)


def test_in_the_game_it_is_paid_by_the_game(made, tmp_path):
    """Catches dreams played for the game, its score called a dream's, games of its seeds, and others than it scores."""
    run, seeds = another(made, tmp_path), []

    class Noted(toy.Counting):
        def reset(self, seed):
            seeds.append(int(seed))
            return super().reset(seed)

    game = dataclasses.replace(made[0], real_games=lambda rows, backend="": games.Games([Noted() for _ in range(rows)]))
    assert train(game, run, "--world", "game", "--sample_z").code == 0
    trained, evaluated = [s for s in seeds if s < 400_000], [s for s in seeds if s >= 400_000]
    assert len(set(trained)) == len(trained) == 4 * 6
    assert all(evolution.FIRST_SEED <= seed <= evolution.LAST_SEED for seed in trained)
    assert sorted(evaluated) == sorted(2 * list(range(400_000, 400_007)))  # in threads
    rows = files.read_json(f"{run}/{IN_GAME}.hist.json")
    assert [row[-1] for row in rows] == [30, 60, 90, 120]  # all games have 5 steps
    assert all(100 - toy.END <= row[2] <= 100 + toy.END for row in rows)
    score = files.read_json(f"{run}/{IN_GAME}.best.json")[1]
    assert provenance.read(f"{run}/{IN_GAME}.best.json", "controller", "toy")["score"]["of"] == "game"
    assert 100 - toy.END <= score <= 100 + toy.END
    for flags, words in (
        (["--rows", "5"], ["--rows 5: do not divide into 2 --blocks"]),
        (["--minibatch", "100"], ["--minibatch 100", "6 x 8 steps"]),
        (["--horizon", "5"], ["--horizon"]),
    ):
        assert train(game, run, "--world", "game", *flags).refused(*words)
    of_samples = files.read_json(f"{run}/{IN_GAME}.json")
    assert train(game, run, "--world", "game", "--no-sample_z", "--fresh").code == 0
    assert files.read_json(f"{run}/{IN_GAME}.json") != of_samples
    del game.config.PPO_GAME
    with pytest.raises(UserError, match=r"the toy has no PPO_GAME in its config\.py; leave out --world game"):
        game.ppo_presets("game")
    game.config.PPO_GAME = {"laptop": TINY_GAME}


def test_its_file_plays_in_model_py_as_it_was_evaluated_in_training(made, tmp_path, monkeypatch):
    """Catches layers in another order, another mode, and parameters that are not those of the file."""
    game, run = made
    score = files.read_json(f"{run}/{BASE}.best.json")[1]
    played = tmp_path / "scores.json"
    words = "toydream", "norender", f"{run}/{BASE}.best.json", 400_000, "--episodes", TINY.eval_episodes
    done = commands.call(play.main, game, *words, "--temperature", TINY.temperature, "--run", run, "--out", played)
    assert done.code == 0, done.err
    scores = json.loads(played.read_text())
    assert scores["mean"] == pytest.approx(score)
    assert scores["std"] > 0, "all dreams are alike, so that this could not fail"


def test_each_mean_of_the_log_is_a_network(made, rng):
    """Catches what chooses among the means by real games taking them for linear controllers."""
    game, run = made
    path = f"{run}/{BASE}.log.json"
    meta, loaded = agents.on_its_models(game, path, "evolution", argparse.Namespace(run=run, unverified=False))
    mean = np.array(files.read_json(path)[-1][2])
    agent, saved, state = (
        agents.acting(game, path, meta, loaded, mean),
        agent_of(game, run, f"{BASE}.json"),
        states(rng),
    )
    actions = agent.policy([0]).act(state)
    np.testing.assert_array_equal(actions, saved.policy([0]).act(state))
    assert len(np.unique(actions)) > 1
    with pytest.raises(UserError, match="do not fit layers of 20, 6, 5, 3"):
        agents.acting(game, path, meta, loaded, mean[1:])


def test_only_training_is_hurried(made, tmp_path):
    """Catches an evaluation under the patience of training, training without it, and another backend than asked for."""

    @dataclasses.dataclass(frozen=True)
    class Hurried(settings.GamePpo):
        def rules(self):
            return {"hurried": True}

    run, played, backends = another(made, tmp_path), [], []

    class Noted(toy.Counting):
        def __init__(self, rules):
            self._rules = rules

        def reset(self, seed):
            played.append((int(seed) >= 400_000, self._rules))
            return super().reset(seed)

    def real_games(rows, backend="", **rules):
        backends.append(backend)
        return games.Games([Noted(rules) for _ in range(rows)])

    hurried = Hurried(**vars(TINY_GAME) | {"backend": "fast"})
    config = argparse.Namespace(**vars(made[0].config) | {"PPO_GAME": {"laptop": hurried}})
    game = dataclasses.replace(made[0], config=config, real_games=real_games)
    assert train(game, run, "--world", "game").code == 0
    assert {evaluation: rules for evaluation, rules in played} == {False: {"hurried": True}, True: {}}
    assert len({(evaluation, str(rules)) for evaluation, rules in played}) == 2
    assert set(backends) == {"fast"}

    def no_games(*_, **__):
        raise AssertionError("a finished training, or one that is refused, starts games")

    idle = dataclasses.replace(game, real_games=no_games)
    assert "nothing to do" in train(idle, run, "--world", "game").out
    assert train(idle, run, "--world", "game", "--fresh", "--start_from", "no.json").refused("no.json")


def test_the_studio_is_driven_by_a_network(made):
    """Catches an agent with hidden layers that the page cannot load, or that acts outside of the game's choices."""
    game, run = made
    page = session.Session(lambda name: session.Stage(game, run), seed=1000)

    def ask(do, **message):
        answer = page.answer(json.dumps({"do": do, "temperature": 1.0, "held": {}, **message}))
        about = json.loads(answer.partition(b"\n")[0])
        assert "error" not in about, about
        return about

    assert ask("open", game="toy")["no_agent"] == ""
    ask("start", world="dream", frame=0)
    assert tuple(ask("step", driver="agent", keys=[])["action"]) in CHOICES
    ask("start", world="game", frame=0)
    assert tuple(ask("step", driver="agent", keys=[])["action"]) in CHOICES


def test_on_a_linear_controller_it_begins_as_that_plays_and_goes_on_from_its_own_file(made, tmp_path, rng):
    """Catches a base that is not kept, a network that is random at the start, and one that begins anew.

    And a last policy that is not evaluated, because the updates end between two evaluations.
    """
    game, run = made[0], another(made, tmp_path)
    weight, state = linear(made, run), states(rng)
    flags = "--generations", 1, "--value_updates", 1, "--controller_mode", "zch"
    done = train(game, run, "--start_from", "log/linear.json", *flags)
    assert done.code == 0, done.err
    assert [row[0] for row in files.read_json(f"{run}/{BASE}.log.json")] == [1]
    meta = provenance.read(f"{run}/{BASE}.json", "controller", "toy")
    assert meta["parents"]["start_from"] == files.sha256(f"{run}/log/linear.json")
    agent = agent_of(game, run, f"{BASE}.json")
    np.testing.assert_allclose(agent.parameters[-FEATURES:], weight, atol=1e-6)
    action = agent.policy([0]).act(state)
    raw = agent_of(game, run, "log/linear.json").policy(range(200)).act(state)
    np.testing.assert_array_equal(action, np.sign(raw) * (np.abs(raw) > 1 / 3))
    assert len(np.unique(action)) == 3

    learned = agent.parameters.copy()
    learned[:-FEATURES] += np.round(rng.normal(size=len(learned) - FEATURES), 4)
    controller.write(f"{run}/log/learned.json", learned)
    about = meta["config"], meta["parents"], 1.0
    provenance.write(f"{run}/log/learned.json", "controller", "toy", *about, unverified=False)
    done = train(game, run, "--start_from", "log/learned.json", "--fresh", "--tether", 0.5, *flags)
    assert done.code == 0, done.err
    np.testing.assert_allclose(agent_of(game, run, f"{BASE}.json").parameters, learned, atol=2e-3)


def test_the_tether_holds_the_network_to_what_it_starts_from(made, tmp_path, monkeypatch):
    """Catches a tether that is given and held to nothing, or to an undecided policy where it starts from a network."""
    game, run, held_to = made[0], another(made, tmp_path), []
    weight = linear(made, run)

    class Noted(ppo.PPO):
        def __init__(self, world, policy, cfg, parameters, reference):
            held_to.append(reference)
            raise UserError("enough seen")

    monkeypatch.setattr(ppo, "PPO", Noted)
    for flags in ([], ["--tether", 0.1]):
        assert train(game, run, "--start_from", "log/linear.json", *flags).refused("enough seen")
    assert held_to[0] is None
    policy = network.policy_for(game.config, FEATURES, TINY.hidden, weight)
    np.testing.assert_array_equal(held_to[1], np.zeros(policy.network.parameters))
    for ending in ("", ".meta.json"):
        shutil.copy(f"{made[1]}/{BASE}.json{ending}", f"{run}/own.json{ending}")
    assert train(game, run, "--start_from", "own.json", "--tether", 0.1).refused("enough seen")
    np.testing.assert_array_equal(held_to[2], np.float32(files.read_json(f"{run}/own.json")[0]))


def test_every_update_has_the_tether_asked_for(made, tmp_path, monkeypatch):
    """Catches a reference that is held to with no weight."""
    game, run, asked = made[0], another(made, tmp_path), []
    linear(made, run)

    def update(self, *how):
        asked.append(how)
        raise UserError("enough seen")

    monkeypatch.setattr(ppo.PPO, "update", update)
    assert train(game, run, "--start_from", "log/linear.json", "--tether", 0.25).code == 2
    assert asked == [(TINY.learning_rate, 0.25)]


def test_it_learns_in_the_dreams_asked_for(made, tmp_path, monkeypatch):
    """Catches a horizon, a dropout or a mode that is ignored; each of the two blocks dreams half of the rows."""
    game, run, asked = made[0], another(made, tmp_path), []

    def noted(rnns, starts, *how):
        asked.append((len(rnns), len(starts), *how))
        raise UserError("enough seen")

    monkeypatch.setattr(tensor_dreams, "Dreams", noted)
    words = "--horizon", 6, "--temperature", 0.8, "--dropout", 0.3, "--controller_mode", "zh", "--rows", 32
    done = train(game, run, *words)
    assert done.refused("enough seen"), done.err
    assert asked == [(2, 2, 0.8, toy.ALIVE, 32, 0.3, "zh", None, 6, 0.0)]


def test_it_learns_in_all_mdn_rnns_from_where_their_dreams_start(made, tmp_path, monkeypatch):
    """Catches --also_in and --starts without effect, and evaluations in dreams that start elsewhere."""
    game, run, found = made[0], another(made, tmp_path), {}

    def ensemble(game, also_in, arguments, loaded, made_of):
        found["rnns"] = [loaded.rnn, argparse.Namespace(shape=loaded.rnn.shape)]
        return found["rnns"]

    def dream_world(game, cfg, loaded, rnn, pool):
        found["evaluated"] = rnn, pool
        raise UserError("enough seen")

    monkeypatch.setattr(dreams, "ensemble", ensemble)
    monkeypatch.setattr(dreams, "starts", lambda *_: ["of one", "of the other"])
    monkeypatch.setattr(tensor_dreams, "Dreams", lambda rnns, starts, *how: found.update(learns=(rnns, starts)))
    monkeypatch.setattr(dreams, "dream_world", dream_world)
    done = train(game, run, "--also_in", "other.json", "--starts", 5)
    assert done.refused("enough seen"), done.err
    assert found["learns"] == (found["rnns"], ["of one", "of the other"])
    assert found["evaluated"] == (found["rnns"][0], "of one")


def test_what_plays_is_told(made, tmp_path, monkeypatch):
    """Catches scores of one implementation of the game that are said to be another's."""
    asked = []

    def noted(arguments, game, name, cfg, *more):
        asked.append(cfg.backend)
        raise UserError("enough seen")

    monkeypatch.setattr(evolution, "Evolution", noted)
    game = dataclasses.replace(made[0], backend_here=lambda name: f"in place of {name}")
    run = another(made, tmp_path)
    assert train(game, run, "--world", "game", "--backend", "fast").refused("enough seen")
    assert asked == ["in place of fast"]


def test_what_is_learned_on_an_unverified_model_says_so(made, tmp_path, monkeypatch):
    """Catches a controller that passes for verified although nobody knows where its MDN-RNN comes from."""
    told, run = [], another(made, tmp_path)
    os.remove(tmp_path / "tf_rnn")
    shutil.copytree(os.path.join(made[1], "tf_rnn"), tmp_path / "tf_rnn")
    monkeypatch.setattr(evolution, "Evolution", lambda *given: told.append(given[-1]) or _stop())
    assert train(made[0], run).refused("enough seen")
    for meta in (tmp_path / "tf_rnn").glob("*.meta.json"):
        meta.unlink()
    assert "enough seen" in train(made[0], run, "--unverified").err
    assert told == [False, True]


def _stop():
    raise UserError("enough seen")


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"more": np.int32(1)}, "it holds networks, update, more"),
        ({"networks": np.zeros(4, np.float32)}, r"networks is float32\[4\]"),
        ({"networks": np.zeros(3)}, r"networks is float64\[3\]"),
        ({"networks": np.float32([0, np.nan, 0])}, "networks is not finite"),
    ],
)
def test_a_state_that_is_not_of_such_a_learning_is_refused(change, says):
    """Catches a checkpoint of other networks, or a damaged one, that is gone on from."""
    now, taken = {"networks": np.zeros(3, np.float32), "update": np.int32(0)}, []
    learning = types.SimpleNamespace(arrays=lambda: now, restore=taken.append)
    learner = policy_gradient.Learner(learning, np.zeros(0))
    with pytest.raises(ValueError, match=says):
        learner.set_state(now | change)
    assert not taken
    learner.continue_from(now)
    assert taken == [now]


@pytest.mark.parametrize(
    ("world", "heads", "ends", "wanted"),
    [
        ("dream", False, 0.1, 10),
        ("dream", True, 0.1, 5),
        ("dream", False, 0, 512),
        ("game", False, 0.1, 0.5 * 512 / 16),
    ],
)
def test_the_return_of_an_update_is_that_of_an_episode(world, heads, ends, wanted):
    """Catches the reward of a step, or of all rows together, for that of an episode."""
    metrics = {"reward": 0.5, "steps": 512.0, "ends": ends}
    loaded = argparse.Namespace(rnn=argparse.Namespace(shape=argparse.Namespace(heads=heads)))
    found = policy_gradient._return_of(metrics, argparse.Namespace(world=world, rows=16), loaded)
    assert found == pytest.approx(wanted)


def test_an_update_that_is_not_finite_ends_it_at_the_last_checkpoint_from_which_it_goes_on(made, tmp_path, monkeypatch):
    """Catches a checkpoint of NaN, and a lower learning rate that is refused as another training."""
    monkeypatch.setattr(cli, "LARGEST_FLOAT", np.inf)
    game, run = made[0], another(made, tmp_path)
    assert train(game, run, "--generations", 1, "--value_updates", 0).code == 0
    before = bytes_of(f"{run}/{BASE}.checkpoint.npz")
    done = train(game, run, "--generations", 2, "--value_updates", 0, "--learning_rate", 1e38)
    assert done.code == 2
    assert "update 2: " in done.err.splitlines()[-1]
    assert "--learning_rate" in done.err.splitlines()[-1]
    assert bytes_of(f"{run}/{BASE}.checkpoint.npz") == before
    done = train(game, run, "--generations", 2, "--value_updates", 0, "--learning_rate", 1e-4)
    assert (done.code, "continuing from generation 1" in done.out) == (0, True)
    assert len(files.read_json(f"{run}/{BASE}.hist.json")) == 2


def test_ends_are_drawn_with_the_weight_that_the_mdn_rnn_was_trained_with(made, tmp_path, monkeypatch):
    """Catches drawn ends in learning or in evaluation alone, and the weight of another training."""
    game, run = made[0], another(made, tmp_path)
    os.remove(f"{run}/tf_rnn")  # which is a link
    shutil.copytree(f"{made[1]}/tf_rnn", f"{run}/tf_rnn")
    path = toy.in_run(game, run)["rnn"]
    meta = provenance.read(path, "rnn", "toy")
    provenance.save(path, meta | {"config": meta["config"] | {"restart_weight": 7.0}})
    drawn, bar = [], mdnrnn.drawn_bar

    def noted(uniform, weight):
        drawn.append((isinstance(uniform, np.ndarray), weight))
        return bar(uniform, weight)

    monkeypatch.setattr(mdnrnn, "drawn_bar", noted)
    assert train(game, run, "--ends", "drawn", "--fresh").code == 0
    assert set(drawn) == {(False, 7.0), (True, 7.0)}  # in the graph, and in the dreams of evaluations


@pytest.mark.parametrize("known", [{}, {"COMPLETE_ABOVE": -np.inf}, {"MAX_STEPS": toy.END}])
def test_in_the_game_a_complete_track_is_no_end(made, known):
    """Catches the last tile of a track, or the end of the time, learned as the loss of all tiles to come."""
    game = dataclasses.replace(made[0], config=types.SimpleNamespace(**vars(made[0].config) | known))
    world, _ = policy_gradient._game(game, TINY_GAME, models.load_run(game, made[1]))
    state, ended = world.start(5), 0
    while world.on.any():
        state, _, done, cut, played = world.step(state, np.zeros((world.rows, 1), np.float32))
        ended += (done & played).sum()
        np.testing.assert_array_equal(cut & played, done & played & bool(known))
    assert ended == world.rows


def test_dreams_start_along_the_recorded_games_of_the_run(made, tmp_path, rng):
    """Catches starts at first frames only, or along games that another VAE has seen."""
    game, run = made[0], another(made, tmp_path)
    loaded, length = models.load_run(game, run), np.array([7, 4])
    mu, logvar, action, reward = (
        rng.normal(size=(11, *more)).astype(np.float16) for more in [(toy.Z,)] * 2 + [(1,), ()]
    )
    done = np.isin(np.arange(11), np.cumsum(length) - 1)
    path = f"{run}/series/series.npz"
    files.write_npz(path, mu=mu, logvar=logvar, action=action, reward=reward, done=done, length=length)
    arguments = argparse.Namespace(run=run, unverified=False, fresh=False)

    def starts(vae, count, *base, generations=9):
        provenance.write(path, "series", "toy", settings.Series(), {"vae": vae}, 1.0, unverified=False)
        cfg = dataclasses.replace(TINY, starts=count, generations=generations)
        made_of = provenance.Parents({}, False)
        return dreams.starts(game, cfg, arguments, loaded, [loaded.rnn], made_of, *base)[0], made_of

    found, made_of = starts(loaded.hashes["vae"], 40)
    assert made_of.hashes == {"series": files.sha256(path)}
    places = [np.flatnonzero((mu.astype(np.float32) == row).all(axis=1))[0] for row in found.mu]
    assert found.age.tolist() == [place if place < 7 else place - 7 for place in places]
    assert len(places) == 40
    assert len(set(places)) > 4, "places along the games, not first frames only"
    assert starts(loaded.hashes["vae"], 0)[0] is None
    with pytest.raises(UserError, match="was encoded by another VAE"):
        starts("a" * 64, 40)
    # a finished search, in its checkpoint or on another machine, replays no game
    files.write_json(f"{run}/log/done.hist.json", [[1], [2]])
    files.write_npz(f"{run}/log/done.npz", mean=np.zeros(1))
    for ending in ("npz", "checkpoint.npz"):
        files.write_npz(f"{run}/log/done.{ending}", logs=json.dumps({"hist": [[1], [2]]}))
        found, made_of = starts(loaded.hashes["vae"], 40, "done", generations=2)
        assert (found, made_of.hashes) == (None, {"series": files.sha256(path)})
        assert starts(loaded.hashes["vae"], 40, "done", generations=3)[0] is not None
    arguments.fresh = True
    assert starts(loaded.hashes["vae"], 40, "done", generations=2)[0] is not None


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (["--hidden", "0"], ["hidden layers 0", "such as 128,64"]),
        (["--value_hidden", "8,x"], ["hidden layers 8,x"]),
        (["--minibatch", "100"], ["--minibatch 100", "16 x 8 steps"]),
        (["--tether", "0.1"], ["--tether 0.1", "--start_from"]),
        (["--starts", "5"], ["series.npz", "no such file; make it first with: python series.py"]),
        (["--ends", "drawn"], ["rnn.json does not tell the weight of the restarts", "give --ends threshold"]),
        (["--eval_episodes", "100001"], ["--eval_episodes"]),
        (["--controller_mode", "z_hidden"], ["--controller_mode", "z_hidden"]),
        (["--start_from", "own.json", "--hidden", "7"], ["own.json", "has hidden layers of 6,5, not of 7"]),
        (["--start_from", "own.json", "--controller_mode", "z"], ["own.json", "reads zch, not z"]),
        (["--start_from", "alone.json"], ["alone.json", "has no alone.json.meta.json"]),
        (["--start_from", "misfit.json"], ["misfit.json", "parameters do not fit layers of 20, 6, 6, 3"]),
        (["--start_from", "strange.json"], ["strange.json", "its meta has no network"]),
    ],
)
def test_what_does_not_fit_is_one_line(made, tmp_path, flags, words):
    """Catches a traceback, or a training that goes on with something else than was asked for."""
    game, run = made[0], another(made, tmp_path)
    for name in ("own", "alone", "misfit", "strange"):
        for ending in ("", ".meta.json") if name != "alone" else ("",):
            shutil.copy(f"{made[1]}/{BASE}.json{ending}", f"{run}/{name}.json{ending}")
    for name, hidden in (("misfit", "6,6"), ("strange", 65)):
        meta = provenance.read(f"{run}/{name}.json", "controller", "toy")
        provenance.save(f"{run}/{name}.json", meta | {"config": meta["config"] | {"hidden": hidden}})
    done = train(game, run, *flags)
    assert done.refused(*words), done.err
    assert not os.path.exists(f"{run}/log"), "an error leaves no trace"


def test_a_log_that_nobody_could_read_leaves_no_trace(made, tmp_path, monkeypatch):
    """Catches a training that is known to end with a log that pick_best.py refuses."""
    run = another(made, tmp_path)
    monkeypatch.setattr(files, "JSON_LIMIT", 2 * evolution.NUMBER_BYTES * 100)
    assert train(made[0], run).refused("--eval_steps 2: a log of 2 evaluations of")
    assert not os.path.exists(f"{run}/log")


def test_a_world_without_rewards_and_joined_letters_are_refused(made, tmp_path):
    """Catches a policy gradient on rewards that are all zero, and an evolution that is called ppo."""
    game, run = made[0], another(made, tmp_path)
    config = argparse.Namespace(**{name: value for name, value in vars(game.config).items() if name != "PPO"})
    mute = dataclasses.replace(game, config=config)
    assert train(mute, run).refused("-o ppo", "the toy has no PPO in its config.py", "give --world game")
    del config.PPO_GAME
    assert train(mute, run).refused("-o ppo", "the toy has no PPO in its config.py", "-o cma")
    assert commands.call(evolve.main, mute, "-oppo", "--run", run).refused("-oppo", "-o ppo")
