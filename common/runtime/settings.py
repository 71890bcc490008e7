"""The settings of the stages that all games share. config.py of each game makes the presets.

Defaults are the authors' numbers where both of their games had the same. The config.py of a game adds its own settings
in a subclass.
"""

import argparse
from dataclasses import dataclass, field, replace
from typing import Any

from common.runtime.cli import UserError, option

SCHEDULES = ("constant", "cosine", "exponential")
CONTROLLER_MODES = ("z", "z_hidden", "zc", "zh", "zch")
WORLDS = ("dream", "game")  # where a controller is evolved
# far beyond what a machine can do: a number with a zero too many is refused, and does not fill the memory
MOST_WORKERS, MOST_ROWS, MOST_CANDIDATES, MOST_STEPS, MOST_UNITS = 4096, 65_536, 100_000, 10_000, 16_384
NETWORK_MODES = ("z", "zc", "zh", "zch")  # of a controller with hidden layers of any size
NETWORK_READS = "what the controller reads of z (the VAE) and of h and c (the hidden and the cell state of the LSTM)"
READS = f"{NETWORK_READS}; z_hidden: z, through a hidden layer of 40 units"


@dataclass(frozen=True)
class Pay:
    """What the heads of an MDN-RNN learn of the reward of a game, and what its dream pays by them."""

    least: float
    """a step's reward is clipped to the range from here"""
    most: float
    """to here"""
    fall_below: float
    """a step with less reward is the end that costs"""
    cost: float
    """of that end, in the dream"""
    reward_weight: float = 0.1
    """of the squared error of the reward in the loss"""
    fall_weight: float = 10.0
    """of the steps that are that end in its cross-entropy"""


class InGames:
    """Options of what plays the real game: games may have other rules in it than in an evaluation."""

    def rules(self) -> dict[str, Any]:
        """What games do otherwise while they are recorded or learned from, as keywords of Game.real_games."""
        return {}


@dataclass(frozen=True)
class Extract(InGames):
    """Recording episodes of the game."""

    episodes: int = option(10000, "episodes to play; episode i has seed `first_seed` + i")
    first_seed: int = option(2000, "seed of the first episode, from 2000 to 399999", least=2000, most=399_999)
    policy: str = option("", "the random policy that plays; by default the first of the game")
    max_frames: int = option(0, "an episode is cut after so many frames; 0 means at the end of the game", least=0)
    min_frames: int = option(0, "shorter episodes are not kept [frames]", least=0)
    max_hold: int = option(10, "a random action is held for 1 to this many steps")
    workers: int = option(
        0, "processes, or threads with a controller; 0 means one per core", least=0, most=MOST_WORKERS
    )
    controller: str = option("", "the .json of a controller that plays instead of the random policy")
    explore: float = option(0.2, "share of the steps in which a controller's player holds random actions", most=0.99)
    rows: int = option(
        16, "games that a controller plays in lockstep in one thread (12 kB of memory for each frame)", most=MOST_ROWS
    )


