"""The settings of the stages, as far as they are the same in every game: each game's config.py makes the presets.

Defaults are the authors' where their games had the same; what a game has besides, its config.py adds in a subclass.
"""

from dataclasses import dataclass

from common.cli import option

SCHEDULES = ("constant", "cosine", "exponential")
CONTROLLER_MODES = ("z", "z_hidden", "zc", "zh", "zch")


@dataclass(frozen=True)
class Extract:
    """Recording episodes of the game."""

    episodes: int = option(10000, "episodes to play; episode i has seed `first_seed` + i")
    first_seed: int = option(
        2000, "seed of the first episode (1000-1999 and 500000 upwards are for tests only)", least=0
    )
    max_hold: int = option(10, "a random action is held for 1 to this many steps")
    workers: int = option(0, "processes, or threads with a controller; 0 means one per core", least=0)
    controller: str = option("", "a controller's .json that plays instead of random actions")
    explore: float = option(0.2, "share of its time in which a controller's player holds random actions")


@dataclass(frozen=True)
class Vae:
    """Training V."""

    z_size: int = option(32, "dimensions of z")
    batch_size: int = option(100, "frames per step")
    steps: int = option(1000000, "training steps")
    learning_rate: float = option(1e-4, "Adam's step size (its peak, under the cosine schedule)")
    schedule: str = option(
        "constant", "constant, or cosine: to zero over all steps after a warm-up", choices=SCHEDULES[:2]
    )
    start_from: str = option("", "a vae.json whose weights to start from, such as an earlier round's; default random")
    seed: int = option(1, "decides initial weights, order of frames and noise", least=0)
    report_every: int = option(50, "steps between lines in metrics.jsonl")
    checkpoint_seconds: float = option(120.0, "time between checkpoints [s]")


@dataclass(frozen=True)
class Series:
    """Encoding the recordings by V."""

    episodes_per_part: int = option(100, "recordings encoded between two writes (12 kB of memory for each frame)")


@dataclass(frozen=True)
class Rnn:
    """Training M."""

    hidden_size: int = option(256, "LSTM cells")
    mixtures: int = option(5, "normals in each dimension's mixture")
    streams: int = option(100, "streams of concatenated episodes, the batch")
    sequence_length: int = option(500, "steps of every stream between two updates; the state is carried over")
    steps: int = option(4000, "training steps")
    learning_rate: float = option(1e-3, "Adam's step size (its peak, under the cosine schedule)")
    schedule: str = option(
        "constant", "constant; cosine: to zero after a warm-up; exponential: rate * 0.99999^step", choices=SCHEDULES
    )
    clip: float = option(1.0, "gradients are clipped to +- this value")
    validation_episodes: int = option(
        50, "episodes kept out of training to measure the loss on; the last ones recorded"
    )
    start_from: str = option("", "an rnn.json whose weights to start from, such as an earlier round's; default random")
    seed: int = option(1, "decides initial weights, order of episodes and the sampling of z", least=0)
    report_every: int = option(20, "steps between lines in metrics.jsonl")
    validate_every: int = option(500, "steps between measurements on the validation episodes")
    checkpoint_seconds: float = option(120.0, "time between checkpoints [s]")


@dataclass(frozen=True)
class RestartRnn(Rnn):
    """Training an M that also predicts when an episode ends."""

    restart_weight: float = option(10.0, "weight of restarts in the restart flag's cross-entropy")


@dataclass(frozen=True)
class Train:
    """Evolving C. Population = n x t, whatever the number of ranks."""

    n: int = option(64, "MPI ranks to start; 1 uses the cores of this process", "-n", "--num_worker")
    t: int = option(1, "candidates per rank, of which n x t make the population", "-t", "--num_worker_trial")
    o: str = option(
        "cma",
        "evolution strategy: cma, CMA-ES; openes, whose mean moves along the gradient that all candidates show",
        "-o",
        "--optimizer",
        choices=("cma", "openes"),
    )
    num_episode: int = option(16, "episodes per candidate and generation, the same for all candidates")
    generations: int = option(1800, "generations to evolve for")
    eval_steps: int = option(25, "generations between evaluations of the mean")
    eval_episodes: int = option(1024, "episodes in such an evaluation")
    averaging: float = option(
        0.0, "share of the past in a running average of the search's means, which is evaluated in place of the last"
    )
    sigma_init: float = option(0.1, "initial standard deviation, which CMA-ES adapts")
    learning_rate: float = option(1.0, "of openes: how fast its mean moves")
    start_from: str = option("", "a controller's .json to start the search at, such as an earlier run's; default zero")
    directions: int = option(
        0,
        "evolve C only along so many principal components of what it reads while --start_from plays; 0 means each "
        "weight by itself",
        least=0,
    )
    controller_mode: str = option("zch", "what C reads: z, z_hidden, zc, zh or zch", choices=CONTROLLER_MODES)
    seed_start: int = option(0, "decides the candidates and the episodes they meet", "-s", least=0)
    checkpoint_seconds: float = option(60.0, "time between checkpoints [s]")


@dataclass(frozen=True)
class DreamTrain(Train):
    """Evolving C in dreams."""

    also_in: str = option(
        "",
        "further M's to dream in, rnn.json,...: every one dreams its share of a candidate's episodes. C reads the h of "
        "the M it is in, so that these must have been trained on from one another",
    )
