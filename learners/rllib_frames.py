"""RLlib's default RLModules with a frame network of ours for an encoder.

RLlib's own convolutions take channels last, and policy and value have a hidden layer each behind
them; networks of ours share one. Here the encoder is one of `common.networks` up to its last hidden
layer, on the frames as env runners have them: [B, stack, H, W] of bytes. RLlib's linear heads
follow. Such a module's weights are the teacher's, name by name.
"""

from dataclasses import dataclass
from typing import Any

from ray.rllib.algorithms.dqn.dqn_catalog import DQNCatalog
from ray.rllib.algorithms.ppo.ppo_catalog import PPOCatalog
from ray.rllib.core.columns import Columns
from ray.rllib.core.models.base import ENCODER_OUT, Encoder
from ray.rllib.core.models.configs import ModelConfig
from ray.rllib.core.models.torch.base import TorchModel

from common.networks import build_network
from common.networks.frame_network import FrameNetwork

NETWORK = "frame_network"
"""Key of the network's specification in RLlib's model configuration."""
SCALE = "frame_scale"
"""Key of what bytes are multiplied by."""


@dataclass
class FrameEncoderConfig(ModelConfig):
    """What RLlib builds the encoder from."""

    network: Any = None
    scale: float = 1.0

    @property
    def output_dims(self) -> tuple[int, ...]:
        """Width of the last hidden layer."""
        return (self.network.hidden,)

    def build(self, framework: str = "torch") -> "FrameEncoder":
        """Build it, with fresh weights."""
        assert framework == "torch", framework
        return FrameEncoder(self)


# RLlib has a hook for subclasses without annotations.
class FrameEncoder(TorchModel, Encoder):  # type: ignore[no-untyped-call]
    """Bytes [B, stack, H, W] → the last hidden layer [B, F]."""

    def __init__(self, config: FrameEncoderConfig) -> None:
        TorchModel.__init__(self, config)
        Encoder.__init__(self, config)
        shape = tuple(config.input_dims)
        network = build_network(
            config.network, observation_shape=shape, num_actions=1, has_value=False
        )
        assert isinstance(network, FrameNetwork)
        network.initialise()
        network.drop_heads()
        self.network = network
        self._scale = config.scale

    def _forward(self, input_dict: dict[str, Any], **kwargs: Any) -> dict[str, Any]:
        frames = input_dict[Columns.OBS].float()
        return {ENCODER_OUT: self.network.features(frames, input_scale=self._scale)}


class _Frames:
    """A catalog's encoder."""

    @classmethod
    def _get_encoder_config(
        cls, observation_space: Any, model_config_dict: dict[str, Any], action_space: Any = None
    ) -> FrameEncoderConfig:
        return FrameEncoderConfig(
            input_dims=observation_space.shape,
            network=model_config_dict[NETWORK],
            scale=model_config_dict[SCALE],
        )


class FrameDQNCatalog(_Frames, DQNCatalog):
    """What a DQN module on frames is made of."""


class FramePPOCatalog(_Frames, PPOCatalog):
    """What a PPO module on frames is made of."""
