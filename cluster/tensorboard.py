"""TensorBoard events, written by the thread that has the figures.

PyTorch's `SummaryWriter` writes in a thread of its own. On a full disk that thread dies with a
traceback, half an event stays in the file, and the next call raises; an event file is never
written again. Here TensorBoard's own records go through `GrowingFile`, so a full disk costs events
and nothing else.
"""

import io
import os
import socket
import time
import uuid
from collections.abc import Mapping
from pathlib import Path

from tensorboard.compat.proto.event_pb2 import Event, SessionLog
from tensorboard.compat.proto.summary_pb2 import Summary
from tensorboard.summary.writer.record_writer import RecordWriter

from cluster.growing_file import GrowingFile

FORMAT = "brain.Event:2"
"""What an event file's first record says of the others."""


class TensorBoard:
    """An event file of this process.

    Args:
        folder: of event files; TensorBoard shows all of them as one run.
        goes_on_after: a step; TensorBoard forgets what earlier files have of later ones. Without
            it, it forgets nothing.
    """

    def __init__(self, folder: Path, *, goes_on_after: int | None = None) -> None:
        # TensorBoard reads files in the order of their names.
        name = f"{time.time():.6f}.{socket.gethostname()}.{os.getpid()}.{uuid.uuid4().hex[:8]}"
        self._file = GrowingFile(folder / f"events.out.tfevents.{name}")
        self._opening = _opening(goes_on_after)
        self._begun = self._file.append(self._opening)

    def add(self, figures: Mapping[str, float], *, step: int) -> None:
        """Write figures at a step."""
        values = [Summary.Value(tag=name, simple_value=value) for name, value in figures.items()]
        record = _record(Event(wall_time=time.time(), step=step, summary=Summary(value=values)))
        whole = record if self._begun else self._opening + record
        self._begun = self._file.append(whole) or self._begun


def _opening(goes_on_after: int | None) -> bytes:
    version = _record(Event(wall_time=time.time(), file_version=FORMAT))
    if goes_on_after is None:
        return version
    started = SessionLog(status=SessionLog.START)
    return version + _record(
        Event(wall_time=time.time(), step=goes_on_after + 1, session_log=started)
    )


def _record(event: Event) -> bytes:
    buffer = io.BytesIO()
    RecordWriter(buffer).write(event.SerializeToString())
    return buffer.getvalue()
