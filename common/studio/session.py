"""What one page of the studio plays: a dream or a real game, one step or one look at a time, as the page asks.

A message is JSON with "do" and what belongs to it; each gets one answer:
    open   game                        loads the game; answers what the page is to show of it
    start  world (dream or game), frame   a dream from that real frame, or an episode of the real game; its noise
                                          follows from seed, if the message has one, else from a new one; answers it;
                                          the world planet is the dream of an RSSM, in which the agent is its planner
    step   driver (you or agent), keys    one step by the keys that are held down, or by the agent
    look                               no step, but the dimensions of z that are held are seen
    gif                                all that was seen since the start, as a file
start, step and look carry temperature and held, {dimension: value}, and answer where things stand, with three frames.
"""

import argparse
import base64
import collections
import contextlib
import glob
import io
import json
import os
from collections.abc import Callable
from typing import Any, TypeVar

from common.runtime import devices  # noqa: F401  isort: skip  (loads TensorFlow without its banner)
import numpy as np
import tensorflow as tf
from PIL import Image

from common.agent import mdnrnn, models
from common.data import recordings
from common.game import Game
from common.play import agents, play, video
from common.play import planet as planning
from common.protocols import Policy
from common.runtime.cli import DiedError, UserError
from common.worlds import dream, encoded, rssm_dreams

REAL_FRAMES = 16  # to start from
TEMPERATURES = 0.1, 2.0  # least and most
HELD = 5.0  # most that a dimension of z can be held at: those of the VAE are standard normal, or nearly so
SEEDS = 2000, 499_999  # least and most; none that is for tests only
EXPECTED = "what the MDN-RNN expects"
PLANNED = "what the RSSM expects"
GIF_FRAMES, GIF_FPS = 600, 30
Message = dict[str, Any]
Answer = tuple[dict[str, Any], bytes]
"""(what is sent as JSON, what follows it)"""
T = TypeVar("T")


def lacking(game: Game, run: str) -> str | None:
    """Why this run has no VAE and MDN-RNN to play with; None if it has (its own, or those that ship)."""
    try:
        models.find(game, run)
    except UserError as error:
        return str(error)
    return None


