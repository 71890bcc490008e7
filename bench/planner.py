"""How fast the planner of PlaNet plans: steps of the model per second, and what a decision costs.

A decision of one game takes horizon x iterations x candidates steps of the model; all of them, and all games, are rows
of one batch. Weights do not matter to speed: they are random. Each figure is the median of several repetitions.

    python bench/planner.py [--preset laptop] [--out FILE]
"""

import os
import time

import numpy as np

from common.agent import planet, rssm
from common.agent.planner import Planner
from common.runtime import cli, devices, files, parallel, provenance
from common.training import planet as training

from carracing.game import GAME

GAMES = (1, 4, 16)
REPETITIONS = 5


def main() -> None:
    """Measures, prints, writes."""
    parser = cli.OneLineParser(description=__doc__)
    parser.add_argument("--preset", choices=sorted(GAME.config.PLANET), default="laptop", help="sizes and budget")
    parser.add_argument("--out", type=cli.new_file, metavar="FILE", help="write the figures here, as JSON")
    arguments = parser.parse_args()
    devices.for_blocks()  # as planet.py norender does
    cfg = GAME.config.PLANET[arguments.preset]
    search = training.search_of(cfg)
    model = rssm.RSSM(training.shape_of(GAME, cfg))
    planner = Planner(model, search, *planet.range_of(GAME))
    states, times = {games: model.initial_state(games) for games in GAMES}, {games: [] for games in GAMES}
    for repetition in range(1 + REPETITIONS):  # the first compiles
        for games in GAMES:
            start = time.perf_counter()
            planner.plan(states[games], repetition).numpy()
            if repetition:
                times[games].append(time.perf_counter() - start)
    seconds = {games: float(np.median(values)) for games, values in times.items()}
    print(f"{search.horizon} actions x {search.iterations} iterations x {search.candidates} candidates: "
          f"{search.rows:,} steps of the model per decision")  # fmt: skip
    for games in GAMES:
        rate = games * search.rows / seconds[games]
        print(f"{games:3d} games at once {1000 * seconds[games] / games:10.1f} ms per decision {rate:12,.0f} steps/s")
    figures = {
        "preset": arguments.preset,
        "rows_per_decision": search.rows,
        "ms_per_decision": {games: 1000 * seconds[games] / games for games in GAMES},
        "steps_per_s": {games: games * search.rows / seconds[games] for games in GAMES},
        "cores": parallel.cores(),
        "product_dtype": model.product_dtype.name,
        "load": os.getloadavg()[0],
    }
    if arguments.out:
        files.write_json(arguments.out, figures | provenance.about_now(), indent=1)
        print(f"{arguments.out}: written")


if __name__ == "__main__":
    cli.run_main(main)
