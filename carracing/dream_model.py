"""Lets a controller drive inside M's dream and shows it: in a window, or as a video where there is no display.

python dream_model.py log/carracing.cma.16.64.best.json
python dream_model.py log/carracing.cma.16.64.best.json 7 --temperature 1.0 --video dream.mp4
"""

import argparse

from common import cli, devices, play, video

import config
from dream_env import dreams, picture_of
from model import load_models, play_controller


def main():
    parser = cli.OneLineParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    play.add_file_and_seed(parser)
    parser.add_argument(
        "--temperature", type=cli.number(float, 0), default=config.TEMPERATURE, help="above 1 the dream is stranger"
    )
    parser.add_argument("--video", type=cli.new_file, metavar="FILE", help="write the dream to this .mp4 or .gif")
    parser.add_argument("--run", default=".", metavar="DIR", help="folder with this run's tf_*/ and log/")
    arguments = play.parse(parser)
    devices.for_blocks()
    vae, rnn, initial_z, hashes = load_models(arguments.run)
    make_policy, _ = play_controller(arguments, rnn, hashes)
    world = dreams(rnn, initial_z, arguments.temperature)
    with video.screen("CarRacing, dreamt", config.FPS, arguments.video, "dream.mp4") as screen:
        _, steps = play.watch(world, make_policy([arguments.seed]), arguments.seed, screen, picture_of(vae))
    print(f"seed {arguments.seed} dreamt {steps} steps")


if __name__ == "__main__":
    cli.run_main(main)
