"""CarRacing, many cars in lockstep, on any of four backends.

    python env.py        # play it with the arrow keys; escape ends it

    gymnasium  Gymnasium's CarRacing (v3), the reference: every reported score
    gym        gym 0.26's CarRacing (v2)
    envpool    EnvPool's CarRacing-v2 in C++, ten times as fast, not anti-aliased: recording and training in bulk
    draft      Gymnasium's, drawn in half the width and height and without the dashboard: what V sees of it is
               Gymnasium's to a few levels of 255, three times as fast. For training that is to end in Gymnasium

Physics, reward and colours are one lineage. A seed gives the same track on all but envpool.
No TensorFlow here, so that recorders and the processes that play Python games stay small.
"""

import functools
import importlib
import os
import sys
import warnings

import numpy as np
from PIL import Image

from common.runtime import cli
from common.worlds import games

from carracing import config

os.environ.setdefault("PYGAME_HIDE_SUPPORT_PROMPT", "1")

BACKENDS = ("gymnasium", "gym", "envpool", "draft")
LOW, HIGH = np.float32(config.ACTION_LOW), np.float32(config.ACTION_HIGH)
LAP_SHARE = 1.0  # of tiles, above which touching tile 0 ends an episode: never, so only all tiles do, as in the paper


def frame_of(screens):
    """What V sees of the screen: its top 84 of 96 rows (the dashboard cut off), resized bilinearly.

    Args:
        screens: uint8 [96, 96, 3], or [B, 96, 96, 3].

    Returns:
        uint8 [64, 64, 3], or [B, 64, 64, 3]: of every screen the same, alone or in a batch.
    """
    batch = screens.reshape(-1, 96, 96, 3)
    frames = np.empty((len(batch), 64, 64, 3), np.uint8)
    for frame, screen in zip(frames, batch, strict=True):
        frame[:] = Image.fromarray(screen[:84]).resize((64, 64), Image.BILINEAR)
    return frames.reshape(*screens.shape[:-3], 64, 64, 3)


def action_of(raw):
    """C's tanh values as (steering, gas, brake): float [..., 3] in [-1, 1] -> float32 [..., 3].

    Gas is shifted to [0, 1]; the brake is cut at 0, so that C does not half-brake when it is undecided.
    """
    steering, gas, brake = np.moveaxis(np.asarray(raw, np.float32), -1, 0)
    return np.stack([steering, (gas + 1) / 2, np.clip(brake, 0, 1)], axis=-1)


@functools.cache
def python_game(package):
    """The CarRacing class of "gymnasium" or "gym", which draws only what is on the screen: same picture, far sooner."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # gym greets with a page about its age
        stderr, sys.stderr = sys.stderr, open(os.devnull, "w")  # noqa: SIM115
        try:
            module = importlib.import_module(f"{package}.envs.box2d.car_racing")
        finally:
            sys.stderr.close()
            sys.stderr = stderr

    edge = module.PLAYFIELD

    class CarRacing(module.CarRacing):
        """The game, but for the polygons that `_draw_colored_polygon` would find to be off the screen one by one."""

        _field = ((edge, edge), (edge, -edge), (-edge, -edge), (-edge, edge))

        def reset(self, **kwargs):
            self._polygons = None
            return super().reset(**kwargs)

        def _lay_polygons(self):
            size, grass = module.GRASS_DIM, []
            for x in range(-20, 20, 2):
                for y in range(-20, 20, 2):
                    left, bottom = size * x, size * y
                    right, top = left + size, bottom + size
                    grass.append([(right, bottom), (left, bottom), (left, top), (right, top)])
            self._polygons = [(patch, self.grass_color) for patch in grass]
            self._polygons += self.road_poly  # whose colours change as the car touches tiles
            self._corners = np.array([polygon for polygon, _ in self._polygons])

        def _render_road(self, zoom, translation, angle):
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
def draft_game():
    """Gymnasium's CarRacing whose screens are drawn small and without the dashboard, which V does not see."""
    import pygame
    from gymnasium.envs.box2d import car_racing as module

    width, height = module.WINDOW_W // 2, module.WINDOW_H // 2

    class Draft(python_game("gymnasium")):
        def _lay_polygons(self):
            super()._lay_polygons()
            self._centers = self._corners.mean(axis=1)
            self._reach = np.linalg.norm(self._corners - self._centers[:, None], axis=2).max(axis=1)

        def _render(self, _):  # which mode: it is only ever "state_pixels"
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


