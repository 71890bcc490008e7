"""common/runtime/tensorboard.py: what the own reader of TensorBoard makes of the event files of a stage."""

import argparse
import dataclasses
import io
import json

import numpy as np
import pytest
from PIL import Image
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from common.runtime import runs, tensorboard


@dataclasses.dataclass(frozen=True)
class Config:
    """A stage's config."""

    checkpoint_seconds: float = 0.0


class Variable:
    """What a checkpoint holds of a Keras variable."""

    def numpy(self):
        return np.zeros(2)

    def assign(self, array):
        pass


@pytest.fixture
def start(tmp_path):
    """Opens the stage as another start of the same command would, the process before having been killed."""
    stages = []

    def open_stage():
        for stage in stages:
            stage._lock_file.close()
        stages.append(runs.Stage(argparse.Namespace(run=str(tmp_path), fresh=False), "tf_x", "x.json", Config()))
        return stages[-1]

    yield open_stage
    for stage in stages:
        stage._lock_file.close()


def read(stage):
    return EventAccumulator(stage.path("board"), {"images": 0, "scalars": 0}).Reload()


def test_tensorboard_shows_the_metrics_of_metrics_jsonl(start):
    """Catches names, steps or values that differ, and reports that a killed start made beyond its last checkpoint."""
    stage = start()
    for step in range(1, 7):
        stage.log(step, x__loss=step + 0.5)
        if step == 3:
            stage.save(step, [Variable()])
    stage = start()
    first, _ = stage.restore([Variable()])
    for step in range(first + 1, 6):
        stage.log(step, x__loss=-step)
    rows = [json.loads(line) for line in open(stage.path("metrics.jsonl"))]  # noqa: SIM115
    assert [row["x/loss"] for row in rows] == [1.5, 2.5, 3.5, -4, -5]
    shown = read(stage).Scalars("x/loss")
    assert [event.step for event in shown] == [row["step"] for row in rows]
    assert [event.value for event in shown] == [row["x/loss"] for row in rows]


def test_tensorboard_shows_pictures(start, rng):
    """Catches colors or axes swapped, and values that are not cut to [0, 1]."""
    stage, picture = start(), rng.uniform(-0.1, 1.1, (4, 6, 3))
    stage.show(7, "x/picture", picture)
    (event,) = read(stage).Images("x/picture")
    assert (event.step, event.width, event.height) == (7, 6, 4)
    shown = np.asarray(Image.open(io.BytesIO(event.encoded_image_string))) / 255
    np.testing.assert_allclose(shown, np.clip(picture, 0, 1), atol=0.51 / 255)


def test_a_full_disk_ends_the_stage_as_any_other_file_does(start, monkeypatch):
    """Catches an error in a thread of its own, which is a traceback, and a stage that says "out of memory"."""
    with open("/dev/full", "wb", buffering=0) as full:
        monkeypatch.setattr(tensorboard, "open", lambda *_, **__: full, raising=False)
        with pytest.raises(OSError, match="No space left"):
            start().log(1, x__loss=1.5)
