"""A folder of recordings for every test."""

import pytest

from recorded import record


@pytest.fixture
def folder(tmp_path):
    """A record/ folder with the five episodes of `recorded.LENGTHS`."""
    return record(tmp_path / "record")
