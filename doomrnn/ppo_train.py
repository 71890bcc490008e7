"""An example: Stable-Baselines3's PPO learns in the Doom dream by Gymnasium's interface, and plays the real game.

Reads V, M and the first frames (the run's own, else those that ship); writes ppo/model.zip, and goes on from it when
started again, up to --steps. It needs what nothing else here does. First torch, from its own index, or pip brings CUDA:

    pip install torch==2.13.0 --index-url https://download.pytorch.org/whl/cpu
    pip install -e "..[ppo]"
    python ppo_train.py
    python ppo_train.py --steps 2000000       # goes on
"""

import json
import os
import sys

from common.runtime import devices  # isort: skip  (loads TensorFlow without its banner)
import config
import gymnasium
import numpy as np
from model import load_models, real_games

from common.play import play
from common.runtime import cli
from common.worlds import encoded

try:
    from stable_baselines3 import PPO
    from stable_baselines3.common.vec_env import VecEnv, VecMonitor
except ImportError as error:
    print(f"{sys.argv[0]}: {error}; install what this example needs, see the head of the file", file=sys.stderr)
    sys.exit(2)

REWARD_SCALE = 0.01  # so that values, some hundred steps of reward 1, are of the size that networks begin with
STEPS_PER_SAVE = 100_000
FIRST_SEED, SEEDS = 20_000, 400_000  # of the dreams; from 500,000 on they are for tests only
RANDOM_SCORES = "log/doomrnn.doomreal.random.scores.json"


class Dreams(VecEnv):
    """Dreams in lockstep as Stable-Baselines3 wants them: a vector environment that begins anew in the same step.

    Args:
        envs: gymnasium.vector.VectorEnv whose autoreset mode is SameStep.
        seed: int, of the first dream.
    """

    def __init__(self, envs, seed):
        self._envs, self._seed = envs, seed
        super().__init__(envs.num_envs, envs.single_observation_space, envs.single_action_space)

    def reset(self):
        observations, _ = self._envs.reset(seed=self._seed)
        return observations

    def step_async(self, actions):
        self._actions = actions

    def step_wait(self):
        observations, reward, terminated, truncated, info = self._envs.step(self._actions)
        infos = [{} for _ in range(self.num_envs)]
        for row in np.flatnonzero(terminated | truncated):
            infos[row] = {"terminal_observation": info["final_obs"][row], "TimeLimit.truncated": bool(truncated[row])}
        return observations, reward, terminated | truncated, infos

    def close(self):
        self._envs.close()

    def get_attr(self, attr_name, indices=None):
        return [getattr(self._envs, attr_name)] * self.num_envs

    def set_attr(self, attr_name, value, indices=None):
        raise NotImplementedError("rows of dreams have no attributes of their own")

    def env_method(self, method_name, *method_args, indices=None, **method_kwargs):
        raise NotImplementedError("rows of dreams have no methods of their own")

    def env_is_wrapped(self, wrapper_class, indices=None):
        return [False] * self.num_envs


class Player:
    """PPO's agent as a policy of common/rollouts.py."""

    def __init__(self, agent):
        self._agent = agent

    def act(self, state):
        """(z, h, c) -> float32 [B, 1]."""
        z, h, _ = state
        return self._agent.predict(np.concatenate([z, h], axis=1), deterministic=True)[0]

    def keep(self, on):
        """It remembers nothing of any row: M does."""


def main():
    parser = play.parser(__doc__)
    parser.add_argument(
        "--steps", type=cli.number(int, 1), default=500_000, help="dreamt steps to train for, all starts together"
    )
    parser.add_argument("--num_envs", type=cli.number(int, 1), default=64, help="dreams in lockstep")
    parser.add_argument("--temperature", type=cli.number(float, 0), default=config.TEMPERATURE, help="of the dream")
    parser.add_argument("--seed", type=cli.number(int, 0), default=1000, help="of the first real game")
    arguments = parser.parse_args()
    devices.for_blocks()
    vae, rnn, _, hashes = load_models(arguments.run)
    envs = gymnasium.make_vec(
        "WorldModels/DoomTakeCoverDream-v0",
        num_envs=arguments.num_envs,
        run=arguments.run,
        temperature=arguments.temperature,
        autoreset_mode="SameStep",
    )
    envs = gymnasium.wrappers.vector.TransformReward(envs, lambda reward: REWARD_SCALE * reward)

    path = os.path.join(arguments.run, "ppo", "model.zip")
    if os.path.exists(path):
        agent = PPO.load(path, device="cpu")
        print(f"{path}: going on from step {agent.num_timesteps}")
        agent.set_env(VecMonitor(Dreams(envs, FIRST_SEED + agent.num_timesteps % SEEDS)))  # other dreams than before
    else:
        agent = PPO(
            "MlpPolicy",
            VecMonitor(Dreams(envs, FIRST_SEED)),
            n_steps=256,
            batch_size=2048,
            n_epochs=4,
            gamma=0.995,
            use_sde=True,  # what it tries is held for some tics, as in the recordings of random play
            sde_sample_freq=8,
            device="cpu",
            seed=1,
            verbose=1,
        )
    while agent.num_timesteps < arguments.steps:
        agent.learn(min(STEPS_PER_SAVE, arguments.steps - agent.num_timesteps), reset_num_timesteps=False)
        agent.save(path)

    seeds = np.arange(arguments.seed, arguments.seed + arguments.episodes)
    returns, lengths = play.measure(
        lambda rows: encoded.EncodedGames(real_games(rows), vae, rnn), lambda block: Player(agent), seeds
    )
    with open(play.find(RANDOM_SCORES, arguments.run)) as file:
        random = json.load(file)
    print(f"the random policy in the same game: {random['mean']:.1f} ± {random['std']:.1f}, {random['n']} episodes")
    about = {"game": "doomreal", "backend": "vizdoom", "seed": arguments.seed, "hashes": hashes}
    play.report(arguments, seeds, returns, lengths, **about, dreamt_steps=agent.num_timesteps)


if __name__ == "__main__":
    cli.run_main(main)
