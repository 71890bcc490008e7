"""How fast the policy gradient learns in the Doom dream, beside the dream alone in the same process, on all cores.

    python bench/ppo.py [--rows 512] [--steps 64] [--repetitions 7] [--out FILE]

dream_steps_per_s   steps of the dream alone, with actions at random
ppo_steps_per_s     steps of the dream that an update collects and learns from, divided by the time of the update
ppo_fraction        ppo_steps_per_s / dream_steps_per_s

The repetitions of the two take turns, and the figures are their medians, because machines are noisy. The MDN-RNN is the
one that ships. The settings are those of the laptop preset, except that dreams end by the threshold: this MDN-RNN does
not tell the weight of restarts that drawn ends need. A dream that ends is followed by another in its row.
"""

import dataclasses
import os
import time

from common.runtime import devices  # isort: skip  (loads TensorFlow without its banner)
import numpy as np
import tensorflow as tf

from common.agent import controller, network, weights
from common.runtime import cli, files, parallel
from common.training import ppo
from common.worlds import tensor_dreams

from doomrnn import config

MODELS = os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(__file__))), "doomrnn", "tf_models")


def dream_alone(world: tensor_dreams.Dreams, steps: int) -> tf.types.experimental.PolymorphicFunction:
    """(seed) -> the state after that many steps of all rows with actions at random."""
    actions = tf.constant(config.CHOICES, tf.float32)

    @tf.function
    def dream(seed: tf.Tensor) -> tuple[tf.Tensor, ...]:
        def step(t: tf.Tensor, state: tuple[tf.Tensor, ...]) -> tuple[tf.Tensor, tuple[tf.Tensor, ...]]:
            seeds = tf.random.split(tf.random.fold_in(seed, t), 2)
            which = tf.random.stateless_uniform([world.rows], seeds[0], maxval=len(actions), dtype=tf.int32)
            state, *_ = world.step(state, tf.gather(actions, which), seeds[1])
            return t + 1, state

        return tf.while_loop(lambda t, _: t < steps, step, (0, world.start(seed)))[1]

    return dream


def main() -> None:
    """Measures, and prints or writes the figures."""
    parser = cli.OneLineParser(description=__doc__)
    laptop = config.PPO["laptop"]
    parser.add_argument("--rows", type=cli.number(int, 1), default=laptop.rows, help="dreams in lockstep")
    parser.add_argument("--steps", type=cli.number(int, 1), default=laptop.steps, help="of every dream in an update")
    parser.add_argument("--repetitions", type=cli.number(int, 1), default=7, help="of which the median is taken")
    parser.add_argument("--out", type=cli.new_file, metavar="FILE", help="write the figures here, as JSON")
    arguments = parser.parse_args()
    cfg = dataclasses.replace(laptop, rows=arguments.rows, steps=arguments.steps, value_updates=0)
    cfg = dataclasses.replace(cfg, minibatch=min(cfg.minibatch, cfg.rows * cfg.steps))
    devices.for_blocks(gpus=True)

    rnn = weights.read_rnn(os.path.join(MODELS, "rnn.json"), config.RNN_FILE_ORDER, 64, 1, restart=True)
    initial_z = weights.read_initial_z(os.path.join(MODELS, "initial_z.json"), 64)
    starts = tensor_dreams.first_frames(initial_z, rnn.shape.hidden_size)
    world = tensor_dreams.Dreams(
        [rnn] * cfg.blocks, [starts] * cfg.blocks, cfg.temperature, config.MAX_STEPS, cfg.rows, cfg.dropout
    )
    features = controller.features_read(cfg.controller_mode, rnn.shape.z_size, rnn.shape.hidden_size)
    learner = ppo.PPO(world, network.policy_for(config, features, cfg.hidden), cfg)
    dream = dream_alone(world, cfg.steps)

    seconds: dict[str, list[float]] = {"dream": [], "ppo": []}
    for repetition in range(1 + arguments.repetitions):  # the first compiles
        for name, run in (("dream", lambda k: dream(tf.stack([0, k]))), ("ppo", lambda _: learner.update())):
            start = time.perf_counter()
            run(repetition)
            if repetition:
                seconds[name].append(time.perf_counter() - start)
    rates = {name: cfg.rows * cfg.steps / float(np.median(times)) for name, times in seconds.items()}
    figures: dict[str, object] = {f"{name}_steps_per_s": rate for name, rate in rates.items()}
    figures |= {"ppo_fraction": rates["ppo"] / rates["dream"], "rows": cfg.rows, "steps": cfg.steps}
    figures |= {"cores": parallel.cores(), "product_dtype": rnn.product_dtype.name}

    print(f"{'the dream alone':44}{rates['dream']:12,.0f} steps/s")
    print(f"{'collect, advantages, update':44}{rates['ppo']:12,.0f} steps/s")
    print(f"{'ratio (ppo_fraction)':44}{rates['ppo'] / rates['dream']:12.2f}")
    if arguments.out:
        files.write_json(arguments.out, figures, indent=1)
        print(f"{arguments.out}: written")


if __name__ == "__main__":
    cli.run_main(main)
