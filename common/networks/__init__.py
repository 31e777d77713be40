"""Network architectures by name. A new one is one file and one line in each table."""

from typing import Annotated

from pydantic import Field

from common.networks.base import NetworkOutput, PolicyNetwork
from common.networks.ensemble import Ensemble, EnsembleSpec
from common.networks.external import ExternalNetwork, ExternalSpec
from common.networks.gru import GRU, GRUSpec
from common.networks.impala_cnn import ImpalaCNN, ImpalaCNNSpec
from common.networks.lstm import LSTM, LSTMSpec
from common.networks.mlp import MLP, MLPSpec
from common.networks.nature_cnn import NatureCNN, NatureCNNSpec

__all__ = [
    "NETWORKS",
    "AnyNetworkSpec",
    "NetworkOutput",
    "NetworkSpec",
    "PolicyNetwork",
    "build_network",
]

NetworkSpec = Annotated[
    NatureCNNSpec | ImpalaCNNSpec | MLPSpec | LSTMSpec, Field(discriminator="name")
]
"""What can be built with fresh weights and trained."""

AnyNetworkSpec = Annotated[
    NatureCNNSpec | ImpalaCNNSpec | MLPSpec | LSTMSpec | GRUSpec | EnsembleSpec | ExternalSpec,
    Field(discriminator="name"),
]
"""What a policy can have: a network of ours, several of them, or a program of its own runtime."""

NETWORKS: dict[str, type[PolicyNetwork]] = {
    "nature_cnn": NatureCNN,
    "impala_cnn": ImpalaCNN,
    "mlp": MLP,
    "lstm": LSTM,
}

_ONLY_ASKED: dict[str, type[PolicyNetwork]] = {
    "gru": GRU,
    "ensemble": Ensemble,
    "external": ExternalNetwork,
}


def build_network(
    spec: (
        NatureCNNSpec | ImpalaCNNSpec | MLPSpec | LSTMSpec | GRUSpec | EnsembleSpec | ExternalSpec
    ),
    *,
    observation_shape: tuple[int, ...],
    num_actions: int,
    has_value: bool,
) -> PolicyNetwork:
    """Build the network that `spec` names, with fresh weights or without its program.

    Args:
        spec: the architecture.
        observation_shape: of one observation.
        num_actions: width of the first output, `PolicySpec.num_dist_inputs`.
        has_value: whether there is a value head.

    Raises:
        MismatchError: the architecture cannot take observations of this shape.
    """
    network = (NETWORKS | _ONLY_ASKED)[spec.name]
    return network(
        spec, observation_shape=observation_shape, num_actions=num_actions, has_value=has_value
    )
