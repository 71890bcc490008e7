"""PlaNet's loop: random episodes or recordings, then updates of the RSSM and planned episodes by turns.

<run>/tf_planet/record/<seed>.npz    the episodes it has played, as in common/data/recordings.py
<run>/tf_planet/rssm.npz             the model that was best on validation so far, see common/agent/planet.py

A run that is interrupted continues from its last checkpoint with the same numbers: what was played after it is played
again.
"""

import argparse
import dataclasses
import hashlib
import json
import os
import sys
from collections.abc import Sequence
from typing import Any

from common.runtime import devices  # isort: skip  (loads TensorFlow without its banner)
import keras
import numpy as np

from common.agent import planet, rssm
from common.agent.planner import Search
from common.data import recordings
from common.data.replay import Replay
from common.game import Game
from common.play import agents
from common.play import planet as playing
from common.protocols import World
from common.runtime import cli, files, provenance, runs, seeds
from common.runtime.cli import UserError
from common.training import ship
from common.worlds import games, rollouts

MAY_CHANGE = (
    *("episodes", "noise", "backend", "horizon", "iterations", "candidates", "elite", "hold", "shared_noise"),
    *("validate_every", "validation_episodes", "report_every"),
)
"""fields of the config that a run that continues may change"""
SCORED_BY = ("validation_episodes", "backend", *(field.name for field in dataclasses.fields(Search)))
"""fields of the config that decide what a validation score is a score of"""
EARLIER = "earlier.npz"  # the result before a validation that was made only because the run ended
RANDOM_ROWS = 16  # random episodes that are played in lockstep, at most


def main(game: Game, description: str | None) -> None:
    """planet.py of every game: train, norender, render or ship."""
    if sys.argv[1:2] == ["train"]:
        train(game, description, sys.argv[2:])
    elif sys.argv[1:2] == ["ship"]:
        parser = cli.OneLineParser(description=description)
        parser.add_argument("--run", required=True, metavar="DIR", help="a finished run")
        ship.ship_planet(game, parser.parse_args(sys.argv[2:]).run)
    elif sys.argv[1:2] in (["norender"], ["render"]):
        playing.main(game, description)
    else:
        parser = cli.OneLineParser(description=description)
        parser.add_argument("mode", choices=["train", "norender", "render", "ship"], help="each has its own --help")
        parser.parse_args(sys.argv[1:2])


def train(game: Game, description: str | None, argv: Sequence[str]) -> None:
    """planet.py train."""
    cfg, arguments = cli.parse(presets_of(game), description, argv)
    cfg = dataclasses.replace(cfg, backend=game.backend_here(cfg.backend))
    search = check(game, cfg)
    with runs.new_run(arguments.run):  # an error leaves no trace
        paths, frames, made_of = _given(game, cfg, arguments)
        replay = new_replay(game, cfg)
        for path in paths:
            replay.read(path)
        about = {"data": {"recordings_read": len(paths)} | ({"recordings_sha256": identity_of(paths)} if paths else {})}
        stage = runs.Stage(arguments, planet.FOLDER, planet.FILE, cfg, may_change=MAY_CHANGE, about=about)
    devices.for_training(cfg.seed)
    recording = game.config.EXTRACT[arguments.preset]
    learner = Learner(game, cfg, search, stage, replay, recording, frames)
    parents = provenance.Parents({"recordings": made_of} if paths else {}, provenance.any_unverified(*made_of))
    learner.resume()
    if learner.finished:
        print(f"{stage.result}: already made of {cfg.episodes} episodes; nothing to do (a larger --episodes continues)")
        return
    with runs.progress(cfg.episodes, learner.episodes, "play, and learn") as bar:
        while True:
            while learner.step < learner.updates_due:
                losses = learner.update()
                if learner.step % cfg.report_every == 0:
                    bar.set_postfix({name: f"{loss:.3g}" for name, loss in losses.items()}, refresh=False)
                    stage.log(learner.step, **{f"planet__{name}": loss for name, loss in losses.items()})
                learner.save_if_due()
            if learner.validation_due:
                learner.validate(parents)
            if learner.episodes >= cfg.episodes:
                break
            returns = learner.play()
            bar.update(len(returns))
            stage.log(learner.step, planet__episodes=learner.episodes, planet__episode_return=np.mean(returns))
            learner.save()
    learner.save()
    print(f"{stage.result}: the best on validation, {learner.best:.1f} (peak memory {runs.peak_memory():.2f} GB)")