class PythonTracks:
    """Cars of a class of Gymnasium's or gym's, each with its own track."""

    def __init__(self, game):
        self._make = functools.partial(game, lap_complete_percent=LAP_SHARE)
        self._games = []

    def start(self, seeds):
        """One new track per seed -> screens uint8 [B, 96, 96, 3]."""
        self._games += [self._make() for _ in range(len(seeds) - len(self._games))]
        return np.stack([game.reset(seed=int(seed))[0] for game, seed in zip(self._games, seeds, strict=False)])

    def drive(self, cars, action):
        """One step of some cars -> screens uint8 [B, 96, 96, 3], reward float [B], done bool [B]."""
        # as float64: Box2D takes Python's numbers only
        results = [self._games[car].step(row) for car, row in zip(cars, action.astype(float), strict=True)]
        screens, reward, terminated, truncated, _ = zip(*results, strict=True)
        # gym reports a finished lap as truncated, Gymnasium as terminated
        return np.stack(screens), np.array(reward, float), np.array(terminated) | np.array(truncated)


class PoolTracks:
    """Cars of EnvPool, each with its own track; one thread per batch."""

    def __init__(self):
        import envpool

        self._make, self._pool = envpool.make, None

    def start(self, seeds):
        """One new track per seed -> screens uint8 [B, 96, 96, 3]."""
        # A car's seed is fixed when its pool is made. A new pool costs 2 ms per car, a thousandth of an episode.
        self._pool = None
        self._pool = self._make(
            "CarRacing-v2",
            env_type="gymnasium",
            num_envs=len(seeds),
            num_threads=1,
            env_seed=[int(seed) for seed in seeds],
            max_episode_steps=config.MAX_STEPS + 1,  # the limit is ours
            lap_complete_percent=LAP_SHARE,
        )
        return self._pool.reset()[0]

    def drive(self, cars, action):
        """One step of some cars -> screens uint8 [B, 96, 96, 3], reward float [B], done bool [B]."""
        screens, reward, terminated, truncated, _ = self._pool.step(action, cars)
        return screens, reward.astype(float), terminated | truncated


class Cars:
    """A batch of cars, the interface in common/worlds.py; the state is their frames, uint8 [B, 64, 64, 3].

    An episode ends when all tiles are visited, after 1000 steps, or off the field with -100.

    Args:
        tracks: PythonTracks or PoolTracks.
        patience: int, training only: a car without a new tile for so many steps is ended, and charged the -0.1 of
            every step it had left; 0 means never.
        max_steps: int, after which an episode ends.
    """

    def __init__(self, tracks, patience=0, max_steps=config.MAX_STEPS):
        self._tracks, self._patience, self._max_steps = tracks, patience, max_steps

    def reset(self, seeds):
        """Starts one episode per seed."""
        self._cars, self._steps = np.arange(len(seeds), dtype=np.int32), 0
        self._idle = np.zeros(len(seeds), int)
        return frame_of(self._tracks.start(seeds))

    def step(self, action):
        """Drives every row's car one step; action float [B, 3]: steering, gas, brake."""
        screens, reward, done = self._tracks.drive(self._cars, np.asarray(action, np.float32))
        self._steps += 1
        self._idle = np.where(reward > 0, 0, self._idle + 1)  # only a new tile brings more than the step costs
        if self._patience:
            gave_up = ~done & (self._idle >= self._patience)
            reward[gave_up] -= 0.1 * (self._max_steps - self._steps)
            done = done | gave_up
        if self._steps == self._max_steps:
            done = np.ones_like(done)
        if done.any():
            on = ~done
            screens, self._cars, self._idle = screens[on], self._cars[on], self._idle[on]
        return frame_of(screens), reward, done


@functools.cache
def available(backend):
    """The backend, or "gymnasium" (said once) where EnvPool, which has no wheel for every platform, is missing."""
    if backend == "envpool":
        try:
            import envpool  # noqa: F401
        except ImportError:
            print("EnvPool is not installed (not every platform has it): using Gymnasium, a tenth as fast")
            return "gymnasium"
    return backend


def cars_here(backend, **rules):
    """A batch of cars in this thread; backend is one of BACKENDS that is available, rules are those of Cars."""
    if backend == "envpool":
        return Cars(PoolTracks(), **rules)
    return Cars(PythonTracks(draft_game() if backend == "draft" else python_game(backend)), **rules)


def real_games(rows=0, backend=BACKENDS[0], **rules):
    """A batch of cars; games written in Python get a process of their own, so that threads can share the cores.

    Args:
        rows: of no use here: a batch has as many cars as it is given seeds.
        backend: one of BACKENDS.
        **rules: those of Cars.
    """
    backend = available(backend or BACKENDS[0])
    if backend == "envpool":
        return cars_here(backend, **rules)
    return games.OwnProcess(functools.partial(cars_here, backend, **rules))


def keyboard_action(keys):
    """Held keys, such as {"left", "up"}, as (steering, gas, brake), float32 [3]."""
    return np.float32([("right" in keys) - ("left" in keys), "up" in keys, 0.8 * ("down" in keys)])


def main():
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
