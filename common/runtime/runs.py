"""A stage's folder in a run: its config, metrics, checkpoint and result; resumed by the same command.

<run>/<stage>/config.json      the resolved config, later stages read z_size from it
<run>/<stage>/run.json         every start of the stage: when, the command, versions, the state of git
<run>/<stage>/metrics.jsonl    one line per report: {"step": ..., "vae/recon_loss": ..., ...}
<run>/<stage>/board/           the same for TensorBoard, and pictures: tensorboard --logdir <run>
<run>/<stage>/checkpoint.npz   variables, optimizer state and step; written whole, verified by checksum when read
"""

import argparse
import contextlib
import dataclasses
import fcntl
import itertools
import json
import os
import resource
import sys
import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from typing import IO, Any

import numpy as np

from common.runtime import files, provenance
from common.runtime.cli import UserError

LOCK_SECONDS = 5  # that a start waits for an earlier process to end


def check_run(arguments: argparse.Namespace) -> None:
    """UserError if there is no folder --run."""
    if not os.path.isdir(arguments.run):
        raise UserError(f"--run {arguments.run}: no such folder")


@contextlib.contextmanager
def new_run(path: str) -> Iterator[None]:
    """Makes the folder --run, unless it is there; what it made is removed when what is done within fails.

    Raises:
        UserError: it cannot be made.
    """
    if os.path.exists(path) and not os.path.isdir(path):
        raise UserError(f"--run {path}: is not a folder")
    missing = []
    folder = os.path.abspath(path)
    while not os.path.lexists(folder):
        missing.append(folder)
        folder = os.path.dirname(folder)
    try:
        try:
            os.makedirs(path, exist_ok=True)
        except OSError as error:
            raise UserError(f"--run {path}: cannot be made ({error.strerror}); give another folder") from None
        yield
    except BaseException:
        for folder in missing:
            with contextlib.suppress(OSError):  # it is in use by now
                os.rmdir(folder)
        raise


def is_made(arguments: argparse.Namespace, name: str, result: str) -> bool:
    """Whether the result of a stage is there and is to stay: then what it was made from may be gone."""
    path = os.path.join(arguments.run, name, result)
    # killed between the two, the end of the stage is to come again
    return not arguments.fresh and os.path.exists(path) and os.path.exists(path + provenance.ENDING)