def _given(game: Game, cfg: Any, arguments: argparse.Namespace) -> tuple[list[str], int, list[dict[str, Any]]]:
    """(paths, frames of the game, what their metas say) of the recordings to learn from at first, if any."""
    if not cfg.recordings:
        return [], 0, []
    folder = agents.find(cfg.recordings, arguments.run)
    paths, lengths = recordings.scan(folder, (game.config.ACTION_SIZE,), game.name)
    return paths, int(lengths.sum()), recordings.training_sources(folder, paths, arguments.unverified)


def identity_of(paths: Sequence[str]) -> str:
    """A hash that identifies recordings, by their names and contents."""
    names = [f"{os.path.basename(path)} {files.sha256(path)}" for path in paths]
    return hashlib.sha256("\n".join(names).encode()).hexdigest()


def presets_of(game: Game) -> dict[str, Any]:
    """The presets of PlaNet of a game; UserError if it has none."""
    if not hasattr(game.config, "PLANET"):
        raise UserError(f"{game.name}: its config.py has no PLANET, the presets of planet.py; see docs/new_game.md")
    return game.config.PLANET


def check(game: Game, cfg: Any) -> Search:
    """The budget of the planner, once it is sure that the config can be trained with.

    Raises:
        UserError: it cannot.
    """
    planet.range_of(game)
    search = search_of(cfg)
    planet.check_search(search)
    played = range(cfg.first_seed, cfg.first_seed + cfg.episodes)
    seeds.check(played, "training", "--first_seed and --episodes")
    validated = range(seeds.PLANNED_GAMES, seeds.PLANNED_GAMES + cfg.validation_episodes)
    seeds.check(validated, "validation", "--validation_episodes")
    if cfg.policy and cfg.policy not in game.random_policies:
        raise UserError(f"--policy {cfg.policy}: give one of {', '.join(game.random_policies)}")
    if cfg.backend and cfg.backend not in game.backends:
        raise UserError(f"--backend {cfg.backend}: give one of {', '.join(game.backends)}")
    check_overshooting(cfg)
    if not cfg.recordings and not cfg.random_episodes:
        raise UserError("--random_episodes 0: there is nothing to learn from at first; play some, or give --recordings")
    if cfg.random_episodes > cfg.episodes:
        raise UserError(
            f"--random_episodes {cfg.random_episodes}: more than --episodes {cfg.episodes}, of all episodes"
        )
    return search


def search_of(cfg: Any) -> Search:
    """The budget of the planner by a config."""
    return Search(**{field.name: getattr(cfg, field.name) for field in dataclasses.fields(Search)})


def check_overshooting(cfg: Any) -> None:
    """UserError if latent overshooting goes beyond a chunk, or has a weight but is off."""
    if cfg.overshooting >= cfg.sequence_length:
        raise UserError(
            f"--overshooting {cfg.overshooting}: a chunk of --sequence_length {cfg.sequence_length} has no steps so "
            "far apart; give less, or longer chunks"
        )
    if cfg.overshooting < 2 and cfg.overshooting_weight != type(cfg).overshooting_weight:
        raise UserError(
            f"--overshooting_weight {cfg.overshooting_weight}: without --overshooting it has no effect; give both"
        )


def new_replay(game: Game, cfg: Any) -> Replay:
    """An empty memory of episodes for a game and a config."""
    config = game.config
    ends: dict[str, Any] = {"end_before": config.MAX_STEPS} if config.RESTART else {}
    ends |= {"fall_below": game.pay.fall_below} if hasattr(config, "PAY") else {}
    mirror = config.MIRROR if cfg.mirror else None
    return Replay(config.ACTION_SIZE, cfg.action_repeat, cfg.reward_limit, cfg.memory_frames, mirror, **ends)


def shape_of(game: Game, cfg: Any) -> rssm.Shape:
    """The sizes of the RSSM for a game and a config."""
    names = ("deterministic", "stochastic", "hidden", "head", "depth", "paths")
    sizes = {name: getattr(cfg, name) for name in names}
    return rssm.Shape(game.config.ACTION_SIZE, planet.has_end(game), **sizes)


