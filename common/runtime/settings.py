"""The settings of the stages, as far as they are the same in every game; config.py of each game makes the presets.

Defaults are the authors' where their games had the same. What only one game has, its config.py adds in a subclass.
"""

from dataclasses import dataclass

from common.runtime.cli import option

SCHEDULES = ("constant", "cosine", "exponential")
CONTROLLER_MODES = ("z", "z_hidden", "zc", "zh", "zch")


@dataclass(frozen=True)
class Extract:
    """Recording episodes of the game."""

    episodes: int = option(10000, "episodes to play; episode i has seed `first_seed` + i")
    first_seed: int = option(2000, "seed of the first episode, from 2000 to 399999", least=2000, most=399_999)
    policy: str = option("", "the random policy that plays; by default the first of the game")
    max_frames: int = option(0, "an episode is cut after so many frames; 0 means at the end of the game", least=0)
    min_frames: int = option(0, "shorter episodes are not kept [frames]", least=0)
    max_hold: int = option(10, "a random action is held for 1 to this many steps")
    workers: int = option(0, "processes, or threads with a controller; 0 means one per core", least=0)
    controller: str = option("", "the .json of a controller that plays instead of the random policy")
    explore: float = option(0.2, "share of the steps in which a controller's player holds random actions", most=0.99)
    rows: int = option(16, "games that a controller plays in lockstep in one thread (12 kB of memory for each frame)")


@dataclass(frozen=True)
class Vae:
    """Training the VAE."""

    z_size: int = option(32, "dimensions of z")
    batch_size: int = option(100, "frames per step")
    steps: int = option(1000000, "training steps")
    learning_rate: float = option(1e-4, "Adam's step size (its peak, under the cosine schedule)")
    schedule: str = option(
        "constant", "constant, or cosine: to zero over all steps after a warm-up", choices=SCHEDULES[:2]
    )
    start_from: str = option(
        "", "a vae.json to start from, such as that of an earlier round; by default random weights"
    )
    seed: int = option(1, "decides initial weights, order of frames and noise", least=0)
    report_every: int = option(50, "steps between lines in metrics.jsonl")
    checkpoint_seconds: float = option(120.0, "time between checkpoints [s]")


@dataclass(frozen=True)
class Series:
    """Encoding the recordings."""

    episodes_per_part: int = option(100, "recordings encoded between two writes (12 kB of memory for each frame)")


@dataclass(frozen=True)
class Rnn:
    """Training the MDN-RNN."""

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
        50, "episodes kept out of training to measure the loss on: those with the largest seeds"
    )
    start_from: str = option(
        "", "an rnn.json to start from, such as that of an earlier round; by default random weights"
    )
    seed: int = option(1, "decides initial weights, order of episodes and the sampling of z", least=0)
    report_every: int = option(20, "steps between lines in metrics.jsonl")
    validate_every: int = option(500, "steps between measurements on the validation episodes")
    checkpoint_seconds: float = option(120.0, "time between checkpoints [s]")


@dataclass(frozen=True)
class RestartRnn(Rnn):
    """Training an MDN-RNN that also predicts when an episode ends."""

    restart_weight: float = option(10.0, "weight of restarts in the restart flag's cross-entropy")


@dataclass(frozen=True)
class Train:
    """Evolving the controller. The population is n x t, whatever the number of ranks."""

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
        0.0,
        "share of the past in a running average of the search's means, which is evaluated in place of the last",
        most=0.999,
    )
    sigma_init: float = option(0.1, "initial standard deviation, which CMA-ES adapts")
    learning_rate: float = option(1.0, "of openes: how fast its mean moves")
    start_from: str = option(
        "", "the .json of a controller to start the search at, such as that of an earlier run; by default all zero"
    )
    directions: int = option(
        0,
        "search only along so many principal components of what the controller reads while --start_from plays; 0 means "
        "along every weight",
        least=0,
    )
    controller_mode: str = option(
        "zch", "what the controller reads: z, z_hidden, zc, zh or zch", choices=CONTROLLER_MODES
    )
    sample_z: bool = option(True, "the controller sees a sample of the VAE's posterior; --no-sample_z: its mean")
    block_rows: int = option(256, "episodes that step together in one thread")
    seed_start: int = option(0, "decides the candidates and the episodes they meet", "-s", least=0)
    checkpoint_seconds: float = option(60.0, "time between checkpoints [s]")


@dataclass(frozen=True)
class DreamTrain(Train):
    """Evolving the controller in dreams."""

    temperature: float = option(
        1.0, "of the dreams: above 1 they are harder than the MDN-RNN believes the game to be", least=0.01
    )
    also_in: str = option(
        "",
        "further MDN-RNNs to dream in, rnn.json,...: each dreams its share of the episodes of a candidate. The controller "
        "reads the h of the one it is in, so they must have been trained on from one another",
    )


@dataclass(frozen=True)
class GameTrain(Train):
    """Evolving the controller in the real game."""

    fewer_episodes: str = option(
        "",
        "fewer episodes at first: generation:episodes,... such as 20:2,60:4 for 2 up to generation 20, then 4 up to 60",
    )
    track_groups: int = option(
        1, "groups of candidates that play episodes of their own; 1 means all of a generation play the same"
    )
    patience: int = option(
        0,
        "training only: an episode without reward for so many steps is ended and charged what the steps left would cost; "
        "0 means never",
        least=0,
    )
    backend: str = option("", "the implementation of the game; by default the one that scores are reported in")
