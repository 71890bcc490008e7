"""What the studio (common/studio.py) shows of CarRacing."""

from common import session

import config
import dream_env
import env
import model

SCENE = session.Scene(
    config=config,
    title="CarRacing",
    goal="Follow the road.",
    reward={"dream": "none, M does not know the game's", "game": "1000 / tiles for a new tile, -0.1 a step"},
    keys={"left": "steer left", "right": "steer right", "up": "gas", "down": "brake"},
    keyboard_action=env.keyboard_action,
    actions={"steering": -1, "gas": 0, "brake": 0},
    load_models=model.load_models,
    load_agent=model.play_controller,
    dreams=dream_env.dreams,
    real_game=lambda: env.cars_here("gymnasium"),
)
