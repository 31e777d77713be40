"""Optimisers by name. A new one is one line in each table.

For large batches: LAMB (You et al. 2020) and LARS (You et al. 2017) set every layer's step in
proportion to its weights, which holds up to batches of tens of thousands; Adam wants its rate
scaled with the batch and warmed up (`LearnerConfig.rate`).
"""

from collections.abc import Callable, Iterable
from typing import Literal

import torch

OptimizerName = Literal["adam", "adamw", "lamb", "lars"]
Parameters = Iterable[torch.nn.Parameter]


def _lamb(parameters: Parameters, rate: float, decay: float) -> torch.optim.Optimizer:
    # A third of all import time of an env runner, which only learners of large batches need.
    from pytorch_optimizer import Lamb

    return Lamb(parameters, lr=rate, weight_decay=decay)


def _lars(parameters: Parameters, rate: float, decay: float) -> torch.optim.Optimizer:
    from pytorch_optimizer import LARS

    return LARS(parameters, lr=rate, weight_decay=decay)


OPTIMIZERS: dict[OptimizerName, Callable[[Parameters, float, float], torch.optim.Optimizer]] = {
    "adam": lambda p, lr, decay: torch.optim.Adam(p, lr=lr, weight_decay=decay, fused=True),
    "adamw": lambda p, lr, decay: torch.optim.AdamW(p, lr=lr, weight_decay=decay, fused=True),
    "lamb": _lamb,
    "lars": _lars,
}
"""From parameters, learning rate and weight decay."""
