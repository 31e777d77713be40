"""A run on the null environment, and a cluster of many raylets on one machine to run it on."""

import math
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from ray.cluster_utils import Cluster

from cluster.recipe.config import RunConfig
from cluster.session import Session
from common.networks.mlp import MLPSpec
from common.policies.policy import new_policy, save_policy
from common.policies.spec import ObservationSpec, PolicySpec
from tests.benchmarks.null_environment import ENV_ID, OBSERVATION_SIZE

COPIES, UNROLL, BATCH = 32, 64, 256
CHUNK = COPIES * UNROLL
SAMPLES_PER_INSERT = 0.25

CPUS_PER_RAYLET = 1
"""Ray starts as many idle workers on each; runners reserve small parts of it."""
OBJECT_STORE_BYTES = 100 * 2**20
SYSTEM_CONFIG = {
    "scheduler_spread_threshold": 0.0,  # one runner here, one there, instead of filling node one
    "worker_register_timeout_seconds": 900,  # many processes start at once on few cores
    "health_check_timeout_ms": 60_000,
}


def null_recipe(
    folder: Path, *, num_runners: int, num_raylets: int, num_shards: int, rate: float
) -> RunConfig:
    """Write a tiny teacher into `folder` and return the recipe that distils it.

    Args:
        folder: where the teacher lies.
        num_runners: env runners.
        num_raylets: nodes that they share.
        num_shards: replay shards.
        rate: transitions a second of every runner.
    """
    spec = PolicySpec(
        name="null-teacher",
        network=MLPSpec(hidden=(64,)),
        observation=ObservationSpec(shape=(OBSERVATION_SIZE,), dtype="float32"),
        num_actions=2,
    )
    path = folder / "teacher.safetensors"
    save_policy(new_policy(spec, seed=0), path)
    steps_per_round = num_runners * CHUNK * SAMPLES_PER_INSERT / BATCH  # a chunk of every runner
    tree: dict[str, Any] = {
        "name": "growth",
        "total_env_steps": 10**12,
        "env": {"family": "gymnasium", "id": ENV_ID, "kwargs": {"period_s": COPIES / rate}},
        "teacher": {"path": str(path)},
        "student": {"network": {"name": "mlp", "hidden": [16]}},
        "behavior": {"name": "mixed"},
        "objective": {"kl": {}},
        "actors": {
            "num_env_runners": num_runners,
            "num_envs_per_runner": COPIES,
            "unroll_length": UNROLL,
            "num_cpus_per_runner": 0.9 * CPUS_PER_RAYLET / math.ceil(num_runners / num_raylets),
        },
        "replay": {
            "num_shards": num_shards,
            "capacity": 32 * CHUNK,
            "samples_per_insert": SAMPLES_PER_INSERT,
            "min_size_to_sample": CHUNK,
        },
        "learner": {
            "batch_size": BATCH,
            "micro_batch_size": BATCH,
            "num_cpus": 0.05,
            "publish_interval_steps": round(steps_per_round),
        },
    }
    return RunConfig.model_validate(tree)


@contextmanager
def many_raylets(num_raylets: int) -> Iterator[str]:
    """Start a cluster of `num_raylets` nodes on this machine, yield its address, and end it."""
    node: dict[str, Any] = {"num_cpus": CPUS_PER_RAYLET, "object_store_memory": OBJECT_STORE_BYTES}
    head = {"include_dashboard": False, "_system_config": SYSTEM_CONFIG}
    cluster = Cluster(initialize_head=True, head_node_args=node | head)
    try:
        for _ in range(num_raylets - 1):
            cluster.add_node(**node)
        yield cluster.address
    finally:
        cluster.shutdown()  # type: ignore[no-untyped-call]


def wait_for_data(session: Session, num_runners: int, *, timeout_s: float) -> None:
    """Poll until two chunks of every runner have come and the learner has taken steps."""
    until = time.monotonic() + timeout_s
    flowing = 0
    while time.monotonic() < until:
        snapshot = session.poll()
        flowing = sum(collector.chunks >= 2 for collector in snapshot.collectors)
        if flowing == num_runners and snapshot.trainer.learner_steps > 0:
            return
    raise SystemExit(f"{flowing} of {num_runners} env runners gave data in {timeout_s:g} s")
