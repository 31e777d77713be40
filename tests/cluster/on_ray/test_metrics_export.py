"""What is recorded of a snapshot; what Ray exports of it is in `test_observability.py`."""

import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from actors.collector import CollectorStats
from cluster.on_ray import metrics_export
from cluster.on_ray.metrics_export import COUNTED, MetricsExport
from tests.cartpole import load_config
from tests.cluster import snapshots

COLLECTOR = replace(snapshots.COLLECTOR, policy_version=3)
SNAPSHOT = replace(
    snapshots.SNAPSHOT,
    trainer=replace(snapshots.TRAINER, policy_version=5),
    collectors=(),
    shards=(),
)
RUN = {"run": "balance", "task": "CartPole-v1"}


class Recorded:
    """Stands in for Ray's metrics: the last value of each gauge, the sum of each counter."""

    def __init__(self) -> None:
        self.values: dict[tuple[str, ...], float] = {}
        self.kinds: dict[str, str] = {}

    def make(self, kind: str) -> Any:
        recorded = self

        class Metric:
            def __init__(self, name: str, description: str, keys: tuple[str, ...]) -> None:
                assert re.fullmatch(r"stillhouse_[a-z0-9_]+", name)
                assert name not in recorded.kinds, "made twice"
                recorded.kinds[name] = kind
                self.name, self.keys = name, keys

            def key(self, tags: dict[str, str]) -> tuple[str, ...]:
                assert tuple(tags) == self.keys
                assert RUN.items() <= tags.items()
                return (self.name, *(value for key, value in tags.items() if key not in RUN))

            def set(self, value: float, tags: dict[str, str]) -> None:
                recorded.values[self.key(tags)] = value

            def inc(self, value: float, tags: dict[str, str]) -> None:
                assert value > 0
                key = self.key(tags)
                recorded.values[key] = recorded.values.get(key, 0) + value

        return Metric


@pytest.fixture
def recorded(monkeypatch: pytest.MonkeyPatch) -> Recorded:
    found = Recorded()
    monkeypatch.setattr(metrics_export, "Gauge", found.make("gauge"))
    monkeypatch.setattr(metrics_export, "Counter", found.make("counter"))
    return found


@pytest.fixture
def export(tmp_path: Path, recorded: Recorded) -> MetricsExport:
    return MetricsExport(load_config(tmp_path))


def test_figures_become_gauges_with_the_runs_labels(
    export: MetricsExport, recorded: Recorded
) -> None:
    export.export({"learner/loss": 0.5, "learner/kl-raw": 1.0}, SNAPSHOT)
    export.export({"learner/loss": 0.25, "learner/kl-raw": 1.0}, SNAPSHOT)
    assert recorded.values == {
        ("stillhouse_learner_loss",): 0.25,
        ("stillhouse_learner_kl_raw",): 1.0,
        ("stillhouse_learner_total_env_steps",): 12_000,
    }
    assert set(recorded.kinds.values()) == {"gauge"}


def test_what_grows_is_counted_on_and_never_back(export: MetricsExport, recorded: Recorded) -> None:
    # A learner that starts again from its checkpoint counts from less.
    for steps in (0, 100, 100, 150, 40, 60):
        export.export({"learner/steps": steps}, SNAPSHOT)
    assert recorded.values["stillhouse_learner_steps",] == 170
    assert recorded.kinds["stillhouse_learner_steps"] == "counter"
    assert "learner/steps" in COUNTED


def test_env_runners_shards_and_roles_have_figures_of_their_own(
    export: MetricsExport, recorded: Recorded
) -> None:
    shard = replace(snapshots.SHARD, transitions=80, num_bytes=4_000)

    def exported(*collectors: CollectorStats) -> None:
        restarts = {"env_runner": 1, "shard": 0}
        parts = replace(SNAPSHOT, collectors=collectors, shards=(shard, shard), restarts=restarts)
        export.export({}, parts)

    exported(replace(COLLECTOR, env_steps=100), replace(COLLECTOR, runner_id=1, env_steps=70))
    # Runner 0 dies; its next life counts from 0, and lags behind.
    exported(replace(COLLECTOR, incarnation=1, env_steps=20, policy_version=1))
    assert recorded.values == {
        ("stillhouse_learner_total_env_steps",): 12_000,
        ("stillhouse_runner_env_steps", "0"): 120,
        ("stillhouse_runner_env_steps", "1"): 70,
        ("stillhouse_runner_policy_lag_versions", "0"): 4,
        ("stillhouse_runner_policy_lag_versions", "1"): 2,
        ("stillhouse_role_restarts", "env_runner"): 1,
        ("stillhouse_role_restarts", "shard"): 0,
        ("stillhouse_shard_transitions", "0"): 80,
        ("stillhouse_shard_transitions", "1"): 80,
        ("stillhouse_shard_bytes", "0"): 4_000,
        ("stillhouse_shard_bytes", "1"): 4_000,
    }
