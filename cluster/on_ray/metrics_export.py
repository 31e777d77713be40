"""A run's figures as Ray metrics, which Ray's agent on each node exports to Prometheus.

The controller's process records them, once a poll; Ray sends them to the agent of its node in the
background, every `metrics_report_interval_ms` (10 s by default), and nobody waits for that.
Without an agent (Ray without its `default` extra) they go nowhere. A figure `learner/loss` is
exported as `ray_stillhouse_learner_loss` with the labels `run` and `task`; those of single env
runners and shards have a label more.
"""

import re

from ray.util.metrics import Counter, Gauge

from cluster.recipe.config import RunConfig
from cluster.session import Snapshot
from cluster.telemetry import Metrics

COUNTED = frozenset({"learner/steps", "learner/samples", "replay/inserted", "replay/sampled"})
"""Figures that only grow while nothing dies, exported as counters (`…_total`). Rare events are
gauges all the same: Ray does not export a counter before it counts, so nobody would see the first
of them."""

Labels = tuple[tuple[str, str], ...]


class MetricsExport:
    """Exports the figures of one run.

    Args:
        config: the recipe, whose name and environment become labels.
    """

    def __init__(self, config: RunConfig) -> None:
        self._labels = {"run": config.name, "task": config.task_name}
        self._total_env_steps = config.total_env_steps
        self._gauges: dict[str, Gauge] = {}
        self._counters: dict[str, Counter] = {}
        self._counted: dict[tuple[str, Labels, int], float] = {}

    def export(self, metrics: Metrics, snapshot: Snapshot) -> None:
        """Record what `Telemetry.record` returned for a snapshot, and parts of the snapshot."""
        for name, value in metrics.items():
            if name in COUNTED:
                self._count(name, value)
            else:
                self._set(name, value)
        self._set("learner/total_env_steps", self._total_env_steps)
        newest = snapshot.trainer.policy_version
        for collector in snapshot.collectors:
            runner, life = (("runner", str(collector.runner_id)),), collector.incarnation
            self._count("runner/env_steps", collector.env_steps, runner, life)
            lag = max(0, newest - collector.policy_version)
            self._set("runner/policy_lag_versions", lag, runner)
        for role, restarts in snapshot.restarts.items():
            self._set("role/restarts", restarts, (("role", role),))
        for index, shard in enumerate(snapshot.shards):
            self._set("shard/transitions", shard.transitions, (("shard", str(index)),))
            self._set("shard/bytes", shard.num_bytes, (("shard", str(index)),))

    def _set(self, name: str, value: float, labels: Labels = ()) -> None:
        if name not in self._gauges:
            self._gauges[name] = Gauge(*self._declaration(name, labels))
        self._gauges[name].set(value, tags=self._labels | dict(labels))

    def _count(self, name: str, value: float, labels: Labels = (), life: int = 0) -> None:
        """Count on by what a figure grew; one that fell goes on from where it is."""
        grown = value - self._counted.get((name, labels, life), 0.0)
        self._counted[name, labels, life] = value
        if grown <= 0:
            return
        if name not in self._counters:
            self._counters[name] = Counter(*self._declaration(name, labels))
        self._counters[name].inc(grown, tags=self._labels | dict(labels))

    def _declaration(self, name: str, labels: Labels) -> tuple[str, str, tuple[str, ...]]:
        """Return Ray's name, the description and the keys of labels."""
        return _ray_name(name), name, (*self._labels, *(key for key, _ in labels))


def _ray_name(name: str) -> str:
    return "stillhouse_" + re.sub(r"\W", "_", name, flags=re.ASCII)
