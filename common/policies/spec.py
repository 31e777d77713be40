"""What a policy is, apart from its weights: `PolicySpec`, the JSON beside every `.safetensors`."""

from typing import Any, Literal

from pydantic import Field, PositiveFloat, PositiveInt, model_validator

from common.config import StrictModel
from common.networks import AnyNetworkSpec
from common.networks.external import ExternalSpec
from common.policies.box import BoxActions

DistKind = Literal["logits", "q_values", "gaussian", "squashed_gaussian", "deterministic"]
"""What a policy's first output is, by row:

| kind                | actions | width | meaning                                                 |
|---------------------|---------|-------|---------------------------------------------------------|
| `logits`            | A       | A     | logits of a softmax                                     |
| `q_values`          | A       | A     | one Q-value an action                                   |
| `gaussian`          | Box [D] | 2 · D | mean and log σ of u; the action is u, clipped           |
| `squashed_gaussian` | Box [D] | 2 · D | mean and log σ of u; the action is tanh u               |
| `deterministic`     | Box [D] | D     | u; the action is tanh u                                 |

Actions of a Box are in units (`common.policies.box`).
"""
GAUSSIAN: tuple[DistKind, ...] = ("gaussian", "squashed_gaussian")
CONTINUOUS: tuple[DistKind, ...] = (*GAUSSIAN, "deterministic")


class Normalizer(StrictModel):
    """What a policy does to an observation vector before its network sees it.

    The network sees clip((observation − mean) / std, −clip, clip).
    """

    mean: tuple[float, ...]
    std: tuple[PositiveFloat, ...]
    clip: PositiveFloat


class ObservationSpec(StrictModel):
    """What the policy sees of one environment copy."""

    shape: tuple[PositiveInt, ...]
    dtype: Literal["uint8", "float32"]
    scale: float = Field(default=1.0, gt=0)
    """The network sees scale times the observation (1/255 for frames)."""
    normalizer: Normalizer | None = None
    """For vectors of floats, in the place of a scale."""

    @model_validator(mode="after")
    def _normalizer_fits(self) -> "ObservationSpec":
        given = self.normalizer
        if given is None:
            return self
        if self.dtype != "float32" or self.scale != 1.0:
            raise ValueError("a normalizer is for float32 observations with scale 1")
        if not self.shape == (len(given.mean),) == (len(given.std),):
            raise ValueError(
                f"the normalizer is of {len(given.mean)} means and {len(given.std)} stds, and "
                f"observations have the shape {self.shape}"
            )
        return self


class ActingSpec(StrictModel):
    """How an action is taken from the policy's outputs."""

    mode: Literal["greedy", "sample"] = "greedy"
    epsilon: float = Field(default=0.0, ge=0.0, le=1.0)


class TaskHead(StrictModel):
    """What a policy of several tasks does in one of them; fields as `PolicySpec` has them."""

    name: str
    num_actions: int | None = Field(default=None, ge=2)
    action_box: BoxActions | None = None
    action_meanings: tuple[str, ...] | None = None
    dist: DistKind = "logits"
    acting: ActingSpec = ActingSpec()
    environment: dict[str, Any] = Field(default_factory=dict)

    @property
    def num_dist_inputs(self) -> int:
        """Width of the task's part of the network's first output."""
        return _width(self.num_actions, self.action_box, self.dist)


class PolicySpec(StrictModel):
    """Everything that is needed to run a policy, and where it comes from."""

    format: Literal["stillhouse/policy"] = "stillhouse/policy"
    version: Literal[1] = 1
    name: str
    network: AnyNetworkSpec
    observation: ObservationSpec
    num_actions: int | None = Field(default=None, ge=2)
    """Of discrete actions."""
    action_box: BoxActions | None = None
    """Of actions that are vectors."""
    action_meanings: tuple[str, ...] | None = None
    dist: DistKind = "logits"
    """What the network's first output is."""
    has_value: bool = False
    """Whether the network has a state-value head (Q-policies have values without one)."""
    acting: ActingSpec = ActingSpec()
    environment: dict[str, Any] = Field(default_factory=dict)
    """The environment and preprocessing that the policy was made for."""
    teacher_version: int = Field(default=0, ge=0)
    """Of a run's teacher that is refreshed: how many it has had before this one."""
    measured: dict[str, Any] = Field(default_factory=dict)
    provenance: dict[str, Any] = Field(default_factory=dict)
    heads: tuple[TaskHead, ...] = ()
    """Of a policy of several tasks, which has no actions but these; side by side, in this order,
    they are the network's first output."""

    @model_validator(mode="after")
    def _consistent(self) -> "PolicySpec":
        if self.heads:
            return self._with_heads()
        if (self.num_actions is None) == (self.action_box is None):
            raise ValueError("give either num_actions or action_box")
        if (self.action_box is None) == (self.dist in CONTINUOUS):
            raise ValueError(
                f"dist = {self.dist!r} does not go with "
                f"{'discrete actions' if self.action_box is None else 'an action_box'}"
            )
        if getattr(self.network, "gsde", None) is not None and self.dist not in GAUSSIAN:
            raise ValueError(f"network.gsde is for Gaussian policies, not for dist = {self.dist!r}")
        meanings = self.action_meanings
        if meanings is not None and len(meanings) != self.num_actions:
            raise ValueError(
                f"action_meanings names {len(meanings)} actions: {len(meanings)} != num_actions "
                f"{self.num_actions}"
            )
        program = self.network if isinstance(self.network, ExternalSpec) else None
        if program is not None and self.has_value != (program.value is not None):
            raise ValueError(f"has_value = {self.has_value}, but network.value = {program.value!r}")
        return self

    def _with_heads(self) -> "PolicySpec":
        names = [head.name for head in self.heads]
        if len(set(names)) < len(names):
            raise ValueError(f"heads have the same name: {', '.join(names)}")
        if self.num_actions is not None or self.action_box is not None:
            raise ValueError("give actions in heads, or beside them, not both")
        for name in names:
            self.of_task(name)  # which says what is wrong with it
        return self

    def of_task(self, name: str) -> "PolicySpec":
        """Return what the policy is in one of its tasks.

        Raises:
            KeyError: it has no such task.
        """
        heads = {head.name: head for head in self.heads}
        fields = {key: getattr(heads[name], key) for key in TaskHead.model_fields if key != "name"}
        own = {key: getattr(self, key) for key in type(self).model_fields} | fields
        return PolicySpec(**own | {"heads": (), "name": f"{self.name}-{name}"})

    def outputs_of(self, name: str) -> slice:
        """Return which of the first outputs are a task's."""
        start = 0
        for head in self.heads:
            if head.name == name:
                return slice(start, start + head.num_dist_inputs)
            start += head.num_dist_inputs
        raise KeyError(name)

    @property
    def num_dist_inputs(self) -> int:
        """Width of the network's first output."""
        if self.heads:
            return sum(head.num_dist_inputs for head in self.heads)
        return _width(self.num_actions, self.action_box, self.dist)


def _width(num_actions: int | None, box: BoxActions | None, dist: DistKind) -> int:
    if box is None:
        assert num_actions is not None
        return num_actions
    return box.size * (2 if dist in GAUSSIAN else 1)
