"""The model.py of every game: an agent plays many episodes in lockstep for its score, or one to watch."""

import argparse
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from common.agent import mdnrnn, models
from common.game import Game
from common.play import agents, video
from common.protocols import Policy, Seeds, World
from common.runtime import cli, devices, files, parallel, provenance, runs, seeds
from common.runtime.cli import UserError
from common.worlds import dream, rollouts
from common.worlds.encoded import EncodedGames

ROWS_PER_BLOCK = 32  # games that step together in one thread
EPISODES = 100  # that norender plays by default
FLAGS_OF_MODE = {"norender": ("episodes", "out"), "render": ("video",)}
Picture = Callable[[Any], np.ndarray]
"""(state) -> its picture, uint8 [H, W, 3]"""
Screen = video.Video | video.Window


def main(game: Game, description: str | None) -> None:
    """model.py: scores an agent, or the random policy, over many episodes (norender), or shows one episode (render)."""
    arguments = _parse(game, description)
    arguments.backend = game.backend_here(arguments.backend)
    devices.for_blocks()
    agent = None if arguments.file == "random" else agents.load(game, arguments)
    dreaming = bool(game.world_names) and arguments.world == game.world_names["dream"]
    (_score if arguments.mode == "norender" else _show)(game, arguments, agent, dreaming)


def _policy(game: Game, agent: agents.Agent | None) -> Callable[[np.ndarray], Policy]:
    """(seeds) -> the policy of an agent, or without one the random policy."""
    if agent:
        return agent.policy
    return lambda episodes: rollouts.RandomActions(episodes, game.config.ACTION_LOW, game.config.ACTION_HIGH)


def _score(game: Game, arguments: argparse.Namespace, agent: agents.Agent | None, dreaming: bool) -> None:
    """Plays many episodes and reports their scores. In the game, the random policy needs neither VAE nor MDN-RNN."""
    loaded = agent.models if agent else _run_models(game, arguments) if dreaming else None
    end_weight = agent.end_weight if agent else 0.0
    game = game.acting_by(loaded.rnn.shape.action_size) if loaded else game

    def make_world(rows: int) -> World:
        if loaded and dreaming:
            return dreams(game, loaded, arguments.temperature, end_weight)
        played = game.real_games(rows, arguments.backend)
        return agent.world(played) if agent else played

    episodes = np.arange(arguments.seed, arguments.seed + arguments.episodes)
    returns, lengths = measure(make_world, _policy(game, agent), episodes)
    about = {"game": arguments.world if game.world_names else game.name, "seed": arguments.seed}
    if dreaming:
        ends = "drawn" if end_weight else "threshold"
        about |= {"backend": "dream", "temperature": arguments.temperature, "ends": ends}
    else:
        about |= {"backend": arguments.backend}
    about |= agent.about() if agent else {"controller": "random"} | (loaded.about() if loaded else {})
    report(arguments, episodes, returns, lengths, **about)


def _show(game: Game, arguments: argparse.Namespace, agent: agents.Agent | None, dreaming: bool) -> None:
    """Shows one episode."""
    loaded = agent.models if agent else _run_models(game, arguments)
    game = game.acting_by(loaded.rnn.shape.action_size)
    world: World
    if dreaming:
        world = dreams(game, loaded, arguments.temperature, agent.end_weight if agent else 0.0)
        picture = decoded(loaded, 256)
    else:
        played = game.real_games(1, arguments.backend)
        world = encoded = agent.world(played) if agent else EncodedGames(played, loaded.vae, loaded.rnn)
        picture = three_panels(encoded, arguments.seed)
    policy, title = _policy(game, agent)(np.array([arguments.seed])), game.title + ", dreamt" * dreaming
    with video.screen(title, game.config.FPS, arguments.video, f"{game.name}.mp4") as screen:
        reward, _ = watch(world, policy, arguments.seed, screen, picture)
    print(f"seed {arguments.seed} reward {reward:.1f}")


def _run_models(game: Game, arguments: argparse.Namespace) -> models.Models:
    return models.load_run(game, arguments.run, arguments.unverified)


