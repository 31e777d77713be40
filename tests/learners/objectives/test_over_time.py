"""Terms that look along time, against `slow_paths`."""

from typing import Any

import numpy as np
import pytest
import torch

from common.networks import NetworkOutput
from common.policies.spec import DistKind
from learners.batch import DistillBatch, Sequences
from learners.objectives import ObjectiveConfig, Term
from tests.builders import NUM_ACTIONS, VECTOR, random_ends
from tests.learners.objectives.slow_paths import SLOW, Outputs, Sequence, slow_advantage

LENGTH, NUM_SEQUENCES = 7, 5

CASES: dict[str, list[dict[str, Any]]] = {
    "expected_entropy": [
        {},
        {"discount": 0.9, "entropy_weight": 0.2, "return_weight": 0.5, "value_weight": 2.0},
        {"lowest_log_p": -1.0},
        {"path_entropy": True, "entropy_weight": 0.7},
    ],
    "n_distill": [{}, {"discount": 0.5, "return_weight": 1.0, "value_weight": 0.1}],
    "ppd": [
        {},
        {"normalise_advantages": False},
        {"clip": 0.5, "gae_decay": 0.5, "entropy_weight": 0.3, "teacher_weight": 2.0},
    ],
    "kickstart": [{}, {"ratio_clip": 2.0, "discount": 0.8, "teacher_weight": 0.0}],
    "qdagger": [
        {},
        {"num_steps": 1, "huber_delta": 0.1},
        {"num_steps": 10, "discount": 0.7, "teacher_weight": 0.5, "student_temperature": 1.0},
    ],
}
"""The settings under which every term is tested, by the term's name."""

each_case = pytest.mark.parametrize(
    ("name", "settings"), [(name, case) for name, cases in CASES.items() for case in cases]
)
each_end_share = pytest.mark.parametrize("end_share", [0.0, 0.25, 0.6])


def term_of(name: str, settings: dict[str, Any]) -> Term:
    return ObjectiveConfig.model_validate({name: settings}).terms()[name]


def random_batch(
    end_share: float = 0.25, *, seed: int = 0, dist: DistKind = "logits"
) -> tuple[DistillBatch, NetworkOutput]:
    rng = np.random.default_rng(seed)
    shape = (LENGTH, NUM_SEQUENCES)
    ends, resets, _ = random_ends(rng, *shape, end_share)
    truncated = ends & (rng.random(shape) < 0.5)

    def rows(array: np.ndarray) -> torch.Tensor:
        return torch.from_numpy(array.reshape(LENGTH * NUM_SEQUENCES, *array.shape[2:]))

    heads, teacher, target = rng.normal(size=(3, *shape, NUM_ACTIONS))
    sequences = Sequences(
        num_steps=LENGTH,
        valid=rows(~resets),
        starts=torch.zeros(LENGTH * NUM_SEQUENCES, dtype=torch.bool),
        terminated=rows(ends & ~truncated),
        truncated=rows(truncated),
        behavior_log_prob=rows(np.log(rng.uniform(0.1, 0.9, size=shape))),
        acting_policy=rows(np.ones(shape, np.uint8)),
    )
    batch = DistillBatch(
        observations=torch.zeros(LENGTH * NUM_SEQUENCES, VECTOR),
        actions=rows(rng.integers(NUM_ACTIONS, size=shape)),
        rewards=rows(rng.normal(size=shape)),
        teacher_dist_inputs=rows(teacher),
        teacher_dist=dist,
        teacher_value=None,
        target_dist_inputs=rows(target),
        sequences=sequences,
    )
    values = rows(rng.normal(size=shape))
    return batch, NetworkOutput(rows(heads).requires_grad_(), values.requires_grad_())


def sequences_of(batch: DistillBatch) -> list[Sequence]:
    told = batch.sequences
    assert told is not None
    assert batch.target_dist_inputs is not None

    def of(rows: torch.Tensor, index: int) -> list[Any]:
        return rows[index::NUM_SEQUENCES].tolist()

    p = batch.teacher_dist_inputs.softmax(-1)
    return [
        Sequence(
            p=of(p, index),
            actions=of(batch.actions, index),
            rewards=of(batch.rewards, index),
            terminated=of(told.terminated, index),
            truncated=of(told.truncated, index),
            valid=of(told.valid, index),
            log_mu=of(told.behavior_log_prob, index),
            target_q=of(batch.target_dist_inputs, index),
        )
        for index in range(NUM_SEQUENCES)
    ]


def outputs_of(output: NetworkOutput) -> list[Outputs]:
    assert output.value is not None
    return [
        Outputs(
            output.dist_inputs[index::NUM_SEQUENCES].tolist(),
            output.value[index::NUM_SEQUENCES].tolist(),
        )
        for index in range(NUM_SEQUENCES)
    ]


