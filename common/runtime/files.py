"""Files that are whole or not there: written under a temporary name, then renamed."""

import contextlib
import hashlib
import json
import math
import os
import re
import zipfile

import numpy as np


@contextlib.contextmanager
def atomic(path, mode="wb"):
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
        with contextlib.suppress(FileNotFoundError):
            os.remove(temporary)
        if isinstance(error, OSError) and error.filename in (None, temporary):
            error.filename = path  # of a full disk the system says no file
        raise


def remove_temporary(folder, prefix=""):
    """Removes what killed processes were writing; only for who holds the folder's lock."""
    for name in os.listdir(folder):
        if name.startswith(prefix) and re.search(r"\.tmp\d+$", name):
            os.remove(os.path.join(folder, name))


def write_json(path, value, **kwargs):
    """Writes a JSON file whole."""
    text = json.dumps(value, **kwargs)
    with atomic(path, "w") as file:
        file.write(text + "\n")


def write_npz(path, compresslevel=1, **arrays):
    """Writes an .npz file whole.

    Level 1 of deflate packs game frames well enough, and is faster than NumPy's fixed level 6.
    """
    with atomic(path) as file, zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED, compresslevel=compresslevel) as archive:
        for name, array in arrays.items():
            with archive.open(f"{name}.npy", "w", force_zip64=True) as entry:
                np.lib.format.write_array(entry, np.asanyarray(array), allow_pickle=False)


def read_json(path, limit=2**28):
    """The value of a JSON file.

    Raises:
        FileNotFoundError: no such file.
        ValueError: it is not JSON, nested without end, or of more than `limit` bytes.
    """
    if os.path.getsize(path) > limit:
        raise ValueError(f"{path}: {os.path.getsize(path)} bytes are more than the {limit} such a file may have")
    try:
        with open(path, encoding="utf-8") as file:
            return json.load(file)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{path}: not readable as JSON ({error})") from error


def read_npz(path, limit=None):
    """The arrays of an .npz file, {name: array}, each verified by the checksum that the archive holds.

    Args:
        path: the file.
        limit: int, bytes its arrays may take, by default what this machine has: a few kB can claim to be terabytes.

    Raises:
        FileNotFoundError, PermissionError, MemoryError: what says nothing about the file's content.
        ValueError: it is damaged, not an .npz, holds Python objects, or too much.
    """
    limit = limit or os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    try:
        with zipfile.ZipFile(path) as archive:
            names = archive.namelist()
            size = sum(_claimed_bytes(archive, name) for name in names)
        if size > limit:
            raise ValueError(f"its arrays would take {size} bytes, more than {limit}")
        with np.load(path, allow_pickle=False) as archive:
            return {name: archive[name] for name in archive.files}
    except (FileNotFoundError, PermissionError, MemoryError):
        raise
    except Exception as error:  # zipfile, zlib and NumPy report damage by ten kinds of exception
        raise ValueError(f"{path}: not readable as npz ({error})") from error


def _claimed_bytes(archive, name):
    """What an array of an .npz would take, from its header alone."""
    with archive.open(name) as entry:
        shape, _, dtype = npy_header(entry)
    return math.prod(shape) * dtype.itemsize


def npy_header(entry):
    """(shape, whether in Fortran's order, dtype) of an open .npy."""
    read = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}
    return read[np.lib.format.read_magic(entry)](entry)


def sha256(path):
    """Hex digest of a file's bytes."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
