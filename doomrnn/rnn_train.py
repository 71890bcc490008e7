"""Trains M, the MDN-RNN with a restart head, on the encoded episodes.

Reads series/series.npz; writes tf_initial_z/initial_z.json (first frames, where dreams start), tf_rnn/rnn.json (the
paper's format), tf_rnn/metrics.jsonl and checkpoints. Killed, it goes on from the last checkpoint by the same command.

    python rnn_train.py            # laptop preset
    python rnn_train.py --help
"""

import os

import numpy as np

from common import cli, devices, episodes, mdnrnn, play, runs, training, weights

import config


def main():
    cfg, arguments = cli.parse(config.RNN, __doc__)
    stage = runs.Stage(arguments, "tf_rnn", "rnn.json", cfg)
    if stage.finished:
        return
    series = episodes.Series(os.path.join(arguments.run, "series", "series.npz"))
    weights.write_initial_z(os.path.join(arguments.run, config.TRAINED["initial_z"]), *series.initial_z())
    known, unseen = series.split(cfg.validation_episodes)
    batches = episodes.StreamBatches(known, cfg.streams, cfg.sequence_length, cfg.seed)

    strategy = devices.for_training(cfg.seed)
    shape = mdnrnn.Shape(series.z_size, config.ACTION_SIZE, cfg.hidden_size, restart=True, mixtures=cfg.mixtures)
    with strategy.scope():
        model = mdnrnn.MDNRNN(shape)
        if cfg.start_from:
            start_from(model, play.find(cfg.start_from, arguments.run))
        optimizer = training.adam(cfg, model.trainable_variables, clipvalue=cfg.clip)
    train_step, evaluate = mdnrnn.train_step_of(model, optimizer, strategy, cfg.restart_weight)
    variables = model.trainable_variables + optimizer.variables
    start, saved = stage.restore(variables)
    state = training.to_replicas(strategy, saved.get("state", np.zeros((2, cfg.streams, cfg.hidden_size), np.float32)))

    chunks = iter(strategy.experimental_distribute_dataset(batches.dataset(start)))
    with runs.progress(cfg.steps, start, "train M") as bar:
        for step in range(start + 1, cfg.steps + 1):
            losses, state = train_step(next(chunks), state, np.array([cfg.seed, step], np.int32))
            stage.check(step, losses)
            bar.update()
            if step % cfg.report_every == 0 or step == cfg.steps:
                z_loss, restart_loss = map(float, losses)
                bar.set_postfix(z=f"{z_loss:.4f}", restart=f"{restart_loss:.4f}", refresh=False)
                stage.log(step, rnn__z_loss=z_loss, rnn__restart_loss=restart_loss)
            if step % cfg.validate_every == 0 or step == cfg.steps:
                z_loss, restart_loss = validation_loss(evaluate, unseen, cfg, strategy)
                stage.log(step, rnn__validation_z_loss=z_loss, rnn__validation_restart_loss=restart_loss)
            stage.save_if_due(step, variables, state=training.from_replicas(strategy, state))
    stage.save(cfg.steps, variables, state=training.from_replicas(strategy, state))
    weights.write_rnn(stage.result, model, config.RNN_FILE_ORDER)
    print(f"{stage.result}: written")


def start_from(model, path):
    """Gives M the weights of an earlier M of the same shape."""
    shape = model.shape
    earlier = weights.read_rnn(path, config.RNN_FILE_ORDER, shape.z_size, shape.action_size, shape.restart)
    if earlier.shape != shape:
        raise cli.UserError(f"{path}: has {earlier.shape.hidden_size} cells and {earlier.shape.mixtures} mixtures, "
                            f"not {shape.hidden_size} and {shape.mixtures}")  # fmt: skip
    model.set_weights(earlier.get_weights())


def validation_loss(evaluate, unseen, cfg, strategy):
    """M's mean losses over one pass through episodes it was not trained on, and noise that is always the same."""
    batches = episodes.StreamBatches(unseen, strategy.num_replicas_in_sync, cfg.sequence_length, cfg.seed)
    state = training.to_replicas(strategy, np.zeros((2, batches.streams, cfg.hidden_size), np.float32))
    chunks = iter(strategy.experimental_distribute_dataset(batches.dataset()))
    total = np.zeros(2)
    for k in range(batches.per_epoch):
        losses, state = evaluate(next(chunks), state, np.array([cfg.seed, -k], np.int32))
        total += np.array(losses)
    return total / batches.per_epoch


if __name__ == "__main__":
    cli.run_main(main)
