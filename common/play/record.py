"""Recording: random policies, or an agent that explores, play episodes into record/<seed>.npz.

record/<first_seed>.summary.json describes each command that recorded: its config, the counts of episodes, the player.
"""

import dataclasses
import functools
import json
import os
import sys
from collections.abc import Callable, Collection, Sequence
from typing import Any

import numpy as np

from common.data import recordings
from common.game import Game, find
from common.protocols import World
from common.runtime import cli, files, parallel, provenance, runs, seeds
from common.runtime.cli import UserError
from common.worlds import games, rollouts

MAY_CHANGE = "episodes", "workers"  # when an interrupted recording goes on
WHEN_DONE = ("workers",)  # likewise of a finished one: which process plays an episode changes nothing in it
START_SECONDS = 60.0  # in which a process has loaded Python and started its games
Block = tuple[str, np.ndarray]
_worlds: dict[tuple[str, int], World] = {}


def main(game: Game, description: str | None) -> None:
    """extract.py of every game: record/."""
    cfg, arguments = cli.parse(game.config.EXTRACT, description)
    check(game, cfg)
    if not arguments.fresh:  # before an agent is loaded, which takes seconds
        _check_seeds_are_free(os.path.join(arguments.run, "record"), cfg)
    with runs.new_run(arguments.run):  # an error leaves no trace
        agent = _agent(game, cfg, arguments) if cfg.controller else None
        acts_by = agent.game.config.ACTION_SIZE if agent else 0
        if agent and getattr(cfg, "actions", acts_by) != acts_by:
            raise UserError(f"--actions {cfg.actions}: {agent.path} acts by {acts_by}; give --actions {acts_by}")
    with runs.recording_folder(arguments) as folder:
        record(game, folder, cfg, agent)


def check(game: Game, cfg: Any) -> None:
    """UserError for what can be known before work: seeds, the policy, too few frames, what the game cannot record."""
    seeds.check(range(cfg.first_seed, cfg.first_seed + cfg.episodes), "training", "--first_seed and --episodes")
    if cfg.policy and cfg.policy not in game.random_policies:
        raise UserError(f"--policy {cfg.policy}: give one of {', '.join(game.random_policies)}")
    longest = cfg.max_frames or game.config.MAX_STEPS
    if cfg.min_frames > longest:
        raise UserError(f"--min_frames {cfg.min_frames}: no episode has more than {longest} frames, none would be kept")
    game.recording_blocks([], cfg)  # which refuses what it cannot do


def record(game: Game, folder: str, cfg: Any, agent: Any = None) -> None:
    """Plays what is missing in the folder, and writes the summary.

    Args:
        game: Game.
        folder: record/.
        cfg: settings.Extract.
        agent: agents.Agent that plays, or None for the random policy.
    """
    summary, begun = (os.path.join(folder, f"{cfg.first_seed}.{name}.json") for name in ("summary", "begun"))
    parents = {"controller": agent.sha256, **agent.models.hashes} if agent else {}
    if _recorded_already(summary, folder, game, cfg, parents):
        return
    _check_seeds_are_free(folder, cfg)  # again: another process may have recorded here until now
    episodes = range(cfg.first_seed, cfg.first_seed + cfg.episodes)
    _note_begun(begun, game, cfg, parents)
    missing = recordings.set_bad_aside(folder, episodes)
    blocks = game.recording_blocks(missing, cfg)
    lengths: list[int | None] = []
    with runs.progress(len(episodes), len(episodes) - len(missing), "record") as bar:

        def done(frames: int | None) -> None:
            """Counts an episode: its frames, 0 if it was too short to keep, None if it was lost."""
            lengths.append(frames)
            bar.update()
            kept, short, lost = sum(filter(None, lengths)), lengths.count(0), lengths.count(None)
            bar.set_postfix(frames=kept, too_short=short, lost=lost, refresh=False)

        if agent:
            _record_agent(agent, folder, missing, cfg, done)
        else:
            _record_random(game, folder, blocks, cfg, done)
    short, lost = lengths.count(0), lengths.count(None)
    kept = len(episodes) - short - lost
    counts = {"kept": kept, "too_short": short, "lost": lost, "set_aside": recordings.bad_ones(folder, episodes)}
    about = {"game": game.name, "config": dataclasses.asdict(cfg), **counts, "parents": parents}
    about |= {"unverified": True} if agent and agent.unverified else {}
    files.write_json(summary, about | provenance.about_now(), indent=1)
    os.remove(begun)
    too_short = f", {short} more were shorter than {cfg.min_frames} frames and not kept" * (short > 0)
    print(f"{folder}: {kept} episodes{too_short}" + f", {lost} lost to players that died" * (lost > 0))


