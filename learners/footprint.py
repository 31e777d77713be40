"""What a policy costs to run: parameters, multiply-adds, bytes and latency.

Evaluations and reports put the teacher's and the student's figures side by side. The first three
are exact and the same everywhere; latency depends on the machine and is only worth comparing
within one run.
"""

import copy
import time
from collections.abc import Callable
from dataclasses import dataclass
from statistics import median

import torch
from safetensors.torch import save
from torch.utils.flop_counter import FlopCounterMode

from common.networks import PolicyNetwork
from common.networks.external import ExternalNetwork
from common.policies.policy import Policy

_WARM_UP_FORWARDS = 20
_TIMED_FORWARDS = 300
_WARM_UP_S = 0.2
_TIMED_S = 0.5


@dataclass(frozen=True, slots=True, kw_only=True)
class Footprint:
    """Size and cost of a policy for one observation."""

    parameters: int
    """Weights and biases."""
    multiply_adds: int | None
    """Of one forward pass: convolutions and linear layers; biases and activations are free. None of
    a program of another runtime, which nobody can count."""
    bytes: int
    """Of the file that carries the weights."""
    latency_ms: float
    """Median of single-observation forwards in float32 on one CPU thread."""


def measure_footprint(policy: Policy, *, bytes_on_disk: int | None) -> Footprint:
    """Count and time `policy`; takes less than a second where a forward takes less than 0.1 s.

    Latency is of the network alone, from one scaled observation to its outputs. While it is
    measured the whole process runs torch on one thread; the former number is restored.

    Args:
        policy: on any device and in any float type; it is left as it was.
        bytes_on_disk: size of the policy's file; None: of its float32 safetensors file, which
            need not exist.
    """
    network = copy.deepcopy(policy.network).to("cpu", torch.float32).eval()
    observation = torch.zeros(1, *policy.spec.observation.shape)
    return Footprint(
        parameters=policy.num_parameters,
        multiply_adds=(
            None
            if isinstance(network, ExternalNetwork)
            else _count_multiply_adds(network, observation)
        ),
        bytes=_safetensors_size(network) if bytes_on_disk is None else bytes_on_disk,
        latency_ms=median_latency_ms(lambda: network(observation)),
    )


def _count_multiply_adds(network: PolicyNetwork, observation: torch.Tensor) -> int:
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        network(observation)
    return int(counter.get_total_flops()) // 2  # torch counts a multiply-add as two operations


def _safetensors_size(network: PolicyNetwork) -> int:
    return len(save({name: t.contiguous() for name, t in network.state_dict().items()}))


def median_latency_ms(forward: Callable[[], object]) -> float:
    """Return the median milliseconds of a call, with torch on one thread meanwhile."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        _time_forwards(forward, _WARM_UP_FORWARDS, _WARM_UP_S)
        return median(_time_forwards(forward, _TIMED_FORWARDS, _TIMED_S)) * 1e3
    finally:
        torch.set_num_threads(threads)


def _time_forwards(forward: Callable[[], object], count: int, limit_s: float) -> list[float]:
    """Return seconds of up to `count` forwards, at least one, begun within `limit_s`."""
    seconds: list[float] = []
    with torch.inference_mode():
        first = before = time.perf_counter()
        while len(seconds) < count and before - first < limit_s:
            forward()
            after = time.perf_counter()
            seconds.append(after - before)
            before = after
    return seconds
