"""Fills one replay shard with a million transitions and weighs the process that holds it.

`tests.benchmarks.replay_memory --million` starts it in a process of its own, with a folder of real
chunks: `NAME.chunk` is the payload, `NAME.npy` its number of transitions and its checksum.
"""

import gc
import json
import sys
from pathlib import Path

import numpy as np
import psutil

from common.codec import EncodedChunk
from common.replay.rate_limiter import RateLimits
from common.replay.shard import ReplayShard
from common.trajectory import ChunkId

MILLION = 1_000_000


def fill(folder: Path) -> dict[str, float]:
    """Fill a shard with a million transitions of the chunks in `folder` and weigh this process."""
    sources = [(path, np.load(path.with_suffix(".npy"))) for path in sorted(folder.glob("*.chunk"))]
    limits = RateLimits(samples_per_insert=1.0, min_size_to_sample=1, error_buffer=1e18)
    shard = ReplayShard(capacity=2 * MILLION, limits=limits)
    gc.collect()
    before = psutil.Process().memory_full_info().uss
    sequence = 0
    while shard.stats().transitions < MILLION:
        path, (num_transitions, checksum) = sources[sequence % len(sources)]
        shard.insert(
            EncodedChunk(
                chunk_id=ChunkId(0, 0, sequence),
                num_transitions=int(num_transitions),
                payload=np.fromfile(path, np.uint8),
                checksum=int(checksum),
            )
        )
        sequence += 1
    after, stats = psutil.Process().memory_full_info().uss, shard.stats()
    return {
        "transitions": stats.transitions,
        "chunks": sequence,
        "distinct_chunks": len(sources),
        "shard_mb": stats.num_bytes / 1e6,
        "process_growth_mb": (after - before) / 1e6,
    }


if __name__ == "__main__":
    print(json.dumps(fill(Path(sys.argv[1]))))
