"""World Models: what every game shares. It knows nothing of any game.

Importing it makes the dreams known to Gymnasium: gymnasium.make("WorldModels/DoomTakeCoverDream-v0"), and of any game
by the name of its package: gymnasium.make("WorldModels/Dream-v0", game="mygame"). TensorFlow is loaded only then.
"""

import glob
import os
import sys

import gymnasium


def _find_games_as_packages() -> None:
    """Python puts the folder of a script first in sys.path; for scripts in some folders its parent belongs there.

    These are the folder of a game, which is a package of the parent (`from doomrnn import config`), and bench/. There
    the scripts doomrnn/doomrnn.py and bench/carracing.py would hide the packages of their names.
    """
    folder = os.path.abspath(sys.path[0])
    parent = os.path.dirname(folder)
    scripts = [os.path.basename(path)[:-3] for path in glob.glob(os.path.join(glob.escape(folder), "*.py"))]
    if {"__init__", "config", "game"} <= set(scripts) or any(
        os.path.exists(os.path.join(parent, script, "game.py")) for script in scripts
    ):
        sys.path[0] = parent


_find_games_as_packages()
for _name, _game in (("Dream", None), ("DoomTakeCoverDream", "doomrnn"), ("CarRacingDream", "carracing")):
    gymnasium.register(
        id=f"WorldModels/{_name}-v0",
        entry_point="common.worlds.gym_envs:DreamEnv",
        vector_entry_point="common.worlds.gym_envs:DreamVectorEnv",
        kwargs={"game": _game} if _game else {},
    )
gymnasium.register(
    id="WorldModels/PlanetDream-v0",
    entry_point="common.worlds.rssm_dreams:PlanetDreamEnv",
    vector_entry_point="common.worlds.rssm_dreams:PlanetDreamVectorEnv",
)
