"""What both games share: V, M, C, their training data, the batched worlds, rollouts. Knows nothing of either game.

Importing it makes the dreams known to Gymnasium, of any game by its folder: gymnasium.make("WorldModels/Dream-v0",
game=...). TensorFlow is loaded only when one is made.
"""

import os

import gymnasium

_ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
for _name, _game in (("Dream", None), ("DoomTakeCoverDream", "doomrnn"), ("CarRacingDream", "carracing")):
    gymnasium.register(
        id=f"WorldModels/{_name}-v0",
        entry_point="common.gym_envs:DreamEnv",
        vector_entry_point="common.gym_envs:DreamVectorEnv",
        kwargs={"game": os.path.join(_ROOT, _game)} if _game else {},
    )
