"""CarRacing, many cars in lockstep, on any of four backends.

    python env.py        # play it with the arrow keys; escape ends it

    gymnasium  Gymnasium's CarRacing (v3), the reference: every reported score
    gym        gym 0.26's CarRacing (v2)
    envpool    EnvPool's CarRacing-v2 in C++, ten times as fast, not anti-aliased: recording and training in bulk
    draft      that of Gymnasium, drawn in half the width and height and without the dashboard, three times as fast.
               The frames differ from those of Gymnasium by a few levels of 255. For quick validation

Physics and reward are the same in all. envpool does not recolor the tiles that the car has touched, as the others do,
and a seed gives another track there.
No TensorFlow here, so that recorders and the processes that play Python games stay small.
"""

import functools
import importlib
import os
import sys
import warnings
from typing import Any, Protocol

import numpy as np
from numpy.typing import ArrayLike
from PIL import Image

from common.protocols import Seeds, World
from common.runtime import cli
from common.worlds import games

from carracing import config

os.environ.setdefault("PYGAME_HIDE_SUPPORT_PROMPT", "1")

BACKENDS = ("gymnasium", "gym", "envpool", "draft")
LAP_SHARE = 1.0  # of the tiles; an episode ends when all are visited, not earlier at the start line, as in the paper


def frame_of(screens: np.ndarray) -> np.ndarray:
    """The frame for the VAE: the top 84 of 96 rows of the screen, without the dashboard, resized bilinearly.

    Args:
        screens: uint8 [96, 96, 3], or [B, 96, 96, 3].

    Returns:
        uint8 [64, 64, 3], or [B, 64, 64, 3]; a screen gives the same frame alone and in a batch.
    """
    batch = screens.reshape(-1, 96, 96, 3)
    frames = np.empty((len(batch), 64, 64, 3), np.uint8)
    for frame, screen in zip(frames, batch, strict=True):
        frame[:] = np.asarray(Image.fromarray(screen[:84]).resize((64, 64), Image.Resampling.BILINEAR))
    return frames.reshape(*screens.shape[:-3], 64, 64, 3)


def action_of(raw: ArrayLike) -> np.ndarray:
    """The tanh values of a controller as (steering, gas, brake): float [..., 3] in [-1, 1] -> float32 [..., 3].

    Gas is shifted to [0, 1]; the brake is cut at 0, so that an output of 0 does not brake. Two values are (steering,
    pedals) as they are.
    """
    raw = np.asarray(raw, np.float32)
    if raw.shape[-1] == config.TWO_ACTIONS:
        return raw
    steering, gas, brake = np.moveaxis(raw, -1, 0)
    return np.stack([steering, (gas + 1) / 2, np.clip(brake, 0, 1)], axis=-1)


def with_pedals_apart(action: np.ndarray) -> np.ndarray:
    """Actions as the game takes them: (steering, gas, brake) stays, of (steering, pedals) the pedals are taken apart.

    Pedals above 0 are gas, below 0 they brake: float32 [B, 3] or [B, 2] -> [B, 3].
    """
    if action.shape[-1] != config.TWO_ACTIONS:
        return action
    steering, pedals = action.T
    return np.stack([steering, np.maximum(pedals, 0), np.maximum(-pedals, 0)], axis=1)


