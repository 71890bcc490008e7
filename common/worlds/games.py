"""Batches of real games, recorded, and in a process of their own. No TensorFlow here, so that recorders stay small.

The interface is World of common/protocols.py; the state is what the games show, uint8 [B, 64, 64, 3].
"""

import os
import pickle
import signal
import subprocess
import sys

import numpy as np


class Games:
    """Single games in lockstep; the state is their frames, uint8 [B, 64, 64, 3].

    Args:
        games: list, each with reset(seed) -> frame and step(action) -> (frame, reward, done).
    """

    def __init__(self, games):
        self._games, self._rows = games, []

    def reset(self, seeds):
        """Starts one episode per seed, at most as many as there are games."""
        if len(seeds) > len(self._games):
            raise ValueError(f"{len(seeds)} episodes for {len(self._games)} games")
        self._rows = self._games[: len(seeds)]
        return np.stack([game.reset(seed) for game, seed in zip(self._rows, seeds, strict=True)])

    def step(self, action):
        """Plays one step of every row."""
        results = [game.step(row) for game, row in zip(self._rows, action, strict=True)]
        frames, reward, done = map(np.array, zip(*results, strict=True))
        self._rows = [game for game, over in zip(self._rows, done, strict=True) if not over]
        return frames[~done], reward, done


class Recorded:
    """A batch of games that hands every finished episode to `write`; the state is what the games' is, frames.

    Actions are played as they are recorded, in float16.

    Args:
        games: a batch of games, such as Games.
        write: (seed, obs uint8 [T, 64, 64, 3], action float16 [T, A], reward [T], done [T]), called as episodes
            finish.
        max_frames: int, after which an episode is cut; 0 means never.
    """

    def __init__(self, games, write, max_frames=0):
        self._games, self._write, self._max_frames = games, write, max_frames

    def reset(self, seeds):
        """Starts one episode per seed."""
        self._rows, self._frames, self._steps = [(int(seed), []) for seed in seeds], self._games.reset(seeds), 0
        return self._frames

    def step(self, action):
        """Plays one step of every row and remembers it: what was seen before the action, not after it."""
        seen, action = self._frames, np.asarray(action).astype(np.float16)
        frames, reward, done = self._games.step(action.astype(np.float32))
        self._steps += 1
        if self._steps == self._max_frames:
            frames, done = frames[:0], np.ones_like(done)
        for (_, steps), *row in zip(self._rows, seen, action, reward, done, strict=True):
            steps.append(row)
        for (seed, steps), over in zip(self._rows, done, strict=True):
            if over:
                self._write(seed, *map(np.array, zip(*steps, strict=True)))
        self._rows = [row for row, over in zip(self._rows, done, strict=True) if not over]
        self._frames = frames
        return frames, reward, done


class OwnProcess:
    """A batch of games in another process: Python games hold the interpreter's lock, so threads cannot share cores.

    Args:
        make_games: () -> the batch of games; sent to the process by pickle, so made of importable names.
    """

    def __init__(self, make_games):
        # not multiprocessing: its children would import the main script again, and TensorFlow with it
        command = [sys.executable, "-c", "from common.worlds import games; games.serve()"]
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        pickle.dump(sys.path, self._process.stdin)
        self._call(make_games)

    def reset(self, seeds):
        """Starts one episode per seed."""
        return self._call(("reset", seeds))

    def step(self, action):
        """Plays one step of every row."""
        return self._call(("step", action))

    def _call(self, message):
        try:
            pickle.dump(message, self._process.stdin, protocol=pickle.HIGHEST_PROTOCOL)
            self._process.stdin.flush()
            return pickle.load(self._process.stdout)
        except (EOFError, BrokenPipeError):
            raise RuntimeError(f"the process of the games died with code {self._process.wait()}") from None

    def __del__(self):
        if hasattr(self, "_process"):
            self._process.stdin.close()  # it ends when nothing more can come
            self._process.wait()
            self._process.stdout.close()


def serve():
    """In the other process: makes the games, then plays what is asked for until the pipe is closed."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the process that asks
    requests, answers = sys.stdin.buffer, os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # what games print must not mix with the answers
    sys.path[:] = pickle.load(requests)
    games, answer = pickle.load(requests)(), None
    while True:
        pickle.dump(answer, answers, protocol=pickle.HIGHEST_PROTOCOL)
        answers.flush()
        try:
            name, argument = pickle.load(requests)
        except EOFError:
            return
        answer = getattr(games, name)(argument)
