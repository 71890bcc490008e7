"""What every model.py does with its game: find the controller, play many episodes in lockstep, report, or watch one."""

import argparse
import os

import numpy as np

from common import cli, controller, devices, farm, files, mdnrnn, rollouts, runs, stages, video
from common.cli import UserError

ROWS_PER_BLOCK = 32  # games that step together in one thread


def parser(description):
    """A command line with what both games' model.py take; the caller adds what comes before FILE."""
    parser = cli.OneLineParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--episodes", type=cli.number(int, 1), default=100, help="episodes to play; episode i has seed + i"
    )
    parser.add_argument(
        "--out", type=cli.new_file, metavar="FILE", help="write the scores of all episodes here, as JSON"
    )
    parser.add_argument(
        "--video", type=cli.new_file, metavar="FILE", help="write what render shows to this .mp4 or .gif"
    )
    parser.add_argument("--run", default=".", metavar="DIR", help="folder with this run's tf_*/ and log/")
    return parser


def add_file_and_seed(parser, or_random=""):
    """The last two positional arguments of model.py and dream_model.py; model.py's FILE may be the word random."""
    parser.add_argument("file", metavar="FILE", help=f"a controller's .json{or_random}")
    parser.add_argument(
        "seed", nargs="?", type=cli.number(int, 0), default=0, help="seed of the first episode (default 0)"
    )


def parse(parser):
    """The arguments, once it is sure that FILE is there: loading V and M to find out later would take seconds."""
    arguments = parser.parse_args()
    if arguments.file != "random":
        arguments.file = find(arguments.file, arguments.run)
    return arguments


def find(path, run):
    """A file as the user names it: from here, from the run's folder, or from the root of the repository."""
    root = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
    for candidate in (path, os.path.join(run, path), os.path.join(root, path)):
        if os.path.exists(candidate):
            return candidate
    raise UserError(f"{path}: no such file here, in {run} or at the root of the repository")


def first_mean(cfg, run, c):
    """Where a search begins: the controller that the config's `start_from` names, else zero; float [N]."""
    if not cfg.start_from:
        return np.zeros(c.parameters)
    return controller.read(find(cfg.start_from, run), c)


def log_of(path):
    """What train.py wrote about a controller's training beside it: a dict, empty if there is nothing."""
    name = os.path.basename(path).split(".")
    about = os.path.join(os.path.dirname(path), ".".join(name[:4]) + ".config.json")
    if not os.path.exists(about):
        return {}
    try:
        log = files.read_json(about)
    except ValueError:
        log = None
    parts = [log.get(name, {}) for name in ("config", "hashes")] if isinstance(log, dict) else [log]
    known = all(isinstance(part, dict) for part in parts) and parts[1].keys() <= {"vae", "rnn"}
    if not known or parts[0].get("controller_mode", "zh") not in stages.CONTROLLER_MODES:
        raise UserError(f"{about}: not what train.py writes beside a controller; was it changed?")
    return log


def check_hashes(path, log, hashes):
    """UserError if the controller was evolved with another V or M than the ones loaded."""
    for name, value in log.get("hashes", {}).items():
        if value != hashes[name]:
            raise UserError(
                f"{path}: was evolved with another {name} than the one loaded ({value[:12]}, not {hashes[name][:12]}); "
                "give its own run with --run DIR"
            )


def load_controller(arguments, controller_of, hashes):
    """The controller that FILE names, checked against its log and the loaded V and M.

    Args:
        arguments: with `file` and `run`.
        controller_of: (mode) -> Controller, None standing for the game's usual mode.
        hashes: {"vae": ..., "rnn": ...} of what is loaded.

    Returns:
        (Controller, float32 [N]).
    """
    log = log_of(arguments.file)
    shape = controller_of(log.get("config", {}).get("controller_mode"))
    parameters = controller.read(arguments.file, shape)  # of the other game, it has another number of them
    check_hashes(arguments.file, log, hashes)
    return shape, parameters


