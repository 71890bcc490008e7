"""common/runtime/files.py: whole or not there."""

import os
import pathlib
import resource
import zipfile

import numpy as np
import pytest

from common.runtime import files


def test_a_failed_write_leaves_the_old_file(tmp_path):
    """Catches writing in place, and a temporary file left behind."""
    path = tmp_path / "x.json"
    files.write_json(str(path), {"a": 1})

    def half():
        with files.atomic(str(path), "w") as file:
            file.write('{"a":')
            file.flush()
            assert path.read_text() == '{"a": 1}\n'
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        half()
    assert path.read_text() == '{"a": 1}\n'
    assert os.listdir(tmp_path) == ["x.json"]


def test_a_file_is_on_the_disk_before_it_replaces_the_old_one(tmp_path, monkeypatch):
    """Catches a new name for content that a power cut would lose."""
    done, sync, replace = [], os.fsync, os.replace
    monkeypatch.setattr(os, "fsync", lambda file: [done.append("content"), sync(file)][1])
    monkeypatch.setattr(os, "replace", lambda *paths: [done.append("name"), replace(*paths)][1])
    files.write_json(str(tmp_path / "x.json"), 1)
    assert done == ["content", "name"]


def test_a_value_that_cannot_be_written_leaves_the_old_file(tmp_path):
    """Catches an .npz or .json opened before its content is known to be good."""
    for write, name, good, bad in (
        (files.write_json, "x.json", 1, object()),
        (lambda path, value: files.write_npz(path, a=value), "x.npz", 1, np.array([object()])),
    ):
        path = tmp_path / name
        write(str(path), good)
        before = path.read_bytes()
        with pytest.raises((TypeError, ValueError)):
            write(str(path), bad)
        assert path.read_bytes() == before
    assert sorted(os.listdir(tmp_path)) == ["x.json", "x.npz"]


@pytest.mark.parametrize("compresslevel", [0, 1, 6])
def test_npz_round_trip(tmp_path, rng, compresslevel):
    """Catches a lost dtype or shape, a folder that is not made, and a file that numpy cannot read."""
    path = str(tmp_path / "made" / "x.npz")
    arrays = {"a": rng.integers(0, 256, (5, 3), np.uint8), "b": np.float16([1.5]), "c": np.array(True)}
    files.write_npz(path, compresslevel=compresslevel, **arrays)
    with np.load(path, allow_pickle=False) as archive:
        assert set(archive.files) == set(arrays)
        for name, array in arrays.items():
            assert archive[name].dtype == array.dtype
            np.testing.assert_array_equal(archive[name], array)
    with zipfile.ZipFile(path) as archive:
        assert archive.testzip() is None


@pytest.mark.parametrize(("text", "says"), [("[" * 100_000, "JSON"), ("[1, ", "JSON"), ("[" + "1," * 500, "bytes")])
def test_json_that_is_damaged_or_a_bomb_is_a_value_error(tmp_path, text, says):
    """Catches a traceback for a torn file, a crash for a nested one, memory filled by a stranger's."""
    path = tmp_path / "x.json"
    path.write_text(text)
    with pytest.raises(ValueError, match=rf"x\.json.*{says}"):
        files.read_json(path, limit=1000 if says == "bytes" else 2**28)
    path.write_text('{"a": [1, 2]}')
    assert files.read_json(path) == {"a": [1, 2]}


def test_an_archive_that_claims_too_much_is_refused_before_it_is_unpacked(tmp_path):
    """Catches a file of some kB that fills the memory: zeros pack a thousandfold, and a header may claim anything."""
    path = tmp_path / "bomb.npz"
    files.write_npz(path, bomb=np.zeros(4_000_000, np.uint8), small=np.zeros(3))
    assert path.stat().st_size < 30_000
    with pytest.raises(ValueError, match=r"bomb\.npz.*would take 4000024 bytes"):
        files.read_npz(path, limit=4_000_000)
    assert files.read_npz(path, limit=4_000_024)["bomb"].size == 4_000_000
    with zipfile.ZipFile(path, "w") as archive, archive.open("x.npy", "w") as entry:
        np.lib.format.write_array_header_1_0(entry, {"descr": "|u1", "fortran_order": False, "shape": (2**50,)})
    with pytest.raises(ValueError, match="would take"):
        files.read_npz(path)


