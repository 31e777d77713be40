"""Turns snapshots into named metrics and writes them: JSON lines and TensorBoard."""

import json
import math
import time
from collections import deque
from typing import NamedTuple

import numpy as np

from cluster.growing_file import GrowingFile
from cluster.session import Snapshot
from cluster.spool import Spool
from cluster.tensorboard import TensorBoard
from common.trajectory import STUDENT

RATE_WINDOW_S = 20.0
"""Rates are means over about so long."""

RECENT_EPISODES = 40
"""Student episodes of training that its return is estimated on."""

FEWEST_EPISODES = 16
"""Fewer say nothing about the share of the teacher."""

Metrics = dict[str, float]


class TaskReturns(NamedTuple):
    """What was measured of one of several tasks."""

    name: str
    teacher: float | None
    random: float | None

    def share(self, mean: float) -> float | None:
        """Return what a mean return is of the teacher's, or None where that is not defined."""
        if self.teacher is None or self.random is None or self.teacher <= self.random:
            return None
        return (mean - self.random) / (self.teacher - self.random)


class Telemetry:
    """Metrics of one run.

    Args:
        spool: where to write.
        teacher_return: mean return of the teacher, where it played.
        random_return: mean return of a random policy, where it played.
        tasks: both, of every task where there are several; env runners are dealt to them in turn.
    """

    def __init__(
        self,
        spool: Spool,
        *,
        teacher_return: float | None,
        random_return: float | None,
        tasks: tuple[TaskReturns, ...] = (),
    ) -> None:
        self._spool = spool
        self._lines = GrowingFile(spool.metrics, ends_with=b"\n")
        self._tensorboard = TensorBoard(spool.tensorboard)
        returns = {"teacher/return": teacher_return, "random/return": random_return}
        for task in tasks:
            returns[f"teacher/{task.name}/return"] = task.teacher
            returns[f"random/{task.name}/return"] = task.random
        self._baseline = {key: value for key, value in returns.items() if value is not None}
        self._tasks = tasks or (TaskReturns("", teacher_return, random_return),)
        self._started = time.monotonic()
        self._history: deque[tuple[float, Snapshot]] = deque()
        self._returns = [deque[float](maxlen=RECENT_EPISODES) for _ in self._tasks]

    def take_teacher(self, mean_return: float) -> None:
        """Compare with a newer version of the teacher from now on."""
        (task,) = self._tasks
        self._tasks = (task._replace(teacher=mean_return),)
        self._baseline["teacher/return"] = mean_return

    def record(self, snapshot: Snapshot, *, standstill_s: float = 0.0) -> Metrics:
        """Name the snapshot's figures, write them and return them.

        Args:
            snapshot: the newest.
            standstill_s: for how long a stage has stood still, as the watchdog found.
        """
        now = time.monotonic()
        self._history.append((now, snapshot))
        while len(self._history) > 2 and now - self._history[0][0] > RATE_WINDOW_S:
            self._history.popleft()
        for collector in snapshot.collectors:
            self._returns[collector.runner_id % len(self._tasks)].extend(
                episode.episode_return
                for episode in collector.episodes
                if episode.acting_policy == STUDENT
            )
        metrics = self._name(snapshot) | self._rates() | self._student()
        metrics["time/elapsed_s"] = now - self._started
        metrics["cluster/standstill_s"] = standstill_s
        # JSON has no NaN and no infinity; a figure that is neither says nothing anyway.
        metrics = {name: value for name, value in metrics.items() if math.isfinite(value)}
        self._lines.append(json.dumps(metrics, allow_nan=False).encode() + b"\n")
        self._tensorboard.add(metrics, step=snapshot.trainer.env_steps)
        self._spool.upload_when_due()
        return metrics

    def _name(self, snapshot: Snapshot) -> Metrics:
        trainer, collectors, shards = snapshot.trainer, snapshot.collectors, snapshot.shards
        metrics = {f"learner/{name}": value for name, value in trainer.metrics.items()}
        metrics |= {
            "learner/env_steps": trainer.env_steps,
            "learner/steps": trainer.learner_steps,
            "learner/samples": trainer.samples,
            "learner/learning_rate": trainer.learning_rate,
            "learner/skipped_steps": trainer.skipped_steps,
            "learner/window_transitions": trainer.window_size,
            "learner/policy_version": trainer.policy_version,
            "teacher/version": trainer.teacher_version,
            "replay/relabelled": trainer.relabelled,
            "replay/unknown_labels": trainer.unknown_labels,
            "replay/inserted": sum(shard.inserted for shard in shards),
            "replay/sampled": sum(shard.sampled for shard in shards),
            "replay/transitions": sum(shard.transitions for shard in shards),
            "replay/bytes": sum(shard.num_bytes for shard in shards),
            "replay/duplicates": sum(shard.duplicates for shard in shards),
            "replay/unseen": sum(sum(shard.unseen.values()) for shard in shards),
            "actor/env_runners": len(collectors),
            "actor/env_steps": snapshot.collected,
            "actor/env_runners_wanted": snapshot.env_runners_wanted,
            "cluster/restarts": sum(snapshot.restarts.values()),
            "cluster/lost": snapshot.lost,
            **self._baseline,
        }
        if metrics["replay/transitions"]:
            stored = metrics["replay/bytes"] / metrics["replay/transitions"]
            metrics["replay/bytes_per_transition"] = stored
        if batches := sum(stats.num_batches for stats in snapshot.inference):
            rows = sum(stats.num_rows for stats in snapshot.inference)
            metrics["inference/batch_size"] = rows / batches
        # Who has not collected yet has not pulled its first weights either.
        if versions := [c.policy_version for c in collectors if c.chunks]:
            lag = max(0, trainer.policy_version - min(versions))
            metrics["actor/policy_lag_versions"] = lag
        return metrics

    def _rates(self) -> Metrics:
        """Return speeds, and the shares of time that each side waits for the other."""
        (then, old), (now, new) = self._history[0], self._history[-1]
        elapsed = now - then
        if elapsed <= 0:
            return {}
        trainer = new.trainer
        rates = {
            "learner/env_steps_per_s": (trainer.env_steps - old.trainer.env_steps) / elapsed,
            "learner/samples_per_s": (trainer.samples - old.trainer.samples) / elapsed,
            "learner/wait_share": (trainer.wait_s - old.trainer.wait_s) / elapsed,
        }
        former = {(c.runner_id, c.incarnation): c for c in old.collectors}
        pairs = [
            (former[key], collector)
            for collector in new.collectors
            if (key := (collector.runner_id, collector.incarnation)) in former
        ]
        if pairs:
            steps = sum(b.env_steps - a.env_steps for a, b in pairs)
            waited = sum(b.wait_s - a.wait_s for a, b in pairs)
            rates["actor/env_steps_per_s"] = steps / elapsed
            rates["actor/wait_share"] = waited / elapsed / len(pairs)
            store = sum(b.store_wait_s - a.store_wait_s for a, b in pairs)
            rates["actor/store_wait_share"] = store / elapsed / len(pairs)
        # A restart sets counters back; a rate is never negative.
        return {
            name: min(1.0, max(0.0, value)) if name.endswith("_share") else max(0.0, value)
            for name, value in rates.items()
        }

    def _student(self) -> Metrics:
        """Return what the student reaches while it is trained; in all tasks, the least of them."""
        metrics: Metrics = {}
        shares: list[float | None] = []
        for task, returns in zip(self._tasks, self._returns, strict=True):
            prefix = f"student/{task.name}/" if task.name else "student/"
            mean = share = None
            if len(returns) >= FEWEST_EPISODES:
                mean = float(np.mean(returns))
                metrics[f"{prefix}training_return"] = mean
                share = task.share(mean)
            if share is not None:
                metrics[f"{prefix}share_of_teacher"] = share
            shares.append(share)
        known = [share for share in shares if share is not None]
        if len(known) == len(shares):
            metrics["student/share_of_teacher"] = min(known)
        return metrics