def measure(make_world, make_policy, seeds, rows=ROWS_PER_BLOCK):
    """Plays one episode per seed, many at a time in every thread.

    Args:
        make_world: (rows) -> a batch of worlds for so many episodes; called once per thread.
        make_policy: (seeds) -> a policy for a block of episodes.
        seeds: [E] int.
        rows: int, episodes that step together.

    Returns:
        (returns float64 [E], lengths int [E]).
    """
    threads = min(devices.cores(), len(seeds))
    blocks = np.array_split(seeds, max(threads, -(-len(seeds) // rows)))

    def make_worker():
        world = make_world(len(blocks[0]))
        return lambda block: rollouts.rollout(world, make_policy(block), block, bar.update)

    with runs.progress(len(seeds), 0, "play") as bar:
        workers = farm.Threads(make_worker, threads)
        results = workers.map(blocks)
    workers.close()
    return tuple(np.concatenate(part) for part in zip(*results, strict=True))


def report(arguments, seeds, returns, lengths, **about):
    """Prints the score, writes --out; the last line is the authors': seed, average_reward, stdev."""
    scores = rollouts.summary(seeds, returns, lengths, **about)
    if arguments.out:
        files.write_json(arguments.out, scores, indent=1)
        print(f"{arguments.out}: written")
    mean, std, stderr = (scores[key] for key in ("mean", "std", "stderr"))
    print(f"{mean:.1f} ± {std:.1f} over {len(seeds)} episodes, standard error {stderr:.1f}")
    print(f"seed {arguments.seed} average_reward {mean:.4f} stdev {std:.4f}")


def three_panels(world, seed):
    """state -> picture of a SeenGames of one row: the real frame | what V sees of it | what M had expected."""
    rng = np.random.default_rng([seed, 4])
    weights = world.rnn.prepared()

    def picture(state):
        z, h, _ = state
        mixture, _ = world.rnn.predict(weights, h)
        luck = rng.random(z.shape, np.float32), rng.standard_normal(z.shape, np.float32)
        seen, expected = world.vae.decode(z), world.vae.decode(mdnrnn.sample(mixture, 1.0, *luck))
        return video.panels(world.frames[0], seen[0], expected[0])

    return picture


class Keyboard:
    """A policy of one row that does what the keys held down say; escape ends the program."""

    def __init__(self, screen, action_of):
        """
        Args:
            screen: video.Window.
            action_of: (set of key names) -> [A] float.
        """
        self._screen, self._action_of = screen, action_of

    def act(self, state):
        """Anything -> float32 [1, A]."""
        keys = self._screen.keys()
        if "escape" in keys:
            raise KeyboardInterrupt
        return np.array([self._action_of(keys)], np.float32)


def add_video(parser):
    """The --video of scripts in which a person plays."""
    parser.add_argument(
        "--video", type=cli.new_file, metavar="FILE", help="also write it to this .mp4 or .gif (no display: only that)"
    )


def need_display(path):
    """UserError where no window can be opened to play in and no video, of nobody playing, is asked for."""
    if not path and not video.has_display():
        raise UserError(
            "there is no display to play on; play in a browser: make play; or write a video of nobody at the keys: "
            "--video FILE"
        )


def watch(world, policy, seed, screen, picture):
    """Plays one episode with one row and shows every step.

    Args:
        world: a batch of worlds.
        policy: a policy for one row.
        seed: int.
        screen: video.Video or video.Window.
        picture: (state) -> uint8 [H, W, 3], what to show of it.

    Returns:
        (return, length).
    """

    class Shown:
        """The world, showing a picture of every state."""

        def reset(self, seeds):
            state = world.reset(seeds)
            screen.show(picture(state))
            return state

        def step(self, action):
            state, reward, done = world.step(action)
            if not done[0]:
                screen.show(picture(state))
            return state, reward, done

    returns, lengths = rollouts.rollout(Shown(), policy, [seed])
    return returns[0], lengths[0]
