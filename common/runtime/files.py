"""Files that are complete or absent: they are written under a temporary name, then renamed."""

import contextlib
import hashlib
import json
import math
import os
import re
import zipfile
from collections.abc import Iterable, Iterator
from typing import IO, Any

import numpy as np

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
"""folder of the repository, or where its packages are installed"""
JSON_LIMIT = 2**28
"""the most bytes of a JSON file that is read"""


@contextlib.contextmanager
def atomic(path: str, mode: str = "wb") -> Iterator[IO[Any]]:
    """Opens a temporary file beside `path`; on success it takes the name `path`, on any error it is removed."""
    os.makedirs(os.path.dirname(path) or ".", exist_ok=True)
    temporary = f"{path}.tmp{os.getpid()}"
    try:
        with open(temporary, mode) as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except BaseException as error:
        with contextlib.suppress(OSError):  # it is not there, or cannot be
            os.remove(temporary)
        if isinstance(error, OSError) and error.filename in (None, temporary):
            error.filename = path  # when the disk is full, the system names no file
        raise


def remove_temporary(folder: str, prefix: str = "") -> None:
    """Removes the files that killed processes were writing. The caller must hold the lock of the folder."""
    for name in os.listdir(folder):
        if name.startswith(prefix) and re.search(r"\.tmp\d+$", name):
            os.remove(os.path.join(folder, name))


def write_json(path: str, value: Any, **kwargs: Any) -> None:
    """Writes a JSON file atomically; `kwargs` go to json.dumps."""
    text = json.dumps(value, **kwargs)
    with atomic(path, "w") as file:
        file.write(text + "\n")


def write_npz(path: str, compresslevel: Any = 1, **arrays: Any) -> None:
    """Writes an .npz file atomically.

    Level 1 of deflate packs game frames well enough, and is faster than NumPy's fixed level 6.

    Args:
        path: the file.
        compresslevel: 0 to 9.
        arrays: each an array, or a function that returns it: called when its turn comes, so that not all of them have
            to be in memory.
    """
    with atomic(path) as file, zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED, compresslevel=compresslevel) as archive:
        for name, array in arrays.items():
            with archive.open(f"{name}.npy", "w", force_zip64=True) as entry:
                np.lib.format.write_array(
                    entry, np.asanyarray(array() if callable(array) else array), allow_pickle=False
                )


def read_json(path: str, limit: int = JSON_LIMIT) -> Any:
    """The value of a JSON file.

    Raises:
        FileNotFoundError: no such file.
        ValueError: it is not JSON, nested too deeply, or larger than `limit` bytes.
    """
    if os.path.getsize(path) > limit:
        raise ValueError(f"{path}: has {os.path.getsize(path)} bytes, more than the limit of {limit} for such a file")
    try:
        with open(path, encoding="utf-8") as file:
            return json.load(file)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{path}: not readable as JSON ({error})") from error


def read_npz(path: str, limit: int | None = None, only: Iterable[str] | None = None) -> dict[str, np.ndarray]:
    """The arrays of an .npz file, {name: array}, each verified by the checksum in the archive.

    Args:
        path: the file.
        limit: of its arrays [bytes], by default the memory of this machine: a small file can claim to be terabytes.
        only: the arrays to read; by default all.

    Raises:
        FileNotFoundError, PermissionError, MemoryError: errors that say nothing about the content of the file.
        ValueError: it is damaged, not an .npz, holds Python objects, or is too large.
    """
    limit = limit or os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    try:
        with zipfile.ZipFile(path) as archive:
            names = archive.namelist()
            size = sum(_claimed_bytes(archive, name) for name in names)
        if size > limit:
            raise ValueError(f"its arrays would take {size} bytes, more than {limit}")
        with np.load(path, allow_pickle=False) as archive:
            return {name: archive[name] for name in (archive.files if only is None else only)}
    except (FileNotFoundError, PermissionError, MemoryError):
        raise
    except Exception as error:  # zipfile, zlib and NumPy report damage by ten kinds of exception
        raise ValueError(f"{path}: not readable as npz ({error})") from error


def check_npz(path: str) -> list[str]:
    """Verifies an .npz file by its checksums, without its arrays in memory; returns their names. Errors: `read_npz`."""
    try:
        with zipfile.ZipFile(path) as archive:
            if (broken := archive.testzip()) is not None:
                raise ValueError(f"bad checksum of {broken}")
            return [name.removesuffix(".npy") for name in archive.namelist()]
    except (FileNotFoundError, PermissionError, MemoryError):
        raise
    except Exception as error:
        raise ValueError(f"{path}: not readable as npz ({error})") from error


def _claimed_bytes(archive: zipfile.ZipFile, name: str) -> int:
    """The size of an array of an .npz in bytes, from its header alone."""
    with archive.open(name) as entry:
        shape, _, dtype = npy_header(entry)
    return math.prod(shape) * dtype.itemsize


def npy_header(entry: IO[bytes]) -> tuple[tuple[int, ...], bool, np.dtype]:
    """(shape, whether in Fortran order, dtype) of an open .npy."""
    read = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}
    return read[np.lib.format.read_magic(entry)](entry)


def sha256(path: str) -> str:
    """Hex digest of the bytes of a file."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
