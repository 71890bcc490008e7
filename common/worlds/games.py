"""Batches of real games, recorded, and in a separate process. No TensorFlow here, so that recorders stay small.

Each batch is a World; its state is the frames of the games, uint8 [B, 64, 64, 3].
"""

import contextlib
import os
import pickle
import subprocess
import sys
from collections.abc import Callable, Sequence
from typing import IO, Any, Protocol, cast

import numpy as np
from numpy.typing import ArrayLike

from common.protocols import Seeds, World
from common.runtime import interrupt
from common.runtime.cli import DiedError

Pipes = tuple[IO[bytes], IO[bytes]]


class OneGame(Protocol):
    """A single game."""

    def reset(self, seed: int) -> np.ndarray:
        """Starts an episode; returns its first frame, uint8 [64, 64, 3]."""

    def step(self, action: Any) -> tuple[np.ndarray, float, bool]:
        """action [A] -> (frame, reward, done)."""


class Games:
    """Single games in lockstep.

    Args:
        games: as many as rows, at most.
    """

    def __init__(self, games: Sequence[OneGame]) -> None:
        self._games = games
        self._rows: Sequence[OneGame] = []

    def reset(self, seeds: Seeds) -> np.ndarray:
        """Starts one episode per seed, at most as many as there are games."""
        if len(seeds) > len(self._games):
            raise ValueError(f"{len(seeds)} episodes for {len(self._games)} games")
        self._rows = self._games[: len(seeds)]
        return np.stack([game.reset(seed) for game, seed in zip(self._rows, seeds, strict=True)])

    def step(self, action: ArrayLike) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Plays one step of every row."""
        results = [game.step(row) for game, row in zip(self._rows, np.asarray(action), strict=True)]
        frames, reward, done = map(np.array, zip(*results, strict=True))
        self._rows = [game for game, over in zip(self._rows, done, strict=True) if not over]
        return frames[~done], reward, done


class Recorded:
    """A batch of games that hands every finished episode to `write`. It plays the actions as recorded, in float16.

    Args:
        games: a batch of games, such as Games.
        write: (seed, obs uint8 [T, 64, 64, 3], action float16 [T, A], reward [T], done [T]) -> None, called when an
            episode finishes.
        max_frames: after which an episode is cut, or its time is up. Either is recorded as no end: nothing that is
            seen announces it, and a model would learn that it is dangerous there. 0 means never.
    """

    def __init__(self, games: World, write: Callable[..., None], max_frames: int = 0) -> None:
        self._games, self._write, self._max_frames = games, write, max_frames
        self._rows: list[tuple[int, list[Any]]] = []

    def reset(self, seeds: Seeds) -> np.ndarray:
        """Starts one episode per seed."""
        self._rows, self._frames, self._steps = [(int(seed), []) for seed in seeds], self._games.reset(seeds), 0
        return self._frames

    def step(self, action: ArrayLike) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Plays one step of every row and records it, with the frame before the action, not the one after it."""
        seen, action = self._frames, np.asarray(action).astype(np.float16)
        frames, reward, done = self._games.step(action.astype(np.float32))
        self._steps += 1
        cut = self._steps == self._max_frames
        for (_, steps), *row in zip(self._rows, seen, action, reward, done & (not cut), strict=True):
            steps.append(row)
        if cut:
            frames, done = frames[:0], np.ones_like(done)
        for (seed, steps), over in zip(self._rows, done, strict=True):
            if over:
                self._write(seed, *map(np.array, zip(*steps, strict=True)))
        self._rows = [row for row, over in zip(self._rows, done, strict=True) if not over]
        self._frames = frames
        return frames, reward, done


class Repeated:
    """A batch of games in which every action is played several times; a step is so many of theirs.

    Args:
        games: a batch of games, such as Games.
        times: how often an action is played, unless the episode ends before.
    """

    def __init__(self, games: World, times: int) -> None:
        self._games, self._times = games, times

    def reset(self, seeds: Sequence[int] | np.ndarray) -> np.ndarray:
        """Starts one episode per seed."""
        return self._games.reset(seeds)

    def step(self, action: ArrayLike) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Plays the action of every row; the reward is the sum, the frames are the last."""
        action = np.asarray(action)
        live = np.arange(len(action))
        total, done = np.zeros(len(action)), np.zeros(len(action), bool)
        for _ in range(self._times):
            frames, reward, over = self._games.step(action[live])
            total[live] += reward
            done[live[over]] = True
            live = live[~over]
            if not len(live):
                break
        return frames, total, done


class OwnProcess:
    """A batch of games in another process. Games in Python hold the lock of the interpreter, so threads would not help.

    Args:
        make_games: () -> the batch of games; sent to the process by pickle, so it must be importable.
    """

    def __init__(self, make_games: Callable[[], World]) -> None:
        # not multiprocessing: its children would import the main script again, and TensorFlow with it
        command = [sys.executable, "-c", "from common.worlds import games; games.serve()"]
        with interrupt.not_for_children():
            self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        self._requests, self._answers = cast(Pipes, (self._process.stdin, self._process.stdout))
        pickle.dump(sys.path, self._requests)
        self._call(make_games)

    def reset(self, seeds: Seeds) -> Any:
        """Starts one episode per seed."""
        return self._call(("reset", seeds))

    def step(self, action: ArrayLike) -> tuple[Any, np.ndarray, np.ndarray]:
        """Plays one step of every row."""
        return self._call(("step", action))

    def _call(self, message: Any) -> Any:
        try:
            pickle.dump(message, self._requests, protocol=pickle.HIGHEST_PROTOCOL)
            self._requests.flush()
            return pickle.load(self._answers)
        except (EOFError, BrokenPipeError):
            code = self._process.wait()
            raise DiedError(f"the process of the games died with code {code}") from None
        except BaseException:  # such as Ctrl-C: its answer would be taken for that of the next call
            self._process.kill()
            self._process.wait()  # while it lives it takes a request, and the old answer may be in the pipe
            raise

    def __del__(self) -> None:
        if hasattr(self, "_answers"):
            with contextlib.suppress(BrokenPipeError):  # it has ended, and has not read all
                self._requests.close()  # then the process ends
            self._answers.close()  # it may be writing one, and nobody reads it
            self._process.wait()


def serve() -> None:
    """In the other process: makes the games, then plays what the requests say until the pipe is closed."""
    requests, answers = sys.stdin.buffer, os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # so that the output of the games does not mix with the answers
    sys.path[:] = pickle.load(requests)
    games, answer = pickle.load(requests)(), None
    while True:
        try:
            pickle.dump(answer, answers, protocol=pickle.HIGHEST_PROTOCOL)
            answers.flush()
            name, argument = pickle.load(requests)
        except (EOFError, BrokenPipeError):  # whoever asked has ended
            return
        answer = getattr(games, name)(argument)
