"""What the fault tests share: the table that `make faults` ends with."""

import pytest

ROWS = []


@pytest.fixture
def table():
    """(fault, times injected, work lost): a row of the table; a test writes it once it has seen the results equal."""
    return lambda fault, times, lost: ROWS.append((fault, str(times), lost, "yes"))


def pytest_terminal_summary(terminalreporter):
    """Prints the table."""
    if not ROWS:
        return
    rows = [("fault", "times injected", "work lost", "equal to undisturbed"), *ROWS]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    terminalreporter.section("faults")
    for row in rows:
        terminalreporter.write_line("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)))
