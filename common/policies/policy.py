"""A policy in memory: specification and network, and how both are written and read.

On disk a policy is two files: `NAME.safetensors` (weights, any float type) and `NAME.json`
(`PolicySpec`). Reading one runs no code from it.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from pydantic import ValidationError
from safetensors import SafetensorError
from safetensors.torch import load, save

from common.errors import FileMissingError, PolicyFileError, StorageError
from common.networks import PolicyNetwork, build_network
from common.networks.external import ExternalSpec
from common.policies.spec import PolicySpec
from common.programs import refuse_untrusted
from common.storage import Named, locate


@dataclass(frozen=True, slots=True, eq=False)
class Policy:
    """A network and the specification that tells how to use it."""

    spec: PolicySpec
    network: PolicyNetwork

    @property
    def num_parameters(self) -> int:
        """Number of weights and biases."""
        return self.network.num_parameters


def new_policy(spec: PolicySpec, *, seed: int) -> Policy:
    """Build a policy with fresh weights; the caller's random state is left as it was."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = _network_of(spec)
        network.initialise()
        network.set_normalizer(spec.observation.normalizer)
        return Policy(spec, network)


def policy_from_state(
    spec: PolicySpec, state: Mapping[str, torch.Tensor], *, source: str
) -> Policy:
    """Build a policy from a specification and a state dict.

    Args:
        spec: what the policy is.
        state: tensors by the names that the network of `spec` uses; any float type for weights.
        source: what to call the origin in an error.

    Returns:
        The policy in float32 on the CPU, with copies of the tensors.

    Raises:
        PolicyFileError: names or shapes differ from the network's, or a weight is not of finite
            floats.
        MismatchError: the network cannot take the observations that `spec` tells of.
    """
    network = _outline_of(spec, source)
    outlines = network.state_dict()
    wanted = {name: tuple(tensor.shape) for name, tensor in outlines.items()}
    given = {name: tuple(tensor.shape) for name, tensor in state.items()}
    if missing := sorted(wanted.keys() - given.keys()):
        raise PolicyFileError(f"{source}: tensor {missing[0]} is missing for {spec.network}")
    if extra := sorted(given.keys() - wanted.keys()):
        raise PolicyFileError(f"{source}: tensor {extra[0]} has no place in {spec.network}")
    for name, shape in wanted.items():
        if given[name] != shape:
            raise PolicyFileError(f"{source}: tensor {name} has shape {given[name]}, not {shape}")
    copies = {
        name: _copied(name, tensor, outlines[name].dtype, source) for name, tensor in state.items()
    }
    network.load_state_dict(copies, assign=True)
    network.set_normalizer(spec.observation.normalizer)
    return Policy(spec, network)


def save_policy(policy: Policy, path: Named, *, dtype: torch.dtype = torch.float32) -> None:
    """Write `path` (.safetensors) and the specification beside it (.json), each at once.

    Raises:
        StorageError: one of them cannot be written.
    """
    location = locate(path)
    location.write_bytes(save(_portable_state(policy, dtype)))
    location.with_suffix(".json").write_text(policy.spec.model_dump_json(indent=2) + "\n")


def load_policy(path: Named, *, trust: bool = False) -> Policy:
    """Read a policy that `save_policy` wrote.

    Args:
        path: of its `.safetensors`.
        trust: whether it may hold a program that could do more than compute.

    Raises:
        PolicyFileError: a file is missing, damaged, not of this format, or not to be trusted.
    """
    location = locate(path)
    spec_location = location.with_suffix(".json")
    try:
        spec = PolicySpec.model_validate_json(spec_location.read_bytes())
    except FileMissingError:
        raise PolicyFileError(
            f"{spec_location}: missing; a policy is {location.name} and this"
        ) from None
    except StorageError as error:
        raise PolicyFileError(str(error)) from None
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        where = ".".join(str(part) for part in first["loc"])
        problem = f"{where}: {first['msg']}" if where else first["msg"]
        raise PolicyFileError(f"{spec_location}: not a policy spec ({problem})") from None
    if isinstance(spec.network, ExternalSpec):
        refuse_untrusted(spec.network.runtime, trust=trust, source=str(location))
    return policy_from_state(spec, read_safetensors(location), source=str(location))


def policy_to_bytes(policy: Policy) -> tuple[str, bytes]:
    """Return specification and float32 weights, or program, as they go to another process."""
    return policy.spec.model_dump_json(), save(_portable_state(policy, torch.float32))


def policy_from_bytes(spec_json: str, weights: bytes) -> Policy:
    """Rebuild what `policy_to_bytes` took apart; whoever has it in hand was trusted to make it."""
    return policy_from_state(
        PolicySpec.model_validate_json(spec_json), load(weights), source="policy in transit"
    )


def read_safetensors(path: Named) -> dict[str, torch.Tensor]:
    """Read the tensors of a `.safetensors` file.

    Raises:
        PolicyFileError: the file is missing, truncated or not safetensors.
    """
    location = locate(path)
    try:
        return load(location.read_bytes())
    except FileMissingError:
        raise PolicyFileError(f"{location}: no such file; give the path of a policy file") from None
    except StorageError as error:
        raise PolicyFileError(str(error)) from None
    except SafetensorError as error:
        raise PolicyFileError(
            f"{location}: damaged or not a safetensors file ({error}); fetch it again"
        ) from None


def _network_of(spec: PolicySpec) -> PolicyNetwork:
    return build_network(
        spec.network,
        observation_shape=spec.observation.shape,
        num_actions=spec.num_dist_inputs,
        has_value=spec.has_value,
    )


def _outline_of(spec: PolicySpec, source: str) -> PolicyNetwork:
    """Build the network without memory for its weights: a foreign file may tell of any size."""
    try:
        with torch.device("meta"):
            return _network_of(spec)
    except (RuntimeError, TypeError):  # more bytes, or a larger size, than 64 bits can tell
        raise PolicyFileError(f"{source}: no network can be as large as {spec.network}") from None


def _copied(name: str, tensor: torch.Tensor, dtype: torch.dtype, source: str) -> torch.Tensor:
    """Return a copy on the CPU: of weights in float32, of a program's bytes as they are."""
    if not dtype.is_floating_point:
        if tensor.dtype != dtype:
            raise PolicyFileError(f"{source}: tensor {name} is of {tensor.dtype}, not {dtype}")
        return tensor.detach().to("cpu", copy=True).contiguous()
    unreadable = f"{source}: tensor {name} is of {tensor.dtype}; give floats of 8 bits or more"
    if not tensor.is_floating_point():
        raise PolicyFileError(unreadable)
    try:
        copy = tensor.detach().to("cpu", torch.float32, copy=True).contiguous()
    except NotImplementedError:  # packed floats of 4 bits
        raise PolicyFileError(unreadable) from None
    if not bool(torch.isfinite(copy).all()):
        raise PolicyFileError(f"{source}: tensor {name} holds NaN or infinity")
    return copy


def _portable_state(policy: Policy, dtype: torch.dtype) -> dict[str, torch.Tensor]:
    return {
        name: tensor.detach()
        .to("cpu", dtype if tensor.is_floating_point() else tensor.dtype)
        .contiguous()
        for name, tensor in policy.network.state_dict().items()
    }
