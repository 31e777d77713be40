"""What is left `auto` is resolved by measuring, and never at the cost of the teacher's actions."""

from pathlib import Path

import numpy as np
import platformdirs
import pytest
import torch

from cluster import compute
from cluster.compute import MIN_AGREEMENT, inference_forms, resolve_compute, training_forms
from cluster.recipe.config import RunConfig
from common.policies.inference import InferencePolicy, lead_of_the_best
from common.policies.policy import Policy
from tests.builders import SIZE, STACK, make_policy
from tests.cartpole import cartpole_teacher, load_config


@pytest.fixture(autouse=True)
def _no_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(platformdirs, "user_cache_dir", lambda name: str(tmp_path / name))
    monkeypatch.setattr(compute, "SECONDS", 0.001)
    monkeypatch.setattr(compute, "TOO_SLOW", float("inf"))  # on whatever machine tests run


@pytest.fixture
def config(tmp_path: Path) -> RunConfig:
    return load_config(tmp_path)


@pytest.fixture
def frames() -> np.ndarray:
    rng = np.random.default_rng(0)
    return rng.integers(256, size=(600, STACK, SIZE, SIZE), dtype=np.uint8)


def undecided_teacher() -> Policy:
    """Return a teacher whose two first actions are nearly the same in every state."""
    teacher = make_policy("frames", seed=3)
    with torch.no_grad():
        head = teacher.network.head
        head.weight[1] = head.weight[0] + 1e-4 * torch.randn(
            head.weight.shape[1], generator=torch.Generator().manual_seed(0)
        )
        head.weight[2] = 0
        head.bias[:] = torch.tensor([5.0, 5.0, 0.0])
    return teacher


def test_frames_get_a_form_that_was_measured(config, frames):
    teacher, student = make_policy("frames"), make_policy("frames", seed=1)
    resolved, found = resolve_compute(config, teacher, student, frames)
    assert resolved.actors.precision in ("float32", "float16", "bfloat16")
    assert resolved.actors.layout in teacher.network.layouts()
    assert resolved.learner.layout in student.network.layouts()
    assert resolved.learner.micro_batch_size in (32, 64)
    assert len(found) == 2
    again, _ = resolve_compute(config, teacher, student, frames)
    assert again == resolved


def test_vectors_are_not_measured(config):
    observations = np.random.default_rng(0).normal(size=(50, 4)).astype(np.float32)
    teacher = cartpole_teacher()
    resolved, found = resolve_compute(config, teacher, cartpole_teacher(), observations)
    assert (resolved.actors.precision, resolved.actors.layout) == ("float32", "contiguous")
    assert resolved.learner.micro_batch_size == config.learner.batch_size
    assert found == ()


def test_what_the_recipe_says_is_kept(config, frames):
    actors = config.actors.model_copy(update={"precision": "bfloat16", "layout": "channels_last"})
    learner = config.learner.model_copy(update={"micro_batch_size": 24, "layout": "blocks"})
    asked = config.model_copy(update={"actors": actors, "learner": learner})
    resolved, found = resolve_compute(asked, undecided_teacher(), make_policy("frames"), frames)
    assert resolved == asked
    assert found == ()


def test_sixteen_bits_are_refined_until_the_teacher_acts_as_in_float32(config, frames):
    teacher = undecided_teacher()
    outputs = InferencePolicy(teacher)(frames).dist_inputs
    frames = frames[lead_of_the_best(outputs) > 1e-6]  # float32 itself does not tell the others
    wanted = InferencePolicy(teacher)(frames).dist_inputs.argmax(-1)
    plain = InferencePolicy(teacher, precision="bfloat16")(frames).dist_inputs.argmax(-1)
    assert (plain == wanted).mean() < MIN_AGREEMENT  # otherwise this test shows nothing
    forms = inference_forms(config.actors, teacher, frames)
    assert {form.precision for form in forms} == {"float32", "float16", "bfloat16"}
    for form in forms:
        found = form.policy(teacher)(frames).dist_inputs.argmax(-1)
        assert (found == wanted).mean() >= MIN_AGREEMENT, form
        assert form.agreement >= MIN_AGREEMENT
    assert any(form.refine_below > 0 for form in forms)


def test_a_type_in_which_the_teacher_overflows_is_not_used(config, frames):
    teacher = make_policy("frames")
    with torch.no_grad():
        teacher.network.fc.weight.mul_(1e7)
    precisions = {form.precision for form in inference_forms(config.actors, teacher, frames)}
    assert precisions == {"float32", "bfloat16"}


def test_a_type_that_the_processor_emulates_is_not_checked(config, frames, monkeypatch):
    def emulated(calls, *, seconds):
        return {(p, layout): 3.0 if p == "float16" else 1.0 for p, layout in calls}

    agreement, checked = compute._agreement, []

    def agreement_of(teacher, precision, observations):
        checked.append(precision)
        return agreement(teacher, precision, observations)

    monkeypatch.setattr(compute, "TOO_SLOW", 2.0)
    monkeypatch.setattr(compute, "time_in_turn", emulated)
    monkeypatch.setattr(compute, "_agreement", agreement_of)
    forms = inference_forms(config.actors, make_policy("frames"), frames)
    assert {form.precision for form in forms} == set(checked) == {"float32", "bfloat16"}
    asked = config.actors.model_copy(update={"precision": "float16"})
    forms = inference_forms(asked, make_policy("frames"), frames)
    assert {form.precision for form in forms} == {"float16"}


def test_micro_batches_are_no_larger_than_the_batch(config):
    student = make_policy("frames")
    sizes = {
        batch_size: {
            form.micro_batch_size
            for form in training_forms(
                config.learner.model_copy(update={"batch_size": batch_size}), student
            ).values()
        }
        for batch_size in (16, 128, 65_536)
    }
    assert sizes == {16: {16}, 128: {32, 64, 128}, 65_536: {32, 64, 128, 256}}
    ranks = config.learner.model_copy(update={"batch_size": 128, "num_ranks": 2})
    forms = training_forms(ranks, student).values()
    assert {form.micro_batch_size for form in forms} == {32, 64}


def test_a_learner_that_asks_its_teacher_is_measured_with_it(config, frames):
    objective = config.objective.model_validate({"feature": {}})
    asked = config.model_copy(update={"objective": objective})
    teacher, student = make_policy("frames"), make_policy("frames", seed=1)
    resolved, found = resolve_compute(asked, teacher, student, frames)
    assert resolved.learner.layout in student.network.layouts()
    assert len(found) == 2
