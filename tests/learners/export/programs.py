"""Small policies of every kind that a C program can be of, and observations that try them."""

import shutil

import numpy as np
import numpy.typing as npt
import pytest

from common.policies.policy import Policy, new_policy
from common.policies.spec import PolicySpec
from learners.export.integer.c_compiler import find_compiler

needs_compiler = pytest.mark.skipif(find_compiler() is None, reason="there is no C compiler here")
needs_cxx = pytest.mark.skipif(shutil.which("c++") is None, reason="there is no C++ compiler here")

VECTOR = {"shape": (4,), "dtype": "float32", "scale": 0.5}
NORMALISED = {
    "shape": (4,),
    "dtype": "float32",
    "normalizer": {"mean": (1.0, 0.0, 2.0, 0.0), "std": (0.1, 2.0, 0.5, 1.0), "clip": 3.0},
}
BOX = {"low": (-2.0, 0.0), "high": (2.0, 10.0)}
FRAMES = {"shape": (2, 16, 14), "dtype": "uint8", "scale": 1 / 255}
CONVOLUTIONS = {"name": "nature_cnn", "channels": (4, 6), "kernels": (4, 3), "strides": (2, 1)}

SPECS = {
    "vectors": {"network": {"hidden": (16, 12)}, "observation": VECTOR, "num_actions": 3},
    "tanh": {
        "network": {"hidden": (16,), "activation": "tanh", "value_hidden": (8,)},
        "observation": NORMALISED,
        "num_actions": 2,
        "has_value": True,
    },
    "elu, some entries": {
        "network": {"hidden": (16,), "activation": "elu", "inputs": (2, 0)},
        "observation": VECTOR,
        "num_actions": 5,
        "dist": "q_values",
    },
    "bytes": {
        "network": {"hidden": (16,)},
        "observation": {"shape": (30,), "dtype": "uint8", "scale": 1 / 255},
        "num_actions": 4,
    },
    "box": {
        "network": {"hidden": (16,)},
        "observation": NORMALISED,
        "action_box": BOX,
        "dist": "gaussian",
    },
    "squashed box": {
        "network": {"hidden": (16,), "activation": "tanh"},
        "observation": VECTOR,
        "action_box": BOX,
        "dist": "squashed_gaussian",
    },
    "frames": {
        "network": CONVOLUTIONS | {"hidden": 20},
        "observation": FRAMES,
        "num_actions": 6,
        "dist": "q_values",
    },
}


def policy_of(kind: str, *, seed: int = 0) -> Policy:
    """Return a policy with random weights, and biases that are not zeros."""
    spec = {"name": kind} | SPECS[kind]
    spec["network"] = {"name": "mlp"} | spec["network"]
    policy = new_policy(PolicySpec.model_validate(spec), seed=seed)
    rng = np.random.default_rng(seed)
    for name, parameter in policy.network.named_parameters():
        if name.endswith("bias"):
            parameter.data.copy_(parameter.new_tensor(rng.normal(0, 0.2, parameter.shape)))
    return policy


def observations_for(policy: Policy, count: int, *, seed: int = 0) -> npt.NDArray[np.generic]:
    """Return random observations: floats around 0, or pictures with smooth and flat parts."""
    rng = np.random.default_rng(seed)
    shape = (count, *policy.spec.observation.shape)
    if policy.spec.observation.dtype == "float32":
        return rng.normal(size=shape).astype(np.float32)
    values = rng.integers(256, size=shape, dtype=np.uint8)
    values[rng.random(count) < 0.3] //= 8
    return values * (rng.random(shape) < 0.5)


def extremes_for(policy: Policy) -> npt.NDArray[np.generic]:
    """Return the smallest and largest observations, and those that are no numbers."""
    shape, dtype = policy.spec.observation.shape, policy.spec.observation.dtype
    if dtype == "uint8":
        values: tuple[float, ...] = (0, 255, 1, 254)
    else:
        values = (0.0, -0.0, np.inf, -np.inf, np.nan, 3.4e38, -3.4e38, 1e-45, 1e9)
    plain = [np.full(shape, value, dtype) for value in values]
    rng = np.random.default_rng(1)
    mixed = rng.choice(np.array(values, dtype), size=(50, *shape))
    return np.concatenate([np.stack(plain), mixed])
