"""How well four RSSMs predict unseen games without seeing them, 1 to 50 steps ahead.

    python bench/open_loop.py --recordings DIR --run ../runs/open_loop --out docs/open_loop.json

Each model sees the first steps of a piece of a game, then only the actions. `both` has both paths; `overshooting`, too,
which is trained with latent overshooting; `deterministic` and `stochastic` have one path. All learn from the same
recordings; the last ones are left out, and measured. Beside the JSON comes a plot. Whatever is trained already is not
trained again, and training that was stopped goes on from its checkpoint.

    image     negative log-likelihood of a frame, without its constant: half the squared error, summed; `last frame` is
              that of showing the last frame that was seen
    reward    half the squared error of the reward

What is compared is the mean of several predictions with other noise, which only a deterministic path does not have: the
error of a single one would have their variance in it.
"""

import argparse
import dataclasses
import os
from collections.abc import Sequence
from typing import Any

from common.runtime import devices  # isort: skip  (loads TensorFlow without its banner)
import matplotlib.pyplot as plt
import numpy as np
import tensorflow as tf

from common.agent import rssm
from common.agent.rssm import RSSM, Chunks, State
from common.data import recordings
from common.data.replay import Replay
from common.game import Game, find
from common.runtime import cli, files, provenance, runs
from common.runtime.cli import UserError
from common.training import planet

VARIANTS = {
    "both": {"overshooting": 0},
    "overshooting": {},
    "deterministic": {"paths": "deterministic", "overshooting": 0},
    "stochastic": {"paths": "stochastic", "overshooting": 0},
}
"""{name: fields of the config}"""
PIECES = 64  # pieces of unseen games that are measured, at each of so many draws
DRAWS = 4
SAMPLES = 16  # predictions of each piece


def main(argv: Sequence[str] | None = None) -> None:
    """Trains what is missing, measures, writes, plots."""
    parser = cli.OneLineParser(description=__doc__)
    positive = cli.number(int, 1)
    parser.add_argument("--game", default="carracing", help="name of its package")
    parser.add_argument("--recordings", required=True, metavar="DIR", help="recorded games, such as those of a run")
    parser.add_argument("--run", required=True, metavar="DIR", help="where the models are trained, one folder for each")
    parser.add_argument("--preset", choices=("paper", "laptop", "smoke"), default="laptop", help="sizes and batches")
    parser.add_argument("--updates", type=positive, default=20_000, help="of each model")
    parser.add_argument(
        "--overshooting", type=cli.number(int, 2), default=10, help="its distance, where it is on [steps]"
    )
    parser.add_argument("--unseen", type=positive, default=20, help="last recordings, to measure on")
    parser.add_argument("--seen", type=positive, default=5, help="steps of a piece that the model sees")
    parser.add_argument("--ahead", type=positive, default=50, help="steps that it then predicts")
    parser.add_argument(
        "--out", type=cli.new_file, metavar="FILE", help="write the figures here, as JSON, and the plot"
    )
    arguments = parser.parse_args(argv)
    game = find(arguments.game)
    cfg = dataclasses.replace(planet.presets_of(game)[arguments.preset], overshooting=arguments.overshooting)
    for changes in VARIANTS.values():
        planet.check(game, dataclasses.replace(cfg, **changes))  # all before the training of the first
    paths, _ = recordings.scan(arguments.recordings, (game.config.ACTION_SIZE,), game.name)
    if len(paths) <= arguments.unseen:
        raise UserError(f"--unseen {arguments.unseen}: of {len(paths)} recordings none is left to learn from")
    learned, left_out = paths[: -arguments.unseen], paths[-arguments.unseen :]
    known, unseen = replay_of(game, cfg, learned), replay_of(game, dataclasses.replace(cfg, mirror=False), left_out)
    steps = arguments.seen + arguments.ahead
    if unseen.lengths.max() < steps:
        raise UserError(f"--ahead {arguments.ahead}: no unseen game has {steps} steps of {cfg.action_repeat}")
    rngs = [np.random.default_rng([cfg.seed, k]) for k in range(DRAWS)]
    draws = [Chunks(*unseen.sample(PIECES, steps, rng, inside=True)) for rng in rngs]
    data = {"recordings_read": len(known), "recordings_sha256": planet.identity_of(learned)}
    devices.for_training(cfg.seed)
    found = {}
    for name, changes in VARIANTS.items():
        model = trained(game, dataclasses.replace(cfg, **changes), known, data, name, arguments)
        found[name] = mean_over([open_loop(model, draw, arguments.seen, k) for k, draw in enumerate(draws)])
        print(f"{name:14s} image {found[name]['image'][0]:8.1f} to {found[name]['image'][-1]:8.1f}")
    found["last frame"] = mean_over([standing(draw, arguments.seen) for draw in draws])
    if arguments.out:
        budget = {name: value for name, value in vars(arguments).items() if name not in ("recordings", "run", "out")}
        about = {"game": game.name, "budget": budget, "config": dataclasses.asdict(cfg)}
        about |= {"games": len(known), "action_repeat": cfg.action_repeat}
        files.write_json(arguments.out, about | {"losses": found} | provenance.about_now(), indent=1)
        plot(found, os.path.splitext(arguments.out)[0] + ".png")