def _check_seeds_are_free(folder: str, cfg: Any) -> None:
    """UserError if seeds to be recorded are those of another recording of the folder, finished or interrupted.

    Their files would count as there, and the summary would tell of an agent that did not play them.
    """
    if os.path.exists(os.path.join(folder, f"{cfg.first_seed}.summary.json")):
        return  # these were recorded, and are not recorded again
    last = cfg.first_seed + cfg.episodes - 1
    spans = [span for span, _ in recordings.owners(folder, "summary", "begun") if span and span[0] != cfg.first_seed]
    other = next((span for span in spans if span[0] <= last and cfg.first_seed <= span[-1]), None)
    if other:
        fewer = f", or at most {other[0] - cfg.first_seed} --episodes" * (cfg.first_seed < other[0])
        raise UserError(
            f"{folder}: the seeds {cfg.first_seed} to {last} overlap those of another recording there, {other[0]} to "
            f"{other[-1]}; give a --first_seed after {max(span[-1] for span in spans)}{fewer}"
        )


def _recorded_already(summary: str, folder: str, game: Game, cfg: Any, parents: dict[str, str]) -> bool:
    """Whether this recording is complete, then prints so; UserError if another one is there.

    It is complete if there is its summary, and as many good files as the summary says.
    """
    if not os.path.exists(summary):
        return False
    try:
        before = files.read_json(summary)
        known = _fixed({name: before[name] for name in ("game", "config", "parents")}, WHEN_DONE)
        kept = int(before.get("kept", 0))
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise UserError(
            f"{summary}: damaged ({error}); remove it, and the missing episodes are recorded again"
        ) from None
    if known != _fixed(_about(game, cfg, parents), WHEN_DONE):
        raise UserError(
            f"{summary}: these seeds were recorded with other values or by another agent; give another --first_seed, "
            "or --fresh"
        )
    missing = recordings.set_bad_aside(folder, range(cfg.first_seed, cfg.first_seed + cfg.episodes))
    lost = kept - (cfg.episodes - len(missing))
    if lost > 0:
        print(f"{summary}: {lost} of its {kept} recordings are gone or damaged; they are recorded again")
        return False
    print(f"{summary}: already recorded; nothing to do (--fresh sets the recordings aside and starts anew)")
    return True


def _note_begun(path: str, game: Game, cfg: Any, parents: dict[str, str]) -> None:
    """Notes what is recorded until the summary tells it; UserError if another recording was begun there."""
    now = _about(game, cfg, parents)
    try:
        before = _fixed(files.read_json(path))
    except (FileNotFoundError, ValueError, KeyError, TypeError, AttributeError):  # there is none, or it is damaged
        before = None
    if before not in (None, _fixed(now)):
        raise UserError(
            f"{path}: recording these seeds was begun with other values or by another agent; give these again, another "
            "--first_seed, or --fresh"
        )
    files.write_json(path, now, indent=1)


def _about(game: Game, cfg: Any, parents: dict[str, str]) -> dict[str, Any]:
    """What identifies a recording, as a file of JSON has it."""
    return json.loads(json.dumps({"game": game.name, "config": dataclasses.asdict(cfg), "parents": parents}))


def _fixed(about: dict[str, Any], may_change: Sequence[str] = MAY_CHANGE) -> dict[str, Any]:
    """The same without the options that may be others when the command is given again."""
    return about | {"config": {name: value for name, value in about["config"].items() if name not in may_change}}


def _writer(game: Game, folder: str, cfg: Any, done: Callable[[int], None]) -> Callable[..., None]:
    """A function that writes a finished episode if it is long enough, and reports it to `done`."""

    def write(seed: int, obs: np.ndarray, action: np.ndarray, reward: np.ndarray, over: np.ndarray) -> None:
        keep = len(obs) >= cfg.min_frames
        if keep:
            # as in the authors' files, a single action has no axis of its own
            action = action[:, 0] if game.config.ACTION_SIZE == 1 else action
            recordings.write(folder, seed, obs, action, reward, over)
        done(len(obs) if keep else 0)

    return write


