"""common/training/report.py: a round in words, and the picture of a run."""

import os
import subprocess
import sys

import pytest

from common.runtime.files import ROOT
from common.training import report


def test_the_picture_is_drawn(tmp_path):
    """Catches a picture that cannot be drawn, or is no picture."""
    lines = [{"minutes": 10.0 * k, "real": {"mean": 100.0 * k, "stderr": 5.0}} for k in (1, 2)]
    report.draw(lines, str(tmp_path / "rounds.png"), "Stub")
    assert (tmp_path / "rounds.png").read_bytes().startswith(b"\x89PNG")


def test_the_picture_shows_scores_over_minutes(tmp_path, monkeypatch):
    """Catches axes exchanged, and the score in place of its standard error."""
    shown = []
    monkeypatch.setattr("matplotlib.axes.Axes.errorbar", lambda self, *rows, **how: shown.extend(rows))
    lines = [{"minutes": 10.0 * k, "real": {"mean": 100.0 * k, "stderr": 5.0 * k}} for k in (1, 2)]
    report.draw(lines, str(tmp_path / "rounds.png"), "Stub")
    assert shown == [[10.0, 20.0], [100.0, 200.0], [5.0, 10.0]]


@pytest.mark.parametrize("backend", ["nonsense", "tkagg"])
def test_the_picture_is_drawn_whatever_backend_is_set(tmp_path, backend):
    """Catches a ValueError at the end of a round, and a window that is opened where there is no display."""
    script = "from common.training import report; report.draw([], 'rounds.png', 'Stub')"
    environment = os.environ | {"MPLBACKEND": backend, "PYTHONPATH": ROOT}
    done = subprocess.run([sys.executable, "-c", script], cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "rounds.png").read_bytes().startswith(b"\x89PNG")


def found(real=500.0, dream=500.0, recall=0.8, deaths=10, expected=9.0):
    """What fidelity.py writes."""
    parts = {"real": (real, 8.0), "dream": (dream, 14.0)}
    rates = {"real": {"0-200": 0.5, "200-400": None}, "dream": {"0-200": 0.25, "200-400": 1.0}}
    return {
        **{
            name: {"mean": mean, "stderr": stderr, "deaths_per_1000_steps": rates[name]}
            for name, (mean, stderr) in parts.items()
        },
        "recall": recall,
        "false_alarms": 0.003,
        "by_logit": [{"deaths": 0, "expected": 1.0}, {"deaths": deaths, "expected": expected - 1}],
    }


@pytest.mark.parametrize(
    ("changed", "part"),
    [
        ({}, "the controller"),
        ({"dream": 900.0}, "the MDN-RNN"),
        ({"dream": 530.0}, "the controller"),  # less than two standard errors of the difference, which are 32
        ({"dream": 535.0}, "the MDN-RNN"),
        ({"real": 900.0}, "the controller"),
        ({"deaths": 20, "dream": 900.0}, "own games"),
        ({"recall": 0.2, "deaths": 20, "dream": 900.0}, "the VAE"),
    ],
)
def test_a_round_says_where_time_is_to_be_spent(changed, part):
    """Catches game and dream exchanged, a figure told for another, and an advice that they do not bear out."""
    text = report.faithful(found(**changed))
    assert text.splitlines()[0].endswith("by age: 0-200: 0.5 and 0.25")
    assert f"spend time on {part}" in text
    foreseen = f"{changed.get('recall', 0.8):.0%} of them foreseen at 0.3% false alarms"
    assert f"{changed.get('deaths', 10)} deaths in these games, 9 expected, {foreseen}: " in text


def test_an_mdn_rnn_of_which_nobody_knows_how_often_it_expects_deaths_is_not_surprised():
    """Catches a traceback at the end of a round, and own games advised because none are more than twice as many."""
    about = found()
    for row in about["by_logit"]:
        row["expected"] = None
    text = report.faithful(about)
    assert "10 deaths in these games, 80% of them foreseen" in text
    assert "spend time on the controller" in text


@pytest.mark.parametrize(
    ("expected", "dreamt", "part"),
    [(-1.0, -0.5, "the controller"), (-1.0, 3.0, "own games that explore"), (2.0, 3.0, "the MDN-RNN")],
)
def test_a_round_says_whether_the_dream_stops_paying(expected, dreamt, part):
    """Catches the first steps taken for the last, dream and game exchanged, and an advice that does not follow."""
    rows = {"game": -1.0, "expected": expected, "dreamt": dreamt}
    there = {"games": 3, "of": 8} | {name: [8.0] * 4 + [last - 0.5, last + 0.5] for name, last in rows.items()}
    text = report.paid({"where_it_stops_paying": there})
    assert "3 of 8 games stop paying: " in text
    assert f"{-1.0} in the game, {expected} as the MDN-RNN expects, {dreamt} in the dream: spend time on {part}" in text


def test_games_that_all_go_on_paying_are_no_advice():
    """Catches a traceback where no car leaves the road."""
    there = {"games": 0, "of": 8, "game": [], "expected": [], "dreamt": []}
    assert report.paid({"where_it_stops_paying": there}) == "0 of 8 games stop paying"


def test_without_deaths_there_is_no_advice():
    """Catches a traceback where an agent survives all games."""
    assert "spend" not in report.faithful(found(recall=None, deaths=0))


def test_the_line_of_a_round_names_each_number():
    """Catches random games taken for own ones, the deviation for the standard error, and dreams exchanged."""
    line = {"round": 2, "minutes": 31.4, "random_games": 300, "own_games": 70, "real": {"mean": 512.25, "stderr": 9.1}}
    line["real"]["n"] = 100
    text = "round 2: 31 min, 300 + 70 games recorded, game 512.2 ± 9.1 (standard error, 100 validation games)"
    assert report.words(line) == text
    there = {"games": 0, "of": 8, "game": [], "expected": [], "dreamt": []}
    told = report.words(line | {"dream": 812.0, "fidelity": found(dream=605.0) | {"where_it_stops_paying": there}})
    first, second, *_, last = told.splitlines()
    assert first == text.replace("game 512", "dream 812, dream at temperature 1 605, game 512")
    assert second.startswith("deaths per 1,000 steps")
    assert last == "0 of 8 games stop paying"
    assert report.words(line | {"fidelity": found() | {"by_logit": []}}).count("\n") == 0