def replay_of(game: Game, cfg: Any, paths: Sequence[str]) -> Replay:
    """The episodes of some recordings."""
    replay = planet.new_replay(game, cfg)
    for path in paths:
        replay.read(path)
    return replay


def trained(
    game: Game, cfg: Any, replay: Replay, data: dict[str, Any], name: str, arguments: argparse.Namespace
) -> RSSM:
    """The model of a variant, trained to its last update; `data` tells which recordings the replay is of."""
    run = os.path.join(arguments.run, name)
    os.makedirs(run, exist_ok=True)
    place = argparse.Namespace(run=run, fresh=False)
    stage = runs.Stage(place, planet.planet.FOLDER, planet.planet.FILE, cfg, about={"data": data})
    learner = planet.Learner(game, cfg, planet.check(game, cfg), stage, replay, None)  # it plays no game
    learner.resume()
    with runs.progress(arguments.updates, learner.step, name) as bar:
        while learner.step < arguments.updates:
            losses = learner.update()
            bar.update()
            if learner.step % cfg.report_every == 0:
                stage.log(learner.step, **{f"planet__{loss}": value for loss, value in losses.items()})
            learner.save_if_due()
    learner.save()
    return learner.model


def open_loop(model: RSSM, chunks: Chunks, seen: int, seed: int) -> dict[str, np.ndarray]:
    """The losses of predictions that know the first frames, then only the actions.

    Args:
        model: RSSM.
        chunks: Chunks of T steps.
        seen: steps that are seen, fewer than T.
        seed: int, decides the noise.

    Returns:
        {"image", "reward": float [T - seen]}, means over the pieces that go on so far.
    """
    steps, rows = chunks.action.shape[:2]
    noise = tf.random.stateless_normal([steps, SAMPLES * rows, model.shape.stochastic], [seed, 0])
    weights, known = model.prepared(), np.asarray(chunks.known)
    embedded = model.embed(rssm.image_of(chunks.frames[:seen].reshape(-1, 64, 64, 3)))
    embedded = np.tile(np.reshape(embedded, [seen, rows, -1]), [1, SAMPLES, 1])
    action = np.tile(chunks.action, [1, SAMPLES, 1])
    states, _, _ = model.unroll(weights, embedded, action[:seen], np.tile(known[:seen], [1, SAMPLES]), noise[:seen])
    state = State(*(part[-1] for part in states))
    losses: dict[str, list[float]] = {"image": [], "reward": []}
    for t in range(seen, steps):
        state = State(*(part[0] for part in model.imagine(weights, state, action[t : t + 1], noise[t : t + 1])))
        errors = image_error(mean_prediction(model.decode(state)), chunks.frames[t])
        losses["image"].append(mean_of(errors, known[t]))
        errors = 0.5 * np.square(mean_prediction(model.reward(weights, state)) - chunks.reward[t])
        losses["reward"].append(mean_of(errors, np.maximum(known[t], chunks.end[t])))
    return {name: np.array(values) for name, values in losses.items()}


def mean_prediction(predictions: tf.Tensor) -> tf.Tensor:
    """[SAMPLES * B, ...] -> [B, ...]."""
    return tf.reduce_mean(tf.reshape(predictions, [SAMPLES, -1, *predictions.shape[1:]]), axis=0)


def standing(chunks: Chunks, seen: int) -> dict[str, np.ndarray]:
    """The image losses of showing the last frame that was seen, for ever; arguments as in `open_loop`."""
    last = rssm.image_of(chunks.frames[seen - 1])
    pairs = zip(chunks.frames[seen:], chunks.known[seen:], strict=True)
    return {"image": np.array([mean_of(image_error(last, frames), known) for frames, known in pairs])}


def image_error(image: Any, frames: np.ndarray) -> np.ndarray:
    """Half the squared error of float32 [B, 64, 64, 3] for uint8 frames of that shape -> [B]."""
    return 0.5 * np.sum(np.square(image - rssm.image_of(frames)), axis=(1, 2, 3))


def mean_of(values: np.ndarray, mask: np.ndarray) -> float:
    """The mean where the mask is 1."""
    return float(np.mean(np.asarray(values)[mask > 0]))


def mean_over(draws: Sequence[dict[str, np.ndarray]]) -> dict[str, list[float]]:
    """The mean of the losses of several draws."""
    return {name: np.mean([draw[name] for draw in draws], axis=0).round(4).tolist() for name in draws[0]}


def plot(losses: dict[str, dict[str, list[float]]], path: str) -> None:
    """One picture: the losses of all models by the steps ahead."""
    figure, axes = plt.subplots(1, 2, figsize=(10, 4))
    for axis, loss in zip(axes, ("image", "reward"), strict=True):
        for name in (name for name in losses if loss in losses[name]):
            values = losses[name][loss]
            axis.plot(range(1, len(values) + 1), values, label=name, ls="--" if name == "last frame" else "-")
        axis.set(xlabel="steps ahead", ylabel=f"{loss} loss, unseen games")
    axes[0].legend()
    figure.tight_layout()
    with files.atomic(path) as file:
        figure.savefig(file, format="png", dpi=100)
    plt.close(figure)


if __name__ == "__main__":
    cli.run_main(main)
