"""The list of tests/mutants.py fits the code, so that `make mutants` tries what it says."""

import os

import mutants
import pytest


@pytest.mark.parametrize(("path", "old", "new"), mutants.MUTANTS)
def test_a_change_can_be_made(path, old, new):
    """Catches a change to code that is no longer there, which would be tried on nothing."""
    assert mutants.texts_of(path, old) == 1
    assert old != new
    assert all(os.path.exists(os.path.join(mutants.ROOT, test)) for test in mutants.TESTS[path].split())
