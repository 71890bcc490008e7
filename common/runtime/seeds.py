"""Which seeds are for what. A seed decides an episode; the three ranges do not overlap, and the code enforces them.

training      2,000 - 399,999     recording, training, evolution
validation    400,000 - 499,999   choosing among models, controllers, stopping
test          1,000 - 1,999, and from 500,000: played by the final evaluation only
"""

from collections.abc import Iterable

import numpy as np

from common.runtime.cli import UserError

TRAINING = (2_000, 399_999)
VALIDATION = (400_000, 499_999)
TEST, TEST_FROM = (1_000, 1_999), 500_000
MOST_EPISODES = 1_000_000  # that a command plays for a score
# the first seeds of blocks of training games, which extract.py records by no preset
RECORDED = 380_000  # recorded by benches, to train in
UNSEEN = 390_000  # recorded by benches, to measure losses on
# the first seeds of blocks of validation games
EVALUATION = 400_000  # the episodes that evolution evaluates its mean on
REAL_GAMES = 420_000  # the real games that choose among controllers evolved in a dream
REPORT = 430_000  # the games for the report of a round of iterate.py; other ones choose its controller
FIDELITY = 440_000  # the real games and the dreams that fidelity.py compares
PLANNED_GAMES = 450_000  # the real games that choose among models to plan in
TRIALS = 460_000  # the games that no stage plays by itself: for trials by people, and for the scores of benches
SMALL_OBJECTS = 470_000  # the games of bench/small_objects.py


def are_test(seeds: Iterable[int]) -> bool:
    """Whether all these seeds are of test games."""
    return all(TEST[0] <= seed <= TEST[1] or seed >= TEST_FROM for seed in seeds)


def check(seeds: Iterable[int], wanted: str, flag: str) -> None:
    """Checks that all these seeds are for one purpose.

    Args:
        seeds: such as a range.
        wanted: "training" or "validation".
        flag: the flag that the user can change, named in the error.

    Raises:
        UserError: one of them is not.
    """
    if isinstance(seeds, range):  # which may be of billions
        seeds = [seeds[0], seeds[-1]] if seeds else []
    array = np.asarray(seeds if isinstance(seeds, np.ndarray) else list(seeds))
    if not len(array):
        return
    first, last = {"training": TRAINING, "validation": VALIDATION}[wanted]
    if array.min() < first or array.max() > last:
        raise UserError(
            f"{flag}: the seeds {array.min()} to {array.max()} are not all for {wanted}, which has {first} to {last}; "
            "the others are kept apart so that a score means something"
        )