def _parse(game: Game, description: str | None) -> argparse.Namespace:
    parser = cli.OneLineParser(description=description)
    if game.world_names:
        names = [game.world_names["real"], game.world_names["dream"]]
        parser.add_argument("world", choices=names, help="the real game, or the dream of it")
        _add_temperature(parser, game, in_a_dream_only=True)
    parser.add_argument("mode", choices=["render", "norender"], help="watch one episode, or score many")
    _add_file_and_seed(parser, ", or the word: random")
    add_scoring(parser, game)
    add_run(parser, "tf_*/ and log/")
    arguments = parser.parse_args()
    check_mode(arguments)
    if game.world_names:
        _check_temperature(game, arguments)
    if arguments.file != "random":  # loading the models to find out later would take seconds
        arguments.file = agents.find(arguments.file, arguments.run)
    check_seeds(arguments)
    return arguments


def _add_file_and_seed(parser: argparse.ArgumentParser, or_random: str = "") -> None:
    parser.add_argument("file", metavar="FILE", help=f"the .json of a controller{or_random}")
    add_seed(parser)


def add_seed(parser: argparse.ArgumentParser) -> None:
    """The seed of the first episode."""
    seed = cli.number(int, 0, cli.LARGEST)
    parser.add_argument("seed", nargs="?", type=seed, default=0, help="seed of the first episode (default 0)")


def add_scoring(parser: argparse.ArgumentParser, game: Game) -> None:
    """How many episodes are played, on which implementation of the game, and where scores and video go."""
    episodes = cli.number(int, 1, seeds.MOST_EPISODES)
    text = f"to play; episode i has seed + i (default: {EPISODES})"
    parser.add_argument("--episodes", type=episodes, help=text)
    parser.add_argument(
        "--out", type=cli.new_file, metavar="FILE", help="write the scores of all episodes here, as JSON"
    )
    parser.add_argument(
        "--video", type=video.new_file, metavar="FILE", help="write what render shows to this .mp4 or .gif"
    )
    add_backend(parser, game)


def add_backend(parser: argparse.ArgumentParser, game: Game) -> None:
    """Which implementation of the game is played, where there are several."""
    if len(game.backends) > 1:
        parser.add_argument(
            "--backend", choices=game.backends, default=game.backends[0], help="implementation of the game"
        )
    parser.set_defaults(backend=game.backends[0])


def check_mode(arguments: argparse.Namespace) -> None:
    """Sets how many episodes are played; UserError if there is a flag that has no effect in this mode."""
    for mode, names in FLAGS_OF_MODE.items():
        for name in names:
            if mode != arguments.mode and getattr(arguments, name) is not None:
                raise UserError(f"--{name}: goes with {mode}, not with {arguments.mode}; leave it out")
    if arguments.episodes is None:
        arguments.episodes = EPISODES if arguments.mode == "norender" else 1


def _check_temperature(game: Game, arguments: argparse.Namespace) -> None:
    """Sets the temperature of the dream; UserError if one is given for the real game."""
    dream = game.world_names["dream"]
    if arguments.temperature is None:
        arguments.temperature = game.config.TEMPERATURE
    elif arguments.world != dream:
        raise UserError(f"--temperature: goes with {dream}, not with {arguments.world}; leave it out")


def check_seeds(arguments: argparse.Namespace) -> None:
    """UserError if an episode has a seed that no game takes."""
    if arguments.seed + arguments.episodes - 1 > cli.LARGEST:
        raise UserError(
            f"seed {arguments.seed}: with {arguments.episodes} episodes more than {cli.LARGEST}, the largest"
        )


def _add_temperature(parser: argparse.ArgumentParser, game: Game, in_a_dream_only: bool = False) -> None:
    """Of the dream; None if it is not given, where only one of the worlds of a command is a dream."""
    temperature, usual = cli.number(float, 0.01, 100), game.config.TEMPERATURE
    text = f"of the dream; above 1 it is harder and less realistic (default: {usual})"
    parser.add_argument("--temperature", type=temperature, default=None if in_a_dream_only else usual, help=text)


def add_run(parser: argparse.ArgumentParser, holds: str) -> None:
    """The folder of the run, with what it `holds`, and whether its files need valid metas."""
    parser.add_argument("--run", default=".", metavar="DIR", help=f"folder with the {holds} of this run")
    parser.add_argument("--unverified", action="store_true", help=cli.UNVERIFIED)


