"""One place that sets how many threads this process computes with.

Two computing threads in each of several processes on two cores cost a factor of ten to fifty, so
every process calls this first, the driver included.
"""

import os

import torch


def set_threads(num_threads: int) -> None:
    """Let torch, OpenMP and Arrow of this process compute with `num_threads` threads."""
    import pyarrow as pa

    for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
        os.environ[name] = str(num_threads)
    torch.set_num_threads(num_threads)
    pa.set_cpu_count(num_threads)