@functools.cache
def python_game(package: str) -> Any:
    """The CarRacing class of "gymnasium" or "gym", drawing only what is on the screen: the same picture, but faster."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # gym prints a page about its age
        stderr, sys.stderr = sys.stderr, open(os.devnull, "w")  # noqa: SIM115
        try:
            module: Any = importlib.import_module(f"{package}.envs.box2d.car_racing")
        finally:
            sys.stderr.close()
            sys.stderr = stderr

    edge = module.PLAYFIELD
    original: Any = module.CarRacing

    class CarRacing(original):
        """The game, without the polygons that `_draw_colored_polygon` would find to be off the screen one by one."""

        _field = ((edge, edge), (edge, -edge), (-edge, -edge), (-edge, edge))
        random_start = False  # whether the car starts at a random place of the track
        track: list[Any]

        def _create_track(self) -> bool:
            made = super()._create_track()
            if made and self.random_start:  # the car is set on the first place of the list; the tiles keep their order
                first = self.np_random.integers(len(self.track))
                self.track = self.track[first:] + self.track[:first]
            return made

        def reset(self, **kwargs: Any) -> Any:
            """Starts an episode, on a new track."""
            self._polygons: Any = None
            return super().reset(**kwargs)

        def _lay_polygons(self) -> None:
            size, grass = module.GRASS_DIM, []
            for x in range(-20, 20, 2):
                for y in range(-20, 20, 2):
                    left, bottom = size * x, size * y
                    right, top = left + size, bottom + size
                    grass.append([(right, bottom), (left, bottom), (left, top), (right, top)])
            self._polygons = [(patch, self.grass_color) for patch in grass]
            self._polygons += self.road_poly  # the colors change as the car touches tiles
            self._corners = np.array([polygon for polygon, _ in self._polygons])

        def _render_road(self, zoom: float, translation: tuple[float, float], angle: float) -> None:
            if self._polygons is None:
                self._lay_polygons()
            self._draw_colored_polygon(self.surf, self._field, self.bg_color, zoom, translation, angle, clip=False)
            turn = zoom * np.array([[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]])
            corners = self._corners @ turn + translation
            margin = module.MAX_SHAPE_DIM + 1
            on_screen = (corners >= -margin) & (corners <= np.array([module.WINDOW_W, module.WINDOW_H]) + margin)
            for k in np.flatnonzero(on_screen.all(axis=2).any(axis=1)):
                polygon, color = self._polygons[k]
                self._draw_colored_polygon(self.surf, polygon, [int(c) for c in color], zoom, translation, angle)

    return CarRacing


@functools.cache
def draft_game() -> Any:
    """The CarRacing class of Gymnasium with small screens, without the dashboard, which the VAE does not see."""
    import pygame
    from gymnasium.envs.box2d import car_racing as module

    width, height = module.WINDOW_W // 2, module.WINDOW_H // 2

    original: Any = python_game("gymnasium")

    class Draft(original):
        """The game, drawn in half the width and height."""

        def _lay_polygons(self) -> None:
            super()._lay_polygons()
            self._centers = self._corners.mean(axis=1)
            self._reach = np.linalg.norm(self._corners - self._centers[:, None], axis=2).max(axis=1)

        def _render(self, _: str) -> np.ndarray:  # the mode is always "state_pixels"
            if self._polygons is None:
                self._lay_polygons()
            zoomed_in = min(self.t, 1)  # over the first second
            zoom = module.SCALE * (0.1 * (1 - zoomed_in) + module.ZOOM * zoomed_in) * width / module.WINDOW_W
            angle = -self.car.hull.angle
            turn = zoom * np.array([[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]])
            translation = np.array([width / 2, height / 4]) - np.array(self.car.hull.position) @ turn
            screen = pygame.Surface((width, height))
            pygame.draw.polygon(screen, self.bg_color, (np.array(self._field) @ turn + translation).tolist())
            middle = (np.array([width / 2, height / 2]) - translation) @ turn.T / zoom**2  # of the screen, on the map
            view = np.hypot(width / 2, height / 2) / zoom
            in_view = np.flatnonzero(np.linalg.norm(self._centers - middle, axis=1) < view + self._reach)
            for k, corners in zip(in_view, (self._corners[in_view] @ turn + translation).tolist(), strict=True):
                pygame.draw.polygon(screen, [int(c) for c in self._polygons[k][1]], corners)
            self.car.draw(screen, zoom, tuple(translation), angle, draw_particles=False)
            return self._create_image_array(screen, (module.STATE_W, module.STATE_H))[::-1]

    return Draft


class Tracks(Protocol):
    """Cars, each with its own track."""

    def start(self, seeds: Seeds) -> np.ndarray:
        """One new track per seed -> screens uint8 [B, 96, 96, 3]."""

    def drive(self, cars: np.ndarray, action: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """One step of some cars -> screens uint8 [B, 96, 96, 3], reward float [B], done bool [B]."""


class PythonTracks:
    """Tracks of a CarRacing class of Gymnasium or gym."""

    def __init__(self, game: Any, random_start: bool = False) -> None:
        self._make, self._random_start = functools.partial(game, lap_complete_percent=LAP_SHARE), random_start
        self._games: list[Any] = []

    def start(self, seeds: Seeds) -> np.ndarray:
        """One new track per seed -> screens uint8 [B, 96, 96, 3]."""
        self._games += [self._make() for _ in range(len(seeds) - len(self._games))]
        for game in self._games:
            game.random_start = self._random_start
        return np.stack([game.reset(seed=int(seed))[0] for game, seed in zip(self._games, seeds, strict=False)])

    def drive(self, cars: np.ndarray, action: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """One step of some cars -> screens uint8 [B, 96, 96, 3], reward float [B], done bool [B]."""
        # as float64: Box2D takes numbers of Python only
        results = [self._games[car].step(row) for car, row in zip(cars, action.astype(float), strict=True)]
        screens, reward, terminated, truncated, _ = zip(*results, strict=True)
        # gym reports a finished lap as truncated, Gymnasium as terminated
        return np.stack(screens), np.array(reward, float), np.array(terminated) | np.array(truncated)


class PoolTracks:
    """Tracks of EnvPool; one thread per batch."""

    def __init__(self) -> None:
        import envpool

        self._make = envpool.make
        self._pool: Any = None

    def start(self, seeds: Seeds) -> np.ndarray:
        """One new track per seed -> screens uint8 [B, 96, 96, 3]."""
        # A car's seed is fixed when its pool is made. A new pool costs 2 ms per car, a thousandth of an episode.
        self._pool = None
        self._pool = self._make(
            "CarRacing-v2",
            env_type="gymnasium",
            num_envs=len(seeds),
            num_threads=1,
            env_seed=[int(seed) for seed in seeds],
            max_episode_steps=config.MAX_STEPS + 1,  # Cars has the time limit
            lap_complete_percent=LAP_SHARE,
        )
        return self._pool.reset()[0]

    def drive(self, cars: np.ndarray, action: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """One step of some cars -> screens uint8 [B, 96, 96, 3], reward float [B], done bool [B]."""
        screens, reward, terminated, truncated, _ = self._pool.step(action, cars)
        return screens, reward.astype(float), terminated | truncated


def on_grass(screens: np.ndarray) -> np.ndarray:
    """How much grass is on that side of each car where there is less of it: 0 on the road, 1 off it, float [B].

    In the first 15 steps of an episode the camera is still far, and it is mostly 1 wherever the car is.

    Args:
        screens: uint8 [B, 96, 96, 3]; the car is always at the same place of them, and always points up.
    """
    beside = screens[:, 67:77, [44, 51]].astype(int)  # the car is in the columns between
    return ((beside[..., 1] > 180) & (beside[..., 0] < 150)).mean(axis=1).min(axis=1)


class Cars:
    """A World of cars; the state is their frames, uint8 [B, 64, 64, 3].

    An episode ends when all tiles are visited, after 1000 steps, or off the field with -100.

    Args:
        tracks: of a backend.
        patience: the episode of a car without a new tile for so many steps is ended, and charged the -0.1 of every step
            that was left; 0 means never.
        max_steps: after which an episode ends.
        charged: whether patience charges, as evolution wants it; recordings keep the reward of the game.
        enough: share of the tiles at which an episode is ended; 1 means all of them, as in the game.
        grass: what a step with grass on both sides of the car costs, in points.
    """

    def __init__(
        self,
        tracks: Tracks,
        patience: int = 0,
        max_steps: int = config.MAX_STEPS,
        charged: bool = True,
        enough: float = 1.0,
        grass: float = 0.0,
    ) -> None:
        self._tracks, self._patience, self._max_steps, self._charged = tracks, patience, max_steps, charged
        self._enough, self._grass = enough, grass

    def reset(self, seeds: Seeds) -> np.ndarray:
        """Starts one episode per seed."""
        self._cars, self._steps = np.arange(len(seeds), dtype=np.int32), 0
        self._idle, self._visited = np.zeros(len(seeds), int), np.zeros(len(seeds))
        return frame_of(self._tracks.start(seeds))

    def step(self, action: ArrayLike) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Drives the car of every row one step; action float [B, 3 or 2], see `with_pedals_apart`."""
        action = with_pedals_apart(np.asarray(action, np.float32))
        screens, reward, done = self._tracks.drive(self._cars, action)
        self._steps += 1
        self._idle = np.where(reward > 0, 0, self._idle + 1)  # a step costs 0.1, which only a new tile makes up for
        self._visited = self._visited + np.where(reward > 0, (reward + 0.1) / 1000, 0)  # all tiles pay 1000 together
        if self._grass:
            reward = reward - self._grass * on_grass(screens)
        if self._enough < 1:
            done = done | (self._visited >= self._enough)
        if self._patience:
            gave_up = ~done & (self._idle >= self._patience)
            if self._charged:
                reward[gave_up] -= 0.1 * (self._max_steps - self._steps)
            done = done | gave_up
        if self._steps == self._max_steps:
            done = np.ones_like(done)
        if done.any():
            on = ~done
            screens, self._cars, self._idle, self._visited = (
                part[on] for part in (screens, self._cars, self._idle, self._visited)
            )
        return frame_of(screens), reward, done


