"""Recording: the main road with a dataset in the place of replay and learner.

    env copies → EnvRunner.sample() → TrajectoryChunk → DatasetWriter.add → Parquet parts

The env runners are those of a run, and the recipe is one. The teacher acts, with the exploration
that the recipe's behaviour gives it: there is no trained student to act beside it. It computes
where the env runners are, whatever the recipe says, so that every chunk comes with its labels.
"""

import time
from collections import deque
from contextlib import closing
from typing import Any

import numpy as np

from actors.behavior import TeacherDriven
from actors.placement import RunnerPlacement
from cluster.interrupt import deferred_interrupt
from cluster.progress import Reporter
from cluster.recipe.config import RunConfig
from cluster.recipe.teacher_view import refuse_view
from cluster.recording import RecordingJob
from cluster.session import Backend
from common.dataset import Manifest
from common.errors import ConfigError, DatasetError
from common.storage import Location

RECENT_EPISODES = 100
"""Whose mean return is shown."""


def recording_config(config: RunConfig) -> RunConfig:
    """Return the recipe as it is recorded from: the teacher acts, in the env runners.

    Raises:
        ConfigError: nothing can be recorded by this recipe.
    """
    if config.dataset is not None:
        raise ConfigError("the recipe has a [dataset]; record from one with [teacher] or [teach]")
    if config.refresh is not None:
        raise ConfigError(
            "teacher.refresh: a recording has the labels of one teacher; leave the table out"
        )
    refuse_view(config, "record")
    behavior = config.behavior
    if behavior.teacher_share(0.0) < 1.0:
        raise ConfigError(
            f"behavior.name = {behavior.name!r}: a student would act, and none is trained yet; "
            f"record with --set behavior.name=teacher"
        )
    kept = behavior.model_dump(include=set(TeacherDriven.model_fields) - {"name"})
    actors = config.actors.model_copy(update={"inference": RunnerPlacement(), "scaling": None})
    changes: dict[str, Any] = {"behavior": TeacherDriven(**kept), "actors": actors}
    return config.model_copy(update=changes)


def check_new_dataset(out: Location) -> None:
    """Refuse a place that already holds something.

    Raises:
        DatasetError: it is no folder, or not an empty one.
        StorageError: nobody can say what is there.
    """
    if out.is_file() or out.names():
        raise DatasetError(f"{out}: not an empty folder; name another with --out")


def record(job: RecordingJob, backend: Backend, reporter: Reporter) -> tuple[Manifest, bool]:
    """Record until there is enough; the first Ctrl-C ends it with what is there.

    Returns:
        What was recorded, and whether all of it was.
    """
    returns: deque[float] = deque(maxlen=RECENT_EPISODES)
    told: str | None = None
    with deferred_interrupt() as interrupt, closing(reporter):
        recording = backend.record(job)
        started = time.monotonic()
        try:
            enough = False
            while not (enough or interrupt.requested):
                snapshot = recording.poll()
                for collector in snapshot.collectors:
                    returns.extend(episode.episode_return for episode in collector.episodes)
                done = snapshot.recorded.transitions
                enough = done >= job.num_transitions
                speed = done / max(1e-9, time.monotonic() - started)
                text = f"{done:,} of {job.num_transitions:,} transitions, {speed:,.0f}/s"
                text += f", {snapshot.recorded.num_bytes / 1e6:.1f} MB written"
                if returns:
                    text += f", mean return {np.mean(returns):.1f}"
                if snapshot.restarts:
                    text += f", {snapshot.restarts} restarts"
                reporter.progress("record", min(1.0, done / job.num_transitions), text)
                if snapshot.waiting_for not in (None, told):
                    reporter.say(str(snapshot.waiting_for))
                told = snapshot.waiting_for
            return recording.finish(), enough
        except BaseException:
            recording.abort()
            raise
