"""Builds the teacher where the recipe's `[actors.inference]` places it.

| placement     | an env runner asks                | labels are written by |
|---------------|-----------------------------------|-----------------------|
| `runner`      | its own copy                      | the env runner        |
| `shared`      | an actor; in one process the only | the env runner        |
|               | copy, called directly             |                       |
| `at_sampling` | its own copy, for acting only     | the learner's readers |

Where a run refreshes its teacher, each of them is a `RefreshablePolicy`, and the learner has one in
every placement, for labels that are stale.
"""

import torch

from actors.placement import AtSamplingPlacement, SharedPlacement
from actors.shared_inference import QuestionGatherer, SharedInference
from cluster.assembly import build_inference
from cluster.recipe.config import RunConfig
from common.policies.inference import CPU, InferencePolicy
from common.policies.policy import Policy
from common.policies.refreshable import RefreshablePolicy
from learners.labeller import Labeller
from learners.relabeller import Relabeller

CUDA = torch.device("cuda")


def build_acting_teacher(
    config: RunConfig, teacher: Policy
) -> InferencePolicy | RefreshablePolicy | SharedInference:
    """Build the teacher that the env runners of this process ask, together or each its own."""
    if isinstance(config.actors.inference, SharedPlacement):
        return build_shared_teacher(config, teacher)
    return _inference(config, teacher, CPU)


def build_shared_teacher(config: RunConfig, teacher: Policy) -> SharedInference:
    """Build the teacher that answers several env runners at once."""
    shared = config.actors.inference
    assert isinstance(shared, SharedPlacement)
    device = CUDA if shared.num_gpus > 0 else CPU
    return SharedInference(
        _inference(config, teacher, device), max_batch_size=shared.max_batch_size
    )


def build_gatherer(config: RunConfig, teacher: SharedInference) -> QuestionGatherer:
    """Build what lets the questions of env runners in other processes wait for each other."""
    actors, shared = config.actors, config.actors.inference
    assert isinstance(shared, SharedPlacement)
    runners = -(-actors.num_env_runners // shared.num_actors)
    return QuestionGatherer(
        teacher.answer_packed,
        max_rows=shared.max_batch_size,
        enough_rows=runners * actors.num_envs_per_runner,
        max_wait_s=shared.max_wait_ms / 1e3,
    )


def build_labeller(config: RunConfig, teacher: Policy) -> Labeller:
    """Build what labels chunks on the learner's device."""
    at_sampling = config.actors.inference
    assert isinstance(at_sampling, AtSamplingPlacement)
    return Labeller(
        _inference(config, teacher, _learners_device(config)),
        micro_batch_size=at_sampling.micro_batch_size,
    )


def build_relabeller(
    config: RunConfig, teacher: Policy, labeller: Labeller | None
) -> Relabeller | None:
    """Build what labels stale rows anew, on the learner's device; None where nothing goes stale.

    Args:
        config: the recipe.
        teacher: the version to start with.
        labeller: what labels chunks there; both go on with the same versions then.
    """
    if config.refresh is None:
        return None
    own = _inference(config, teacher, _learners_device(config))
    present = own if labeller is None else labeller.teacher
    assert isinstance(present, RefreshablePolicy)
    return Relabeller(present)


def _learners_device(config: RunConfig) -> torch.device:
    return CUDA if config.learner.num_gpus > 0 else CPU


def _inference(
    config: RunConfig, teacher: Policy, device: torch.device
) -> InferencePolicy | RefreshablePolicy:
    def build(policy: Policy) -> InferencePolicy:
        return build_inference(
            config, policy, device=device, refine_below=config.actors.refine_below
        )

    return build(teacher) if config.refresh is None else RefreshablePolicy(teacher, build)
