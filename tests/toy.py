"""A game for tests: its description, and small models and controllers written as the stages write them."""

import os
import types

import numpy as np
import tensorflow as tf

from common.agent import controller, mdnrnn, vae, weights
from common.game import Game
from common.runtime import files, provenance, settings
from common.worlds import games

Z, H = 4, 8
END, ALIVE = 5, 9  # steps of a game; of a dream


class Counting:
    """A game that paints its step counter; reward is the action, and the last step is worth 100 more."""

    def reset(self, seed):
        self.step_number = 0
        return self.frame()

    def frame(self):
        return np.full((64, 64, 3), 10 * self.step_number, np.uint8)

    def step(self, action):
        self.step_number += 1
        over = self.step_number == END
        return self.frame(), float(action[0]) + 100 * over, over


def game_in(folder):
    """The toy as a game that lives in this folder."""
    names = ("vae", "rnn", "initial_z")
    config = types.SimpleNamespace(
        __file__=os.path.join(folder, "config.py"),
        GAME="toy",
        MAX_STEPS=ALIVE,
        FPS=10,
        ACTION_SIZE=1,
        ACTION_LOW=(-1.0,),
        ACTION_HIGH=(1.0,),
        RESTART=True,
        CONTROLLER_MODE="z",
        CONTROLLER_BIAS=True,
        TEMPERATURE=1.0,
        DREAM_REWARD=1.0,
        TRAINED={name: os.path.join(f"tf_{name}", f"{name}.json") for name in names},
        SHIPPED=tuple({name: os.path.join(place, f"{name}.json") for name in names} for place in ("first", "second")),
        SHIPPED_CONTROLLER="log/toy.cma.1.4.best.json",
        RNN_FILE_ORDER=("kernel", "bias", "output_w", "output_b"),
    )
    return Game(
        config=config,
        title="Toy",
        goal="Go.",
        reward={"dream": "1", "game": "the action"},
        keys={"left": "less", "right": "more"},
        actions={"push": -1},
        keyboard_action=lambda keys: [("right" in keys) - ("left" in keys)],
        real_games=lambda rows, backend="": games.Games([Counting() for _ in range(rows)]),
        random_policies={},
    )


def write_models(game, paths, seed=1000):
    """Writes a VAE, an MDN-RNN of random weights in which dreams do not end of themselves, and first frames of noise.

    Args:
        game: such as `game_in` makes.
        paths: {"vae", "rnn", "initial_z": where}.
        seed: int, decides the weights.

    Returns:
        {name: sha256 of the file}.
    """
    rng = np.random.default_rng(seed)
    tf.random.set_seed(seed)
    v, m = vae.ConvVAE(Z, "float32"), mdnrnn.MDNRNN(mdnrnn.Shape(Z, 1, H, restart=True), "float32")
    for model in (v, m):
        model.set_weights([rng.uniform(-1, 1, array.shape) * 2 * array.std() for array in model.get_weights()])
    m.output_b.assign(tf.concat([[-100.0], m.output_b[1:]], axis=0))
    weights.write_vae(paths["vae"], v)
    weights.write_rnn(paths["rnn"], m, game.config.RNN_FILE_ORDER)
    weights.write_initial_z(paths["initial_z"], *rng.normal(0, 1, (2, 3, Z)))
    hashes = {name: files.sha256(path) for name, path in paths.items()}
    for name, cfg in (("vae", settings.Vae()), ("rnn", settings.Rnn()), ("initial_z", settings.Rnn())):
        parents = {} if name == "vae" else {"vae": hashes["vae"]}
        provenance.write(paths[name], name, game.name, cfg, parents, 1.0, unverified=False)
    return hashes


def in_run(game, run):
    """{name: path} of the models of a run."""
    return {name: os.path.join(run, path) for name, path in game.config.TRAINED.items()}


def write_controller(path, game, hashes, parameters, **config):
    """Writes a controller that was evolved on these models, with a score of 7."""
    controller.write(path, parameters, 7.0)
    cfg = settings.Train(controller_mode="z", **config)
    provenance.write(path, "controller", game.name, cfg, hashes, 1.0, unverified=False)
