"""doomrnn/doomreal.py: what the engine of ViZDoom needs of the machine, and how it is started."""

import os
import shlex
import types

import numpy as np
import pytest
import vizdoom

from common.runtime import parallel
from common.runtime.cli import UserError

from doomrnn import doomreal


def machine(monkeypatch, noexec=False, free=10**9):
    """A machine on which the folder of the engine is mounted so, and /dev/shm has so many bytes left."""

    def statvfs(path):
        flags = os.ST_NOEXEC if noexec and path == doomreal._folder.name else 0
        return types.SimpleNamespace(f_flag=flags, f_bavail=free if path == parallel.SHARED else 10**9, f_frsize=1)

    monkeypatch.setattr(os, "statvfs", statvfs)
    monkeypatch.setattr(parallel, "SHARED", "/")
    monkeypatch.setattr(vizdoom, "DoomGame", lambda: pytest.fail("the engine was started"))


def test_a_folder_where_no_program_may_run_is_named(monkeypatch):
    """Catches a crash where TMPDIR is mounted noexec."""
    machine(monkeypatch, noexec=True)
    with pytest.raises(UserError, match=f"{doomreal._folder.name}: .*noexec.*TMPDIR"):
        doomreal.DoomTakeCover()


def test_too_little_shared_memory_is_named(monkeypatch):
    """Catches a crash in a container with a small /dev/shm."""
    machine(monkeypatch, free=64_000)
    with pytest.raises(UserError, match="/: has 64 kB left, and a game of Doom needs 1000"):
        doomreal.DoomTakeCover()


def test_the_engine_is_bound_and_does_not_hear_ctrl_c():
    """Catches engines that outlive us, and ones that a terminal ends under us: ViZDoom then crashes."""
    with open(doomreal._bound_engine()) as file:
        words = shlex.split(file.read().splitlines()[-1])
    bound = next(k for k, word in enumerate(words) if word.endswith("bound.py"))
    assert words[bound + 1 :][:2] == ["--deaf", str(os.getpid())]


def test_objects_are_where_the_frame_shows_them():
    """Catches labels that change the game, and pixels of an object that are those of the uncut screen."""
    plain, labeled = doomreal.DoomTakeCover(), doomreal.DoomTakeCover(labels=True)
    np.testing.assert_array_equal(plain.reset(470_000), labeled.reset(470_000))
    found = []
    for _ in range(70):
        (frame, *_), (same, *_) = plain.step(0.0), labeled.step(0.0)
        np.testing.assert_array_equal(frame, same)
        found += [(frame, mask) for name, mask in labeled.objects() if name == "DoomImp" and mask.sum() > 4]
    assert found
    assert all(mask.shape == (64, 64) and mask.dtype == bool for _, mask in found)
    # monsters are darker than the wall that they stand before
    darker = [frame[mask].mean() < frame[np.roll(mask, 6, axis=1) & ~mask].mean() for frame, mask in found]
    assert np.mean(darker) > 0.7


def test_ctrl_c_is_not_for_the_engine_from_its_first_line_on():
    """Catches a traceback of the program that binds the engine: until it runs, only the shell can be deaf."""
    with open(doomreal._bound_engine()) as file:
        lines = file.read().splitlines()
    assert lines[:2] == ["#!/bin/sh", "trap '' INT"]
    assert lines[2].startswith("exec ")