def watch_dream(game: Game, description: str | None) -> None:
    """dream_model.py: shows an agent in its dream, in a window, or as a video where there is no display."""
    parser = cli.OneLineParser(description=description)
    _add_file_and_seed(parser)
    _add_temperature(parser, game)
    parser.add_argument("--video", type=video.new_file, metavar="FILE", help="write the dream to this .mp4 or .gif")
    add_run(parser, "tf_*/ and log/")
    arguments = parser.parse_args()
    devices.for_blocks()
    agent = agents.load(game, arguments)
    world = dreams(game, agent.models, arguments.temperature, agent.end_weight)
    policy = agent.policy([arguments.seed])
    with video.screen(f"{game.title}, dreamt", game.config.FPS, arguments.video, "dream.mp4") as screen:
        _, steps = watch(world, policy, arguments.seed, screen, decoded(agent.models))
    print(f"seed {arguments.seed} dreamt {steps} steps")


def play_dream(game: Game, description: str | None) -> None:
    """The script in which a person plays inside the dream with the keyboard."""
    parser = by_keyboard(description)
    _add_temperature(parser, game)
    add_run(parser, "tf_*/ and log/")
    arguments = parser.parse_args()
    need_display(arguments.video)
    devices.for_blocks()
    loaded = _run_models(game, arguments)
    game = game.acting_by(loaded.rnn.shape.action_size)
    world = dreams(game, loaded, arguments.temperature)
    with video.stage(f"{game.title}, dreamt", game.config.FPS, arguments.video) as screen:
        _, steps = watch(world, Keyboard(screen, game.keyboard_action), arguments.seed, screen, decoded(loaded))
    print(f"you played for {steps} steps")


def play_game(game: Game, description: str | None) -> None:
    """The script in which a person plays the real game with the keyboard, seeing what the VAE sees."""
    parser = by_keyboard(description)
    arguments = parser.parse_args()
    need_display(arguments.video)

    def picture(frames: np.ndarray) -> np.ndarray:
        return video.panels(frames[0], height=512)

    world = game.real_games(1, game.backends[0])
    with video.stage(game.title, game.config.FPS, arguments.video) as screen:
        reward, steps = watch(world, Keyboard(screen, game.keyboard_action), arguments.seed, screen, picture)
    print(f"{reward:.1f} points in {steps} steps")


def by_keyboard(description: str | None) -> argparse.ArgumentParser:
    """The flags of every script in which a person plays."""
    parser = cli.OneLineParser(description=description)
    parser.add_argument("--seed", type=cli.number(int, 0, cli.LARGEST), default=0, help="of the episode")
    text = "also write it to this .mp4 or .gif (without a display: only that)"
    parser.add_argument("--video", type=video.new_file, metavar="FILE", help=text)
    return parser


def dreams(
    game: Game,
    loaded: models.Models,
    temperature: float,
    end_weight: float = 0.0,
    rnn: mdnrnn.MDNRNN | None = None,
    **more: Any,
) -> dream.DreamWorld:
    """A batch of dreams of a game.

    Args:
        game: which.
        loaded: its models.
        temperature: see dream.DreamWorld.
        end_weight: likewise.
        rnn: the MDN-RNN that dreams; by default that of `loaded`.
        **more: further arguments of dream.DreamWorld.
    """
    rnn = rnn or loaded.rnn
    pay, most = game.pay if rnn.shape.heads else None, game.config.MAX_STEPS
    return dream.DreamWorld(rnn, loaded.initial_z, temperature, most, pay=pay, end_weight=end_weight, **more)


def decoded(loaded: models.Models, height: int = 512) -> Picture:
    """state -> picture of what the first row dreams, uint8 [height, height, 3]."""
    return lambda state: video.panels(loaded.vae.decode(state[0][:1])[0], height=height)


