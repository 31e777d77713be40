"""The actors of Stable-Baselines3 for Box actions: what their tensors mean, in units.

| algorithms | tensors                                | policy                                |
|------------|----------------------------------------|---------------------------------------|
| PPO, A2C   | `action_net`, `log_std` [D]            | Gaussian; actions are clipped         |
| SAC, TQC   | `actor.latent_pi.*`, `.mu`, `.log_std` | squashed Gaussian                     |
| TD3, DDPG  | `actor.mu.*`                           | deterministic, squashed               |
| gSDE       | `log_std` [H, D]; SAC's `actor.mu.0`   | as above, with `common.networks.gsde` |

A Gaussian of PPO's is of the Box's own numbers: the Box is folded into its last layer, so that it
gives units (`common.policies.box`). What is before a tanh needs no folding.
"""

import math
import re
from dataclasses import dataclass

import torch

from common.networks.gsde import GSDESpec
from common.policies.box import BoxActions
from common.policies.spec import DistKind
from common.teachers.sb3_archive import SB3Archive
from common.teachers.torch_state import State, layers_as, sequence

LOG_STD = ("log_std", "actor.log_std")
"""Parameters that are no layers."""

_NUMBER = re.compile(r"[-+]?(?:\d+\.?\d*(?:[eE][-+]?\d+)?|inf)")
_DEFAULT_CLIP_MEAN = 2.0
"""SAC's bound of gSDE means where the file names no other."""


@dataclass(frozen=True, slots=True, eq=False)
class BoxHead:
    """The last layer of an actor."""

    dist: DistKind
    gsde: GSDESpec | None
    tensors: State
    """By our names, `head…`."""


def read_box(archive: SB3Archive) -> BoxActions | None:
    """Return the bounds of a file's actions, None where they are discrete.

    Raises:
        PolicyFileError: they are missing, or of a kind that is not supported.
        ValidationError: they are infinite.
    """
    is_off_policy = any(name.startswith("actor.") for name in archive.state)
    if not is_off_policy and "log_std" not in archive.state:
        return None
    space = archive.table("action_space")
    shape = space.get("_shape", space.get("shape"))
    low, high = (_numbers(space.get(name)) for name in ("low", "high"))
    if not isinstance(shape, list) or shape != [len(low)] or len(high) != len(low):
        raise archive.refusal(
            f"the bounds of its actions are not understood (shape {shape}, low "
            f"{str(space.get('low'))[:60]}); supported are vectors within finite bounds"
        )
    return BoxActions(low=low, high=high)


def off_policy_modules(archive: SB3Archive) -> dict[str, str]:
    """Return the module names of an actor of SAC, TQC, TD3 or DDPG by ours."""
    stochastic = _is_stochastic(archive)
    layers = sequence(archive.state, "actor.latent_pi" if stochastic else "actor.mu")
    heads = ["actor.mu.0" if "actor.mu.0.weight" in archive.state else "actor.mu"]
    if not stochastic:
        layers, heads = layers[:-1], layers[-1:] or heads
    modules = layers_as("layers", layers) | {"head": heads[0]}
    if "actor.log_std.weight" in archive.state:
        modules["log_std"] = "actor.log_std"
    return modules


def off_policy_algorithm(archive: SB3Archive) -> str:
    """Return the name of the algorithm."""
    if _is_stochastic(archive):
        return "TQC" if "top_quantiles_to_drop_per_net" in archive.data else "SAC"
    return "TD3" if any(name.startswith("critic.qf1.") for name in archive.state) else "DDPG"


def make_head(archive: SB3Archive, tensors: State, box: BoxActions) -> BoxHead:
    """Put an actor's last layer together.

    Args:
        archive: the file.
        tensors: its layers by our names: `head.weight`, and `log_std.weight` where it has one.
        box: the bounds.

    Raises:
        PolicyFileError: the parts have other sizes than the Box, or are not supported.
    """
    weight, bias = tensors["head.weight"], tensors["head.bias"]
    if len(weight) != box.size:
        raise archive.refusal(f"{len(weight)} means for actions that are {box}")
    if any(name.startswith("actor.") for name in archive.state) and not _is_stochastic(archive):
        return BoxHead("deterministic", None, {"head.weight": weight, "head.bias": bias})
    kwargs = archive.table("policy_kwargs")
    squashed = "log_std" not in archive.state or kwargs.get("squash_output") is True
    dist: DistKind = "squashed_gaussian" if squashed else "gaussian"
    if "log_std.weight" in tensors:
        both = {
            f"head.{kind}": torch.cat([tensors[f"head.{kind}"], tensors[f"log_std.{kind}"]])
            for kind in ("weight", "bias")
        }
        return BoxHead(dist, None, both)
    log_std = next(archive.state[name] for name in LOG_STD if name in archive.state)
    if log_std.dim() == 1 and len(log_std) != box.size:
        raise archive.refusal(f"{len(log_std)} deviations for actions that are {box}")
    if not squashed:
        half, center = torch.from_numpy(box.half_range), torch.from_numpy(box.center)
        weight, bias = weight / half[:, None], (bias - center) / half
        log_std = log_std - half.log()
    if log_std.dim() == 1:
        no_weight = torch.zeros_like(weight)
        return BoxHead(
            dist,
            None,
            {
                "head.weight": torch.cat([weight, no_weight]),
                "head.bias": torch.cat([bias, log_std]),
            },
        )
    if kwargs.get("use_expln") is True:
        raise archive.refusal("gSDE with use_expln is not supported; give a teacher without it")
    shape = (weight.shape[1], box.size)
    if log_std.dim() != 2 or log_std.shape[0] != shape[0] or log_std.shape[1] not in (1, shape[1]):
        raise archive.refusal(
            f"gSDE with log_std of shape {tuple(log_std.shape)} is not supported, only {shape}"
        )
    head = {
        "head.mean.weight": weight,
        "head.mean.bias": bias,
        "head.log_std": log_std.expand(shape).contiguous(),
    }
    return BoxHead(dist, GSDESpec(clip_mean=_clip_mean(archive)), head)


def _is_stochastic(archive: SB3Archive) -> bool:
    return any(name.startswith("actor.log_std") for name in archive.state)


def _clip_mean(archive: SB3Archive) -> float | None:
    """Return the bound of SAC's gSDE means: there is one where `mu` is the first of two modules."""
    if "actor.mu.0.weight" not in archive.state:
        return None
    given = archive.table("policy_kwargs").get("clip_mean", _DEFAULT_CLIP_MEAN)
    if not isinstance(given, int | float) or not math.isfinite(given):
        raise archive.refusal(f"clip_mean = {given!r} is not understood")
    return float(given)


def _numbers(text: object) -> tuple[float, ...]:
    """Return the numbers of an array's plain text, "[-1. -1.]"; () of anything else."""
    if not isinstance(text, str) or not re.fullmatch(r"\[[^\[\]]*\]", text):
        return ()
    return tuple(float(number) for number in _NUMBER.findall(text))
