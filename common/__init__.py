"""World Models: what every game shares.

Importing it makes the dreams known to Gymnasium: gymnasium.make("WorldModels/DoomTakeCoverDream-v0"), and of any game
by the name of its package: gymnasium.make("WorldModels/Dream-v0", game="mygame"). TensorFlow is loaded only then.
"""

import glob
import os
import sys

from common.runtime import interrupt


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
        script = getattr(sys.modules["__main__"], "__file__", None) or ""
        if os.path.dirname(os.path.abspath(script)) == folder:
            interrupt.ends_at_once()
    if sys.argv[:1] == ["-m"]:  # which Python replaces once it has found the module
        interrupt.ends_at_once()


def _register_dreams() -> None:
    import gymnasium

    for name, game in (("Dream", None), ("DoomTakeCoverDream", "doomrnn"), ("CarRacingDream", "carracing")):
        gymnasium.register(
            id=f"WorldModels/{name}-v0",
            entry_point="common.worlds.gym_envs:DreamEnv",
            vector_entry_point="common.worlds.gym_envs:DreamVectorEnv",
            kwargs={"game": game} if game else {},
        )
    gymnasium.register(
        id="WorldModels/PlanetDream-v0",
        entry_point="common.worlds.rssm_dreams:PlanetDreamEnv",
        vector_entry_point="common.worlds.rssm_dreams:PlanetDreamVectorEnv",
    )


_find_games_as_packages()
_register_dreams()
