"""bench/open_loop.py: what it measures, and that the same command goes on."""

import argparse
import contextlib
import dataclasses
import errno
import json
import os
import types

import numpy as np
import pytest
import tensorflow as tf
import test_planet

from common.agent import rssm
from common.agent.rssm import RSSM, Chunks, Shape, State
from common.data import recordings
from common.runtime.cli import UserError
from common.worlds import games, rollouts

from bench import open_loop


def test_losses_are_of_steps_that_were_not_seen(rng, monkeypatch):
    """Catches a frame seen beyond the border, an action a step late, a step that is not there counted.

    And predictions of one piece taken for those of another, or measured one by one.
    """
    monkeypatch.setattr(open_loop, "SAMPLES", 2)
    model = RSSM(Shape(2, False, deterministic=8, stochastic=3, hidden=8, head=8, depth=1), "float32")
    for variable in model.trainable_variables:
        variable.assign(rng.normal(0, 0.5, variable.shape))
    known = np.ones((6, 3), np.float32)
    known[5, 1] = 0
    chunks = Chunks(
        rng.integers(0, 256, (6, 3, 64, 64, 3), np.uint8), rng.uniform(-1, 1, (6, 3, 2)).astype(np.float32),
        rng.normal(0, 1, (6, 3)).astype(np.float32), 1 - known, known,
    )  # fmt: skip
    found = open_loop.open_loop(model, chunks, 2, 7)
    noise, weights = tf.random.stateless_normal([6, 6, 3], [7, 0]), model.prepared()
    states = [model.initial_state(3)] * 2
    for t in range(6):
        frame, action = rssm.image_of(chunks.frames[t]), chunks.action[t]
        for k in range(2):
            drawn = noise[t, 3 * k : 3 * k + 3]
            if t < 2:
                states[k] = model.observe(weights, states[k], action, frame, drawn)
            else:
                h, _, prior = model.transition(weights, states[k], action)
                states[k] = State(h, prior.mean + prior.std * drawn)
        if t < 2:
            continue
        expected = np.mean([model.decode(state) for state in states], axis=0)
        errors = np.square(expected - frame).sum(axis=(1, 2, 3)) / 2
        paid = np.mean([model.reward(weights, state) for state in states], axis=0)
        rewards = np.square(paid - chunks.reward[t]) / 2
        assert found["image"][t - 2] == pytest.approx(errors[known[t] > 0].mean(), rel=1e-4)
        assert found["reward"][t - 2] == pytest.approx(np.mean(rewards), rel=1e-4)  # of an end too
    still = chunks._replace(frames=np.broadcast_to(chunks.frames[1], chunks.frames.shape))
    assert open_loop.standing(still, 2)["image"].tolist() == [0] * 4


