"""common/worlds/games.py: games in lockstep, recorded, and in a process of their own."""

import contextlib
import functools
import pickle
import select
import signal
import subprocess
import sys
import threading
import time

import numpy as np
import pytest

from common.runtime.cli import DiedError
from common.worlds import games, rollouts

from counting import SEEDS, CountingGame, Loud, loud_games


def test_more_episodes_than_games_are_refused():
    """Catches episodes that are silently not played."""
    with pytest.raises(ValueError, match="3 episodes for 2 games"):
        games.Games([CountingGame(), CountingGame()]).reset([1000, 1001, 1002])


def test_recorded_episodes_hold_what_was_seen_done_and_got_at_each_step():
    """Catches a frame that belongs to the step after, and episodes mixed up as others finish."""
    written, players = {}, [CountingGame() for _ in SEEDS[:4]]
    world = games.Recorded(games.Games(players), lambda seed, *arrays: written.update({seed: arrays}))
    rollouts.rollout(world, rollouts.RandomActions(SEEDS[:4], [-1, 0], [1, 1]), SEEDS[:4])
    assert list(written) == sorted(SEEDS[:4], key=lambda seed: seed % 7)
    for game in players:
        obs, action, reward, done = written[game.seed]
        steps = np.arange(game.length)
        assert obs.dtype == np.uint8
        assert obs.shape == (game.length, 64, 64, 3)
        np.testing.assert_array_equal(obs[:, 0, 0, 0], steps)
        np.testing.assert_array_equal(obs[:, 0, 0, 1], game.seed - 1000)
        np.testing.assert_array_equal(action, game.actions)
        np.testing.assert_allclose(reward, [game.reward(step, action[step]) for step in steps])
        assert done.tolist() == [False] * (game.length - 1) + [True]


def test_a_recorded_episode_is_cut_and_played_as_it_is_recorded():
    """Catches a cut off by one or taken for an end, an end taken for a cut, and an action in another precision."""
    written, players = {}, [CountingGame() for _ in range(2)]
    world = games.Recorded(games.Games(players), lambda seed, *arrays: written.update({seed: arrays}), max_frames=3)
    returns, lengths = rollouts.rollout(world, rollouts.RandomActions([1006, 1001], [-1], [1]), [1006, 1001])
    assert lengths.tolist() == [3, 2]  # of 7 and 2 steps
    assert [written[seed][3].tolist() for seed in (1006, 1001)] == [[False] * 3, [False, True]]
    for game in players:
        _, action, _, _ = written[game.seed]
        assert action.dtype == np.float16
        np.testing.assert_array_equal(np.float32(action), game.actions)
    assert [returns[0], returns[1]] == pytest.approx([written[seed][2].sum() for seed in (1006, 1001)])
    assert world.reset([1006])[0, 0, 0, 0] == 0  # and it can be used again


def test_games_that_are_cut_have_no_rows_and_are_cut_again_in_time():
    """Catches a frame of a game that is over, and a second batch that is cut by the steps of the first."""
    written = []
    world = games.Recorded(games.Games([CountingGame()]), lambda seed, obs, *_: written.append(len(obs)), max_frames=3)
    for _ in range(2):
        world.reset([1006])
        for _ in range(3):
            frames, _, done = world.step([[0.5]])
        assert (frames.shape, done.tolist()) == ((0, 64, 64, 3), [True])
    assert written == [3, 3]


def test_a_repeated_action_ends_with_the_last_game():
    """Catches a step of no games, when all have ended before the action has been played as often as it should."""
    world = games.Repeated(games.Games([CountingGame(), CountingGame()]), 4)
    world.reset([1001, 1002])
    frames, reward, done = world.step([[0.5], [0.5]])
    assert (len(frames), reward.tolist(), done.tolist()) == (0, [2011, 6031.5], [True, True])


