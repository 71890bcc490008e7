"""An example: the PPO of Stable-Baselines3 learns in the Doom dream, a Gymnasium environment, and plays the real game.

Reads the VAE, the MDN-RNN and the first frames (those of the run, else those that ship); writes ppo/model.zip, and goes
on from it when started again, up to --steps. It needs two more packages. Install torch from its own index first, or pip
installs the CUDA version:

    pip install torch==2.13.0 --index-url https://download.pytorch.org/whl/cpu
    pip install -e "..[ppo]"
    python ppo_train.py
    python ppo_train.py --steps 2000000       # continues

To train an agent, use train.py -o ppo (docs/policy_gradient.md). It is faster, for no step of a dream returns to
Python. It continues bit for bit. Its controller is a file with a meta, which all commands and the studio play.
"""

import os
import sys
from io import BufferedIOBase
from typing import Any, cast

from common.runtime import devices  # isort: skip  (loads TensorFlow without its banner)
import gymnasium
import numpy as np

from common.agent import models
from common.play import agents, play
from common.runtime import cli, files, seeds
from common.worlds import encoded

from doomrnn.game import GAME

try:
    from stable_baselines3 import PPO
    from stable_baselines3.common.vec_env import VecEnv, VecMonitor
except ImportError as error:
    print(f"{sys.argv[0]}: {error}; install what this example needs, see the head of the file", file=sys.stderr)
    sys.exit(2)

REWARD_SCALE = (
    0.01  # so that the values of some hundred steps with reward 1 have the size of the first outputs of a network
)
STEPS_PER_SAVE = 100_000
FIRST_SEED = 20_000  # of the dreams
SEEDS = 379_000  # the seeds that a start may begin at; the rows have those that follow
RANDOM_SCORES = "log/doomrnn.doomreal.random.scores.json"


class Dreams(VecEnv):
    """Dreams in lockstep for Stable-Baselines3: a vector environment that resets in the same step.

    Args:
        envs: with the autoreset mode SameStep.
        seed: of the first dream.
    """

    def __init__(self, envs: gymnasium.vector.VectorEnv, seed: int) -> None:
        self._envs, self._seed = envs, seed
        super().__init__(envs.num_envs, envs.single_observation_space, envs.single_action_space)

    def reset(self) -> np.ndarray:
        """Begins all dreams anew; returns their observations."""
        observations, _ = self._envs.reset(seed=self._seed)
        return observations

    def step_async(self, actions: np.ndarray) -> None:
        """Notes the actions of the next step."""
        self._actions = actions

    def step_wait(self) -> tuple[np.ndarray, np.ndarray, np.ndarray, list[dict[str, Any]]]:
        """Takes the step: (observations, rewards, dones, infos)."""
        observations, reward, terminated, truncated, info = self._envs.step(self._actions)
        infos: list[dict[str, Any]] = [{} for _ in range(self.num_envs)]
        for row in np.flatnonzero(terminated | truncated):
            infos[row] = {"terminal_observation": info["final_obs"][row], "TimeLimit.truncated": bool(truncated[row])}
        return observations, reward, terminated | truncated, infos

    def close(self) -> None:
        """Ends the dreams."""
        self._envs.close()

    def get_attr(self, attr_name: str, indices: Any = None) -> list[Any]:
        """An attribute of the environment, once per row."""
        return [getattr(self._envs, attr_name)] * self.num_envs

    def set_attr(self, attr_name: str, value: Any, indices: Any = None) -> None:
        """Not possible."""
        raise NotImplementedError("the rows of a vector environment have no attributes")

    def env_method(self, method_name: str, *method_args: Any, indices: Any = None, **method_kwargs: Any) -> list[Any]:
        """Not possible."""
        raise NotImplementedError("the rows of a vector environment have no methods")

    def env_is_wrapped(self, wrapper_class: type, indices: Any = None) -> list[bool]:
        """No row has a wrapper of its own."""
        return [False] * self.num_envs


