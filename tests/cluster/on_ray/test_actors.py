"""What only Ray shows of the actors."""

import time
from pathlib import Path

import numpy as np
import pytest

from cluster.session import Backend
from common.codec import EncodedChunk
from common.replay.rate_limiter import RateLimits
from common.trajectory import ChunkId
from tests.cartpole import load_config

MEGABYTE = 2**20


@pytest.mark.ray
def test_what_a_shard_keeps_is_not_in_rays_object_store(
    tmp_path: Path, ray_backend: Backend
) -> None:
    import ray
    from ray._private.internal_api import memory_summary  # what `ray memory` prints

    from cluster.on_ray.actors import RAY_REPLAY_SHARD
    from cluster.on_ray.log_collector import LogCollector

    limits = RateLimits(samples_per_insert=1.0, min_size_to_sample=1, error_buffer=1e18)
    logs = LogCollector()
    recipe = load_config(tmp_path).model_dump_json()
    shard = RAY_REPLAY_SHARD.remote(recipe, limits, 0, logs=logs.name)
    for number in range(20):
        chunk = EncodedChunk(
            chunk_id=ChunkId(0, 0, number),
            num_transitions=1,
            payload=np.zeros(MEGABYTE, np.uint8),
            checksum=0,
        )
        ray.get(shard.insert.remote(chunk))
    assert ray.get(shard.stats.remote()).num_bytes == 20 * MEGABYTE
    address, deadline = ray.get_runtime_context().gcs_address, time.monotonic() + 60
    # References that went out of scope are given back after a while.
    while "Plasma memory usage 0 MiB" not in memory_summary(address=address, stats_only=True):
        assert time.monotonic() < deadline, "the shard pins what it was sent"
        time.sleep(0.5)
    answer = ray.get(shard.sample.remote(19, 1, ()))
    assert [found.chunk_id.sequence for found in answer.chunks] == [19]
