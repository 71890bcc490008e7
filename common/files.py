"""Files that are whole or not there: written under a temporary name, then renamed."""

import contextlib
import hashlib
import json
import os
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
    except BaseException:
        with contextlib.suppress(FileNotFoundError):
            os.remove(temporary)
        raise


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


def read_npz(path):
    """The arrays of an .npz file, {name: array}.

    Raises:
        FileNotFoundError: no such file.
        ValueError: it is damaged, not an .npz, or holds Python objects.
    """
    try:
        with np.load(path, allow_pickle=False) as archive:
            return {name: archive[name] for name in archive.files}
    except FileNotFoundError:
        raise
    except Exception as error:  # zipfile, zlib and NumPy report damage by ten kinds of exception
        raise ValueError(f"{path}: not readable as npz ({error})") from error


def sha256(path):
    """Hex digest of a file's bytes."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
