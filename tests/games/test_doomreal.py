"""doomrnn/doomreal.py: what the engine of ViZDoom needs of the machine, and how it is started."""

import os
import types

import pytest
import vizdoom

from common.runtime.cli import UserError

from doomrnn import doomreal


def machine(monkeypatch, noexec=False, free=10**9):
    """A machine on which the folder of the engine is mounted so, and /dev/shm has so many bytes left."""

    def statvfs(path):
        flags = os.ST_NOEXEC if noexec and path == doomreal._folder.name else 0
        return types.SimpleNamespace(f_flag=flags, f_bavail=free if path == doomreal.SHARED else 10**9, f_frsize=1)

    monkeypatch.setattr(os, "statvfs", statvfs)
    monkeypatch.setattr(doomreal, "SHARED", "/")
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
        assert f"bound.py --deaf {os.getpid()}" in file.read()
