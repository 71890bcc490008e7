"""common/files.py: whole or not there."""

import os
import zipfile

import numpy as np
import pytest

from common import files


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


def test_sha256(tmp_path):
    """Catches another hash, or the hash of the path."""
    (tmp_path / "x").write_bytes(b"abc")
    assert files.sha256(str(tmp_path / "x")).startswith("ba7816bf8f01cfea")