def slow_losses(
    name: str,
    settings: dict[str, Any],
    batch: DistillBatch,
    moving: NetworkOutput,
    fixed: NetworkOutput,
) -> np.ndarray:
    """Return the losses [L, S], NaN on rows that are not valid."""
    losses = np.full((LENGTH, NUM_SEQUENCES), np.nan)
    sequences, frozen = sequences_of(batch), outputs_of(fixed)
    extra = dict(settings)
    if name == "ppd" and settings.get("normalise_advantages", True):
        decays = settings.get("discount", 0.99), settings.get("gae_decay", 0.95)
        advantages = [
            slow_advantage(s, t, f, *decays)
            for s, f in zip(sequences, frozen, strict=True)
            for t in range(LENGTH)
            if s.valid[t] and not s.is_cut(t)
        ]
        extra["scale"] = float(np.mean(advantages)), float(np.std(advantages))
    for index, (s, m, f) in enumerate(zip(sequences, outputs_of(moving), frozen, strict=True)):
        for t in range(LENGTH):
            if s.valid[t]:
                losses[t, index] = SLOW[name](s, t, m, f, **extra)
    return losses


def test_every_term_over_time_is_tested():
    named = {name for name in ObjectiveConfig.model_fields if term_of(name, {}).over_time}
    assert CASES.keys() == SLOW.keys() == named


@each_case
@each_end_share
def test_a_term_equals_its_slow_definition(name, settings, end_share):
    batch, output = random_batch(end_share)
    assert batch.sequences is not None
    found = term_of(name, {"temperature": 1.0} | settings)(batch, output).detach()
    wanted = slow_losses(name, settings, batch, output, output).reshape(-1)
    valid = batch.sequences.valid.numpy()
    np.testing.assert_allclose(found.numpy()[valid], wanted[valid], rtol=1e-6, atol=1e-9)
    assert found.isfinite().all()


@each_case
def test_a_terms_gradient_equals_finite_differences(name, settings):
    """What the term takes for given stays as it was while its outputs are shaken."""
    batch, output = random_batch()
    assert batch.sequences is not None
    assert output.value is not None
    losses = term_of(name, {"temperature": 1.0} | settings)(batch, output)
    batch.mean(losses).backward()
    step, num_valid = 1e-6, int(batch.sequences.valid.sum())
    for tensor in (output.dist_inputs, output.value):
        grad = torch.zeros_like(tensor) if tensor.grad is None else tensor.grad
        wanted = torch.zeros_like(tensor)
        for place in np.ndindex(*tensor.shape):
            sums = []
            for sign in (1, -1):
                shaken = [output.dist_inputs.detach().clone(), output.value.detach().clone()]
                shaken[tensor is output.value][place] += sign * step
                moved = slow_losses(name, settings, batch, NetworkOutput(*shaken), output)
                sums.append(np.nansum(moved))
            wanted[place] = (sums[0] - sums[1]) / (2 * step * num_valid)
        torch.testing.assert_close(grad, wanted, rtol=1e-4, atol=1e-7)


@each_case
def test_rows_that_are_not_valid_decide_nothing_but_the_last_state_of_a_truncated_episode(
    name, settings
):
    batch, output = random_batch(0.4)
    assert batch.sequences is not None
    assert output.value is not None
    term = term_of(name, {"temperature": 1.0} | settings)
    wanted = batch.mean(term(batch, output))
    other, _ = random_batch(0.4)
    invalid = ~batch.sequences.valid
    other.actions[invalid] = 0
    other.rewards[invalid] = 1e3
    other.teacher_dist_inputs[invalid] = 9.0
    other.sequences.behavior_log_prob[invalid] = -1e3
    torch.testing.assert_close(other.mean(term(other, output)), wanted)


@pytest.mark.parametrize("name", ["ppd", "kickstart", "qdagger"])
def test_rewards_are_raw_unless_a_limit_is_given(name):
    batch, output = random_batch()
    term = term_of(name, {"reward_clip": 0.5})
    wanted = term_of(name, {})
    cut = random_batch()[0]
    cut.rewards.clamp_(-0.5, 0.5)
    torch.testing.assert_close(term(batch, output), wanted(cut, output))
    assert (term(batch, output) != wanted(batch, output)).any()


def test_an_objective_leaves_rows_that_are_not_valid_out_of_every_mean():
    batch, output = random_batch(0.4)
    assert batch.sequences is not None
    objective = ObjectiveConfig.model_validate({"kl": {}, "ppd": {"weight": 2.0}})
    value = objective(batch, output)
    valid = batch.sequences.valid
    each = {name: term(batch, output)[valid].mean() for name, term in objective.terms().items()}
    torch.testing.assert_close(value.loss, each["kl"] + 2.0 * each["ppd"])
    for name, mean in value.terms.items():
        torch.testing.assert_close(mean, each[name].detach())


def test_terms_that_read_the_student_differently_are_refused():
    with pytest.raises(ValueError, match="cannot be read by ppd as logits and qdagger as q_values"):
        ObjectiveConfig.model_validate({"ppd": {}, "qdagger": {}})
