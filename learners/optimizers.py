"""Optimisers by name. A new one is one line in each table.

For large batches: LAMB (You et al. 2020) and LARS (You et al. 2017) set every layer's step in
proportion to its weights, which holds up to batches of tens of thousands; Adam wants its rate
scaled with the batch and warmed up (`LearnerConfig.rate`).
"""

from collections.abc import Callable, Iterable
from typing import Literal

import pytorch_optimizer
import torch

OptimizerName = Literal["adam", "adamw", "lamb", "lars"]
Parameters = Iterable[torch.nn.Parameter]

OPTIMIZERS: dict[OptimizerName, Callable[[Parameters, float, float], torch.optim.Optimizer]] = {
    "adam": lambda p, lr, decay: torch.optim.Adam(p, lr=lr, weight_decay=decay, fused=True),
    "adamw": lambda p, lr, decay: torch.optim.AdamW(p, lr=lr, weight_decay=decay, fused=True),
    "lamb": lambda p, lr, decay: pytorch_optimizer.Lamb(p, lr=lr, weight_decay=decay),
    "lars": lambda p, lr, decay: pytorch_optimizer.LARS(p, lr=lr, weight_decay=decay),
}
"""From parameters, learning rate and weight decay."""
