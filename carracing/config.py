"""What is true of CarRacing, and the presets of every stage.

paper: the authors' numbers. laptop: what two cores do in hours. smoke: minutes, for tests.
"""

from dataclasses import dataclass, replace
from typing import Any

from common.runtime import settings
from common.runtime.cli import option

GAME = "carracing"
MAX_STEPS = 1000  # of an episode, in the game and in the dream
FPS = 50  # steps per second
ACTION_SIZE = 3
TWO_ACTIONS = (
    2  # (steering, pedals), where pedals above 0 are gas and below 0 brake: the variant of extract.py --actions
)
ACTION_LOW: tuple[float, ...] = (-1.0, 0.0, 0.0)  # of (steering, gas, brake)
ACTION_HIGH: tuple[float, ...] = (1.0, 1.0, 1.0)
ACTION_CUT = (False, False, True)  # which parts `env.action_of` cuts off at their range
MIRROR: tuple[float, ...] = (-1.0, 1.0, 1.0)  # an action times this is its mirror image
RESTART = False  # the MDN-RNN does not predict the end of an episode
CONTROLLER_MODE, CONTROLLER_BIAS = "zh", True
COMPLETE_ABOVE = 0.0  # an episode that ends in a step that pays is complete, not lost: its last tile was visited
TEMPERATURE = 0.7  # at which the authors watched the dream
DREAM_REWARD = 0.0  # an MDN-RNN without heads does not predict the reward of the game
# a tile brings 3 to 4.4, and at high speed two come in a step; leaving the field costs 100
PAY = settings.Pay(least=-1.0, most=6.0, fall_below=-50.0, cost=20.0)
STOPS_PAYING = (60, 35.0, 5.0)  # as where the car leaves the road: 60 steps pay more than 35, the next 60 less than 5
TRAINED = {"vae": "tf_vae/vae.json", "rnn": "tf_rnn/rnn.json", "initial_z": "tf_initial_z/initial_z.json"}
SHIPPED: tuple[dict[str, str], ...] = (
    {"vae": "vae/vae.json", "rnn": "rnn/rnn.json", "initial_z": "initial_z/initial_z.json"},
    # of the controller that was never evolved in the game
    {"vae": "dream/vae.json", "rnn": "dream/rnn.json", "initial_z": "dream/initial_z.json"},
    # of the network
    {"vae": "laptop/vae.json", "rnn": "laptop/rnn.json", "initial_z": "laptop/initial_z.json"},
)
SHIPPED_CONTROLLER = "log/carracing.cma.16.64.best.json"
RNN_FILE_ORDER: tuple[str, ...] = ("output_w", "output_b", "kernel", "bias")


def uncharged(patience: int) -> dict[str, Any]:
    """The rule that ends the episode of a car after so many steps without a new tile, or none for 0; see Cars."""
    return {"patience": patience, "charged": False} if patience else {}


@dataclass(frozen=True)
class Extract(settings.Extract):
    """Recording episodes of the game."""

    max_frames: int = option(
        1000, "an episode is cut after so many frames; 0 means at the end of the game", least=0, most=MAX_STEPS
    )
    policy: str = option(
        "random_network",
        "random_network: the authors' random linear controllers on noise; brownian: a random walk of the action",
        choices=("random_network", "brownian"),
    )
    gymnasium_share: float = option(
        0.1, "share of episodes from Gymnasium, the others from EnvPool, ten times as fast", most=1
    )
    patience: int = option(
        0, "an episode is ended after so many steps without a new tile; 0 means as the game ends it", least=0
    )
    actions: int = option(
        3,
        "numbers in an action: 3 for steering, gas and brake; 2 for steering and one axis of gas and brake. The stages "
        "after this one follow the recordings",
        least=2,
        most=3,
    )
    random_start: bool = option(
        False, "the car starts at a random place of the track; in Gymnasium only, so with --gymnasium_share 1"
    )

    def rules(self) -> dict[str, Any]:
        """As settings.InGames.rules; see Cars of env.py."""
        return uncharged(self.patience) | ({"random_start": True} if self.random_start else {})


