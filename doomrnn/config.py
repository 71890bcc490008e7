"""What is true of DoomTakeCover, and the presets of every stage.

paper: the authors' numbers. laptop: what two cores do in hours; EXTRACT and VAE are those of the first round of the
weights in tf_models/. smoke: minutes, for tests.
"""

from dataclasses import dataclass, replace
from typing import Any

from common.runtime import settings
from common.runtime.cli import option

GAME = "doomrnn"
MAX_STEPS = 2100  # tics of an episode, in the game and in the dream
FPS = 35  # tics per second
ACTION_SIZE = 1
ACTION_LOW: tuple[float, ...] = (-1.0,)
ACTION_HIGH: tuple[float, ...] = (1.0,)
CHOICES = ((-1.0,), (0.0,), (1.0,))  # the actions that differ in the game: left, stay, right
MIRROR: tuple[float, ...] = (-1.0,)  # an action times this is its mirror image
RESTART = True  # the MDN-RNN reads and predicts a restart flag, so that a dream can end
CONTROLLER_MODE, CONTROLLER_BIAS = "zch", False
TEMPERATURE = 1.25  # of dreams to play in, and at which the authors trained
DREAM_REWARD = 1.0  # of a step in the dream, as in the game
TRAINED = {"vae": "tf_vae/vae.json", "rnn": "tf_rnn/rnn.json", "initial_z": "tf_initial_z/initial_z.json"}
SHIPPED: tuple[dict[str, str], ...] = (
    {"vae": "tf_models/vae.json", "rnn": "tf_models/rnn.json", "initial_z": "tf_models/initial_z.json"},
    {"vae": "laptop/vae.json", "rnn": "laptop/rnn.json", "initial_z": "laptop/initial_z.json"},
)
SHIPPED_CONTROLLER = "log/doomrnn.cma.16.64.best.json"
RNN_FILE_ORDER: tuple[str, ...] = ("kernel", "bias", "output_w", "output_b")


@dataclass(frozen=True)
class Extract(settings.Extract):
    """Recording episodes of the real game."""

    max_frames: int = option(
        0, "an episode is cut after so many frames; 0 means at the end of the game", least=0, most=MAX_STEPS
    )
    min_frames: int = option(101, "shorter episodes are not kept [frames]", least=0)


@dataclass(frozen=True)
class Train(settings.DreamTrain):
    """Evolving the controller in the dream."""

    temperature: float = option(
        TEMPERATURE,
        "of the dreams: above 1 they are harder and less certain than the game as the MDN-RNN predicts it",
        least=0.01,
        most=100,
    )


@dataclass(frozen=True)
class GameTrain(settings.GameTrain):
    """Evolving the controller in the real game."""

    backend: str = option("vizdoom", "the implementation of the game", choices=("vizdoom",))
    block_rows: int = option(4, "games that step together in one thread, each with an engine of its own")


@dataclass(frozen=True)
class GamePpo(settings.GamePpo):
    """Learning the controller, a network, by a policy gradient in the real game."""

    backend: str = option("vizdoom", "the implementation of the game", choices=("vizdoom",))


VAE_PAPER = settings.Vae(z_size=64, steps=308000)
RNN_PAPER = settings.RestartRnn(hidden_size=512, sequence_length=500, steps=24400, schedule="exponential")
RNN_LAPTOP = replace(RNN_PAPER, restart_z=False, dropout=0.1)

