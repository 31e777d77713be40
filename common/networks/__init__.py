"""Network architectures by name. A new one is one file and one line in each table."""

from typing import Annotated

from pydantic import Field

from common.networks.base import NetworkOutput, PolicyNetwork
from common.networks.mlp import MLP, MLPSpec
from common.networks.nature_cnn import NatureCNN, NatureCNNSpec

__all__ = ["NETWORKS", "NetworkOutput", "NetworkSpec", "PolicyNetwork", "build_network"]

NetworkSpec = Annotated[NatureCNNSpec | MLPSpec, Field(discriminator="name")]

NETWORKS: dict[str, type[PolicyNetwork]] = {
    "nature_cnn": NatureCNN,
    "mlp": MLP,
}


def build_network(
    spec: NatureCNNSpec | MLPSpec,
    *,
    observation_shape: tuple[int, ...],
    num_actions: int,
    has_value: bool,
) -> PolicyNetwork:
    """Build the network that `spec` names, with fresh weights from torch's generator.

    Args:
        spec: the architecture.
        observation_shape: of one observation.
        num_actions: width of the first output, `PolicySpec.num_dist_inputs`.
        has_value: whether there is a value head.

    Raises:
        MismatchError: the architecture cannot take observations of this shape.
    """
    return NETWORKS[spec.name](
        spec, observation_shape=observation_shape, num_actions=num_actions, has_value=has_value
    )
