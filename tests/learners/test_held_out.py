"""Scores on held-out chunks, against what the networks say of all rows at once."""

import dataclasses
from typing import Any

import numpy as np
import pytest
import torch

from common.networks.base import Steps
from common.policies.actions import mean_actions
from common.policies.policy import Policy
from common.trajectory import TrajectoryChunk
from learners.held_out import HeldOut, score_held_out
from learners.objectives import ObjectiveConfig
from tests.builders import make_chunk, make_policy, observations_of

STEPS, ENVS = 12, 3
BOX = {"low": (-1.0, -1.0), "high": (1.0, 1.0)}
LSTM = {"name": "lstm", "hidden": 6, "torso": {"name": "mlp", "hidden": (8,)}}
KINDS: dict[str, dict[str, Any]] = {
    "plain": {},
    "memory": {"network": LSTM},
    "box": {"num_actions": None, "action_box": BOX, "dist": "gaussian"},
}


def outputs_of(policy: Policy, chunk: TrajectoryChunk) -> np.ndarray:
    """Return the outputs [T, N, width] for every row."""
    seen = torch.from_numpy(observations_of(chunk)).flatten(0, 1)
    given = {}
    if policy.network.memory_shape is not None:
        starts = np.zeros_like(chunk.valid)
        starts[1:] = ~chunk.valid[:-1]
        given["steps"] = Steps(STEPS, torch.from_numpy(starts), 0)
    with torch.no_grad():
        said = policy.network(seen, **given).dist_inputs.numpy()
    return said.reshape(STEPS, ENVS, -1)


def chunks_of(teacher: Policy) -> list[TrajectoryChunk]:
    """Return two chunks with the teacher's labels, in float32."""
    size = {"num_steps": STEPS, "num_envs": ENVS, "end_share": 0.3}
    plain = [make_chunk("vectors", sequence=number, **size) for number in range(2)]
    return [dataclasses.replace(c, teacher_dist_inputs=outputs_of(teacher, c)) for c in plain]


def scored(student: Policy, teacher: Policy, objective: dict[str, Any]) -> HeldOut:
    return score_held_out(
        student,
        chunks_of(teacher),
        teacher_dist=teacher.spec.dist,
        objective=ObjectiveConfig.model_validate(objective),
        num_observations=5,
    )


@pytest.mark.parametrize("kind", KINDS)
def test_a_student_that_is_its_teacher_is_like_it(kind: str) -> None:
    policy = make_policy(seed=3, **KINDS[kind])
    found = scored(policy, policy, {"gaussian_kl": {}} if kind == "box" else {"kl": {}})
    chunks = chunks_of(policy)
    assert found.transitions == sum(int(chunk.valid.sum()) for chunk in chunks)
    assert found.transitions < 2 * STEPS * ENVS
    assert (found.sequences, len(found.observations)) == (2 * ENVS, 5)
    if kind == "box":
        assert found.likeness.action_error == pytest.approx(0.0, abs=1e-6)
        assert (found.likeness.greedy_agreement, found.likeness.kl) == (None, None)
    else:
        assert found.likeness.action_error is None
        assert found.likeness.greedy_agreement == 1.0
        assert found.likeness.kl == pytest.approx(0.0, abs=1e-6)


@pytest.mark.parametrize("kind", ["plain", "memory"])
def test_likeness_is_over_valid_rows_at_the_objectives_last_temperatures(kind: str) -> None:
    teacher, student = make_policy(seed=3), make_policy(seed=4, **KINDS[kind])
    objective = {"kl": {"temperature": {"start": 5.0, "end": 0.5}, "student_temperature": 2.0}}
    found = scored(student, teacher, objective).likeness
    agreed, divergences = [], []
    for chunk in chunks_of(teacher):
        theirs = torch.from_numpy(chunk.labels[chunk.valid])
        own = torch.from_numpy(outputs_of(student, chunk)[chunk.valid])
        agreed.append(theirs.argmax(-1) == own.argmax(-1))
        log_p, log_pi = torch.log_softmax(theirs / 0.5, -1), torch.log_softmax(own / 2.0, -1)
        divergences.append((log_p.exp() * (log_p - log_pi)).sum(-1))
    assert found.greedy_agreement == pytest.approx(torch.cat(agreed).float().mean())
    assert found.kl == pytest.approx(float(torch.cat(divergences).mean()), rel=1e-4)
    assert (found.teacher_temperature, found.student_temperature) == (0.5, 2.0)


def test_of_box_actions_the_error_is_that_of_mean_actions() -> None:
    teacher = make_policy(seed=3, **KINDS["box"])
    student = make_policy(seed=4, **(KINDS["box"] | {"dist": "deterministic"}))
    found = scored(student, teacher, {"action_mse": {}}).likeness
    errors = []
    for chunk in chunks_of(teacher):
        own = outputs_of(student, chunk)[chunk.valid]
        theirs = mean_actions("gaussian", chunk.labels[chunk.valid])
        errors.append(np.abs(np.tanh(own) - theirs))
    assert found.action_error == pytest.approx(np.concatenate(errors).mean(), rel=1e-5)
