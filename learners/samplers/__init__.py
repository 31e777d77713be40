"""How the learner chooses rows of its window, by name. A new sampler is one file and one line.

The recipe names one as `[replay.sampler]`, `name = "prioritized"`; its settings are
`common.replay.sampler_config`.
"""

from collections.abc import Callable

import torch

from common.replay.sampler_config import SamplerConfig
from learners.samplers.base import Draw, Sampler
from learners.samplers.fresh_first import FreshFirstSampler
from learners.samplers.prioritized import PrioritizedSampler
from learners.samplers.uniform import UniformSampler

__all__ = ["SAMPLERS", "Draw", "Sampler", "make_sampler"]

SAMPLERS: dict[str, Callable[..., Sampler]] = {
    "uniform": UniformSampler,
    "prioritized": PrioritizedSampler,
    "fresh_first": FreshFirstSampler,
}


def make_sampler(config: SamplerConfig, *, capacity: int, device: torch.device) -> Sampler:
    """Build the sampler that `config` names.

    Args:
        config: the recipe's table.
        capacity: rows of the window.
        device: where rows and weights are wanted.
    """
    return SAMPLERS[config.name](config, capacity=capacity, device=device)
