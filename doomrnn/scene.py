"""What the studio (common/studio.py) shows of DoomTakeCover."""

from common import session

import config
import doomreal
import model


def load_agent(arguments, rnn, hashes):
    """(the agent's policies by seeds, whether they see a sample of z: always, as the authors have it)."""
    return model.play_controller(arguments, rnn, hashes), True


SCENE = session.Scene(
    config=config,
    title="Doom: Take Cover",
    goal="Monsters throw fireballs at you. Step aside, and live.",
    reward={"dream": "1 for every tic alive", "game": "1 for every tic alive"},
    keys={"left": "step left", "right": "step right"},
    keyboard_action=doomreal.keyboard_action,
    actions={"move": -1},
    load_models=model.load_models,
    load_agent=load_agent,
    dreams=model.dreams,
    real_game=lambda: model.real_games(1),
)
