"""What the tests of common/data share: episodes that tell where a frame comes from, and damage to their files."""

import os
import pathlib

import numpy as np

from common.data import recordings

LENGTHS = {2000: 30, 2001: 7, 2002: 55, 2003: 1, 2004: 22}


def frames_of(seed, length):
    """Frames whose first pixel tells the episode and the step."""
    obs = np.zeros((length, 64, 64, 3), np.uint8)
    obs[:, 0, 0, 0], obs[:, 0, 0, 1] = seed % 100, np.arange(length)
    return obs


def record(folder, lengths=LENGTHS):
    """Writes one episode per seed: action is the step / 64, reward the step, done at the last."""
    for seed, length in lengths.items():
        step = np.arange(length)
        recordings.write(str(folder), seed, frames_of(seed, length), step / 64, step, step == length - 1)
    return str(folder)


def tags(frames):
    """[(episode, step)] of frames."""
    return [tuple(map(int, tag)) for tag in frames[:, 0, 0, :2]]


def truncated(path):
    with open(path, "r+b") as file:
        file.truncate(os.path.getsize(path) // 2)


def not_npz(path):
    with open(path, "w") as file:
        file.write("not an archive")


def flipped(path):
    """One byte of the frames' compressed data is another."""
    content = bytearray(pathlib.Path(path).read_bytes())
    content[300] ^= 0xFF
    pathlib.Path(path).write_bytes(content)
