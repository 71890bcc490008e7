"""The dream of the game: M as a world, which V's decoder shows. Drive in it with the arrow keys; escape ends it.

python dream_env.py
python dream_env.py --temperature 1.0 --seed 7
"""

import argparse

from common import cli, devices, dream, play, video

import config
import env
from model import load_models


def dreams(rnn, initial_z, temperature):
    """A batch of dreams of the game; they last 1000 steps, for M knows no end and no reward."""
    return dream.DreamWorld(rnn, initial_z, temperature, config.MAX_STEPS)


def picture_of(vae):
    """state -> picture of what the first row dreams, uint8 [512, 512, 3]."""
    return lambda state: video.panels(vae.decode(state[0][:1])[0], height=512)


def main():
    parser = cli.OneLineParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--temperature", type=cli.number(float, 0), default=config.TEMPERATURE, help="above 1 the dream is stranger"
    )
    parser.add_argument("--seed", type=cli.number(int, 0), default=0, help="of the dream")
    parser.add_argument("--run", default=".", metavar="DIR", help="folder with this run's tf_*/")
    play.add_video(parser)
    arguments = parser.parse_args()
    play.need_display(arguments.video)
    devices.for_blocks()
    vae, rnn, initial_z, _ = load_models(arguments.run)
    world = dreams(rnn, initial_z, arguments.temperature)
    with video.stage("CarRacing, dreamt", config.FPS, arguments.video) as screen:
        keyboard = play.Keyboard(screen, env.keyboard_action)
        _, steps = play.watch(world, keyboard, arguments.seed, screen, picture_of(vae))
    print(f"you drove for {steps} steps")


if __name__ == "__main__":
    cli.run_main(main)