@functools.cache
def available(backend: str) -> str:
    """The backend, or "gymnasium" in place of EnvPool if that is not installed; prints so once.

    Args:
        backend: one of BACKENDS, or "" for the first.
    """
    backend = backend or BACKENDS[0]
    if backend == "envpool":
        try:
            import envpool  # noqa: F401
        except ImportError:
            print("EnvPool is not installed (not every platform has it): using Gymnasium, a tenth as fast")
            return "gymnasium"
    return backend


def cars_here(backend: str, random_start: bool = False, **rules: Any) -> Cars:
    """A batch of cars in this thread, on an available backend; `rules` are those of Cars.

    Args:
        backend: one of BACKENDS.
        random_start: whether cars start at random places of their tracks, which the seed decides; not in EnvPool.
        **rules: those of Cars.
    """
    if backend == "envpool":
        return Cars(PoolTracks(), **rules)
    game = draft_game() if backend == "draft" else python_game(backend)
    return Cars(PythonTracks(game, random_start), **rules)


def real_games(rows: int = 0, backend: str = BACKENDS[0], **rules: Any) -> World:
    """A batch of cars. Games written in Python run in a separate process, so that threads can share the cores.

    Args:
        rows: not used here: a batch has as many cars as seeds.
        backend: one of BACKENDS.
        **rules: those of Cars, and `random_start` of `cars_here`.
    """
    backend = available(backend)
    if backend == "envpool":
        return cars_here(backend, **rules)
    return games.OwnProcess(functools.partial(cars_here, backend, **rules))