def test_the_same_command_trains_four_models_once(tmp_path, monkeypatch):
    """Catches a variant that is not one, games of another game, or learned from and measured, and work done again."""
    game = test_planet.dot_game(laptop=dataclasses.replace(test_planet.SMALL, mirror=True))
    game.config.MIRROR = (-1, 1)
    monkeypatch.setattr(open_loop, "find", lambda name: game)
    made = games.Games([test_planet.DotGame() for _ in range(6)])
    seeds = np.arange(2000, 2006)
    written = games.Recorded(made, lambda seed, *arrays: recordings.write(str(tmp_path / "record"), seed, *arrays))
    rollouts.rollout(written, test_planet.Uniform(seeds, None), seeds)
    out, learned = tmp_path / "figures.json", []
    command = [
        *("--recordings", str(tmp_path / "record"), "--run", str(tmp_path / "run"), "--out", str(out)),
        *("--updates", "2", "--overshooting", "2", "--unseen", "2", "--seen", "2", "--ahead", "3"),
    ]
    for words, message in (
        (["--unseen", "6"], "none is left"),
        (["--ahead", "40"], "no unseen game has 42 steps of 1"),
        (["--overshooting", "3"], "--overshooting 3"),
    ):
        with pytest.raises(UserError, match=message):
            open_loop.main([*command, *words])
        assert not (tmp_path / "run").exists()  # not after the training of those before it

    summary = tmp_path / "record" / "2000.summary.json"
    summary.write_text(json.dumps({"game": "another", "config": {"first_seed": 2000, "episodes": 6}}))
    with pytest.raises(UserError, match="no readable recording"):
        open_loop.main(command)
    summary.unlink()

    def trained(game, cfg, replay, data, name, arguments, real=open_loop.trained):
        learned.append((name, cfg.paths, cfg.overshooting, len(replay)))
        return real(game, cfg, replay, data, name, arguments)

    def read(game, cfg, paths, real=open_loop.replay_of):
        parts.append([os.path.basename(path) for path in paths])
        mirrored.append(cfg.mirror)
        return real(game, cfg, paths)

    def sample(self, *arguments, real=open_loop.Replay.sample, **flags):
        asked.append(flags)
        return real(self, *arguments, **flags)

    asked = []
    monkeypatch.setattr(open_loop.Replay, "sample", sample)
    parts, mirrored = [], []
    monkeypatch.setattr(open_loop, "trained", trained)
    monkeypatch.setattr(open_loop, "replay_of", read)
    open_loop.main(command)
    assert parts == [[f"{seed}.npz" for seed in part] for part in (range(2000, 2004), range(2004, 2006))]
    assert learned == [("both", "both", 0, 4), ("overshooting", "both", 2, 4),
                       ("deterministic", "deterministic", 0, 4), ("stochastic", "stochastic", 0, 4)]  # fmt: skip
    assert asked.count({"inside": True}) == open_loop.DRAWS  # what is measured; pieces to learn from may begin before
    assert mirrored == [True, False]  # half of what is learned from, nothing that is measured on
    about = json.loads(out.read_text())
    assert not {"run", "recordings", "out"} & set(about["budget"])  # of use on this machine only
    losses = about["losses"]
    assert {name: len(found["image"]) for name, found in losses.items()} == dict.fromkeys(
        [*open_loop.VARIANTS, "last frame"], 3
    )
    assert np.isfinite([losses[name]["reward"] for name in open_loop.VARIANTS]).all()
    assert losses["both"] != losses["overshooting"]
    assert (tmp_path / "figures.png").exists()
    monkeypatch.setattr(open_loop.planet.Learner, "update", lambda self: pytest.fail("trained again"))
    out.unlink()
    open_loop.main(command)
    assert json.loads(out.read_text())["losses"] == losses
    os.rename(tmp_path / "record" / "2000.npz", tmp_path / "record" / "2009.npz")  # others are the last ones now
    with pytest.raises(UserError, match="recordings_sha256"):
        open_loop.main(command)


def test_a_training_is_saved_while_it_goes_on(tmp_path, monkeypatch):
    """Catches a model that is saved at its end only, so that a stop costs hours."""
    done = []

    class Learner:
        model, step = "the model", 0

        def __init__(self, *given):
            self.save_if_due, self.save = (lambda what=what: done.append(what) for what in ("save if due", "save"))

        def resume(self):
            self.step = 2

        def update(self):
            self.step += 1
            done.append(self.step)
            return {"image": 1.0}

    stage = types.SimpleNamespace(log=lambda step, **losses: done.append((step, losses)))
    monkeypatch.setattr(open_loop.planet, "Learner", Learner)
    monkeypatch.setattr(open_loop.runs, "Stage", lambda *given, **about: stage)
    cfg, arguments = dataclasses.replace(test_planet.SMALL, report_every=2), argparse.Namespace(run=str(tmp_path))
    arguments.updates = 4
    assert open_loop.trained(test_planet.dot_game(), cfg, None, {}, "both", arguments) == "the model"
    assert done == [3, "save if due", 4, (4, {"planet__image": 1.0}), "save if due", "save"]


def test_a_plot_is_complete_or_as_it_was(tmp_path, monkeypatch):
    """Catches half a picture in docs/ after a full disk."""

    def save(self, target, *_, **__):
        with open(target, "wb") if isinstance(target, str) else contextlib.nullcontext(target) as file:
            file.write(b"half")
        raise OSError(errno.ENOSPC, "full")

    path, losses = tmp_path / "plot.png", {"both": {"image": [1.0, 2.0], "reward": [3.0, 4.0]}}
    open_loop.plot(losses, str(path))
    before = path.read_bytes()
    assert before.startswith(b"\x89PNG")
    monkeypatch.setattr(open_loop.plt.Figure, "savefig", save)
    with pytest.raises(OSError, match="full"):
        open_loop.plot(losses, str(path))
    assert path.read_bytes() == before
    assert os.listdir(tmp_path) == ["plot.png"]
