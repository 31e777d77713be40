"""How likely discrete actions are, from the definition and for all of them."""

import numpy as np
import numpy.typing as npt

from common.policies.spec import DistKind


def log_probabilities(
    dist_inputs: npt.NDArray[np.float32], dist: DistKind, *, epsilon: float, mode: str
) -> npt.NDArray[np.float64]:
    """Return log-probabilities [B, A] of each action under ε-greedy or ε-sampled acting."""
    outputs = dist_inputs.astype(np.float64)
    if mode == "sample" and dist == "logits":
        weights = np.exp(outputs - outputs.max(-1, keepdims=True))
        probabilities = weights / weights.sum(-1, keepdims=True)
    else:
        probabilities = np.eye(outputs.shape[-1])[outputs.argmax(-1)]
    mixed = (1.0 - epsilon) * probabilities + epsilon / outputs.shape[-1]
    with np.errstate(divide="ignore"):
        logs: npt.NDArray[np.float64] = np.log(mixed)
    return logs
