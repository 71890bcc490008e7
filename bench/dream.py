"""How fast the Doom dream runs: in batch on all cores, one dream at a time, and against this machine's own matmul.

All figures come from one run, each the median of several interleaved repetitions, because machines are noisy. The
MDN-RNN has the paper's sizes and the weights that ship; no dream ends early, so that every batch stays full.

    python bench/dream.py [--out FILE]
"""

import os
import time

from common.runtime import devices  # isort: skip  (loads TensorFlow without its banner)
import numpy as np
import tensorflow as tf

from common.agent import controller, weights
from common.runtime import cli, files, parallel
from common.worlds import candidates, dream

MODELS = os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(__file__))), "doomrnn", "tf_models")
RNN_FILE_ORDER = ("kernel", "bias", "output_w", "output_b")
CANDIDATES, EPISODES, CANDIDATES_PER_BLOCK, STEPS, REPETITIONS = 64, 16, 32, 64, 7
MFLOP_PER_STEP = 3.36  # two products of the MDN-RNN: 578 x 2048 and 512 x 961, two operations each
AUTHORS_PER_CORE = 150  # steps/s per core, from the published training log (64 cores)


def rate(units, work):
    """Units per second of one call."""
    start = time.perf_counter()
    work()
    return units / (time.perf_counter() - start)


def main() -> None:
    """Measures, and prints or writes the figures."""
    parser = cli.OneLineParser(description=__doc__)
    parser.add_argument("--out", type=cli.new_file, metavar="FILE", help="write the figures here, as JSON")
    arguments = parser.parse_args()
    devices.for_blocks()
    cores = parallel.cores()

    rnn = weights.read_rnn(os.path.join(MODELS, "rnn.json"), RNN_FILE_ORDER, 64, 1, restart=True)
    initial_z = weights.read_initial_z(os.path.join(MODELS, "initial_z.json"), 64)
    rnn.output_b.assign(tf.tensor_scatter_nd_update(rnn.output_b, [[0]], [-1e9]))  # so that no dream ends early
    c = controller.Controller("zch", 64, 512, 1, bias=False)
    population = np.random.default_rng(0).normal(0, 0.1, (CANDIDATES, c.parameters)).astype(np.float32)

    def make_worker():
        world = dream.DreamWorld(rnn, initial_z, 1.25, STEPS)
        return lambda task: candidates.evaluate(world, c, *task)

    workers = parallel.Threads(make_worker, cores)
    alone = make_worker()
    a = tf.random.normal([1024, 578])
    b = tf.random.normal([578, 2048])
    product = tf.function(lambda part: tf.matmul(part, b))
    multipliers = parallel.Threads(lambda: lambda part: [product(part) for _ in range(50)], cores)

    work = {
        "matmul_mflop_per_s": (
            50 * 2e-6 * 1024 * 578 * 2048,
            lambda: multipliers.map(tf.split(a, [1024 // cores] * (cores - 1) + [1024 - 1024 // cores * (cores - 1)])),
        ),
        "steps_per_s": (
            CANDIDATES * EPISODES * STEPS,
            lambda: candidates.evaluate_in_blocks(
                workers, population, np.arange(EPISODES), CANDIDATES_PER_BLOCK * EPISODES
            ),
        ),
        "one_at_a_time_steps_per_s": (STEPS, lambda: alone((population[:1], np.arange(1)))),
    }
    rates = {name: [] for name in work}
    for repetition in range(1 + REPETITIONS):  # the first compiles
        for name, (units, run) in work.items():
            if repetition:
                rates[name].append(rate(units, run))
            else:
                run()
    figures = {name: float(np.median(values)) for name, values in rates.items()}
    figures["ratio_per_core"] = figures["steps_per_s"] / cores / figures["one_at_a_time_steps_per_s"]
    figures["matmul_fraction"] = figures["steps_per_s"] * MFLOP_PER_STEP / figures["matmul_mflop_per_s"]
    figures["ratio_to_authors_per_core"] = figures["steps_per_s"] / cores / AUTHORS_PER_CORE
    figures |= {"cores": cores, "product_dtype": rnn.product_dtype.name}

    print(f"{'dreams in lockstep, all ' + str(cores) + ' cores':44}{figures['steps_per_s']:12,.0f} steps/s")
    print(f"{'one dream at a time, one thread':44}{figures['one_at_a_time_steps_per_s']:12,.0f} steps/s")
    print(f"{'ratio per core':44}{figures['ratio_per_core']:12.1f}")
    print(f"{'float32 matmul of this machine':44}{figures['matmul_mflop_per_s'] / 1000:12.1f} GFLOP/s")
    print(f"{'dream / float32 matmul (matmul_fraction)':44}{figures['matmul_fraction']:12.2f}")
    print(f"{'ratio per core to the authors (150 steps/s)':44}{figures['ratio_to_authors_per_core']:12.0f}")
    if arguments.out:
        files.write_json(arguments.out, figures, indent=1)
        print(f"{arguments.out}: written")


if __name__ == "__main__":
    cli.run_main(main)
