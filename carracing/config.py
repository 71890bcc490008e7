"""What is true of CarRacing, and the presets of every stage.

paper: the authors' numbers. laptop: what two cores do in hours, the first round of what made the weights that ship.
smoke: minutes, for tests.
"""

from dataclasses import dataclass, replace

from common.runtime import settings
from common.runtime.cli import option

GAME = "carracing"
MAX_STEPS = 1000  # of an episode, in the game and in the dream
FPS = 50  # steps per second
ACTION_SIZE = 3
ACTION_LOW: tuple[float, ...] = (-1.0, 0.0, 0.0)  # of (steering, gas, brake)
ACTION_HIGH: tuple[float, ...] = (1.0, 1.0, 1.0)
MIRROR: tuple[float, ...] = (-1.0, 1.0, 1.0)  # an action times this is its mirror image
RESTART = False  # the MDN-RNN does not predict the end of an episode
CONTROLLER_MODE, CONTROLLER_BIAS = "zh", True
TEMPERATURE = 0.7  # at which the authors watched the dream
DREAM_REWARD = 0.0  # the MDN-RNN does not predict the reward of the game
TRAINED = {"vae": "tf_vae/vae.json", "rnn": "tf_rnn/rnn.json", "initial_z": "tf_initial_z/initial_z.json"}
SHIPPED: tuple[dict[str, str], ...] = (
    {"vae": "vae/vae.json", "rnn": "rnn/rnn.json", "initial_z": "initial_z/initial_z.json"},
)
SHIPPED_CONTROLLER = "log/carracing.cma.16.64.best.json"
RNN_FILE_ORDER: tuple[str, ...] = ("output_w", "output_b", "kernel", "bias")


@dataclass(frozen=True)
class Extract(settings.Extract):
    """Recording episodes of the game."""

    max_frames: int = option(1000, "an episode is cut after so many frames", least=0)
    policy: str = option(
        "random_network",
        "random_network: the authors' random linear controllers on noise; brownian: a random walk of the action",
        choices=("random_network", "brownian"),
    )
    gymnasium_share: float = option(
        0.1, "share of episodes from Gymnasium, the others from EnvPool, ten times as fast", most=1
    )


@dataclass(frozen=True)
class Train(settings.GameTrain):
    """Evolving the controller in the game."""

    controller_mode: str = option(
        "zh", "what the controller reads: z, z_hidden, zc, zh or zch", choices=settings.CONTROLLER_MODES
    )
    backend: str = option("envpool", "the implementation of the game", choices=("gymnasium", "gym", "envpool", "draft"))
    block_rows: int = option(
        16, "cars that step together in one thread; a quarter of the generation's if those are fewer"
    )


VAE_PAPER = settings.Vae(z_size=32, steps=1000000)  # the authors' 10 epochs of 10,000 episodes of 1,000 frames
RNN_PAPER = settings.Rnn(hidden_size=256, sequence_length=999, steps=4000)
TRAIN_PAPER = Train()

EXTRACT = {
    "paper": Extract(episodes=12800),
    "laptop": Extract(episodes=1600, max_frames=400, policy="brownian"),
    "smoke": Extract(episodes=16, max_frames=60, policy="brownian", gymnasium_share=0.25, rows=4),
}
VAE = {
    "paper": VAE_PAPER,
    "laptop": replace(VAE_PAPER, steps=13000, batch_size=64, learning_rate=1e-3, schedule="cosine"),
    "smoke": replace(VAE_PAPER, steps=100, batch_size=64, learning_rate=1e-3, schedule="cosine"),
}
SERIES = dict.fromkeys(("paper", "laptop", "smoke"), settings.Series(episodes_per_part=50))
RNN = {
    "paper": RNN_PAPER,
    "laptop": replace(RNN_PAPER, sequence_length=64, steps=4000, learning_rate=1.5e-3, schedule="cosine"),
    "smoke": replace(
        RNN_PAPER,
        streams=8,
        sequence_length=20,
        steps=30,
        learning_rate=1.5e-3,
        schedule="cosine",
        validation_episodes=3,
    ),
}
TRAIN = {
    "paper": TRAIN_PAPER,
    "laptop": replace(
        TRAIN_PAPER,
        n=1,
        t=64,
        fewer_episodes="110:1,300:4",
        patience=100,
        sample_z=False,
        generations=200,
        eval_steps=10,
        eval_episodes=32,
        block_rows=128,
    ),
    "smoke": replace(
        TRAIN_PAPER,
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