class Stage:
    """One stage of one run."""

    def __init__(
        self,
        arguments: argparse.Namespace,
        name: str,
        result: str,
        cfg: Any,
        prefix: str = "",
        may_change: Collection[str] = (),
        about: Mapping[str, Any] | None = None,
    ) -> None:
        """Opens the folder of the stage, sets an older result aside if asked to, and refuses to mix two runs.

        Args:
            arguments: as `cli.parse` returns them: `run`, the folder of the run, and `fresh`.
            name: the folder of the stage, such as "tf_vae".
            result: the file in it that is written when the stage is done, such as "vae.json".
            cfg: the config of the stage, a dataclass.
            prefix: of the names of its files, where several stages share a folder.
            may_change: names of config fields that a later start may change, besides `checkpoint_seconds`.
            about: what else must be the same when the stage continues, such as the hashes of the files it builds on.

        Raises:
            UserError: there is no such run, another process works in it, or the stage was started with another config.
        """
        check_run(arguments)
        self.name, self.folder, self.prefix = name, os.path.join(arguments.run, name), prefix
        self.result = self.path(result)
        self.cfg, self._saved_at = cfg, time.monotonic()
        self._board: Any = None
        self.before: dict[str, Any] = {}
        """the config of the earlier start, if there is one"""
        self._began, self._seconds_before = time.monotonic(), 0.0
        os.makedirs(self.folder, exist_ok=True)
        self._lock_file = lock(self.path("lock"))
        files.remove_temporary(self.folder, self.prefix)
        if arguments.fresh:
            self._set_aside()
        self._check_made_here()
        self._same_config(may_change, about or {})
        note_start(self.path("run.json"))

    def path(self, name: str) -> str:
        """The path of a file of this stage."""
        return os.path.join(self.folder, self.prefix + name)

    def _set_aside(self) -> None:
        lock = os.path.basename(self.path("lock"))
        old = [name for name in os.listdir(self.folder) if name.startswith(self.prefix) and name != lock]
        if old:
            aside = _aside(self.folder)
            os.makedirs(aside)
            for name in old:
                os.rename(os.path.join(self.folder, name), os.path.join(aside, name))
            print(f"set the earlier {self.name} aside in {aside}")

    def _check_made_here(self) -> None:
        """UserError if there is a result that neither has a meta nor can have been made by an earlier start."""
        made_here, meta = self.path("config.json"), self.result + provenance.ENDING
        if os.path.exists(self.result) and not os.path.exists(made_here) and not os.path.exists(meta):
            raise UserError(
                f"{self.result}: was not made in this folder and has no {provenance.ENDING} beside it; copy that too, "
                "or set it aside with --fresh"
            )

    def _same_config(self, may_change: Collection[str], about: Mapping[str, Any]) -> None:
        now = json.loads(json.dumps({"config": dataclasses.asdict(self.cfg), **about}))
        path = self.path("config.json")
        if os.path.exists(path):
            try:
                before = _flat(files.read_json(path))
            except (ValueError, AttributeError) as error:
                raise UserError(f"{path}: damaged ({error}); --fresh sets it aside and starts anew") from None
            # an option that is newer than the run had its default value
            before = {field.name: field.default for field in dataclasses.fields(self.cfg)} | before
            self.before = before
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
    def finished(self) -> bool:
        """Whether the result and its meta are there; if they are, prints so."""
        # killed between the two, the end of the stage is to come again
        if os.path.exists(self.result) and os.path.exists(self.result + provenance.ENDING):
            print(f"{self.result}: already made; nothing to do (--fresh sets it aside and starts anew)")
            return True
        return False

    @property
    def seconds(self) -> float:
        """Time that the stage has taken, over all its starts [s]."""
        return self._seconds_before + time.monotonic() - self._began

    def write_meta(self, game: str, kind: str, parents: dict[str, Any], unverified: bool, **more: Any) -> None:
        """Writes the meta of the result, see common/runtime/provenance.py."""
        provenance.write(self.result, kind, game, self.cfg, parents, self.seconds, unverified=unverified, **more)

    def save(self, step: int, variables: Sequence[Any], **state: Any) -> None:
        """Writes a checkpoint atomically.

        Args:
            step: steps done.
            variables: Keras variables: weights, optimizer state and the like.
            **state: arrays to hold beside them.

        Raises:
            UserError: a value is not finite; the last checkpoint is kept.
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

    def save_if_due(self, step: int, variables: Sequence[Any], **state: Any) -> None:
        """As `save`, when the last checkpoint is older than `checkpoint_seconds` of the config."""
        if time.monotonic() - self._saved_at > self.cfg.checkpoint_seconds:
            self.save(step, variables, **state)

    def restore(self, variables: Sequence[Any]) -> tuple[int, dict[str, np.ndarray]]:
        """Sets the variables from the checkpoint, if there is one, and removes the metrics reported after it.

        Returns:
            (step, state): steps done (0 without a checkpoint) and the arrays saved beside the variables.

        Raises:
            UserError: it is damaged, or a checkpoint of another stage.
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
        print(f"{self.name}: continuing from step {step}")
        return step, {name.removeprefix("state_"): array for name, array in arrays.items()}

    def forget_metrics_after(self, step: int) -> None:
        """Removes the lines of metrics.jsonl that a killed start wrote after its last checkpoint."""
        self.keep_metrics(lambda line: _step_of(line) <= step)

    def forget_metric(self, step: int, name: str) -> None:
        """Removes the lines of metrics.jsonl that report this metric, such as "es/evaluation", at this step."""
        self.keep_metrics(lambda line: _step_of(line) != step or name not in json.loads(line))

    def keep_metrics(self, wanted: Callable[[str], bool]) -> None:
        """Removes the lines of metrics.jsonl that are not wanted."""
        with contextlib.suppress(FileNotFoundError):
            with open(self.path("metrics.jsonl")) as file:
                rows = [line for line in file if wanted(line)]
            with files.atomic(self.path("metrics.jsonl"), "w") as file:
                file.writelines(rows)

    def log(self, step: int, **metrics: Any) -> None:
        """Adds a line to metrics.jsonl and for TensorBoard; keys like vae__recon_loss become vae/recon_loss."""
        row = {key.replace("__", "/"): round(float(value), 6) for key, value in metrics.items()}
        with open(self.path("metrics.jsonl"), "a") as file:
            file.write(json.dumps({"step": step} | row) + "\n")
        self._open_board(step).log(step, row)

    def show(self, step: int, name: str, picture: np.ndarray) -> None:
        """Adds a picture for TensorBoard, float [H, W, 3] in [0, 1]."""
        self._open_board(step).show(step, name, picture)

    def _open_board(self, step: int) -> Any:
        if self._board is None:
            from common.runtime import tensorboard  # takes a second, which a stage that reports nothing saves

            self._board = tensorboard.Board(self.path("board"), step)
        return self._board


