"""A stage's folder in a run: its config, metrics, checkpoint and result; resumed by the same command.

<run>/<stage>/config.json      the resolved config, also what later stages read z_size from
<run>/<stage>/run.json         every start of the stage: when, the command, versions, the state of git
<run>/<stage>/metrics.jsonl    one line per report: {"step": ..., "vae/recon_loss": ..., ...}
<run>/<stage>/board/           the same for TensorBoard, and pictures: tensorboard --logdir <run>
<run>/<stage>/checkpoint.npz   variables, optimiser state and step; written whole, verified by checksum when read
"""

import contextlib
import dataclasses
import fcntl
import itertools
import json
import os
import resource
import sys
import time

import numpy as np

from common.runtime import files, provenance
from common.runtime.cli import UserError

LOCK_SECONDS = 5  # that a start waits for an earlier process to end


class Stage:
    """One stage of one run."""

    def __init__(self, arguments, name, result, cfg, prefix="", may_change=(), about=None):
        """Opens the stage's folder; sets an older result aside if asked to; refuses what would mix two runs.

        Args:
            arguments: what `cli.parse` returned: `run`, the run's folder, and `fresh`.
            name: the stage's folder, such as "tf_vae".
            result: the file in it whose presence means that the stage is done, such as "vae.json".
            cfg: the stage's config dataclass.
            prefix: what the stage's file names begin with, where several share a folder.
            may_change: names of config fields that a later start may change, besides `checkpoint_seconds`.
            about: dict of what else must be the same when the stage goes on, such as hashes of what it builds on.

        Raises:
            UserError: another process works in this folder, or it was started with another config.
        """
        if not os.path.isdir(arguments.run):
            raise UserError(f"--run {arguments.run}: no such folder")
        self.name, self.folder, self.prefix = name, os.path.join(arguments.run, name), prefix
        self.result = self.path(result)
        self.cfg, self._saved_at, self._board = cfg, time.monotonic(), None
        self._began, self._seconds_before = time.monotonic(), 0.0
        os.makedirs(self.folder, exist_ok=True)
        self._lock_file = lock(self.path("lock"))
        files.remove_temporary(self.folder, self.prefix)
        if arguments.fresh:
            self._set_aside()
        self._same_config(may_change, about or {})
        note_start(self.path("run.json"))

    def path(self, name):
        """A file of this stage."""
        return os.path.join(self.folder, self.prefix + name)

    def _set_aside(self):
        lock = os.path.basename(self.path("lock"))
        old = [name for name in os.listdir(self.folder) if name.startswith(self.prefix) and name != lock]
        if old:
            aside = _aside(self.folder)
            os.makedirs(aside)
            for name in old:
                os.rename(os.path.join(self.folder, name), os.path.join(aside, name))
            print(f"set the earlier {self.name} aside in {aside}")

    def _same_config(self, may_change, about):
        now = json.loads(json.dumps({"config": dataclasses.asdict(self.cfg), **about}))
        path = self.path("config.json")
        if os.path.exists(path):
            try:
                before = _flat(files.read_json(path))
            except (ValueError, AttributeError) as error:
                raise UserError(f"{path}: damaged ({error}); --fresh sets it aside and starts anew") from None
            # an option that is younger than the run had its default
            before = {field.name: field.default for field in dataclasses.fields(self.cfg)} | before
            free = {*may_change, "checkpoint_seconds"}
            keys = [key for key, value in _flat(now).items() if key not in free and value != before.get(key)]
            if keys:
                changed = ", ".join(f"{key} {before.get(key)} -> {_flat(now)[key]}" for key in keys)
                raise UserError(
                    f"{path}: this was started with other values ({changed}); use the same ones, another --run, or "
                    "--fresh to start anew"
                )
        files.write_json(path, now, indent=1)

    @property
    def finished(self):
        """Whether the result is there; says so."""
        if os.path.exists(self.result):
            print(f"{self.result}: already made; nothing to do (--fresh sets it aside and starts anew)")
            return True
        return False

    @property
    def seconds(self):
        """Time that the stage has taken, over all its starts."""
        return self._seconds_before + time.monotonic() - self._began

    def write_meta(self, game, kind, parents):
        """Writes the meta of the result, see common/runtime/provenance.py."""
        provenance.write(self.result, kind, game, self.cfg, parents, self.seconds)

    def save(self, step, variables, **state):
        """Writes a checkpoint whole.

        Args:
            step: int, steps done.
            variables: list of Keras variables: weights, optimiser state and the like.
            **state: arrays to hold beside them.
        """
        arrays = {f"variable{k}": variable.numpy() for k, variable in enumerate(variables)}
        arrays.update({f"state_{name}": np.asarray(value) for name, value in state.items()})
        for name, array in arrays.items():
            if array.dtype.kind == "f" and not np.isfinite(array).all():
                raise UserError(
                    f"step {step}: {name} is not finite; the last good checkpoint is kept, start again from it"
                )
        arrays["seconds"] = np.array(self.seconds)
        files.write_npz(self.path("checkpoint.npz"), compresslevel=0, step=step, **arrays)
        self._saved_at = time.monotonic()

    def save_if_due(self, step, variables, **state):
        """As `save`, when the last one is as old as the config's `checkpoint_seconds`."""
        if time.monotonic() - self._saved_at > self.cfg.checkpoint_seconds:
            self.save(step, variables, **state)

    def restore(self, variables):
        """Sets the variables from the checkpoint, if there is one, and forgets metrics reported after it.

        Returns:
            (step, state): steps done (0 without a checkpoint) and the dict of arrays saved beside the variables.
        """
        path = self.path("checkpoint.npz")
        if not os.path.exists(path):
            self.forget_metrics_after(0)
            return 0, {}
        try:
            arrays = files.read_npz(path)
            step, self._seconds_before = int(arrays.pop("step")), float(arrays.pop("seconds", 0.0))
            saved = [arrays.pop(f"variable{k}") for k in range(sum(name.startswith("variable") for name in arrays))]
            for variable, array in zip(variables, saved, strict=True):
                variable.assign(array)
        except (ValueError, KeyError) as error:
            raise UserError(f"{path}: not a checkpoint of this stage ({error}); --fresh sets it aside") from None
        self.forget_metrics_after(step)
        print(f"{self.name}: going on from step {step}")
        return step, {name.removeprefix("state_"): array for name, array in arrays.items()}

    def forget_metrics_after(self, step):
        """Drops the lines of metrics.jsonl that a start which was killed wrote after its last checkpoint."""
        self._keep_metrics(lambda line: _step_of(line) <= step)

    def forget_metric(self, step, name):
        """Drops the lines of metrics.jsonl that report this metric, such as "es/evaluation", at this step."""
        self._keep_metrics(lambda line: _step_of(line) != step or name not in json.loads(line))

    def _keep_metrics(self, wanted):
        with contextlib.suppress(FileNotFoundError):
            with open(self.path("metrics.jsonl")) as file:
                rows = [line for line in file if wanted(line)]
            with files.atomic(self.path("metrics.jsonl"), "w") as file:
                file.writelines(rows)

    def log(self, step, **metrics):
        """Appends a line to metrics.jsonl, and to TensorBoard's; keys like vae__recon_loss become vae/recon_loss."""
        row = {key.replace("__", "/"): round(float(value), 6) for key, value in metrics.items()}
        with open(self.path("metrics.jsonl"), "a") as file:
            file.write(json.dumps({"step": step} | row) + "\n")
        self._open_board(step).log(step, row)

    def show(self, step, name, picture):
        """Gives TensorBoard a picture, float [H, W, 3] in [0, 1]."""
        self._open_board(step).show(step, name, picture)

    def _open_board(self, step):
        if self._board is None:
            from common.runtime import tensorboard  # a second, which stages that report nothing are spared

            self._board = tensorboard.Board(self.path("board"), step)
        return self._board


