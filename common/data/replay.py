"""Episodes in memory, and chunks of them for a model to learn from."""

import collections
from collections.abc import Sequence

import numpy as np

from common.data import recordings
from common.runtime.cli import UserError


class Replay:
    """Episodes under action repeat: a row is a frame, the action played at the one before, and what that brought.

    Args:
        action_size: int, A.
        action_repeat: int, steps of a recording that make one here. What was done in them is the mean of their actions,
            which is the action itself where it was repeated; what they brought is the sum.
        reward_limit: float; rewards below minus this are raised to it.
        most_frames: int, beyond which the oldest episodes are forgotten.
        mirror: [A] float, an action times this is its mirror image; half of the chunks are mirrored. None: no chunk is.
        end_before: int, steps of a recording below which its end is one that the model is to foresee; 0 means none is.
        fall_below: float; an episode with a last reward below this has such an end, too.
    """

    def __init__(
        self,
        action_size: int,
        action_repeat: int,
        reward_limit: float,
        most_frames: int,
        mirror: Sequence[float] | None = None,
        end_before: int = 0,
        fall_below: float = -np.inf,
    ):
        self._action_size, self._repeat, self._limit = action_size, action_repeat, reward_limit
        self._most_frames, self._end_before, self._fall_below = most_frames, end_before, fall_below
        self._mirror = None if mirror is None else np.array(mirror, np.float32)
        self._episodes: collections.deque[dict[str, np.ndarray]] = collections.deque()
        self.frames = 0
        """in memory"""

    def read(self, path: str) -> int:
        """Adds a recording; returns how many frames of the game it holds.

        Raises:
            UserError: it is damaged, or holds no rewards, or actions of another size.
        """
        try:
            episode = recordings.read(path)
        except ValueError as error:
            raise UserError(f"{error}; record it again, or move it away") from None
        missing = {"reward", "done"} - episode.keys()
        if missing:
            raise UserError(
                f"{path}: holds no {' and no '.join(sorted(missing))}, from which to learn what brings reward; record "
                "episodes with: python extract.py"
            )
        action = episode["action"].reshape(len(episode["obs"]), -1).astype(np.float32)
        if action.shape[1] != self._action_size:
            raise UserError(f"{path}: has {action.shape[1]} action(s), not {self._action_size}; is it of another game?")
        self.add(episode["obs"], action, episode["reward"], bool(episode["done"][-1]))
        return len(episode["obs"])

    def add(self, obs: np.ndarray, action: np.ndarray, reward: np.ndarray, done: bool) -> None:
        """Adds an episode: obs uint8 [T, 64, 64, 3], action float32 [T, A], reward [T]; done: the game ended it."""
        starts = np.arange(0, len(obs), self._repeat)
        counts = np.diff(np.append(starts, len(obs)))
        ended = (done and len(obs) < self._end_before) or bool(reward[-1] < self._fall_below)
        rows = len(starts) + ended  # after an end there is no frame, but what led to it
        before = np.zeros((len(starts) + 1, self._action_size), np.float32)
        before[1:] = np.add.reduceat(action, starts) / counts[:, None]
        brought = np.append(np.float32(0), np.add.reduceat(reward.astype(np.float32), starts))
        end = np.zeros(len(starts) + 1, np.float32)
        end[-1] = ended
        self._episodes.append(
            {
                "obs": np.ascontiguousarray(obs[starts]),
                "action": before[:rows],
                "reward": np.maximum(brought, -self._limit)[:rows],
                "end": end[:rows],
            }
        )
        self.frames += len(starts)
        while self.frames > self._most_frames and len(self._episodes) > 1:
            self.frames -= len(self._episodes.popleft()["obs"])

    def __len__(self) -> int:
        return len(self._episodes)

    @property
    def lengths(self) -> np.ndarray:
        """Rows of each episode, int [N]."""
        return np.array([len(episode["action"]) for episode in self._episodes])

    def sample(self, rows: int, steps: int, rng: np.random.Generator, inside: bool = False) -> tuple[np.ndarray, ...]:
        """Draws chunks.

        They would begin at every step of each episode with the same chance, also up to T - 1 steps before it. Those
        that would begin before an episode or end after it are moved into it: so the last step, which may be an end, is
        seen as often as those in the middle. A chunk longer than its episode has empty rows at its end.

        Args:
            rows: int, B.
            steps: int, T.
            rng: np.random.Generator.
            inside: draw only chunks that lie in their episodes, each with the same chance; one must be long enough.

        Returns:
            The arrays of rssm.Chunks: frames uint8 [T, B, 64, 64, 3], action float32 [T, B, A], reward, end, known
            float32 [T, B].
        """
        before = 0 if inside else steps - 1  # steps before an episode at which a chunk may begin
        starts = np.cumsum(np.maximum(self.lengths - steps + 1, 0) if inside else self.lengths + before)
        frames = np.zeros((steps, rows, *recordings.FRAME), np.uint8)
        action = np.zeros((steps, rows, self._action_size), np.float32)
        reward, end, known = np.zeros((3, steps, rows), np.float32)
        for row, place in enumerate(rng.integers(starts[-1], size=rows)):
            index = int(np.searchsorted(starts, place, side="right"))
            episode = self._episodes[index]
            first = place - (starts[index - 1] if index else 0) - before
            first = int(np.clip(first, 0, max(0, len(episode["action"]) - steps)))
            part = slice(first, first + steps)
            for array, name in ((frames, "obs"), (action, "action"), (reward, "reward"), (end, "end")):
                piece = episode[name][part]
                array[: len(piece), row] = piece
            known[: len(episode["obs"][part]), row] = 1
            if self._mirror is not None and rng.random() < 0.5:
                frames[:, row] = frames[:, row, :, ::-1].copy()
                action[:, row] *= self._mirror
        return frames, action, reward, end, known