class Learner:
    """The model, its optimizer, the episodes it learns from, and how far it has come.

    Args:
        game: Game.
        cfg: settings.Planet.
        search: Search.
        stage: runs.Stage.
        replay: Replay, in which recordings are already.
        recording: the config of extract.py that its random policies read.
        frames: of the game in those recordings.
    """

    def __init__(
        self, game: Game, cfg: Any, search: Search, stage: runs.Stage, replay: Replay, recording: Any, frames: int = 0
    ) -> None:
        self._recording, self.frames = recording, frames
        """of the game that it has learned from, forgotten ones too; an action that is repeated brings several"""
        self._game, self._cfg, self._stage, self._replay = game, cfg, stage, replay
        self.model = rssm.RSSM(shape_of(game, cfg))
        optimizer = keras.optimizers.Adam(cfg.learning_rate, epsilon=cfg.epsilon, global_clipnorm=cfg.clip)
        optimizer.build(self.model.trainable_variables)
        self._variables = self.model.trainable_variables + optimizer.variables
        self._train = rssm.train_step_of(self.model, optimizer, cfg)
        self._agent = playing.Agent(game, self.model, search, cfg.action_repeat)
        self._planner = self._agent.planner(cfg.seed)
        self._games: dict[bool, tuple[int, World]] = {}
        self._folder = os.path.join(stage.folder, "record")
        self._scored_by = json.dumps({name: getattr(cfg, name) for name in SCORED_BY})
        # After a validation that was made only because the run ended: JSON of `validated` and `best` before it; their
        # result is in EARLIER. A longer run goes back there, and ends as if it had never stopped. "" after all others.
        self._earlier = ""
        self.step, self.episodes, self.validated, self.best = 0, 0, -1, -np.inf

    def resume(self) -> None:
        """Continues from the checkpoint of the stage, if there is one, with the episodes that it had played."""
        os.makedirs(self._folder, exist_ok=True)
        files.remove_temporary(self._folder)
        self.step, saved = self._stage.restore(self._variables)
        self.episodes = int(saved.get("episodes", 0))
        self.validated, self.best = int(saved.get("validated", -1)), float(saved.get("best", -np.inf))
        self._earlier = str(saved.get("earlier", ""))
        if self._earlier and self.episodes < self._cfg.episodes:
            self._forget_last_validation()
        self._stage.keep_metrics(self._stays)
        if str(saved.get("scored_by", self._scored_by)) != self._scored_by:
            self.best = -np.inf  # scores of other games, or of another planner, are not compared with those to come
        for k in range(self.episodes):
            self.frames += self._replay.read(self._path(k))

    def _forget_last_validation(self) -> None:
        """Removes a validation that was made only because the run ended, now that it goes on."""
        self.validated, best = json.loads(self._earlier)
        self.best, self._earlier = -np.inf if best is None else best, ""
        if best is not None:
            provenance.copy(self._stage.path(EARLIER), self._stage.result)

    def _stays(self, line: str) -> bool:
        """Whether a line of metrics.jsonl reports what is not to come again, by its episodes."""
        row = json.loads(line)
        return row.get("planet/episodes", 0) <= self.episodes and row.get("planet/at_episode", -1) <= self.validated

    def _path(self, episode: int) -> str:
        return os.path.join(self._folder, f"{self._cfg.first_seed + episode}.npz")

    @property
    def updates_due(self) -> int:
        """Updates to be made before the next episodes: after the random ones, and after each round of planned ones."""
        cfg = self._cfg
        planned = self.episodes - cfg.random_episodes
        return (-(-planned // cfg.rows) + 1) * cfg.updates if planned >= 0 else 0

    @property
    def finished(self) -> bool:
        """Whether all episodes are played and learned from, and the last model is validated."""
        done = self.episodes >= self._cfg.episodes and self.step >= self.updates_due
        return done and self.validated == self.episodes and os.path.exists(self._stage.result)

    @property
    def validation_due(self) -> bool:
        """Whether the model is to be validated before it plays on."""
        cfg = self._cfg
        if self.episodes < cfg.random_episodes or self.validated == self.episodes:
            return False
        return self.episodes >= cfg.episodes or self._at_its_time

    @property
    def _at_its_time(self) -> bool:
        """Whether a run that went on beyond this episode would validate here."""
        every = self._cfg.validate_every
        return bool(every) and self.episodes // every > max(self.validated, 0) // every

    def update(self) -> dict[str, float]:
        """One update of the model; returns its losses.

        Raises:
            UserError: one is not finite, or a gradient is not; nothing is saved from then on.
        """
        cfg = self._cfg
        rng = np.random.default_rng([cfg.seed, self.step])
        chunks = rssm.Chunks(*self._replay.sample(cfg.batch_size, cfg.sequence_length, rng))
        frames = cfg.batch_size * cfg.sequence_length
        shown = rng.permutation(frames)[: max(1, round(cfg.decoded_share * frames))].astype(np.int32)
        losses = self._train(chunks, shown, np.array([cfg.seed, 4 * self.step], np.int32))
        self.step += 1
        found = {name: float(loss) for name, loss in losses.items()}
        if not np.isfinite(list(found.values())).all():
            raise UserError(
                f"step {self.step}: a loss of this batch, or a gradient, is not finite ({found}); the last good "
                f"checkpoint in {self._stage.folder} is kept. Lower --learning_rate, or look at what it was fed"
            )
        return found

    def play(self) -> np.ndarray:
        """Plays the next episodes in lockstep, random ones first, and adds them to what is learned from.

        Returns:
            Their returns, float64 [E].
        """
        cfg, game = self._cfg, self._game
        random = self.episodes < cfg.random_episodes
        most = min(RANDOM_ROWS, cfg.random_episodes - self.episodes) if random else cfg.rows
        count = min(most, cfg.episodes - self.episodes)
        episodes = np.arange(count) + cfg.first_seed + self.episodes
        recorded = games.Recorded(self._real_games(True, count), self._write, game.config.MAX_STEPS)
        if random:
            # the policies of extract.py, each action of which is repeated as a planned one is
            make = game.random_policies[cfg.policy or next(iter(game.random_policies))]
            policy = make(episodes, self._recording)
            returns, _ = rollouts.rollout(games.Repeated(recorded, cfg.action_repeat), policy, episodes)
        else:
            policy = self._agent.policy(self._planner, episodes, cfg.noise, self.episodes)  # other draws in every round
            returns, _ = rollouts.rollout(self._agent.world(recorded), policy, episodes)
        for k in range(self.episodes, self.episodes + count):
            self.frames += self._replay.read(self._path(k))
        self.episodes += count
        return returns

    def _write(self, seed: int, obs: np.ndarray, action: np.ndarray, reward: np.ndarray, done: np.ndarray) -> None:
        action = action[:, 0] if self._game.config.ACTION_SIZE == 1 else action
        recordings.write(self._folder, seed, obs, action, reward, done)

    def _real_games(self, training: bool, rows: int) -> World:
        """A batch of games, kept until one of another size is wanted; rules for training do not hold otherwise."""
        cfg = self._cfg
        if training not in self._games or self._games[training][0] != rows:
            rules = cfg.rules() if training else {}
            self._games[training] = rows, self._game.real_games(rows, cfg.backend or self._game.backends[0], **rules)
        return self._games[training][1]

    def validate(self, parents: provenance.Parents) -> None:
        """Plays validation games without noise; the model becomes the result if none was better before."""
        cfg, stage = self._cfg, self._stage
        before = (
            "" if self._at_its_time else json.dumps([self.validated, self.best if np.isfinite(self.best) else None])
        )
        if before and before != self._earlier and np.isfinite(self.best):
            provenance.copy(stage.result, stage.path(EARLIER))
        self._earlier = before
        self.save()  # killed below, it validates again, and does not copy the new result
        episodes = seeds.PLANNED_GAMES + np.arange(cfg.validation_episodes)
        world = self._agent.world(self._real_games(False, len(episodes)))
        returns, lengths = rollouts.rollout(world, self._agent.policy(self._planner, episodes), episodes)
        score = rollouts.summary(episodes, returns, lengths)
        stage.log(
            self.step, planet__validation_return=score["mean"], planet__validation_stderr=score["stderr"],
            planet__validation_length=np.mean(lengths), planet__at_episode=self.episodes,
        )  # fmt: skip
        self.validated = self.episodes
        if score["mean"] > self.best or not os.path.exists(stage.result):
            self.best = float(score["mean"])
            planet.write(stage.result, self.model, self._agent.search, cfg.action_repeat)
            own = {"first_seed": cfg.first_seed, "episodes": self.episodes, "random": cfg.random_episodes}
            own |= {"policy": cfg.policy or next(iter(self._game.random_policies)), "updates": self.step}
            validation = {key: score[key] for key in ("mean", "std", "stderr", "n")} | {
                "first_seed": seeds.PLANNED_GAMES
            }
            hashes = parents.hashes | {"played": own}
            more = {"validation": validation, "real_frames": self.frames}
            stage.write_meta(self._game.name, "rssm", hashes, parents.unverified, **more)
        self.save()

    def _state(self) -> dict[str, Any]:
        best = {"best": self.best} if np.isfinite(self.best) else {}
        about = {"earlier": self._earlier, "scored_by": self._scored_by}
        return {"episodes": self.episodes, "validated": self.validated, **about, **best}

    def save(self) -> None:
        """Writes a checkpoint."""
        self._stage.save(self.step, self._variables, **self._state())

    def save_if_due(self) -> None:
        """Writes one when the last is as old as the config says."""
        self._stage.save_if_due(self.step, self._variables, **self._state())