class Player:
    """An agent of Stable-Baselines3 as a Policy."""

    def __init__(self, agent: PPO) -> None:
        self._agent = agent

    def act(self, state: Any) -> np.ndarray:
        """(z, h, c) -> float32 [B, 1]."""
        z, h, _ = state
        return self._agent.predict(np.concatenate([z, h], axis=1), deterministic=True)[0]

    def keep(self, on: np.ndarray) -> None:
        """Nothing to forget: the memory is that of the MDN-RNN."""


def main() -> None:
    """Trains in the dream, then plays the real game."""
    parser = cli.OneLineParser(description=__doc__)
    parser.add_argument(
        "--steps", type=cli.number(int, 1), default=500_000, help="dreamt steps to train for, all starts together"
    )
    parser.add_argument("--num_envs", type=cli.number(int, 1), default=64, help="dreams in lockstep")
    parser.add_argument("--temperature", type=cli.number(float, 0.01, 100), default=GAME.config.TEMPERATURE)
    parser.add_argument(
        "--seed", type=cli.number(int, 0, cli.LARGEST), default=seeds.TRIALS, help="of the first real game"
    )
    parser.add_argument("--episodes", type=cli.number(int, 1), default=100, help="real games to play")
    parser.add_argument("--out", type=cli.new_file, metavar="FILE", help="write the scores of all games here, as JSON")
    play.add_run(parser, "tf_*/ and ppo/")
    arguments = parser.parse_args()
    devices.for_blocks()
    loaded = models.load_run(GAME, arguments.run, arguments.unverified)
    envs = gymnasium.make_vec(
        "WorldModels/DoomTakeCoverDream-v0",
        num_envs=arguments.num_envs,
        run=arguments.run,
        unverified=arguments.unverified,
        temperature=arguments.temperature,
        autoreset_mode="SameStep",
    )
    envs = gymnasium.wrappers.vector.TransformReward(envs, lambda reward: REWARD_SCALE * reward)

    path = os.path.join(arguments.run, "ppo", "model.zip")
    learns_in = {"models": loaded.hashes, "temperature": arguments.temperature}
    if os.path.exists(path):
        if not os.path.exists(path + ".json") or files.read_json(path + ".json") != learns_in:
            raise cli.UserError(f"{path}: has not learned in these dreams, see {path}.json; give another --run")
        agent = PPO.load(path, device="cpu")
        print(f"{path}: continuing from step {agent.num_timesteps}")
        agent.set_env(VecMonitor(Dreams(envs, FIRST_SEED + agent.num_timesteps % SEEDS)))  # not the same dreams again
    else:
        agent = PPO(
            "MlpPolicy",
            VecMonitor(Dreams(envs, FIRST_SEED)),
            n_steps=256,
            batch_size=2048,
            n_epochs=4,
            gamma=0.995,
            use_sde=True,  # exploration is held for some tics, as in the recordings of random play
            sde_sample_freq=8,
            device="cpu",
            seed=1,
            verbose=1,
        )
    while agent.num_timesteps < arguments.steps:
        agent.learn(min(STEPS_PER_SAVE, arguments.steps - agent.num_timesteps), reset_num_timesteps=False)
        files.write_json(path + ".json", learns_in)
        with files.atomic(path) as file:
            agent.save(cast(BufferedIOBase, file))

    episodes = np.arange(arguments.seed, arguments.seed + arguments.episodes)
    returns, lengths = play.measure(
        lambda rows: encoded.EncodedGames(GAME.real_games(rows), loaded.vae, loaded.rnn),
        lambda block: Player(agent),
        episodes,
    )
    random = files.read_json(agents.find(RANDOM_SCORES, arguments.run))
    print(f"the random policy in the same game: {random['mean']:.1f} ± {random['std']:.1f}, {random['n']} episodes")
    about = {"game": "doomreal", "backend": "vizdoom", "seed": arguments.seed, **loaded.about()}
    play.report(arguments, episodes, returns, lengths, **about, dreamt_steps=agent.num_timesteps)


if __name__ == "__main__":
    cli.run_main(main)