def measure(
    make_world: Callable[[int], World],
    make_policy: Callable[[np.ndarray], Policy],
    seeds: np.ndarray,
    rows: int = ROWS_PER_BLOCK,
) -> tuple[np.ndarray, np.ndarray]:
    """Plays one episode per seed, many at a time in every thread.

    Args:
        make_world: (rows) -> a batch of worlds for so many episodes; called once per thread.
        make_policy: (seeds) -> a policy for a block of episodes.
        seeds: [E] int.
        rows: int, episodes that step together.

    Returns:
        (returns float64 [E], lengths int [E]).
    """
    threads = min(parallel.cores(), len(seeds))
    blocks = np.array_split(seeds, max(threads, -(-len(seeds) // rows)))

    def make_worker() -> parallel.Worker:
        world = make_world(len(blocks[0]))
        return lambda block: rollouts.rollout(world, make_policy(block), block, bar.update)

    with runs.progress(len(seeds), 0, "play") as bar:
        workers = parallel.Threads(make_worker, threads)
        results = workers.map(blocks)
    workers.close()
    returns, lengths = (np.concatenate(part) for part in zip(*results, strict=True))
    return returns, lengths


def report(
    arguments: argparse.Namespace, episodes: np.ndarray, returns: np.ndarray, lengths: np.ndarray, **about: Any
) -> None:
    """Prints the score, writes --out; the last line is the authors': seed, average_reward, stdev."""
    scores = rollouts.summary(episodes, returns, lengths, **about, **provenance.about_now())
    mean, std, stderr = (scores[key] for key in ("mean", "std", "stderr"))
    # before it is written: a full disk leaves it on the screen
    print(f"{mean:.1f} ± {std:.1f} over {len(episodes)} episodes, standard error {stderr:.1f}", flush=True)
    if arguments.out:
        files.write_json(arguments.out, scores, indent=1)
        print(f"{arguments.out}: written")
    print(f"seed {arguments.seed} average_reward {mean:.4f} stdev {std:.4f}")


def three_panels(world: EncodedGames, seed: int) -> Callable[[Any], np.ndarray]:
    """state -> picture of EncodedGames of one row: the real frame | decoded by the VAE | predicted by the MDN-RNN."""
    rng = np.random.default_rng([seed, 4])
    weights = world.rnn.prepared()

    def picture(state: Any) -> np.ndarray:
        z, h, _ = state
        mixture, _ = world.rnn.predict(weights, h)
        noise = rng.random(z.shape, np.float32), rng.standard_normal(z.shape, np.float32)
        seen, expected = world.vae.decode(z), world.vae.decode(mdnrnn.sample(mixture, 1.0, *noise))
        return video.panels(world.frames[0], seen[0], expected[0])

    return picture


class Keyboard:
    """A policy of one row that acts by the keys held down; escape ends the program.

    Args:
        screen: reads the keys.
        action_of: (names of the keys) -> [A] float.
    """

    def __init__(self, screen: Screen, action_of: Callable[[set[str]], Any]) -> None:
        self._screen, self._action_of = screen, action_of

    def act(self, state: Any) -> np.ndarray:
        """Any state -> float32 [1, A]."""
        keys = self._screen.keys()
        if "escape" in keys:
            raise KeyboardInterrupt
        return np.array([self._action_of(keys)], np.float32)

    def keep(self, on: np.ndarray) -> None:
        """Nothing to forget: there is one row."""


def need_display(path: str | None) -> None:
    """UserError if there is no display, and no video to write instead."""
    if not path and not video.has_display():
        raise UserError(
            "there is no display to play on; play in a browser: make play; or write a video without any key pressed: "
            "--video FILE"
        )


def watch(world: World, policy: Policy, seed: int, screen: Screen, picture: Picture) -> tuple[float, int]:
    """Plays one episode with one row and shows every step.

    Args:
        world: a batch of worlds.
        policy: a policy for one row.
        seed: of the episode.
        screen: shows it.
        picture: (state) -> its picture, uint8 [H, W, 3].

    Returns:
        (return, length).
    """

    class Shown:
        """The world, showing a picture of every state."""

        def reset(self, seeds: Seeds) -> Any:
            """Starts the episode."""
            state = world.reset(seeds)
            screen.show(picture(state))
            return state

        def step(self, action: ArrayLike) -> tuple[Any, np.ndarray, np.ndarray]:
            """Plays one step."""
            state, reward, done = world.step(action)
            if not done[0]:
                screen.show(picture(state))
            return state, reward, done

    returns, lengths = rollouts.rollout(Shown(), policy, [seed])
    return returns[0], lengths[0]