@dataclass(frozen=True)
class Train(settings.GameTrain):
    """Evolving the controller in the game."""

    controller_mode: str = option("zh", settings.READS, choices=settings.CONTROLLER_MODES)
    patience: int = option(
        0,
        "training only: an episode without reward for so many steps is ended, and charged the cost of the steps left; "
        "0 means never",
        least=0,
    )
    backend: str = option("envpool", "the implementation of the game", choices=("gymnasium", "gym", "envpool", "draft"))
    block_rows: int = option(
        16, "cars that step together in one thread; a quarter of the generation's if those are fewer"
    )

    def rules(self) -> dict[str, Any]:
        """As settings.InGames.rules; see Cars of env.py."""
        return {"patience": self.patience} if self.patience else {}


@dataclass(frozen=True)
class DreamTrain(settings.DreamTrain):
    """Evolving the controller in the dream alone."""

    controller_mode: str = option("zh", settings.READS, choices=settings.CONTROLLER_MODES)


@dataclass(frozen=True)
class Ppo(settings.Ppo):
    """Learning the controller, a network, by a policy gradient in the dream."""

    controller_mode: str = option("zh", settings.NETWORK_READS, choices=settings.NETWORK_MODES)


@dataclass(frozen=True)
class GamePpo(settings.GamePpo):
    """Learning the controller, a network, by a policy gradient in the game."""

    controller_mode: str = option("zh", settings.NETWORK_READS, choices=settings.NETWORK_MODES)
    patience: int = option(
        0, "while learning: the episode of a car without a new tile for so many steps is ended; 0 means never", least=0
    )
    enough: float = option(
        1.0,
        "while learning: a car that has visited so large a share of the tiles is followed no further. After its lap "
        "only tiles that it missed are left, and it does not see which",
        least=0.01,
        most=1,
    )
    grass: float = option(
        0.0,
        "while learning: points that a step with grass on both sides of the car costs. Each tile that it leaves out on "
        "such a way costs some 30 in the end, for its lap is not complete, and it does not see why",
        least=0,
    )
    backend: str = option("envpool", "the implementation of the game", choices=("gymnasium", "envpool"))

    def rules(self) -> dict[str, Any]:
        """As settings.InGames.rules; see Cars of env.py."""
        rules = uncharged(self.patience)
        rules |= {"enough": self.enough} if self.enough < 1 else {}
        return rules | ({"grass": self.grass} if self.grass else {})


@dataclass(frozen=True)
class Planet(settings.Planet):
    """PlaNet in the game."""

    policy: str = option("brownian", "the random policy", choices=("random_network", "brownian"))
    backend: str = option(
        "envpool",
        "the implementation of the game to learn in; envpool does not color the tiles that the car has touched, as the "
        "others do",
        choices=("gymnasium", "envpool", "draft"),
    )
    patience: int = option(
        0, "while learning: a car without a new tile for so many steps of the game is ended; 0 means never", least=0
    )

    def rules(self) -> dict[str, Any]:
        """As settings.InGames.rules; see Cars of env.py."""
        return uncharged(self.patience)


VAE_PAPER = settings.Vae(z_size=32, steps=1000000)  # the authors' 10 epochs of 10,000 episodes of 1,000 frames
RNN_PAPER = settings.Rnn(hidden_size=256, sequence_length=999, steps=4000)
TRAIN_PAPER = Train()

