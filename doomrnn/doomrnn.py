"""The dream of the game: play it with the left and right arrow keys; escape ends it.

python doomrnn.py
python doomrnn.py --temperature 1.0 --seed 7
"""

import argparse

from common import cli, devices, play, video

import config
from doomreal import keyboard_action
from model import dreams, load_models


def main():
    parser = cli.OneLineParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--temperature",
        type=cli.number(float, 0),
        default=config.TEMPERATURE,
        help="above 1 the dream is harder and stranger",
    )
    parser.add_argument("--seed", type=cli.number(int, 0), default=0, help="of the dream")
    parser.add_argument("--run", default=".", metavar="DIR", help="folder with this run's tf_*/")
    play.add_video(parser)
    arguments = parser.parse_args()
    play.need_display(arguments.video)
    devices.for_blocks()
    vae, rnn, initial_z, _ = load_models(arguments.run)
    world = dreams(rnn, initial_z, arguments.temperature)

    def picture(state):
        return video.panels(vae.decode(state[0])[0], height=512)

    with video.stage("DoomTakeCover, dreamt", config.FPS, arguments.video) as screen:
        reward, _ = play.watch(world, play.Keyboard(screen, keyboard_action), arguments.seed, screen, picture)
    print(f"you lived for {reward:.0f} tics")


if __name__ == "__main__":
    cli.run_main(main)
