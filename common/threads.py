"""One place that sets how many threads this process computes with, and how urgent they are.

Two computing threads in each of several processes on two cores cost a factor of ten to fifty, so
every process calls this first, the driver included.
"""

import os
import sys

import torch


def set_threads(num_threads: int) -> None:
    """Let torch, OpenMP and Arrow of this process compute with `num_threads` threads."""
    import pyarrow as pa

    for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
        os.environ[name] = str(num_threads)
    torch.set_num_threads(num_threads)
    pa.set_cpu_count(num_threads)


def give_way() -> None:
    """Let the calling thread, and those that it starts, compute when nobody else wants to.

    For the loops that are always busy: on full cores a process that starts, or one that steers
    them, then gets its turn first. Only Linux has such a class; elsewhere nothing changes.
    """
    if sys.platform == "linux":
        os.sched_setscheduler(0, os.SCHED_IDLE, os.sched_param(0))