EXTRACT = {
    "paper": Extract(episodes=12800),
    "laptop": Extract(episodes=1600, max_frames=400, policy="brownian"),
    "dream": Extract(episodes=800, policy="brownian", gymnasium_share=0.05, rows=32),
    "smoke": Extract(episodes=16, max_frames=60, policy="brownian", gymnasium_share=0.25, rows=4),
}
VAE = {
    "paper": VAE_PAPER,
    "laptop": replace(VAE_PAPER, steps=13000, batch_size=64, learning_rate=1e-3, schedule="cosine"),
    "dream": replace(VAE_PAPER, steps=9000, batch_size=64, learning_rate=1e-3, schedule="cosine", mirror=True),
    "smoke": replace(VAE_PAPER, steps=100, batch_size=64, learning_rate=1e-3, schedule="cosine"),
}
SERIES_PAPER = settings.Series(episodes_per_part=50)
SERIES = {
    "paper": SERIES_PAPER,
    "laptop": replace(SERIES_PAPER, mirror=True),  # seven sharp curves in ten are to the left
    # with all of its noise, a policy exploits the dream; that less is better is not settled (docs/history/carracing.md)
    "dream": replace(SERIES_PAPER, mirror=True, z_noise=0.05),
    "smoke": SERIES_PAPER,
}
RNN = {
    "paper": RNN_PAPER,
    "laptop": replace(RNN_PAPER, heads=True, sequence_length=64, steps=4000, learning_rate=1.5e-3, schedule="cosine"),
    "dream": replace(
        RNN_PAPER,
        heads=True,
        dropout=0.05,
        mirror=True,
        streams=32,
        sequence_length=200,
        steps=600,
        learning_rate=1e-3,
        schedule="cosine",
        validation_episodes=8,
    ),
    "smoke": replace(
        RNN_PAPER,
        heads=True,
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
TRAIN_DREAM_LAPTOP = DreamTrain(
    n=1,
    t=64,
    generations=40,
    eval_steps=20,
    eval_episodes=256,
    averaging=0.8,
    sigma_init=0.3,
    directions=40,
    sample_z=False,
    block_rows=512,
    dropout=0.05,
    horizon=100,
    starts=3000,
)
TRAIN_DREAM = {
    "paper": DreamTrain(),  # the authors evolved this controller in the game: their numbers, in the dream
    "laptop": TRAIN_DREAM_LAPTOP,
    "dream": replace(TRAIN_DREAM_LAPTOP, generations=30, eval_steps=30),
    "smoke": replace(
        TRAIN_DREAM_LAPTOP,
        t=8,
        num_episode=4,
        generations=4,
        eval_steps=2,
        eval_episodes=8,
        directions=8,
        horizon=20,
        starts=100,
    ),
}
# no "paper": the authors had no policy gradient
HELD = 8  # steps; the gas rises slowly: noise of a single one is all but lost
PPO_LAPTOP = Ppo(
    generations=150,
    discount=0.99,
    gae_lambda=0.95,
    reward_scale=0.05,
    sample_z=False,
    dropout=0.05,
    horizon=100,
    starts=3000,
)
PPO = {
    "laptop": PPO_LAPTOP,
    # no hidden layers: in dreams of 300 steps 128 and 64 units soon found what the MDN-RNN has wrong, and the car stood
    # in the game; in those of 20 steps they were not clearly better
    "dream": replace(
        PPO_LAPTOP,
        hidden="",
        generations=200,
        epochs=4,
        minibatch=2048,
        learning_rate=1e-3,
        discount=0.995,
        entropy=0.0,
        value_updates=10,
        eval_steps=50,
        starts=20000,
        horizon=20,  # in dreams of 300 steps the car learns what the MDN-RNN has wrong
        hold_noise=HELD,
    ),
    "smoke": replace(
        PPO_LAPTOP,
        generations=6,
        rows=64,
        steps=16,
        minibatch=256,
        value_updates=2,
        eval_steps=3,
        eval_episodes=8,
        horizon=20,
        starts=100,
    ),
}
PPO_GAME_LAPTOP = GamePpo(
    generations=40,
    steps=MAX_STEPS,
    epochs=4,
    learning_rate=1e-3,
    discount=0.99,
    gae_lambda=0.95,
    reward_scale=0.05,
    entropy=0.0,
    value_updates=4,
    hold_noise=HELD,
    sample_z=False,
    patience=100,
    enough=0.9,
    eval_steps=5,
    eval_episodes=32,
)
PPO_GAME = {
    "laptop": PPO_GAME_LAPTOP,
    "smoke": replace(PPO_GAME_LAPTOP, generations=2, rows=4, minibatch=200, patience=40, eval_steps=2, eval_episodes=2),
}
# a third of the steps explore: of a car that only drives well the MDN-RNN learns that the road bends as the car steers
FROM_DREAM = settings.Round(
    own=240,
    explore=0.3,
    record={"patience": 100, "gymnasium_share": 0.0},
    own_share=0.7,
    rnn={"steps": 2000, "streams": 16, "validation_episodes": 20},
    train={"o": "ppo", "start_games": 440},
    games=16,
)
LONGER_CHUNKS = {
    "streams": 48,
    "sequence_length": 200,
    "steps": 600,
    "learning_rate": 1e-3,
    "validation_episodes": 20,
    "mirror": True,
}
IN_GAME = {"o": "ppo", "world": "game"}
# once it drives: what is 500 steps ahead counts as well, so that a curve is not worth the risk of losing the lap
FARSIGHTED = IN_GAME | {
    "discount": 0.998,
    "gae_lambda": 0.98,
    "reward_scale": 0.01,
    "learning_rate": 3e-4,
    "generations": 25,
}
ITERATE = {
    # the paper's experiment: one round, evolved in the game
    "paper": settings.Iterate((settings.Round(random=12800, vae={}, rnn={}, train={}),), mb_per_episode=1.6),
    "laptop": settings.Iterate(
        (
            settings.Round(
                random=800,
                vae={"steps": 9000, "mirror": True},
                rnn={"steps": 2000, "mirror": True},
                train=IN_GAME,
                games=32,
            ),
            settings.Round(own=200, rnn=LONGER_CHUNKS, train=FARSIGHTED, games=32),
            settings.Round(own=200, rnn=LONGER_CHUNKS, train=FARSIGHTED | {"grass": 2.0}, games=64),
        ),
        mb_per_episode=1.6,
        linear={"generations": 40, "eval_steps": 20},
        backend="envpool",
        ships=2,
        controller="log/carracing.ppo.1000.32.best.json",
    ),
    "smoke": settings.Iterate(
        (
            settings.Round(
                random=24,
                record={"max_frames": 200},
                vae={"steps": 500},
                rnn={"steps": 40},
                train=IN_GAME
                | {
                    "rows": 32,
                    "minibatch": 2000,
                    "patience": 100,
                    "generations": 12,
                    "eval_steps": 12,
                    "eval_episodes": 8,
                },
                games=16,
            ),
        ),
        mb_per_episode=0.5,
        backend="envpool",
    ),
    "dream": settings.Iterate(
        (
            settings.Round(
                random=800,
                record={"max_frames": 400},
                vae={},
                rnn={"steps": 2000},
                train={"o": "ppo", "start_games": 800},
                games=16,
            ),
            *[FROM_DREAM] * 6,
            replace(FROM_DREAM, games=64),
        ),
        mb_per_episode=3.0,
        backend="envpool",
        ships=1,
        controller="log/carracing.dream.best.json",
    ),
}
PLANET_PAPER = Planet()
PLANET = {
    "paper": PLANET_PAPER,
    # 45 * 1000 updates of 0.15 CPU-s, 11,000 batched decisions of 0.24, validations: 3 hours of one core
    "laptop": replace(
        PLANET_PAPER,
        episodes=480,
        random_episodes=128,
        patience=100,
        backend="draft",  # its frames have the colors of Gymnasium, in which scores are taken
        mirror=True,
        hold=3,
        shared_noise=True,
        rows=8,
        updates=1000,
        noise=0.2,
        iterations=4,
        candidates=100,
        elite=10,
        hidden=100,
        head=100,
        depth=16,
        batch_size=16,
        sequence_length=20,
        decoded_share=0.25,
        validate_every=80,
        memory_frames=150_000,
    ),
    "smoke": replace(
        PLANET_PAPER,
        episodes=3,
        random_episodes=2,
        patience=40,
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