def test_arrays_are_read_by_name_and_verified_without_being_held(tmp_path, rng):
    """Catches other arrays than those asked for, and damage in one that nobody has read."""
    path = tmp_path / "x.npz"
    files.write_npz(path, a=lambda: np.arange(3), b=rng.random(1000))
    assert list(files.read_npz(path, only=["a"])) == ["a"]
    assert files.check_npz(path) == ["a", "b"]
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    assert files.read_npz(path, only=["a"])["a"].tolist() == [0, 1, 2]
    for damaged in (content, content[:-100]):
        path.write_bytes(damaged)
        with pytest.raises(ValueError, match=r"x\.npz: not readable as npz"):
            files.check_npz(path)
    with pytest.raises(FileNotFoundError):
        files.check_npz(tmp_path / "none.npz")


def test_names_in_an_archive_are_no_paths(tmp_path):
    """Catches a stranger's archive that writes outside of the folder it lies in."""
    path = tmp_path / "in" / "x.npz"
    path.parent.mkdir()
    with zipfile.ZipFile(path, "w") as archive, archive.open("../../out.npy", "w") as entry:
        np.lib.format.write_array(entry, np.arange(3))
    assert files.read_npz(path)["../../out"].tolist() == [0, 1, 2]
    assert sorted(p.name for p in tmp_path.rglob("*")) == ["in", "x.npz"]


def test_a_full_disk_names_the_file_and_leaves_the_old_one(tmp_path):
    """Catches an error that does not say which file, a torn file, and a temporary one that keeps the disk full."""
    path = tmp_path / "x.json"
    files.write_json(path, "old")
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, before[1]))
    try:
        with pytest.raises(OSError, match="too large") as error:
            files.write_json(path, "x" * 100_000)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert str(error.value.filename) == str(path)
    assert os.listdir(tmp_path) == ["x.json"]
    assert files.read_json(path) == "old"


def test_sha256(tmp_path):
    """Catches another hash, or the hash of the path."""
    (tmp_path / "x").write_bytes(b"abc")
    assert files.sha256(str(tmp_path / "x")).startswith("ba7816bf8f01cfea")


def test_objects_in_an_archive_are_not_made(tmp_path):
    """Catches a stranger's file that runs what its author wrote into it as soon as it is read."""
    path, made = tmp_path / "x.npz", tmp_path / "made"

    class Stranger:
        def __reduce__(self):
            return pathlib.Path.touch, (made,)

    np.savez(path, a=np.array([Stranger()], object))
    with pytest.raises(ValueError, match=r"x\.npz: not readable as npz"):
        files.read_npz(path)
    assert not made.exists()


@pytest.mark.parametrize("error", [MemoryError, PermissionError])
def test_what_says_nothing_of_a_file_is_not_called_its_damage(tmp_path, monkeypatch, error):
    """Catches a good checkpoint that is set aside as damaged, because there was too little memory to read it."""

    def lacking(*_, **__):
        raise error

    files.write_npz(tmp_path / "x.npz", a=np.zeros(3))
    monkeypatch.setattr(np, "load", lacking)
    with pytest.raises(error):
        files.read_npz(tmp_path / "x.npz")
    monkeypatch.setattr(zipfile, "ZipFile", lacking)
    with pytest.raises(error):
        files.check_npz(tmp_path / "x.npz")


def test_an_error_names_the_file_that_the_user_knows(tmp_path):
    """Catches a message with the temporary name, which is nowhere when the user looks for it."""
    path = str(tmp_path / ("a" * 250))
    with pytest.raises(OSError, match="too long") as error:
        files.write_json(path, 1)
    assert error.value.filename == path
