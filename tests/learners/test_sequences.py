"""Batches of sequences: the window's, and what the learner makes of them."""

import copy
import dataclasses
import itertools
from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch

from common.errors import ConfigError
from common.frames import FrameObservations
from common.replay.sampler_config import UNIFORM, FreshFirst, Prioritized
from common.trajectory import TrajectoryChunk
from learners.batch import DistillBatch
from learners.objectives import ObjectiveConfig
from learners.samplers import make_sampler
from learners.window import TransitionWindow
from tests.builders import make_chunk, make_policy
from tests.learners.learning import (
    assert_same_weights,
    item,
    labelled,
    make_learner,
    weights_of,
)

CPU = torch.device("cpu")
SAMPLERS = [UNIFORM, Prioritized(), FreshFirst()]

each_sampler = pytest.mark.parametrize("sampler", SAMPLERS, ids=lambda s: s.name)
each_kind = pytest.mark.parametrize("kind", ["frames", "vectors"])


class Row(NamedTuple):
    """Everything that a chunk tells of a row."""

    observation: bytes
    action: int
    reward: float
    labels: tuple[float, ...]
    value: float
    valid: bool
    terminated: bool
    truncated: bool
    log_prob: float
    acting: int


def rows_of_chunk(chunk: TrajectoryChunk, env: int) -> Iterator[Row]:
    seen = chunk.observations
    shown = seen.stacks() if isinstance(seen, FrameObservations) else seen.values
    assert chunk.teacher_value is not None
    for t in range(len(chunk.valid)):
        yield Row(
            shown[t, env].tobytes(),
            int(chunk.actions[t, env]),
            float(chunk.rewards[t, env]),
            tuple(chunk.labels[t, env].tolist()),
            float(chunk.teacher_value[t, env]),
            bool(chunk.valid[t, env]),
            bool(chunk.terminated[t, env]),
            bool(chunk.truncated[t, env]),
            float(chunk.behavior_log_prob[t, env]),
            int(chunk.acting_policy[t, env]),
        )


def sequences_of_chunk(chunk: TrajectoryChunk, length: int) -> list[tuple[Row, ...]]:
    """Cut every env copy's rows, slowly."""
    found = []
    for env in range(chunk.valid.shape[1]):
        rows = list(rows_of_chunk(chunk, env))
        found += [tuple(rows[start : start + length]) for start in range(0, len(rows), length)]
    return found


def sequences_of_batch(batch: DistillBatch) -> list[tuple[Row, ...]]:
    told = batch.sequences
    assert told is not None
    assert batch.teacher_value is not None
    num_sequences = batch.size // told.num_steps
    rows = [
        Row(
            batch.observations[i].numpy().tobytes(),
            int(batch.actions[i]),
            float(batch.rewards[i]),
            tuple(batch.teacher_dist_inputs[i].tolist()),
            float(batch.teacher_value[i]),
            bool(told.valid[i]),
            bool(told.terminated[i]),
            bool(told.truncated[i]),
            float(told.behavior_log_prob[i]),
            int(told.acting_policy[i]),
        )
        for i in range(batch.size)
    ]
    return [tuple(rows[s::num_sequences]) for s in range(num_sequences)]