def keyboard_action(keys: set[str]) -> np.ndarray:
    """Keys that are held down, such as {"left", "up"}, as (steering, gas, brake), float32 [3]."""
    return np.array([("right" in keys) - ("left" in keys), "up" in keys, 0.8 * ("down" in keys)], np.float32)


def two_axes(keys: set[str]) -> np.ndarray:
    """Keys that are held down as (steering, pedals), float32 [2]."""
    steering, gas, brake = keyboard_action(keys)
    return np.array([steering, gas - brake], np.float32)


def main() -> None:
    """Plays the game with the keyboard."""
    arguments = play.by_keyboard(__doc__).parse_args()
    play.need_display(arguments.video)
    game = python_game("gymnasium")(render_mode="rgb_array", lap_complete_percent=LAP_SHARE)
    game.reset(seed=arguments.seed)
    total, steps, done = 0.0, 0, False
    with video.stage("CarRacing", config.FPS, arguments.video) as screen:
        keyboard = play.Keyboard(screen, keyboard_action)
        while not done and steps < config.MAX_STEPS:
            _, reward, done, _, _ = game.step(keyboard.act(None)[0].astype(float))
            screen.show(game.render())
            total, steps = total + reward, steps + 1
    print(f"{total:.1f} points in {steps} steps")


if __name__ == "__main__":
    from common.play import play, video  # TensorFlow, which recorders do without

    cli.run_main(main)