EXTRACT = {
    "paper": Extract(episodes=12800),
    "laptop": Extract(episodes=3000),
    "smoke": Extract(episodes=40),
}
VAE = {
    "paper": VAE_PAPER,
    "laptop": replace(VAE_PAPER, steps=14000, batch_size=64, learning_rate=1e-3, schedule="cosine"),
    "smoke": replace(VAE_PAPER, steps=400, batch_size=64, learning_rate=1e-3, schedule="cosine"),
}
SERIES = dict.fromkeys(("paper", "smoke"), settings.Series(episodes_per_part=100))
SERIES["laptop"] = settings.Series(episodes_per_part=30, mirror=True)  # a good agent's games are 10 MB each
RNN = {
    "paper": RNN_PAPER,
    "laptop": replace(RNN_LAPTOP, sequence_length=64, steps=4500, learning_rate=1.5e-3, schedule="cosine"),
    "smoke": replace(
        RNN_LAPTOP,
        streams=16,
        sequence_length=64,
        steps=300,
        learning_rate=1.5e-3,
        schedule="cosine",
        validation_episodes=4,
    ),
}
TRAIN = {
    "paper": Train(),
    "laptop": Train(n=1, t=64, generations=70, eval_steps=10, eval_episodes=256, block_rows=512),
    "smoke": Train(n=1, t=16, num_episode=4, generations=10, eval_steps=5, eval_episodes=64),
}
# not in the paper: how far the controller gets that need not dream
TRAIN_GAME = {
    "laptop": GameTrain(n=1, t=32, directions=40, sigma_init=0.3, averaging=0.9, eval_steps=10, eval_episodes=256),
    "smoke": GameTrain(n=1, t=4, num_episode=1, generations=2, eval_steps=2, eval_episodes=2, block_rows=2),
}
# no "paper": the authors had no policy gradient
PPO_LAPTOP = settings.Ppo(temperature=TEMPERATURE, rows=512, ends="drawn", learning_rate=1e-3, entropy=0.0)
PPO = {
    "laptop": PPO_LAPTOP,
    "smoke": replace(
        PPO_LAPTOP, dropout=0.1, generations=30, rows=256, value_updates=5, eval_steps=15, eval_episodes=64
    ),
}
PPO_GAME_LAPTOP = GamePpo(
    rows=16, blocks=4, steps=MAX_STEPS, learning_rate=1e-3, entropy=0.0, value_updates=5, reward_scale=0.004
)
PPO_GAME = {
    "laptop": PPO_GAME_LAPTOP,
    "smoke": replace(PPO_GAME_LAPTOP, generations=2, rows=4, minibatch=200, eval_steps=2, eval_episodes=4),
}
FIRST_ROUND = settings.Round(
    random=3000,
    vae={"steps": 9000, "mirror": True, "rare_pixels": 1.0},
    rnn={"steps": 1500, "mirror": True},
    train={"o": "ppo", "generations": 60, "eval_steps": 60},
    games=32,
)
# chunks as long as a life; few rows, for that gives more updates in the same time
TRAINED_ON = {
    "streams": 16,
    "sequence_length": 400,
    "learning_rate": 1e-3,
    "mirror": True,
    "validation_episodes": 20,
}


# a training from random weights; what it reaches in the game differs by hundreds from seed to seed
ANEW = {"start_from": "", "generations": 300, "eval_steps": 150, "starts": 0, "horizon": 0}


def _round(
    own: int, rnn_steps: int, updates: int, evaluations: int, games: int = 64, also: tuple[dict[str, Any], ...] = ()
) -> settings.Round:
    """A round after the first: own games, the MDN-RNN and the policy learn on, and the game chooses an evaluation."""
    dreams = {"starts": 8000, "start_games": 400, "horizon": 300}  # also from late in a game, where it is dangerous
    updated = {"generations": updates, "value_updates": 10, "eval_steps": updates // evaluations}
    return settings.Round(
        own=own,
        own_share=0.6,
        record={"min_frames": 0},
        rnn=TRAINED_ON | {"steps": rnn_steps},
        train={"o": "ppo"} | updated | dreams,
        also=also,
        games=games,
    )


ITERATE = {
    # the paper's experiment: one round; the real game chooses among the means that were evaluated
    "paper": settings.Iterate((settings.Round(random=12800, vae={}, rnn={}, train={}),), mb_per_episode=1.4),
    "laptop": settings.Iterate(
        (
            FIRST_ROUND,
            _round(own=400, rnn_steps=800, updates=100, evaluations=1),
            _round(own=600, rnn_steps=1000, updates=200, evaluations=2),
            _round(own=800, rnn_steps=2000, updates=200, evaluations=4, also=(ANEW,) * 3),
        ),
        mb_per_episode=2.4,
        linear={"generations": 60, "eval_steps": 30},
        ships=1,
        controller="log/doomrnn.ppo.64.512.best.json",
    ),
    "smoke": settings.Iterate(
        (
            settings.Round(
                random=200,
                vae={"steps": 1000},
                rnn={"steps": 800, "streams": 32, "validation_episodes": 10},
                train={"o": "ppo", "generations": 60, "rows": 512, "steps": 32, "minibatch": 2048, "eval_steps": 60},
                games=40,
            ),
        ),
        mb_per_episode=1.5,
    ),
}
PLANET = {
    "paper": settings.Planet(),
    # 31 * 400 updates of 0.27 CPU-s, 16,000 batched decisions of 0.37, validations: 3 hours of one core, at most
    "laptop": settings.Planet(
        episodes=640,
        random_episodes=400,
        mirror=True,
        rare_pixels=1.0,
        hold=3,
        shared_noise=True,
        rows=8,
        updates=400,
        iterations=4,
        candidates=100,
        elite=10,
        head=200,
        depth=16,
        batch_size=32,
        sequence_length=20,
        decoded_share=0.25,
        validate_every=80,
        memory_frames=150_000,
    ),
    "smoke": settings.Planet(
        episodes=4,
        random_episodes=3,
        updates=4,
        horizon=3,
        iterations=2,
        candidates=20,
        elite=4,
        deterministic=16,
        stochastic=4,
        hidden=16,
        head=16,
        depth=2,
        batch_size=4,
        sequence_length=6,
        validation_episodes=1,
        report_every=2,
    ),
}
