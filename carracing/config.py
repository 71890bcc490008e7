"""What is true of CarRacing, and the presets of every stage.

paper: the authors' numbers. laptop: what made the weights that ship, on two cores in hours. smoke: minutes, for tests.
"""

from dataclasses import dataclass

from common.cli import option

GAME = "carracing"
MAX_STEPS = 1000  # of an episode, in the game and in the dream
ACTION_SIZE = 3
TRAINED = {"vae": "tf_vae/vae.json", "rnn": "tf_rnn/rnn.json", "initial_z": "tf_initial_z/initial_z.json"}
SHIPPED = {"vae": "vae/vae.json", "rnn": "rnn/rnn.json", "initial_z": "initial_z/initial_z.json"}
SCHEDULES = ("constant", "cosine")
MODES = ("z", "z_hidden", "zc", "zh", "zch")
RNN_FILE_ORDER = ("output_w", "output_b", "kernel", "bias")


@dataclass(frozen=True)
class Extract:
    """Recording episodes of the game."""

    episodes: int = option(10000, "episodes to play; episode i has seed `first_seed` + i")
    first_seed: int = option(2000, "seed of the first episode (1000-1999 and 500000 upwards are for tests only)")
    max_frames: int = option(1000, "an episode is cut after so many frames")
    policy: str = option(
        "random_network",
        "random_network: the authors' random linear controllers on noise; brownian: a random walk of the action",
        choices=("random_network", "brownian"),
    )
    controller: str = option("", "a controller's .json that drives instead")
    explore: float = option(0.2, "share of its time in which a controller's car holds random actions")
    max_hold: int = option(10, "such an action is held for 1 to this many steps")
    gymnasium_share: float = option(0.1, "share of episodes from Gymnasium, the others from EnvPool, ten times as fast")
    rows: int = option(16, "episodes that a worker plays in lockstep (12 MB of memory for each, at 1000 frames)")
    workers: int = option(0, "processes, or threads with a controller; 0 means one per core")


@dataclass(frozen=True)
class Vae:
    """Training V."""

    z_size: int = option(32, "dimensions of z")
    batch_size: int = option(100, "frames per step")
    steps: int = option(1000000, "training steps; the authors' 10 epochs of 10,000 episodes of 1,000 frames")
    learning_rate: float = option(1e-4, "Adam's step size (its peak, under the cosine schedule)")
    schedule: str = option("constant", "constant, or cosine: to zero over all steps after a warm-up", choices=SCHEDULES)
    seed: int = option(1, "decides initial weights, order of frames and noise")
    report_every: int = option(50, "steps between lines in metrics.jsonl")
    checkpoint_seconds: float = option(120.0, "time between checkpoints [s]")


@dataclass(frozen=True)
class Series:
    """Encoding the recordings by V."""

    episodes_per_part: int = option(50, "recordings encoded between two writes (12 MB of memory for each)")


@dataclass(frozen=True)
class Rnn:
    """Training M."""

    hidden_size: int = option(256, "LSTM cells")
    mixtures: int = option(5, "normals in each dimension's mixture")
    streams: int = option(100, "streams of concatenated episodes, the batch")
    sequence_length: int = option(999, "steps of every stream between two updates; the state is zeroed at new episodes")
    steps: int = option(4000, "training steps")
    learning_rate: float = option(1e-3, "Adam's step size (its peak, under the cosine schedule)")
    schedule: str = option("constant", "constant, or cosine: to zero over all steps after a warm-up", choices=SCHEDULES)
    clip: float = option(1.0, "gradients are clipped to +- this value")
    validation_episodes: int = option(
        50, "episodes kept out of training to measure the loss on; the last ones recorded"
    )
    seed: int = option(1, "decides initial weights, order of episodes and the sampling of z")
    report_every: int = option(20, "steps between lines in metrics.jsonl")
    validate_every: int = option(500, "steps between measurements on the validation episodes")
    checkpoint_seconds: float = option(120.0, "time between checkpoints [s]")


@dataclass(frozen=True)
class Train:
    """Evolving C in the game. Population = n x t, whatever the number of ranks."""

    n: int = option(64, "MPI ranks to start; 1 uses the cores of this process", "-n", "--num_worker")
    t: int = option(1, "candidates per rank, of which n x t make the population", "-t", "--num_worker_trial")
    o: str = option("cma", "evolution strategy", "-o", "--optimizer", choices=("cma",))
    num_episode: int = option(16, "tracks per candidate and generation, the same for all candidates")
    fewer_episodes: str = option(
        "", "fewer tracks at first: generation:tracks,... such as 20:2,60:4 for 2 up to generation 20, then 4 up to 60"
    )
    patience: int = option(
        0, "a car without a new tile for so many steps is ended, charged the -0.1 of every step left; 0 means never"
    )
    sample_z: bool = option(True, "C sees a sample of V's posterior; --no-sample_z: its mean")
    backend: str = option("envpool", "the game's implementation", choices=("gymnasium", "gym", "envpool"))
    generations: int = option(1800, "generations to evolve for")
    eval_steps: int = option(25, "generations between evaluations of the mean")
    eval_episodes: int = option(1024, "tracks of such an evaluation, driven without `patience`")
    sigma_init: float = option(0.1, "CMA-ES's initial standard deviation")
    controller_mode: str = option("zh", "what C reads: z, z_hidden, zc, zh or zch", choices=MODES)
    seed_start: int = option(0, "decides the candidates and the tracks they meet", "-s")
    checkpoint_seconds: float = option(60.0, "time between checkpoints [s]")


EXTRACT = {
    "paper": Extract(episodes=12800),
    "laptop": Extract(episodes=1600, max_frames=400, policy="brownian"),
    "smoke": Extract(episodes=16, max_frames=60, policy="brownian", gymnasium_share=0.25, rows=4),
}
VAE = {
    "paper": Vae(),
    "laptop": Vae(steps=20000, batch_size=64, learning_rate=1e-3, schedule="cosine"),
    "smoke": Vae(steps=100, batch_size=64, learning_rate=1e-3, schedule="cosine"),
}
SERIES = {name: Series() for name in ("paper", "laptop", "smoke")}
RNN = {
    "paper": Rnn(),
    "laptop": Rnn(sequence_length=64, steps=6000, learning_rate=1.5e-3, schedule="cosine"),
    "smoke": Rnn(
        streams=8, sequence_length=20, steps=30, learning_rate=1.5e-3, schedule="cosine", validation_episodes=3
    ),
}
TRAIN = {
    "paper": Train(),
    "laptop": Train(
        n=1,
        t=64,
        fewer_episodes="20:2,80:4,160:8",
        patience=100,
        sample_z=False,
        generations=200,
        eval_steps=10,
        eval_episodes=64,
    ),
    "smoke": Train(
        n=1,
        t=8,
        num_episode=2,
        fewer_episodes="1:1",
        patience=40,
        sample_z=False,
        generations=2,
        eval_steps=2,
        eval_episodes=2,
    ),
}
