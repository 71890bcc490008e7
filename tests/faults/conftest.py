"""What the fault tests share: the table that `make faults` ends with."""

import pytest

FAULT = "fault"  # name of the property of a test's report that is a row of the table


@pytest.fixture
def table(request):
    """(fault, times injected, work lost): a row of the table; a test writes it once it has seen the results equal."""

    def write(fault, times, lost):
        request.node.user_properties.append((FAULT, (fault, str(times), lost, "yes")))

    return write


def pytest_terminal_summary(terminalreporter):
    """Prints the table. The reports may come from the processes of pytest-xdist."""
    reports = [report for report in terminalreporter.stats.get("passed", []) if report.when == "call"]
    found = [row for report in reports for name, row in report.user_properties if name == FAULT]
    if not found:
        return
    rows = [("fault", "times injected", "work lost", "equal to undisturbed"), *found]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    terminalreporter.section("faults")
    for row in rows:
        terminalreporter.write_line("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)))