@dataclass(frozen=True)
class Vae:
    """Training the VAE."""

    z_size: int = option(32, "dimensions of z", most=MOST_UNITS)
    batch_size: int = option(100, "frames per step")
    steps: int = option(1000000, "training steps")
    learning_rate: float = option(1e-4, "Adam's step size (its peak, under the cosine schedule)", least=1e-12)
    schedule: str = option(
        "constant", "constant, or cosine: to zero over all steps after a warm-up", choices=SCHEDULES[:2]
    )
    rare_pixels: float = option(
        0.0,
        "how much more the error of unusual pixels weighs, such as those of a fireball far away: 1 + this times the "
        "square of their standard score in the batch (30 at most)",
    )
    mirror: bool = option(False, "data augmentation: half of the frames are mirrored left to right")
    gan: bool = option(
        False,
        "VAE-GAN: a discriminator judges the decoder too; reconstructions are compared in pixels and in its features",
    )
    gan_judgment: float = option(
        0.3,
        "with --gan: length of the gradient of the discriminator's judgment at the decoded frames, as a share of that "
        "of the feature loss; 0 in the first third of the training, rising to this in the second",
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
    mirror: bool = option(False, "encode the mirror image of every frame as well")
    z_noise: float = option(
        1.0,
        "standard deviation of z around its mean, as a share of the VAE's",
        least=1e-3,
        most=1.0,
    )


@dataclass(frozen=True)
class Rnn:
    """Training the MDN-RNN."""

    hidden_size: int = option(256, "LSTM cells", most=MOST_UNITS)
    output: str = option(
        "mixture",
        "what it predicts of each dimension of z: mixture, by likelihood; gaussian: one normal, by the KL divergence "
        "from the posterior of the VAE",
        choices=("mixture", "gaussian"),
    )
    mixtures: int = option(5, "normals in each dimension's mixture", most=MOST_UNITS)
    dropout: float = option(
        0.0, "dropout rate on h before the output layer; each stream has one mask per chunk", most=0.9
    )
    heads: bool = option(
        False,
        "it also learns the reward of a step and the end that costs, so that its dream pays; see PAY in config.py",
    )
    mirror: bool = option(
        False, "data augmentation: also learn from mirrored episodes; encode them with series.py --mirror"
    )
    newest: int = option(
        0, "so many of the latest episodes (largest seeds) fill streams of their own, to be seen more often", least=0
    )
    newest_share: float = option(0.5, "share of the streams that the --newest episodes fill", least=0.01, most=0.99)
    streams: int = option(100, "streams of concatenated episodes, the batch")
    sequence_length: int = option(500, "steps of every stream between two updates; the state is carried over")
    steps: int = option(4000, "training steps")
    learning_rate: float = option(1e-3, "Adam's step size (its peak, under the cosine schedule)", least=1e-12)
    schedule: str = option(
        "constant", "constant; cosine: to zero after a warm-up; exponential: rate * 0.99999^step", choices=SCHEDULES
    )
    clip: float = option(1.0, "gradients are clipped to +- this value", least=1e-6)
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

    restart_weight: float = option(10.0, "weight of restarts in the restart flag's cross-entropy", least=1e-6)
    restart_z: bool = option(
        True,
        "the z of the first frame after a restart is learned too, as in the authors' code; --no-restart_z: it is not, "
        "so that a dream that lives on is not led back to a first frame",
    )


@dataclass(frozen=True)
class InDreams:
    """The dreams that a controller is trained in, see common/training/dreams.py."""

    temperature: float = option(
        1.0,
        "of the dreams: above 1 they are harder and less certain than the game as the MDN-RNN predicts it",
        least=0.01,
        most=100,
    )
    dropout: float = option(
        0.0, "dropout rate on h before the output layer, in the dreams; each dream has one mask", most=0.9
    )
    also_in: str = option(
        "",
        "further MDN-RNNs to dream in, rnn.json,...: each dreams an equal share. The controller reads the h of the one "
        "it is in, so each must have been trained on from another of them",
    )
    ends: str = option(
        "threshold",
        "when a dream ends: threshold, where the restart logit is above 0, as in the authors' code; or drawn, with the "
        "probability that the MDN-RNN gives it, so that dreams are as dangerous as the game",
        choices=("threshold", "drawn"),
    )
    horizon: int = option(0, "steps after which a dream is cut short; 0 means at the end of the game", least=0)
    starts: int = option(
        0,
        "dreams start at so many places along the recorded games, with what the MDN-RNN remembers there: some first "
        "frames, most where reward has just come, some anywhere; 0 means at first frames only",
        least=0,
        most=MOST_CANDIDATES,
    )
    start_games: int = option(300, "recorded games, the newest, along which dreams start")


@dataclass(frozen=True)
class Train:
    """Evolving the controller. The population is n x t, whatever the number of ranks."""

    n: int = option(64, "MPI ranks to start; 1 uses the cores of this process", "-n", "--num_worker", most=MOST_WORKERS)
    t: int = option(
        1, "candidates per rank, of which n x t make the population", "-t", "--num_worker_trial", most=MOST_CANDIDATES
    )
    o: str = option(
        "cma",
        "cma (CMA-ES); openes, an evolution strategy in which the mean follows the estimated gradient of the return; "
        "pepg, one that adapts a standard deviation for each parameter too; ses, the same with the mean of the best "
        "tenth; ga, a genetic algorithm; ppo, a policy gradient, which has other flags: python train.py "
        "-o ppo --help",
        "-o",
        "--optimizer",
        choices=("cma", "openes", "pepg", "ses", "ga", "ppo"),
    )
    num_episode: int = option(
        16, "episodes per candidate and generation, the same for all candidates", most=MOST_CANDIDATES
    )
    generations: int = option(1800, "generations to evolve for")
    eval_steps: int = option(25, "generations between evaluations of the mean")
    eval_episodes: int = option(1024, "episodes in such an evaluation")
    averaging: float = option(
        0.0,
        "weight of the past in a running average of the means, which is evaluated instead of the last mean",
        most=0.999,
    )
    sigma_init: float = option(0.1, "initial standard deviation, which CMA-ES adapts", least=1e-6)
    learning_rate: float = option(1.0, "of openes and pepg: how fast the mean moves", least=1e-12)
    start_from: str = option(
        "", "the .json of a controller to start the search at, such as that of an earlier run; by default all zero"
    )
    directions: int = option(
        0,
        "search in a subspace: along so many principal components of what the controller reads while --start_from "
        "plays; 0 means along every weight",
        least=0,
    )
    controller_mode: str = option("zch", READS, choices=CONTROLLER_MODES)
    sample_z: bool = option(True, "the controller sees a sample of the posterior of the VAE; --no-sample_z: its mean")
    block_rows: int = option(256, "episodes that step together in one thread")
    seed_start: int = option(0, "decides the candidates and the episodes they meet", "-s", least=0)
    checkpoint_seconds: float = option(60.0, "time between checkpoints [s]")
    world: str = option("dream", "where: dream or game", choices=WORLDS)


@dataclass(frozen=True)
class DreamTrain(InDreams, Train):
    """Evolving the controller in dreams."""

    world: str = option(
        "dream", "where: dream; or game, which has other flags: python train.py --world game --help", choices=WORLDS
    )


@dataclass(frozen=True)
class GameTrain(InGames, Train):
    """Evolving the controller in the real game."""

    world: str = option(
        "game", "where: game; or dream, which has other flags: python train.py --world dream --help", choices=WORLDS
    )
    fewer_episodes: str = option(
        "",
        "fewer episodes at first: generation:episodes,... such as 20:2,60:4 for 2 up to generation 20, then 4 up to 60",
    )
    track_groups: int = option(
        1, "groups of candidates, each with its own episodes; 1 means that all of a generation play the same"
    )
    backend: str = option("", "the implementation of the game; by default the one that scores are reported in")


@dataclass(frozen=True)
class PolicyGradient:
    """Learning the controller, a network, by a policy gradient: train.py -o ppo. See common/training/ppo.py."""

    o: str = option("ppo", "ppo; the others evolve, with other flags", "-o", "--optimizer", choices=("ppo",))
    generations: int = option(300, "updates; each collects `rows` x `steps` steps and learns from them")
    rows: int = option(1024, "episodes in lockstep", most=MOST_ROWS)
    steps: int = option(64, "steps of every row in an update", most=MOST_STEPS)
    epochs: int = option(2, "passes through the steps of an update")
    minibatch: int = option(4096, "steps in one step of Adam; `rows` x `steps` must be a multiple")
    blocks: int = option(2, "parts of the rows and minibatches, each in a thread; decides the result in the last bits")
    learning_rate: float = option(3e-4, "step size of Adam at the start; it falls to a tenth of this", least=1e-12)
    discount: float = option(0.998, "of rewards, per step", most=1)
    gae_lambda: float = option(0.97, "lambda of the generalised advantage estimate", most=1)
    reward_scale: float = option(1.0, "factor on rewards before learning, so that values are about 1", least=1e-6)
    clip: float = option(0.2, "PPO's clipping range: the probability ratio is clipped to 1 +- this", least=1e-6)
    entropy: float = option(0.003, "weight of the entropy of the policy")
    tether: float = option(0.0, "weight of the penalty KL(policy || policy of --start_from) in the loss; 0 means none")
    hidden: str = option("128,64", "units of each hidden layer of the policy; an empty text means none")
    value_hidden: str = option("128,64", "units of each hidden layer of the value network")
    value_updates: int = option(10, "first updates, in which only the value network learns", least=0)
    hold_noise: int = option(
        1,
        "steps for which the noise of the drawn actions stays the same; 1 means new noise in every step. Where actions "
        "work slowly, new noise averages out before it shows anything",
    )
    start_from: str = option(
        "",
        "the .json of a controller to start from: a network of the same layers learns on; a linear one stays fixed, "
        "and a network is added to it",
    )
    eval_steps: int = option(25, "updates between evaluations of the policy")
    eval_episodes: int = option(512, "episodes in such an evaluation")
    controller_mode: str = option("zch", NETWORK_READS, choices=NETWORK_MODES)
    sample_z: bool = option(True, "in the game the controller sees a sample of z; --no-sample_z: the mean")
    seed_start: int = option(0, "decides initial weights, episodes and actions", "-s", least=0)
    checkpoint_seconds: float = option(60.0, "time between checkpoints [s]")


@dataclass(frozen=True)
class Ppo(InDreams, PolicyGradient):
    """Learning the controller, a network, by a policy gradient in dreams: train.py -o ppo."""

    world: str = option(
        "dream",
        "where: dream; or game, which has other flags: python train.py -o ppo --world game --help",
        choices=WORLDS,
    )


@dataclass(frozen=True)
class GamePpo(InGames, PolicyGradient):
    """Learning the controller, a network, by a policy gradient in the real game: train.py -o ppo --world game."""

    world: str = option(
        "game", "where: game; or dream, which has other flags: python train.py -o ppo --help", choices=WORLDS
    )
    backend: str = option("", "the implementation of the game; by default the one that scores are reported in")
    generations: int = option(60, "updates; each plays an episode in every row and learns from them")
    rows: int = option(32, "games in lockstep", most=MOST_ROWS)
    steps: int = option(
        1000, "steps of an episode that are played, at most; an episode of the game has no more", most=MOST_STEPS
    )
    minibatch: int = option(2000, "steps in one step of Adam, at most")
    eval_steps: int = option(10, "updates between evaluations of the policy")
    eval_episodes: int = option(64, "episodes in such an evaluation")


@dataclass(frozen=True)
class Round:
    """One round of the iterative procedure: play, learn the world, evolve in it. What is not given does not change.

    `vae`, `rnn` and `train` are flags of vae_train.py, rnn_train.py and train.py; each continues from the round before,
    unless they have "start_from": "".
    """

    random: int = 0
    """episodes that the random policy plays"""
    own: int = 0
    """episodes that the controller of the round before plays"""
    explore: float = 0.1
    """share of the steps in which random actions are held while that controller plays"""
    record: dict[str, Any] = field(default_factory=dict)
    """further flags of extract.py for all of these"""
    own_share: float = 0.5
    """share of the streams of the MDN-RNN for the games of all controllers of this run"""
    vae: dict[str, Any] | None = None
    rnn: dict[str, Any] | None = None
    more_rnns: int = 0
    """further MDN-RNNs, each trained on from the one before with another order of the episodes; the controller learns
    in the dreams of all. No preset has any, for what they bring in rounds has not been measured"""
    more: dict[str, Any] = field(default_factory=dict)
    """flags of rnn_train.py for those"""
    train: dict[str, Any] | None = None
    also: tuple[dict[str, Any], ...] = ()
    """further trainings of the controller, with other seeds, each by `train` with these flags in it; the game chooses
    among the means of all"""
    games: int = 100
    """real validation games that choose among the means of the evolution; as many again report the round"""


@dataclass(frozen=True)
class Iterate:
    """The iterative procedure as one command."""

    rounds: tuple[Round, ...]
    mb_per_episode: float
    """of disk for a recorded episode, at most"""
    linear: dict[str, Any] | None = None
    """flags of train.py, with which the linear controller is evolved at the end with the models of the best round, in
    the world that they name, by default that of train.py; dreams begin at first frames"""
    backend: str = ""
    """of the validation games; by default the one that scores are reported in"""
    ships: int = 0
    """which of the sets of weights that ship, SHIPPED in config.py, `--ship` replaces"""
    controller: str = ""
    """the controller that `--ship` replaces; by default SHIPPED_CONTROLLER in config.py"""


@dataclass(frozen=True)
class Planet(InGames):
    """PlaNet: an RSSM and a planner that plays in it (Hafner et al. 2019).

    Defaults are the paper's; those of `head` and `overshooting_weight` are its authors' code's.
    """

    action_repeat: int = option(
        4, "steps of the game that an action is played for; a step below is so many of these", most=MOST_STEPS
    )
    episodes: int = option(1000, "episodes to play altogether; episode i has seed `first_seed` + i")
    first_seed: int = option(200_000, "seed of the first episode, from 2000 to 399999", least=2000, most=399_999)
    random_episodes: int = option(
        5, "how many of the episodes, the first ones, the random policy plays; may be 0 with --recordings", least=0
    )
    policy: str = option("", "the random policy; by default the first of the game")
    recordings: str = option("", "a folder of recordings to learn from besides, such as record")
    rows: int = option(1, "episodes that are played in lockstep between two rounds of updates", most=MOST_ROWS)
    updates: int = option(100, "updates of the model in each round, before its episodes are played")
    noise: float = option(
        0.3, "standard deviation of the noise on planned actions while learning, in halves of the range of the action"
    )
    backend: str = option(
        "", "the implementation of the game to learn in; by default the one that scores are reported in"
    )

    horizon: int = option(12, "actions that are planned ahead", most=MOST_STEPS)
    iterations: int = option(10, "of the cross-entropy method, for every action", most=1000)
    candidates: int = option(1000, "plans that are tried in each iteration", most=MOST_CANDIDATES)
    elite: int = option(100, "best plans, to which the next iteration's are fitted", most=MOST_CANDIDATES)
    hold: int = option(
        1, "actions in a row that differ from the mean of the plans by the same draw; in the paper 1", most=MOST_STEPS
    )
    shared_noise: bool = option(
        False,
        "all plans of an iteration are imagined with the same noise, so that none seems better by chance; in the paper "
        "each has its own",
    )

    deterministic: int = option(200, "cells of the GRU", most=MOST_UNITS)
    stochastic: int = option(30, "dimensions of the stochastic state", most=MOST_UNITS)
    hidden: int = option(200, "units of the dense layers between states", most=MOST_UNITS)
    head: int = option(300, "units of the dense layers that predict the reward, and the end", most=MOST_UNITS)
    depth: int = option(32, "channels of the first convolution; 32 are those of the VAE", most=MOST_UNITS)
    paths: str = option(
        "both",
        "both; deterministic: a state without noise; stochastic: a state without a GRU",
        choices=("both", "deterministic", "stochastic"),
    )

    batch_size: int = option(50, "chunks of episodes per update", most=MOST_ROWS)
    sequence_length: int = option(50, "steps of a chunk", most=MOST_STEPS)
    decoded_share: float = option(
        1.0, "share of the frames of a batch, drawn anew each time, that are decoded for the image loss", most=1
    )
    learning_rate: float = option(1e-3, "Adam's step size", least=1e-12)
    epsilon: float = option(1e-4, "Adam's epsilon", least=1e-12)
    clip: float = option(1000.0, "largest norm of the gradient of all weights", least=1e-6)
    free_nats: float = option(3.0, "KL divergence of a step that costs nothing [nats]")
    image_weight: float = option(1.0, "weight of the negative log-likelihood of the image")
    reward_weight: float = option(10.0, "weight of the negative log-likelihood of the reward")
    reward_limit: float = option(
        10.0, "rewards of a step below minus this are raised to it before the model learns them", least=1e-6
    )
    end_weight: float = option(10.0, "weight of the cross-entropy of the end, in games that can be lost")
    overshooting: int = option(0, "largest distance of latent overshooting [steps]; 0 and 1 mean none", least=0)
    overshooting_weight: float = option(0.1, "weight of latent overshooting, the mean over its distances")
    rare_pixels: float = option(
        0.0,
        "the squared error of a pixel weighs 1 plus this times how unusual it is, so that small things are seen",
        least=0,
    )
    mirror: bool = option(False, "data augmentation: half of the chunks are mirrored left to right")

    validate_every: int = option(0, "episodes between two validations; 0 means only at the end", least=0)
    validation_episodes: int = option(16, "games of a validation, played without noise")
    memory_frames: int = option(
        1_000_000, "frames held to learn from (12 kB each); the oldest episodes are forgotten beyond"
    )
    seed: int = option(1, "decides initial weights, batches, noise and plans", least=0, most=10**9)
    report_every: int = option(20, "updates between lines in metrics.jsonl")
    checkpoint_seconds: float = option(120.0, "time between checkpoints [s]")


def check_vae(cfg: Any, arguments: argparse.Namespace) -> None:
    """UserError if options of a VAE exclude each other.

    Args:
        cfg: Vae.
        arguments: as `cli.parse` returns them; of the options only those that the user gave.
    """
    if not cfg.gan and "gan_judgment" in arguments:
        raise UserError("--gan_judgment is of the VAE-GAN only; add --gan, or leave it out")
    if cfg.gan and cfg.rare_pixels:
        raise UserError(
            "--rare_pixels weighs the pixels of a plain VAE, and has no effect with --gan; leave one of them out"
        )
    for flag in ("gan", "rare_pixels"):
        if getattr(cfg, flag) and cfg.batch_size < 2:
            raise UserError(f"--{flag} looks at what varies in a batch: give a --batch_size of 2 or more")


def one_normal(cfg: Any, preset: Any) -> Any:
    """The config of an MDN-RNN with its number of mixtures: one if the output is gaussian.

    Raises:
        UserError: the user asks for a gaussian and for another number.
    """
    if cfg.output != "gaussian":
        return cfg
    if cfg.mixtures not in (1, preset.mixtures):
        raise UserError(f"--output gaussian is one normal; leave out --mixtures {cfg.mixtures}")
    return replace(cfg, mixtures=1)


def units_of(hidden: str) -> tuple[int, ...]:
    """The units of each hidden layer: "128,64" -> (128, 64), "" -> ()."""
    try:
        units = tuple(int(part) for part in hidden.split(",") if part)
    except ValueError:
        units = (0,)
    if any(not 1 <= unit <= MOST_UNITS for unit in units):
        raise UserError(f"hidden layers {hidden}: give the units of each, such as 128,64, each from 1 to {MOST_UNITS}")
    return units
