"""What TensorBoard reads: the metrics of metrics.jsonl, and pictures. It is written without TensorFlow."""

import io
import os
import time
from collections.abc import Mapping
from typing import Any

import numpy as np
from PIL import Image
from tensorboard.compat.proto.event_pb2 import Event, SessionLog
from tensorboard.compat.proto.summary_pb2 import Summary
from tensorboard.summary.writer.record_writer import RecordWriter


class Board:
    """One event file of one start of a stage; TensorBoard joins the files of all its starts.

    It is written without a thread of its own, so that a full disk ends the stage as that of any other file does.

    Args:
        folder: where the event file goes.
        step: the first step that this start reports; what an earlier start reported from there on is forgotten.
    """

    def __init__(self, folder: str, step: int) -> None:
        os.makedirs(folder, exist_ok=True)
        name = f"events.out.tfevents.{time.time():017.6f}.{os.getpid()}"  # TensorBoard reads them in this order
        # without a buffer, so that what is logged can be seen at once; open as long as the stage runs
        self._records = RecordWriter(open(os.path.join(folder, name), "xb", buffering=0))  # noqa: SIM115
        self._add(step, file_version="brain.Event:2")
        self._add(step, session_log=SessionLog(status=SessionLog.START))

    def log(self, step: int, metrics: Mapping[str, float]) -> None:
        """Adds {name: value} at a step."""
        values = [Summary.Value(tag=name, simple_value=value) for name, value in metrics.items()]
        self._add(step, summary=Summary(value=values))

    def show(self, step: int, name: str, picture: np.ndarray) -> None:
        """Adds a picture, float [H, W, 3] in [0, 1]."""
        pixels = np.rint(np.clip(picture, 0, 1) * 255).astype(np.uint8)
        encoded = io.BytesIO()
        Image.fromarray(pixels).save(encoded, "png")
        height, width, depth = pixels.shape
        image = Summary.Image(height=height, width=width, colorspace=depth, encoded_image_string=encoded.getvalue())
        self._add(step, summary=Summary(value=[Summary.Value(tag=name, image=image)]))

    def _add(self, step: int, **event: Any) -> None:
        self._records.write(Event(wall_time=time.time(), step=step, **event).SerializeToString())
