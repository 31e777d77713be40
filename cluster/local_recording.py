"""A recording in this process: env runners sample in turn, straight into the dataset."""

import time

from actors.collector import Collector
from cluster.assembly import build_collector
from cluster.placement import build_acting_teacher
from cluster.prepare import new_student
from cluster.recording import RecordingJob, RecordingSnapshot
from common.dataset import Manifest

POLL_S = 1.0


class LocalRecording:
    """Records.

    Args:
        job: what.
    """

    def __init__(self, job: RecordingJob) -> None:
        config = job.preparation.config
        self._writer = job.writer()
        teacher = build_acting_teacher(config, job.teacher)
        student = new_student(config, job.preparation.environment, job.teacher.spec)
        self._collectors: list[Collector] = []
        for index in range(config.actors.num_env_runners):
            collector = build_collector(
                config,
                teacher=teacher,
                student=student,
                runner_id=index,
                incarnation=0,
                pull=lambda version: None,
                insert=self._writer.add,
            )
            self._collectors.append(collector)

    def poll(self) -> RecordingSnapshot:
        """Take turns for about a second."""
        until = time.monotonic() + POLL_S
        while time.monotonic() < until and not self._writer.full:
            for collector in self._collectors:
                if not self._writer.full:
                    collector.run_once()
        return RecordingSnapshot(
            recorded=self._writer.recorded(),
            collectors=tuple(collector.stats() for collector in self._collectors),
        )

    def finish(self) -> Manifest:
        """Write the last part, and close the environments."""
        self.abort()
        return self._writer.close()

    def abort(self) -> None:
        """Close the environments."""
        while self._collectors:
            self._collectors.pop().close()