def _step_of(line: str) -> float:
    """The step of a line of metrics.jsonl, infinite if the line is incomplete or damaged."""
    try:
        return json.loads(line)["step"] if line.endswith("\n") else np.inf
    except (ValueError, KeyError, TypeError):
        return np.inf


def note_start(path: str) -> None:
    """Adds this start of a stage to run.json, a list of dicts, one per start."""
    try:
        starts = files.read_json(path)
    except FileNotFoundError:
        starts = []
    except ValueError as error:
        print(f"set aside: {error}")
        os.rename(path, _aside(path))
        starts = []
    files.write_json(path, [*starts, provenance.about_now()], indent=1)


def progress(total: int, done: int, what: str) -> Any:
    """A progress bar (tqdm) with rate and time left; in a pipe or a log file, a new line every half minute."""
    from tqdm import tqdm

    live = sys.stderr.isatty()
    often = {"mininterval": 0.5, "maxinterval": 1} if live else {"mininterval": 30, "maxinterval": 60}
    return tqdm(total=total, initial=done, desc=what, dynamic_ncols=live, ascii=not live, smoothing=0.05, **often)


def peak_memory() -> float:
    """The peak memory of this process [GB]."""
    unit = 1 if sys.platform == "darwin" else 1024  # bytes in the unit that the system reports
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 1e9


def peak_memory_of(pid: int) -> float:
    """The peak memory of another process so far [GB]; 0 where the system does not tell, or it has ended."""
    with contextlib.suppress(OSError), open(f"/proc/{pid}/status") as file:
        for line in file:
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024 / 1e9
    return 0.0


def _flat(nested: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """{"config": {"steps": 1}} -> {"steps": 1}."""
    return {key: value for part in nested.values() for key, value in part.items()}


def lock(path: str) -> IO[str]:
    """Locks a file for this process, until the process ends or closes the file.

    Raises:
        UserError: another process holds the lock.
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


def _aside(path: str) -> str:
    """A new name for an earlier version of a file or folder, unique even if the clock is wrong."""
    name = f"{path}.{time.strftime('%Y%m%d-%H%M%S')}"
    names = itertools.chain([name], (f"{name}.{k}" for k in itertools.count(2)))
    return next(name for name in names if not os.path.exists(name))


def set_aside(folder: str) -> None:
    """Renames a folder, if it is there, and prints so."""
    if os.path.exists(folder):
        aside = _aside(folder)
        os.rename(folder, aside)
        print(f"set the earlier {os.path.basename(folder)} aside as {aside}")


@contextlib.contextmanager
def recording_folder(arguments: argparse.Namespace) -> Iterator[str]:
    """The folder <run>/record, locked, and cleared of incomplete files before and after.

    It is made if it is missing; --fresh sets an earlier one aside.

    Raises:
        UserError: there is no such run, or another process works in it.
    """
    check_run(arguments)
    folder = os.path.join(arguments.run, "record")
    os.makedirs(folder, exist_ok=True)
    held = lock(os.path.join(folder, "lock"))
    if arguments.fresh and len(os.listdir(folder)) > 1:
        set_aside(folder)
        os.makedirs(folder)
        held = lock(os.path.join(folder, "lock"))
    files.remove_temporary(folder)
    try:
        yield folder
    finally:
        files.remove_temporary(folder)
        held.close()
