"""What is true of DoomTakeCover, and the presets of every stage.

paper: the authors' numbers. laptop: what made the weights that ship, on two cores in hours. smoke: minutes, for tests.
"""

from dataclasses import dataclass

from common.cli import option

GAME = "doomrnn"
MAX_STEPS = 2100  # tics of an episode, in the game and in the dream
ACTION_SIZE = 1
TRAINED = {"vae": "tf_vae/vae.json", "rnn": "tf_rnn/rnn.json", "initial_z": "tf_initial_z/initial_z.json"}
SHIPPED = {"vae": "tf_models/vae.json", "rnn": "tf_models/rnn.json", "initial_z": "tf_models/initial_z.json"}
SCHEDULES = ("constant", "cosine", "paper_doom")
MODES = ("z", "z_hidden", "zc", "zh", "zch")
RNN_FILE_ORDER = ("kernel", "bias", "output_w", "output_b")


@dataclass(frozen=True)
class Extract:
    """Recording episodes of the real game."""

    episodes: int = option(10000, "episodes to play; episode i is the game with seed `first_seed` + i")
    first_seed: int = option(2000, "seed of the first episode (1000-1999 and 500000 upwards are for tests only)")
    min_frames: int = option(101, "shorter episodes are not kept [frames]")
    max_hold: int = option(10, "a random action is held for 1 to this many frames")
    workers: int = option(0, "processes, or threads with a controller; 0 means one per core")
    controller: str = option("", "a controller's .json that plays instead of random actions")
    explore: float = option(0.2, "share of its time in which a controller's player holds random actions")


@dataclass(frozen=True)
class Vae:
    """Training V."""

    z_size: int = option(64, "dimensions of z")
    batch_size: int = option(100, "frames per step")
    steps: int = option(308000, "training steps")
    learning_rate: float = option(1e-4, "Adam's step size (its peak, under the cosine schedule)")
    schedule: str = option(
        "constant", "constant, or cosine: to zero over all steps after a warm-up", choices=SCHEDULES[:2]
    )
    seed: int = option(1, "decides initial weights, order of frames and noise")
    report_every: int = option(50, "steps between lines in metrics.jsonl")
    checkpoint_seconds: float = option(120.0, "time between checkpoints [s]")


@dataclass(frozen=True)
class Series:
    """Encoding the recordings by V."""

    episodes_per_part: int = option(100, "recordings encoded between two writes")


@dataclass(frozen=True)
class Rnn:
    """Training M."""

    hidden_size: int = option(512, "LSTM cells")
    mixtures: int = option(5, "normals in each dimension's mixture")
    streams: int = option(100, "streams of concatenated episodes, the batch")
    sequence_length: int = option(500, "steps of every stream between two updates; the state is carried over")
    steps: int = option(24400, "training steps")
    learning_rate: float = option(1e-3, "Adam's step size (its peak, under the cosine schedule)")
    schedule: str = option("paper_doom", "constant, cosine, or paper_doom: rate * 0.99999^step", choices=SCHEDULES)
    clip: float = option(1.0, "gradients are clipped to +- this value")
    restart_weight: float = option(10.0, "weight of restarts in the restart flag's cross-entropy")
    validation_episodes: int = option(
        50, "episodes kept out of training to measure the loss on; the last ones recorded"
    )
    start_from: str = option("", "an rnn.json whose weights to start from, such as an earlier round's; default random")
    seed: int = option(1, "decides initial weights, order of episodes and the sampling of z")
    report_every: int = option(20, "steps between lines in metrics.jsonl")
    validate_every: int = option(500, "steps between measurements on the validation episodes")
    checkpoint_seconds: float = option(120.0, "time between checkpoints [s]")


@dataclass(frozen=True)
class Train:
    """Evolving C in the dream. Population = n x t, whatever the number of ranks."""

    n: int = option(64, "MPI ranks to start; 1 uses the cores of this process", "-n", "--num_worker")
    t: int = option(1, "candidates per rank, of which n x t make the population", "-t", "--num_worker_trial")
    o: str = option("cma", "evolution strategy", "-o", "--optimizer", choices=("cma",))
    num_episode: int = option(16, "dreams per candidate and generation")
    generations: int = option(1800, "generations to evolve for")
    eval_steps: int = option(25, "generations between evaluations of the mean")
    eval_episodes: int = option(1024, "dreams in such an evaluation")
    sigma_init: float = option(0.1, "CMA-ES's initial standard deviation")
    temperature: float = option(1.25, "of the dream: above 1 it is harder than M believes the game to be")
    block_rows: int = option(256, "dreams that step together in one thread")
    controller_mode: str = option("zch", "what C reads: z, z_hidden, zc, zh or zch", choices=MODES)
    seed_start: int = option(0, "decides the candidates and the dreams they meet", "-s")
    checkpoint_seconds: float = option(60.0, "time between checkpoints [s]")


EXTRACT = {
    "paper": Extract(episodes=12800),
    "laptop": Extract(episodes=3000),
    "smoke": Extract(episodes=40),
}
VAE = {
    "paper": Vae(),
    "laptop": Vae(steps=14000, batch_size=64, learning_rate=1e-3, schedule="cosine"),
    "smoke": Vae(steps=400, batch_size=64, learning_rate=1e-3, schedule="cosine"),
}
SERIES = {name: Series() for name in ("paper", "laptop", "smoke")}
RNN = {
    "paper": Rnn(),
    "laptop": Rnn(sequence_length=64, steps=4500, learning_rate=1.5e-3, schedule="cosine"),
    "smoke": Rnn(
        streams=16, sequence_length=64, steps=300, learning_rate=1.5e-3, schedule="cosine", validation_episodes=4
    ),
}
TRAIN = {
    "paper": Train(),
    "laptop": Train(n=1, t=64, generations=60, eval_steps=10, eval_episodes=256, block_rows=512),
    "smoke": Train(n=1, t=16, num_episode=4, generations=10, eval_steps=5, eval_episodes=64),
}