def _step_of(line):
    """The step that a line of metrics.jsonl tells of, infinite if it is torn or damaged."""
    try:
        return json.loads(line)["step"] if line.endswith("\n") else np.inf
    except (ValueError, KeyError, TypeError):
        return np.inf


def note_start(path):
    """Adds to a run.json what this start of a stage is: a list of dicts, one per start."""
    try:
        starts = files.read_json(path)
    except FileNotFoundError:
        starts = []
    except ValueError as error:
        print(f"set aside: {error}")
        os.rename(path, _aside(path))
        starts = []
    files.write_json(path, [*starts, provenance.about_now()], indent=1)


def progress(total, done, what):
    """A bar with rate and time left; on a pipe or in a log, a line every half minute instead of a redrawn one."""
    from tqdm import tqdm

    live = sys.stderr.isatty()
    return tqdm(total=total, initial=done, desc=what, mininterval=0.5 if live else 30, maxinterval=1 if live else 60,
                dynamic_ncols=live, ascii=not live, smoothing=0.05)  # fmt: skip


def peak_memory():
    """The most memory that this process has held at once [GB]."""
    unit = 1 if sys.platform == "darwin" else 1024  # bytes of what the system counts in
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 1e9


def _flat(nested):
    """{"config": {"steps": 1}} -> {"steps": 1}."""
    return {key: value for part in nested.values() for key, value in part.items()}


def lock(path):
    """A file that is this process's alone until it ends, however it ends, or closes it.

    Raises:
        UserError: it is another's.
    """
    file = open(path, "w")  # noqa: SIM115
    for _ in range(max(1, int(10 * LOCK_SECONDS))):
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return file
        except BlockingIOError:
            time.sleep(0.1)  # ranks of a job that was killed take a moment to die
    file.close()
    folder = os.path.dirname(path)
    raise UserError(f"{folder}: another process is at work in it; wait for it, or give another --run")


def _aside(path):
    """A name for an earlier version of a file or folder that no other has, whatever the clock says."""
    name = f"{path}.{time.strftime('%Y%m%d-%H%M%S')}"
    names = itertools.chain([name], (f"{name}.{k}" for k in itertools.count(2)))
    return next(name for name in names if not os.path.exists(name))


@contextlib.contextmanager
def recording_folder(arguments):
    """<run>/record, made if need be, locked, and cleared of what killed players were writing, before and after.

    --fresh sets an earlier one aside.
    """
    if not os.path.isdir(arguments.run):
        raise UserError(f"--run {arguments.run}: no such folder")
    folder = os.path.join(arguments.run, "record")
    os.makedirs(folder, exist_ok=True)
    held = lock(os.path.join(folder, "lock"))
    if arguments.fresh and len(os.listdir(folder)) > 1:
        aside = _aside(folder)
        os.rename(folder, aside)
        print(f"set the earlier recordings aside as {aside}")
        os.makedirs(folder)
        held = lock(os.path.join(folder, "lock"))
    files.remove_temporary(folder)
    try:
        yield folder
    finally:
        files.remove_temporary(folder)
        held.close()
