"""What both games share: V, M, C, their training data, the batched worlds, rollouts. Knows nothing of either game.

Importing it makes the dreams known to Gymnasium; TensorFlow is loaded only when one is made.
"""

import os

import gymnasium

for _name, _folder in (("DoomTakeCover", "doomrnn"), ("CarRacing", "carracing")):
    gymnasium.register(
        id=f"WorldModels/{_name}Dream-v0",
        entry_point="common.gym_envs:DreamEnv",
        vector_entry_point="common.gym_envs:DreamVectorEnv",
        kwargs={"game": os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(__file__))), _folder)},
    )
