"""bench/small_objects.py: which objects it counts as seen and kept, and docs/variants.md has what it measured."""

import os
import types

import commands
import numpy as np
import pytest
from commands import in_this_process  # noqa: F401  a fixture

from common.game import ROOT
from common.runtime import cli, files

from bench import small_objects


def square(row, column, side=3):
    mask = np.zeros((64, 64), bool)
    mask[row : row + side, column : column + side] = True
    return mask


def painted(*masks, color=(0.9, 0.6, 0.2), wall=0.4):
    frame = np.full((64, 64, 3), wall)
    for mask in masks:
        frame[mask] = color
    return frame


def test_a_reconstruction_is_of_the_mean_of_z():
    """Catches the logarithm of the variance decoded for it, and the frames of another game."""
    model = types.SimpleNamespace(encode=lambda frames: (frames + 1, frames - 1), decode=lambda z: 10 * z)
    games = [[(np.full((2, 2, 3), float(k)), None)] for k in range(2)]
    assert [made[0, 0, 0, 0] for made in small_objects.decoded(games, model)] == [10, 20]


def test_seen_is_what_differs_from_what_is_around_it():
    """Catches an object of the color of the wall, one of another kind, and a neighbor that counts as the wall."""
    ball, hidden, beside, large = square(10, 10), square(30, 30), square(10, 13), square(40, 40, side=4)
    frame = painted(ball, beside, large)
    objects = [("DoomImpBall", ball), ("DoomImpBall", hidden), ("Blood", beside), ("DoomImp", large)]
    found = small_objects.seen_objects(frame, objects)
    assert [kind for kind, *_ in found] == ["small fireball", "large monster"]
    around = found[0][2]
    assert not (around & (ball | beside)).any()
    assert around.sum() == 11 * 11 - 5 * 8  # four pixels to each side, but for both and their edges
    assert small_objects.seen_objects(frame, [("DoomImp", np.zeros((64, 64), bool))]) == []


def test_the_share_kept_is_that_of_the_difference():
    """Catches a reconstruction that is compared by its brightness, and one of the opposite color taken for kept."""
    ball = square(10, 10)
    [(_, mask, around)] = small_objects.seen_objects(painted(ball), [("DoomImpBall", ball)])

    def share(picture):
        return small_objects.share_kept(painted(ball), picture, mask, around)

    assert share(painted(ball)) == pytest.approx(1)
    assert share(painted()) == pytest.approx(0)
    assert share(painted(wall=0.9)) == pytest.approx(0)
    assert share(painted(ball) * 0.5 + painted() * 0.5 + 0.1) == pytest.approx(0.5)
    assert share(2 * painted() - painted(ball)) == pytest.approx(-1)


def test_figures_are_of_all_objects_and_of_another_game_by_chance():
    """Catches one game twice as its own chance, a mean of means, and a spread over objects that are much alike."""
    ball = square(10, 10)
    with_ball, objects = np.uint8(255 * painted(ball)), [("DoomImpBall", ball)]
    games = [[(with_ball, objects)] * 3, [(with_ball, objects), (with_ball, [])]]
    made = [np.stack([painted(ball)] * 3), np.stack([painted()] * 2)]
    figures = small_objects.measured(games, made)["small fireball"]
    assert (figures["seen"], figures["kept"], figures["chance"]) == (4, 0.75, 0.25)
    # of each game: kept - 0.75 of those seen is 0.75 and -0.75
    assert figures["stderr"] == pytest.approx(np.sqrt(2 * 2 * 0.75**2) / 4)
    assert small_objects.measured(games, made)["large monster"]["seen"] == 0


def test_every_fifth_frame_of_each_validation_game_is_looked_at(monkeypatch):
    """Catches frames that are all alike, objects of another frame, one game for all, and games of another purpose."""
    begun = []

    class Game:
        def __init__(self, labels):
            assert labels

        def reset(self, seed):
            self.tic = 0
            begun.append(("game", seed))
            return self.frame()

        def step(self, action):
            self.tic += 1
            return self.frame(), 1.0, self.tic == 12

        def frame(self):
            return np.full((64, 64, 3), self.tic, np.uint8)

        def objects(self):
            return self.tic

    def held_actions(seeds, cfg):
        begun.append(("player", *seeds))
        return types.SimpleNamespace(act=lambda frames: np.zeros((1, 1)))

    monkeypatch.setattr(small_objects, "DoomTakeCover", Game)
    monkeypatch.setattr(small_objects, "held_actions", held_actions)
    games = small_objects.play(range(470_000, 470_002))
    assert [[(frame.max(), objects) for frame, objects in game] for game in games] == [[(0, 0), (5, 5), (10, 10)]] * 2
    assert begun == [(who, seed) for seed in (470_000, 470_001) for who in ("player", "game")]
    with pytest.raises(cli.UserError, match=r"--games: .* not all for validation"):
        small_objects.play(range(499_999, 500_001))


def test_files_of_one_name_are_refused(tmp_path):
    """Catches the figures of two VAEs under the name of one: files outside the repository have a name only."""
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
    paths = [str(tmp_path / name / "vae.json") for name in ("a", "b")]
    done = commands.call(lambda *_: small_objects.main(), None, *paths)
    assert done.refused("vae.json, vae.json: the table would have two files of one name")


def test_a_file_that_is_no_vae_is_refused_at_once(tmp_path, monkeypatch):
    """Catches a wrong file that is found only after the games were played."""
    monkeypatch.setattr(small_objects, "play", lambda *_: pytest.fail("played"))
    paths = os.path.join(ROOT, "doomrnn", "tf_models", "vae.json"), str(tmp_path / "vae2.json")
    (tmp_path / "vae2.json").write_text("[]")
    assert commands.call(lambda *_: small_objects.main(), None, *paths).refused("vae2.json: not a VAE")


def test_the_page_has_what_was_measured():
    """Catches figures of another measurement, or of another VAE than the one that ships."""
    found = files.read_json(os.path.join(ROOT, "bench", "small_objects.json"))
    with open(os.path.join(ROOT, "docs", "variants.md")) as file:
        assert small_objects.table(found["figures"]) in file.read()
    shipped = "doomrnn/tf_models/vae.json"  # the others are of a run
    assert files.sha256(os.path.join(ROOT, shipped)) == found["sha256"][shipped]