def recorded_frames(record: str, count: int = REAL_FRAMES) -> np.ndarray:
    """Frames of recorded games, from the first one's second quarter (a game may begin with an intro) to the last's end.

    Args:
        record: a record/ folder, which need not be there.
        count: int, at most so many.

    Returns:
        uint8 [N, 64, 64, 3].
    """
    paths = sorted(glob.glob(os.path.join(glob.escape(record), "*.npz")))
    count = min(count, len(paths))
    frames = []
    for k in range(count):
        with contextlib.suppress(ValueError):  # damaged; the stages that need it name it
            obs = recordings.read(paths[k * len(paths) // count])["obs"]
            frames.append(obs[(count + 3 * k) * len(obs) // (4 * count)])
    return np.array(frames, np.uint8).reshape(-1, *recordings.FRAME)


class Stage:
    """A game's VAE and MDN-RNN, its agent, and real frames to start from; loaded once for all pages.

    Args:
        game: Game.
        run: folder of a run. Its weights, controller and recordings are used; where it has none, those that ship.
        unverified: see common/runtime/provenance.py.
        controller: the file of the agent; by default the one of the run, or the one that ships.
    """

    def __init__(self, game: Game, run: str, unverified: bool = False, controller: str = "") -> None:
        self.planet_game, self.game, self.no_agent = game, game, ""
        self.agent: agents.Agent | None = None
        """the agent, or None and why there is none"""
        try:
            file = controller or self._controller(run)
            self.agent = agents.load(game, argparse.Namespace(file=file, run=run, unverified=unverified))
        except UserError as error:
            self.no_agent = str(error)
        self.no_planet = ""
        self.planet: planning.Agent | None = None
        """the RSSM and its planner, or None and why there is none"""
        try:
            self.planet = planning.load(game, run, unverified)
        except UserError as error:
            self.no_planet = str(error)
        loaded = self.agent.models if self.agent else models.load_run(game, run, unverified)
        self.game = game.acting_by(loaded.rnn.shape.action_size)
        self.models, self.vae, self.rnn, self.initial_z = loaded, loaded.vae, loaded.rnn, loaded.initial_z
        self._weights = self.rnn.prepared()
        self.frames = recorded_frames(os.path.join(run, "record"))
        if not len(self.frames):
            self.frames = game.first_frames()

    def _controller(self, run: str) -> str:
        """The controller of a run with weights of its own; else the one that ships.

        Raises:
            UserError: the run has none, or several that may be meant.
        """
        models.check_no_rounds(run)
        found = models.sets(self.game, run)
        if not found or found[0]["rnn"] != os.path.join(run, self.game.config.TRAINED["rnn"]):
            return agents.shipped(self.game)
        place = os.path.join(glob.escape(run), "log", self.game.name)
        # those that real games chose come before those that a dream chose
        paths = sorted(glob.glob(f"{place}.*.picked.json") or glob.glob(f"{place}.*.best.json"))
        if len(paths) != 1:
            names = ", ".join(map(os.path.basename, paths)) or "none"
            raise UserError(f"{run}: has no one controller ({names}); say which is to play with --controller FILE")
        return paths[0]

    @property
    def sample_z(self) -> bool:
        """Whether the agent sees a sample of z."""
        return self.agent.sample_z if self.agent else True

    @property
    def end_weight(self) -> float:
        """What the ends of dreams are drawn with, see dream.DreamWorld; without an agent they end by the threshold."""
        return self.agent.end_weight if self.agent else 0.0

    @tf.function(reduce_retracing=True)
    def encode(self, frames: np.ndarray) -> tuple[tf.Tensor, tf.Tensor]:
        """uint8 [B, 64, 64, 3] -> (mu, logvar), each float32 [B, Z]."""
        return self.vae.encode(frames)

    @tf.function(reduce_retracing=True)
    def decode(self, z: tf.Tensor) -> tf.Tensor:
        """float32 [B, Z] -> uint8 [B, 64, 64, 3]."""
        return tf.cast(tf.round(self.vae.decode(z) * 255), tf.uint8)

    @tf.function(reduce_retracing=True)
    def expect(self, h: tf.Tensor, temperature: float, uniform: np.ndarray, normal: np.ndarray) -> tf.Tensor:
        """A draw from what the MDN-RNN predicts: h float32 [B, H], noise each [B, Z] -> z float32 [B, Z]."""
        mixture, _ = self.rnn.predict(self._weights, h)
        return mdnrnn.sample(mixture, temperature, uniform, normal)

    def pay_of(self, hidden: tf.Tensor) -> float:
        """What the step that led to h, float32 [1, H], was expected to pay, as a dream pays it; for heads."""
        return float(dream.paid(self.rnn, self._weights, hidden, tf.ones([1]), self.game.pay)[0][0])


class PlanetDream:
    """The dream of an RSSM as a world of one row, and the planner that plays in it.

    Args:
        game: Game.
        agent: the RSSM and its planner.
    """

    def __init__(self, game: Game, agent: planning.Agent) -> None:
        self._dreams, self._agent = rssm_dreams.RssmDreams(game, agent.model, agent.action_repeat, 1), agent
        self._planner = agent.planner()
        self.state: Any = None

    def begin(self, frame: np.ndarray, seed: int) -> Policy:
        """Starts at what is believed when a frame, uint8 [64, 64, 3], is seen; returns the policy that plans."""
        self._dreams.begin([0], [seed], frame)
        self.state = self._dreams.state
        return self._agent.policy(self._planner, [seed])

    def step(self, action: np.ndarray) -> tuple[Any, np.ndarray, np.ndarray]:
        """Action float32 [1, A] -> (state, reward [1], done [1])."""
        _, reward, terminated, truncated = self._dreams.step(action)
        self.state = self._dreams.state
        return self.state, reward, terminated | truncated

    def look(self, temperature: float) -> np.ndarray:
        """The decoded state, uint8 [64, 64, 3]; sets the temperature of the next step."""
        self._dreams.temperature = temperature
        return self._dreams.pictures()[0]


class Session:
    """One page's play.

    Args:
        open_models: (name of a game) -> Stage; UserError if that game is not offered.
        seed: int, decides all that happens; None for something new every time.
    """

    def __init__(self, open_models: Callable[[str], Stage], seed: int | None = None) -> None:
        self._open_models, self._rng = open_models, np.random.default_rng(seed)
        self._opened: Stage | None = None
        self._dream: Any = None
        self._game: encoded.EncodedGames | None = None
        self._planet: PlanetDream | None = None
        self._world: Any = None  # one of these three
        self._agent: Policy | None = None
        self._action: np.ndarray | None = None
        self._expected: float | None = None
        self._seen: collections.deque[np.ndarray] = collections.deque(maxlen=GIF_FRAMES)

    def answer(self, text: str | bytes) -> bytes:
        """Does what a message asks.

        Args:
            text: see the head of this file.

        Returns:
            A line of JSON, with "error" and nothing else if the message cannot be followed; after it the three
            frames, uint8 [3, 64, 64, 3], or the .gif, or nothing.
        """
        try:
            try:
                message = json.loads(text)
            except (ValueError, RecursionError) as error:
                raise UserError(f"not JSON: {error}") from None
            message = message if isinstance(message, dict) else {}
            does: dict[str, Callable[[Message], Answer]] = {
                "open": self._open,
                "start": self._start,
                "step": self._step,
                "look": self._look,
                "gif": self._gif,
            }
            about, payload = _one_of(message, "do", does)(message)
        except UserError as error:
            about, payload = {"error": str(error)}, b""
        except DiedError as error:  # the next start makes the game anew
            self._game = self._world = None
            about, payload = {"error": str(error)}, b""
        return json.dumps(about).encode() + b"\n" + payload

    def _open(self, message: Message) -> Answer:
        self._opened = stage = self._open_models(_a(str, message, "game"))
        scene, z_size = stage.game, stage.vae.z_size
        self._dream = play.dreams(scene, stage.models, scene.config.TEMPERATURE, stage.end_weight)
        self._dream.reset([0])
        self._dream.step(np.zeros((1, len(scene.actions)), np.float32))  # compiles it while the page says: loading
        self._game = self._world = self._planet = None
        about = {name: getattr(scene, name) for name in ("title", "goal", "reward", "keys", "actions")}
        about |= {"name": scene.config.GAME, "temperature": scene.config.TEMPERATURE}
        about |= {"dream_rewards": scene.config.DREAM_REWARD > 0 or stage.rnn.shape.heads}
        if stage.rnn.shape.heads:
            about["reward"] = scene.reward | {"dream": EXPECTED}
        about |= {"z_size": z_size, "temperatures": TEMPERATURES, "seeds": SEEDS, "held": HELD}
        about["reward"] = about["reward"] | {"planet": PLANNED}
        about |= {"no_agent": stage.no_agent, "no_planet": stage.no_planet}
        return about | {"frames": [_data_url(frame) for frame in stage.frames]}, b""

    def _start(self, message: Message) -> Answer:
        stage, seed = self._stage, int(self._rng.integers(SEEDS[0], SEEDS[1] + 1))
        if "seed" in message:
            seed = int(_number(message, "seed", *SEEDS))
        self._held(message)  # what is wrong is told before anything changes
        self._dream.temperature = _number(message, "temperature", *TEMPERATURES)
        self._agent = stage.agent.policy([seed]) if stage.agent else None
        worlds = {"dream": self._start_dream, "game": self._start_game, "planet": self._start_planet}
        _one_of(message, "world", worlds)(message, seed)
        self._steps, self._score, self._over, self._action = 0, 0.0, False, None
        self._seen.clear()
        self._expected = 0.0 if self._world is self._game and stage.rnn.shape.heads else None
        about, frames = self._look(message)
        return about | {"seed": seed}, frames

    def _frame(self, message: Message) -> np.ndarray:
        return self._stage.frames[int(_number(message, "frame", 0, len(self._stage.frames) - 1))]

    def _start_planet(self, message: Message, seed: int) -> None:
        frame = self._frame(message)
        if self._stage.planet is None:
            raise UserError(f"PlaNet's dream cannot be played: {self._stage.no_planet}")
        if self._planet is None:
            self._planet = PlanetDream(self._stage.planet_game, self._stage.planet)
        self._agent, self._world = self._planet.begin(frame, seed), self._planet
        self._real_and_seen = frame, self._planet.look(_number(message, "temperature", *TEMPERATURES))

    def _start_dream(self, message: Message, seed: int) -> None:
        frame = self._frame(message)
        self._dream.initial_z = tuple(part.numpy() for part in self._stage.encode(frame[None]))
        z, _, _ = self._dream.reset([seed])
        self._real_and_seen, self._world = (frame, self._stage.decode(z)[0].numpy()), self._dream

    def _start_game(self, message: Message, seed: int) -> None:
        stage = self._stage
        if self._game is None:
            self._game = encoded.EncodedGames(stage.game.real_games(1), stage.vae, stage.rnn, stage.sample_z)
        self._game.reset([seed])
        self._world = self._game

    def _step(self, message: Message) -> Answer:
        self._check_started()
        self._held(message)
        if not self._over:
            action = _one_of(message, "driver", {"agent": self._agents_action, "you": self._your_action})(message)
            self._dream.temperature = _number(message, "temperature", *TEMPERATURES)
            before = self._world.state
            _, reward, done = self._world.step(action)
            self._steps, self._score, self._over = self._steps + 1, self._score + float(reward[0]), bool(done[0])
            if self._expected is not None:
                self._expected += self._stage.pay_of(self._world.hidden)
            self._action = action[0]
            if self._over:
                self._world.state = before  # a world forgets its finished rows; the last one stays to be looked at
        return self._look(message)

    def _agents_action(self, message: Message) -> np.ndarray:
        if self._agent is None:
            raise UserError(f"there is no agent to drive: {self._stage.no_agent}")
        return np.asarray(self._agent.act(self._world.state))

    def _your_action(self, message: Message) -> np.ndarray:
        keys = set(map(str, _a(list, message, "keys")))
        scene = self._stage.planet_game if self._world is self._planet else self._stage.game
        if not keys <= scene.keys.keys():
            raise UserError(f"keys: give some of {', '.join(scene.keys)}")
        return np.array([scene.keyboard_action(keys)], np.float32)

    def _look(self, message: Message) -> Answer:
        self._check_started()
        temperature = _number(message, "temperature", *TEMPERATURES)
        held = self._held(message)
        z = np.zeros((1, 0)) if self._world is self._planet else self._hold(held)
        frames = self._frames(temperature)
        if message["do"] != "look" and not self._over:
            self._seen.append(frames)
        action = None if self._action is None else np.round(self._action.astype(float), 3).tolist()
        z = np.round(z[0].astype(float), 3).tolist()
        about = {"steps": self._steps, "score": self._score, "over": self._over, "action": action, "z": z}
        about |= {} if self._expected is None else {"expected": self._expected}
        return about, frames.tobytes()

    def _held(self, message: Message) -> dict[int, float]:
        """{dimension: value} of z, those that the page holds."""
        held = _a(dict, message, "held")
        for name in held:
            if name not in map(str, range(self._stage.vae.z_size)):
                raise UserError(f"held: z has no dimension {name}")
        return {int(name): _number(held, name, -HELD, HELD) for name in held}

    def _hold(self, held: dict[int, float]) -> np.ndarray:
        """Sets the dimensions of z that are held; returns z, float32 [1, Z]."""
        z, h, c = self._world.state
        z = np.array(z)
        for dimension, value in held.items():
            z[0, dimension] = value
        self._world.state = tf.constant(z), h, c
        return z

    def _frames(self, temperature: float) -> np.ndarray:
        """What there is to see, uint8 [3, 64, 64, 3]."""
        if self._world is self._planet:
            return np.stack([*self._real_and_seen, self._planet.look(temperature)])
        stage, (z, h, _) = self._stage, self._world.state
        if self._world is self._dream:
            return np.stack([*self._real_and_seen, stage.decode(z)[0]])
        noise = self._rng.random(z.shape, np.float32), self._rng.standard_normal(z.shape, np.float32)
        expected = stage.expect(h, np.float32(temperature), *noise)
        return np.concatenate([self._world.frames, stage.decode(tf.concat([z, expected], axis=0))])

    def _gif(self, message: Message) -> Answer:
        self._check_started()
        file = io.BytesIO()
        video.write_gif(file, (video.panels(*frames, height=128) for frames in self._seen), GIF_FPS)
        return {"frames": len(self._seen)}, file.getvalue()

    @property
    def _stage(self) -> Stage:
        if self._opened is None:
            raise UserError("no game is open")
        return self._opened

    def _check_started(self) -> None:
        if self._stage and self._world is None:
            raise UserError("nothing has been started")


def _a(kind: type, message: Message, name: str) -> Any:
    if not isinstance(message.get(name), kind):
        raise UserError(f"{name}: missing, or not a {kind.__name__}")
    return message[name]


def _number(message: Message, name: str, low: float, high: float) -> float:
    value = message.get(name)
    if isinstance(value, bool) or not isinstance(value, int | float) or not low <= value <= high:
        raise UserError(f"{name}: give a number from {low} to {high}")
    return value


def _one_of(message: Message, name: str, choices: dict[str, T]) -> T:
    value = message.get(name)
    if not isinstance(value, str) or value not in choices:
        raise UserError(f"{name}: give one of {', '.join(choices)}")
    return choices[value]


def _data_url(frame: np.ndarray) -> str:
    file = io.BytesIO()
    Image.fromarray(frame).save(file, format="PNG")
    return "data:image/png;base64," + base64.b64encode(file.getvalue()).decode()
