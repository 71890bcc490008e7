"""What TensorBoard reads: the metrics of metrics.jsonl, and pictures. No TensorFlow is needed to write it."""

import io
import time

import numpy as np
from PIL import Image
from tensorboard.compat.proto.event_pb2 import Event, SessionLog
from tensorboard.compat.proto.summary_pb2 import Summary
from tensorboard.summary.writer.event_file_writer import EventFileWriter

FLUSH_SECONDS = 10  # until what was logged can be seen


class Board:
    """One event file of one start of a stage; TensorBoard joins the files of all its starts."""

    def __init__(self, folder, step):
        """
        Args:
            folder: where the event file goes.
            step: int, the first step this start reports: what an earlier one had reported from there on is forgotten.
        """
        self._writer = EventFileWriter(folder, flush_secs=FLUSH_SECONDS)
        self._add(step, session_log=SessionLog(status=SessionLog.START))

    def log(self, step, metrics):
        """Adds {name: float}."""
        values = [Summary.Value(tag=name, simple_value=value) for name, value in metrics.items()]
        self._add(step, summary=Summary(value=values))

    def show(self, step, name, picture):
        """Adds a picture, float [H, W, 3] in [0, 1]."""
        pixels = np.rint(np.clip(picture, 0, 1) * 255).astype(np.uint8)
        encoded = io.BytesIO()
        Image.fromarray(pixels).save(encoded, "png")
        height, width, depth = pixels.shape
        image = Summary.Image(height=height, width=width, colorspace=depth, encoded_image_string=encoded.getvalue())
        self._add(step, summary=Summary(value=[Summary.Value(tag=name, image=image)]))

    def _add(self, step, **event):
        self._writer.add_event(Event(wall_time=time.time(), step=step, **event))
