"""Batches and outputs of a few random samples, for the tests of terms and objectives."""

from typing import Any

import torch

from common.networks import NetworkOutput
from common.policies.spec import DistKind
from learners.batch import DistillBatch
from learners.objectives import ObjectiveConfig, Term
from tests.builders import NUM_ACTIONS, VECTOR

SAMPLES, FEATURES = 6, 4


def term_of(name: str, settings: dict[str, Any]) -> Term:
    return ObjectiveConfig.model_validate({name: settings}).terms()[name]


def batch_of(labels: torch.Tensor, dist: DistKind, **fields: torch.Tensor | None) -> DistillBatch:
    """Return a batch with labels [B, A]; `fields` are its other tensors."""
    size = len(labels)
    given: dict[str, Any] = {
        "observations": torch.zeros(size, VECTOR),
        "actions": labels.argmax(-1),
        "rewards": torch.zeros(size),
        "teacher_value": None,
    }
    return DistillBatch(teacher_dist_inputs=labels, teacher_dist=dist, **(given | fields))


def random_outputs(dtype: torch.dtype = torch.float64) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the teacher's and the student's outputs for a batch."""
    generator = torch.Generator().manual_seed(0)
    teacher, student = torch.randn(2, SAMPLES, NUM_ACTIONS, generator=generator, dtype=dtype)
    return teacher, student


def random_samples(dist: DistKind) -> tuple[DistillBatch, NetworkOutput]:
    """Return a batch and outputs with everything that a term may ask for, in float64.

    A policy teacher has a value head, a Q-teacher has none.
    """
    teacher, student = random_outputs()
    generator = torch.Generator().manual_seed(1)
    values = torch.randn(2, SAMPLES, generator=generator, dtype=torch.float64)
    features = torch.randn(2, SAMPLES, FEATURES, generator=generator, dtype=torch.float64)
    batch = batch_of(
        teacher,
        dist,
        teacher_value=values[0] if dist == "logits" else None,
        teacher_features=features[0],
    )
    return batch, NetworkOutput(student, values[1], features[1])
