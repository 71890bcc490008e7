"""Trains M, the MDN-RNN, on the encoded episodes.

Reads series/series.npz; writes tf_initial_z/initial_z.json (first frames, where dreams start), tf_rnn/rnn.json (the
paper's format), tf_rnn/metrics.jsonl and checkpoints. Killed, it goes on from the last checkpoint by the same command.

    python rnn_train.py            # laptop preset
    python rnn_train.py --help
"""

import os

import numpy as np

from common import cli, devices, episodes, mdnrnn, runs, training, weights

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
    shape = mdnrnn.Shape(series.z_size, config.ACTION_SIZE, cfg.hidden_size, restart=False, mixtures=cfg.mixtures)
    with strategy.scope():
        model = mdnrnn.MDNRNN(shape)
        optimizer = training.adam(cfg, model.trainable_variables, clipvalue=cfg.clip)
    train_step, evaluate = mdnrnn.train_step_of(
        model, optimizer, strategy, restart_weight=0.0
    )  # it has no restart head
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
                z_loss = float(losses[0])
                bar.set_postfix(z=f"{z_loss:.4f}", refresh=False)
                stage.log(step, rnn__z_loss=z_loss)
            if step % cfg.validate_every == 0 or step == cfg.steps:
                stage.log(step, rnn__validation_z_loss=validation_loss(evaluate, unseen, cfg, strategy))
            stage.save_if_due(step, variables, state=training.from_replicas(strategy, state))
    stage.save(cfg.steps, variables, state=training.from_replicas(strategy, state))
    weights.write_rnn(stage.result, model, config.RNN_FILE_ORDER)
    print(f"{stage.result}: written")


def validation_loss(evaluate, unseen, cfg, strategy):
    """M's mean loss over one pass through episodes it was not trained on, and noise that is always the same."""
    batches = episodes.StreamBatches(unseen, strategy.num_replicas_in_sync, cfg.sequence_length, cfg.seed)
    state = training.to_replicas(strategy, np.zeros((2, batches.streams, cfg.hidden_size), np.float32))
    chunks = iter(strategy.experimental_distribute_dataset(batches.dataset()))
    total = 0.0
    for k in range(batches.per_epoch):
        losses, state = evaluate(next(chunks), state, np.array([cfg.seed, -k], np.int32))
        total += float(losses[0])
    return total / batches.per_epoch


if __name__ == "__main__":
    cli.run_main(main)