def window_of(capacity: int, length: int, sampler: Any = UNIFORM) -> TransitionWindow:
    return TransitionWindow(
        capacity,
        teacher_dist="logits",
        device=CPU,
        sampler=make_sampler(sampler, capacity=capacity // length, device=CPU),
        sequence_length=length,
    )


@each_kind
@each_sampler
@pytest.mark.parametrize("length", [2, 4, 8])
@pytest.mark.parametrize("end_share", [0.0, 0.2, 0.5])
def test_sequences_are_those_cut_by_hand_over_many_laps(kind, sampler, length, end_share):
    rng = np.random.default_rng(0)
    window = window_of(100, length, sampler)
    present: list[list[tuple[Row, ...]]] = []
    for number in range(12):
        shape = {"num_steps": int(rng.choice([8, 16])), "num_envs": int(rng.integers(1, 4))}
        chunk = make_chunk(kind, sequence=number, end_share=end_share, **shape)
        window.insert(chunk)
        present.append(sequences_of_chunk(chunk, length))
        draw = window._sampler.draw(rng, 300)
        found = set(sequences_of_batch(window.gather(draw.rows)))
        cuts = [list(itertools.chain(*present[-count:])) for count in range(1, number + 2)]
        (held,) = (cut for cut in cuts if set(cut) == found)
        assert len(window) == sum(row.valid for cut in held for row in cut)
        assert int(window.num_valid(draw.rows)) == sum(
            row.valid for cut in sequences_of_batch(window.gather(draw.rows)) for row in cut
        )


def test_a_chunk_that_is_no_whole_number_of_sequences_is_refused():
    with pytest.raises(ConfigError, match=r"learner.sequence_length = 3: a chunk of 8 steps"):
        window_of(100, 3).insert(make_chunk(num_steps=8))


def test_without_sequences_a_batch_tells_of_none():
    learner = make_learner()
    learner.receive(item(make_chunk()))
    assert learner.gather(learner.draw(4).rows).sequences is None


@pytest.mark.parametrize("micro_batch_size", ["auto", 16, 8, 4])
@each_kind
def test_a_step_is_that_of_the_valid_rows(kind, micro_batch_size):
    """What stands on autoreset rows, and how the batch is cut, decides nothing."""
    chunk = make_chunk(kind, num_steps=8, end_share=0.3)
    assert not chunk.valid.all()
    labels = chunk.labels.copy()
    labels[~chunk.valid] = 100 * np.eye(3)[0]
    spoilt = dataclasses.replace(chunk, teacher_dist_inputs=labels)
    learner = make_learner(
        kind, sequence_length=4, batch_size=16, micro_batch_size=micro_batch_size
    )
    learner.receive(item(spoilt, granted=16))
    generator = learner._rng.bit_generator.state
    batch = learner.gather(learner.draw(16).rows)
    learner._rng.bit_generator.state = generator
    valid = batch.sequences.valid
    plain = dataclasses.replace(
        batch,
        observations=batch.observations[valid],
        teacher_dist_inputs=batch.teacher_dist_inputs[valid],
        sequences=None,
    )
    network = make_policy(kind).network
    scale = learner.student.spec.observation.scale
    output = network(plain.observations.float(), input_scale=scale)
    wanted = ObjectiveConfig.model_validate({"kl": {}})(plain, output)
    wanted.loss.backward()
    learner.step()
    assert learner.metrics["loss"] == pytest.approx(wanted.loss.item(), rel=1e-4)
    assert learner.metrics["kl"] == pytest.approx(wanted.loss.item(), rel=1e-4)
    agreed = (output.dist_inputs.argmax(-1) == plain.teacher_dist_inputs.argmax(-1)).float()
    assert learner.metrics["agreement"] == pytest.approx(float(agreed.mean()), rel=1e-4)
    for (name, found), expected in zip(
        learner.student.network.named_parameters(), network.parameters(), strict=True
    ):
        if expected.grad is not None:
            torch.testing.assert_close(found.grad, expected.grad, rtol=1e-3, atol=1e-6, msg=name)


def test_valid_rows_alone_are_samples_and_none_is_granted_in_vain():
    learner = make_learner(sequence_length=8, batch_size=16, micro_batch_size="auto")
    chunk = make_chunk(num_steps=16, num_envs=4, end_share=0.5)
    learner.receive(item(chunk, granted=1_600))
    taken = 0
    while learner.can_step:
        before = learner._rng.bit_generator.state
        rows = learner.draw(16).rows
        learner._rng.bit_generator.state = before
        taken += int(learner._window.num_valid(rows))
        learner.step()
        assert learner.samples == taken
    assert 1_600 - 16 < taken <= 1_600
    assert learner.learner_steps > 1_600 / 16


@each_sampler
def test_every_sampler_hears_of_the_mean_loss_of_a_sequence(sampler):
    learner = make_learner(
        sampler=sampler, sequence_length=4, batch_size=16, micro_batch_size=8, capacity=64
    )
    learner.receive(item(make_chunk(end_share=0.4), granted=16))
    heard: list[tuple[torch.Tensor, torch.Tensor]] = []
    network = make_policy().network
    learner._sampler.update = lambda rows, losses: heard.append((rows, losses))  # type: ignore[method-assign]
    learner.step()
    ((rows, losses),) = heard
    assert rows.shape == losses.shape == (4,)
    for row, loss in zip(rows, losses, strict=True):
        batch = learner.gather(row[None])
        each = ObjectiveConfig.model_validate({"kl": {}})(batch, network(batch.observations)).losses
        assert batch.sequences is not None
        assert float(loss) == pytest.approx(float(each[batch.sequences.valid].mean()), rel=1e-4)


@each_sampler
def test_a_student_learns_from_sequences(sampler):
    teacher = make_policy(seed=9)
    learner = make_learner(
        sampler=sampler, sequence_length=8, micro_batch_size="auto", learning_rate=0.02
    )
    learner.receive(item(*(labelled(s, teacher) for s in range(4)), granted=16 * 300))
    learner.step()
    first = learner.metrics["loss"]
    while learner.can_step:
        learner.step()
    assert learner.metrics["loss"] < 0.2 * first


@each_sampler
def test_a_learner_goes_on_from_its_window_of_sequences(sampler):
    settings: dict[str, Any] = {"sampler": sampler, "capacity": 64, "micro_batch_size": "auto"}
    learner = make_learner(sequence_length=4, **settings)
    chunk = make_chunk(end_share=0.3)
    learner.receive(item(chunk, granted=200))
    for _ in range(3):
        learner.step()
    state, replay = copy.deepcopy((learner.state(), learner.replay_state()))
    resumed = make_learner(sequence_length=4, **settings)
    resumed.load_state(state)
    resumed._window.insert(chunk)
    resumed._sampler.load_state(replay["sampler"])
    resumed._budget = replay["budget"]
    for either in (learner, resumed):
        either.step()
    assert_same_weights(resumed, weights_of(learner))
    assert replay["sampler"]["sequence_length"] == 4


@pytest.mark.parametrize(
    ("settings", "reason"),
    [
        ({"sequence_length": 5}, "batch_size = 16: must be whole sequences of .* 5 rows"),
        (
            {"sequence_length": 8, "micro_batch_size": 12},
            "micro_batch_size = 12: must be whole sequences of sequence_length = 8",
        ),
        (
            {"sequence_length": 16, "num_ranks": 2},
            "whole sequences of sequence_length = 16 rows for each rank",
        ),
    ],
)
def test_batches_that_would_cut_a_sequence_are_refused(settings, reason):
    with pytest.raises(ValueError, match=reason):
        make_learner(**settings)