def test_an_episode_whose_time_is_up_is_recorded_without_an_end():
    """Catches the time limit of the game learned as a death."""
    written, one = {}, games.Games([CountingGame()])
    world = games.Recorded(one, lambda seed, *arrays: written.update({seed: arrays}), max_frames=7)
    rollouts.rollout(world, rollouts.RandomActions([1006], [-1], [1]), [1006])
    assert written[1006][3].tolist() == [False] * 7
    assert world.reset([1006])[0, 0, 0, 0] == 0


def test_games_in_a_process_of_their_own_are_the_same():
    """Catches rows or rewards that change on their way, a game that prints into the answers, and a death that hangs."""
    policy = functools.partial(rollouts.RandomActions, SEEDS, [-1], [1])
    here = rollouts.rollout(games.Games([Loud() for _ in SEEDS]), policy(), SEEDS)
    there = games.OwnProcess(functools.partial(loud_games, len(SEEDS)))
    for _ in range(2):
        for found, wanted in zip(rollouts.rollout(there, policy(), SEEDS), here, strict=True):
            np.testing.assert_array_equal(found, wanted)
    there._process.kill()
    with pytest.raises(DiedError, match=r"^the process of the games died with code -9$"):
        there.reset(SEEDS)


def test_ctrl_c_while_the_other_process_is_starting(monkeypatch):
    """Catches the 40 lines of its traceback, and games that are gone: the terminal sends Ctrl-C to both."""

    class Interrupted(subprocess.Popen):
        def __init__(self, *words, **options):
            super().__init__(*words, **options)
            for _ in range(10):
                time.sleep(0.02)
                self.send_signal(signal.SIGINT)

    handler = signal.signal(signal.SIGINT, signal.default_int_handler)  # pytest may run where it is ignored
    monkeypatch.setattr(subprocess, "Popen", Interrupted)
    try:
        there = games.OwnProcess(functools.partial(loud_games, 1))
        assert len(there.reset([1000])) == 1
        assert signal.SIGINT not in signal.pthread_sigmask(signal.SIG_BLOCK, ())
    finally:
        signal.signal(signal.SIGINT, handler)


def forgotten(box, seconds=10):
    """Whether the games in a list, to which nothing else refers, are gone in time; what __del__ could not raise is."""
    unraisable, hook = [], sys.unraisablehook
    sys.unraisablehook = unraisable.append
    thread = threading.Thread(target=box.clear, daemon=True)
    try:
        thread.start()
        thread.join(seconds)
    finally:
        sys.unraisablehook = hook
    assert not unraisable, unraisable[0].exc_value
    return not thread.is_alive()


def test_games_of_a_dead_process_are_forgotten_without_a_word():
    """Catches an exception in __del__: what the dead process was still to be told is flushed when the pipe closes."""
    box = [games.OwnProcess(functools.partial(loud_games, 1))]
    box[0]._process.kill()
    box[0]._process.wait()
    with contextlib.suppress(DiedError):
        box[0].reset([1000])
    assert forgotten(box)


def test_an_answer_that_nobody_waits_for_is_forgotten_too():
    """Catches a deadlock after Ctrl-C: the process fills the pipe with frames, and this one waits for its end."""
    rows = 20  # 245 kB of frames, more than a pipe holds
    box = [games.OwnProcess(functools.partial(loud_games, rows))]
    pickle.dump(("reset", range(1000, 1000 + rows)), box[0]._requests)
    box[0]._requests.flush()
    process = box[0]._process
    assert forgotten(box)
    assert process.returncode == 0


def test_an_interrupted_step_is_not_taken_for_the_next(monkeypatch):
    """Catches frames that lag behind by a call, after Ctrl-C in a notebook."""
    there = games.OwnProcess(functools.partial(loud_games, 1))

    def interrupted(answers):
        select.select([answers], [], [])  # the answer lies in the pipe: the next call must not find it
        raise KeyboardInterrupt

    monkeypatch.setattr(games.pickle, "load", interrupted)
    with pytest.raises(KeyboardInterrupt):
        there.reset([1000])
    monkeypatch.undo()
    with pytest.raises(DiedError, match="died"):
        there.reset([1001])