def _play_block(name: str, folder: str, cfg: Any, block: Block) -> list[int]:
    """In a worker process: a random policy plays and writes some episodes in lockstep; returns their lengths."""
    game = find(name)
    lengths: list[int] = []
    backend, episodes = block
    key = backend, len(episodes)
    if key not in _worlds:
        _worlds[key] = game.real_games(len(episodes), backend, **cfg.rules())
    world = games.Recorded(
        _worlds[key], _writer(game, folder, cfg, lengths.append), cfg.max_frames or game.config.MAX_STEPS
    )
    policy = game.random_policies[cfg.policy or next(iter(game.random_policies))](episodes, cfg)
    rollouts.rollout(world, policy, episodes)
    return lengths


def _record_random(game: Game, folder: str, blocks: Sequence[Block], cfg: Any, done: Callable[[Any], None]) -> None:
    """Random policies play, each worker in a separate process, so that one that dies or hangs costs its block only."""
    work = functools.partial(_play_block, game.name, folder, cfg)
    workers = cfg.workers or parallel.cores()
    most = max((len(episodes) for _, episodes in blocks), default=1)
    patience = START_SECONDS + game.seconds_per_step * (cfg.max_frames or game.config.MAX_STEPS) * most
    for (_, episodes), lengths in parallel.in_processes(work, blocks, workers, patience):
        for frames in [None] * len(episodes) if lengths is None else lengths:
            done(frames)


def _agent(game: Game, cfg: Any, arguments: Any) -> Any:
    from common.play import agents  # loads TensorFlow, which random policies do not need
    from common.runtime import devices

    devices.for_blocks()
    arguments.file = cfg.controller
    return agents.load(game, arguments)


def _lost(play: Callable[[np.ndarray], None], episodes: np.ndarray, finished: Collection[int]) -> int:
    """Plays those that are not finished, again if a game dies; returns how many are given up.

    Raises:
        Exception: no game has ever worked, or it is not the game's fault, such as a full disk.
    """
    for attempt in range(1, parallel.ATTEMPTS + 1):
        left = np.array([seed for seed in episodes if seed not in finished])
        try:
            play(left)
            return 0
        except (UserError, OSError):
            raise
        except Exception as error:
            last = attempt == parallel.ATTEMPTS
            if last and not finished:
                raise
            then = "these are given up" if last else "those that are not finished are played again"
            print(f"\nepisodes {left[0]} to {left[-1]}: a game failed ({error}); {then}", file=sys.stderr)
    return len([seed for seed in episodes if seed not in finished])


def _record_agent(agent: Any, folder: str, missing: Sequence[int], cfg: Any, done: Callable[[Any], None]) -> None:
    """The agent plays many games in lockstep in every thread, with random actions in a share of the steps."""
    game = agent.game
    low, high = game.config.ACTION_LOW, game.config.ACTION_HIGH
    write = _writer(game, folder, cfg, done)
    finished: set[int] = set()

    def finish(seed: int, *episode: np.ndarray) -> None:
        write(seed, *episode)
        finished.add(int(seed))

    def make_worker() -> Callable[[Block], None]:
        batches: dict[str, World] = {}

        def work(block: Block) -> None:
            backend, episodes = block

            def play(left: np.ndarray) -> None:
                batch = batches.pop(backend, None) or game.real_games(cfg.rows, backend, **cfg.rules())
                world = agent.world(games.Recorded(batch, finish, cfg.max_frames or game.config.MAX_STEPS))
                policy = rollouts.Exploring(agent.policy(left), left, cfg.explore, cfg.max_hold, low, high)
                rollouts.rollout(world, policy, left)
                batches[backend] = batch  # one in which a game died is not used again

            for _ in range(_lost(play, episodes, finished)):
                done(None)

        return work

    by_backend: dict[str, list[int]] = {}
    for backend, episodes in game.recording_blocks(missing, cfg):
        by_backend.setdefault(backend, []).extend(int(seed) for seed in episodes)
    blocks = [
        (backend, np.array(episodes[k : k + cfg.rows]))
        for backend, episodes in by_backend.items()
        for k in range(0, len(episodes), cfg.rows)
    ]
    workers = parallel.Threads(make_worker, cfg.workers or parallel.cores())
    workers.map(blocks)
    workers.close()
