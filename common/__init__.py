"""World Models: what every game shares. It knows nothing of any game.

Importing it makes the dreams known to Gymnasium: gymnasium.make("WorldModels/DoomTakeCoverDream-v0"), and of any game
by the name of its package: gymnasium.make("WorldModels/Dream-v0", game="mygame"). TensorFlow is loaded only then.
"""

import os
import sys

import gymnasium


def _find_games_as_packages() -> None:
    """Python puts the folder of a script first in sys.path; for a script in a game's folder its parent belongs there.

    There the game is a package (`from doomrnn import config`), which the script doomrnn/doomrnn.py would hide otherwise.
    """
    folder = os.path.abspath(sys.path[0])
    if all(os.path.exists(os.path.join(folder, name)) for name in ("__init__.py", "config.py", "game.py")):
        sys.path[0] = os.path.dirname(folder)


_find_games_as_packages()
for _name, _game in (("Dream", None), ("DoomTakeCoverDream", "doomrnn"), ("CarRacingDream", "carracing")):
    gymnasium.register(
        id=f"WorldModels/{_name}-v0",
        entry_point="common.worlds.gym_envs:DreamEnv",
        vector_entry_point="common.worlds.gym_envs:DreamVectorEnv",
        kwargs={"game": _game} if _game else {},
    )
