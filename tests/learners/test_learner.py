import math
from pathlib import Path

import numpy as np
import pytest
import torch

from common.replay.sampler_config import FreshFirst, Prioritized
from learners.checkpoint import save_checkpoint
from learners.feed import FeedItem
from learners.learner import METRIC_DECAY
from tests.builders import NUM_ACTIONS, make_chunk, make_policy
from tests.checkpoints import newest_state
from tests.learners.learning import (
    TOTAL,
    assert_same_weights,
    item,
    labelled,
    make_learner,
    poisoned,
    train,
    weights_of,
)


def test_training_brings_the_student_to_its_teacher():
    teacher = make_policy(seed=9)
    learner = make_learner(learning_rate=0.02)
    learner.receive(item(*(labelled(s, teacher) for s in range(4))))
    train(learner, 1)
    first = dict(learner.metrics)
    train(learner, 300)
    assert learner.metrics["loss"] < 0.1 * first["loss"]
    assert learner.metrics["agreement"] > 0.9
    assert first.keys() == {"loss", "kl", "agreement", "grad_norm"}


def test_steps_are_taken_for_exactly_the_samples_granted():
    learner = make_learner()
    steps = []
    for granted in (15, 1, 40, 0, 8):
        learner.receive(item(make_chunk(), granted=granted))
        while learner.can_step:
            learner.step()
        steps.append(learner.learner_steps)
    assert steps == [0, 1, 3, 3, 4]
    assert learner.samples == 4 * 16


def test_granted_samples_wait_for_data():
    learner = make_learner()
    learner.receive(item(granted=32))
    assert not learner.can_step
    learner.receive(item(make_chunk()))
    assert learner.can_step


def test_a_step_with_nan_is_skipped_and_counted():
    learner = make_learner(capacity=60)
    learner.receive(item(make_chunk()))
    train(learner, 1)
    before, metrics = weights_of(learner), dict(learner.metrics)
    learner.receive(item(poisoned(1)))
    train(learner, 2)
    assert_same_weights(learner, before)
    assert learner.metrics == metrics
    assert (learner.learner_steps, learner.skipped_steps, learner.bad_steps_in_a_row) == (3, 2, 2)
    assert learner.samples == 3 * 16
    learner.receive(item(*(make_chunk(sequence=s) for s in range(2, 6))))
    train(learner, 1)
    assert (learner.learner_steps, learner.skipped_steps, learner.bad_steps_in_a_row) == (4, 2, 0)
    assert any((weights_of(learner)[name] != tensor).any() for name, tensor in before.items())


@pytest.mark.parametrize("kind", ["frames", "vectors"])
def test_a_learner_resumed_from_disk_goes_on_identically(kind, tmp_path: Path):
    chunks = [make_chunk(kind, sequence=sequence) for sequence in range(3)]
    learner = make_learner(kind)
    learner.receive(item(*chunks))
    train(learner, 5)
    save_checkpoint(tmp_path, learner.state(), step=5, keep=1)
    state = newest_state(tmp_path)
    assert state is not None
    resumed = make_learner(kind, student_seed=7, seed=7)
    resumed.load_state(state)
    assert_same_weights(resumed, weights_of(learner))
    for counter in ("learner_steps", "env_steps", "samples", "skipped_steps", "metrics"):
        assert getattr(resumed, counter) == getattr(learner, counter), counter
    assert resumed.window_size == 0
    resumed.receive(item(*chunks))
    for either in (learner, resumed):
        train(either, 5)
    assert_same_weights(resumed, weights_of(learner))
    assert resumed.metrics == learner.metrics
    assert resumed.env_steps == learner.env_steps


def test_going_back_to_weights_keeps_counters_and_window():
    learner = make_learner(capacity=60)
    learner.receive(item(make_chunk()))
    train(learner, 2)
    state = {"network": weights_of(learner), "optimizer": learner.state()["optimizer"]}
    train(learner, 3)
    learner.receive(item(poisoned(1)))
    train(learner, 1)
    learner.load_weights(state)
    assert_same_weights(learner, state["network"])
    assert (learner.learner_steps, learner.skipped_steps, learner.bad_steps_in_a_row) == (6, 1, 0)
    assert learner.window_size > 0


def test_transitions_are_counted_once_however_often_they_come():
    learner = make_learner()
    chunks = [make_chunk(sequence=sequence) for sequence in range(4)]
    sizes = [chunk.num_transitions for chunk in chunks]
    counted = []
    for received in (
        item(*chunks[:2]),
        item(*chunks[:2]),  # a refill
        item(*chunks[1:3]),  # one old, one new
        item(granted=16),  # nothing but samples
        item(chunks[3]),
        item(chunks[0]),  # the shard started again
        item(chunks[3]),
    ):
        learner.receive(received)
        counted.append(learner.env_steps)
    two, three, four = sum(sizes[:2]), sum(sizes[:3]), sum(sizes)
    assert counted == [two, two, three, three, four, four, four]


def test_chunks_that_come_again_are_trained_on_and_not_counted():
    learner = make_learner(capacity=60)
    chunks = [make_chunk(sequence=sequence) for sequence in range(3)]
    learner.receive(item(*chunks[1:]))
    before, counted = learner.env_steps, learner.state()["ranks"][0]["received"]
    again = FeedItem(granted=7, chunks=[], revisited=[chunks[0]])
    learner.receive(again)
    assert learner.env_steps == before
    assert learner.state()["ranks"][0]["received"] == counted
    rewards = set(learner.gather(learner.draw(1_000).rows).rewards.tolist())
    assert rewards >= set(chunks[0].rewards[chunks[0].valid].tolist())


def test_new_chunks_are_counted_beside_those_that_come_again():
    learner = make_learner()
    chunks = [make_chunk(sequence=sequence) for sequence in range(3)]
    both = FeedItem(granted=0, chunks=chunks[:1], revisited=[*chunks[1:]])
    learner.receive(both)
    assert learner.env_steps == chunks[0].num_transitions
    assert learner.window_size == sum(chunk.num_transitions for chunk in chunks)
    learner.receive(both)  # a refill
    assert learner.env_steps == chunks[0].num_transitions


@pytest.mark.parametrize("sampler", [Prioritized(), FreshFirst()], ids=lambda s: s.name)
def test_other_samplers_teach_too_and_go_on_from_a_checkpoint(sampler, tmp_path: Path):
    teacher = make_policy(seed=9)
    learner = make_learner(learning_rate=0.02, sampler=sampler, capacity=60)
    for sequence in range(8):
        learner.receive(item(labelled(sequence, teacher)))
        train(learner, 1 if sequence == 0 else 40)
        if sequence == 0:
            first = dict(learner.metrics)
    assert learner.metrics["loss"] < 0.2 * first["loss"]
    save_checkpoint(tmp_path, learner.state(), step=5, keep=1)
    after = []
    for seed in (7, 8):
        state = newest_state(tmp_path)
        assert state is not None
        resumed = make_learner(student_seed=seed, seed=seed, sampler=sampler, capacity=60)
        resumed.load_state(state)
        resumed.receive(item(labelled(8, teacher)))
        train(resumed, 5)
        after.append(weights_of(resumed))
    for name, tensor in after[0].items():
        assert torch.equal(tensor, after[1][name])


def test_a_prioritized_learner_goes_past_rows_that_it_cannot_learn_from():
    """A poisoned row is drawn as seldom as any once it was found."""
    learner = make_learner(sampler=Prioritized())
    labels = make_chunk().teacher_dist_inputs.copy()
    labels[0, 0] = np.nan
    learner.receive(item(make_chunk(sequence=0, num_steps=100)))
    learner.receive(item(make_chunk(teacher_dist_inputs=labels)))
    train(learner, 300)
    assert 0 < learner.skipped_steps < 60


def test_a_run_is_finished_with_its_last_transition():
    learner = make_learner()
    first, second = (
        make_chunk(sequence=number, num_steps=100, num_envs=5, end_share=0.0) for number in range(2)
    )
    learner.receive(item(first))
    assert not learner.finished
    learner.receive(item(second))
    assert learner.env_steps == TOTAL
    assert learner.finished


@pytest.mark.parametrize(
    ("env_steps", "share"),
    [(0, 1.0), (TOTAL // 4, 0.8682), (TOTAL // 2, 0.55), (TOTAL, 0.1), (2 * TOTAL, 0.1)],
)
def test_the_rate_falls_along_a_cosine(env_steps, share):
    learner = make_learner(learning_rate=0.04, final_learning_rate_fraction=0.1)
    learner.env_steps = env_steps
    assert learner.learning_rate == pytest.approx(0.04 * share, rel=1e-4)


def test_a_step_is_taken_at_the_rate_of_its_moment():
    """The first step of Adam moves every weight by the rate."""
    learner = make_learner(learning_rate=0.04, final_learning_rate_fraction=0.0)
    learner.receive(item(make_chunk()))
    learner.env_steps = TOTAL // 2
    before = weights_of(learner)["head.bias"]
    train(learner, 1)
    moved = (weights_of(learner)["head.bias"] - before).abs()
    torch.testing.assert_close(moved, torch.full((NUM_ACTIONS,), 0.02), rtol=1e-4, atol=0)


@pytest.mark.parametrize(("limit", "clipped"), [(None, False), (0.01, True)])
def test_gradients_are_clipped_to_the_norm_asked_for(limit, clipped):
    learner = make_learner(max_grad_norm=limit)
    learner.receive(item(make_chunk()))
    train(learner, 1)
    grads = [parameter.grad.norm() for parameter in learner.student.network.parameters()]
    norm = math.hypot(*map(float, grads))
    assert learner.metrics["grad_norm"] > 0.01
    wanted = 0.01 if clipped else learner.metrics["grad_norm"]
    assert norm == pytest.approx(wanted, rel=1e-3)


def test_metrics_are_running_means():
    learner = make_learner()
    learner.receive(item(make_chunk(num_steps=1, num_envs=1)))
    train(learner, 1)
    first = learner.metrics["loss"]
    train(learner, 1)
    second = learner.metrics["loss"]
    assert METRIC_DECAY * first < second < first


def test_published_weights_are_a_copy_with_the_counters():
    learner = make_learner()
    learner.receive(item(make_chunk()))
    train(learner, 2)
    published = learner.weights(5)
    before = weights_of(learner)
    train(learner, 1)
    assert (published.version, published.learner_steps) == (5, 2)
    assert published.env_steps == learner.env_steps
    for name, array in published.arrays.items():
        np.testing.assert_array_equal(array, before[name].numpy())


def test_the_seed_decides_what_is_drawn():
    def after(seed: int) -> dict[str, torch.Tensor]:
        learner = make_learner(seed=seed)
        learner.receive(item(make_chunk()))
        train(learner, 3)
        return weights_of(learner)

    first, again, other = after(1), after(1), after(2)
    for name, tensor in first.items():
        assert torch.equal(tensor, again[name])
    assert any(not torch.equal(tensor, other[name]) for name, tensor in first.items())


def test_a_checkpoint_of_other_ranks_gives_all_but_the_order_of_samples(caplog):
    learner = make_learner()
    learner.receive(item(make_chunk()))
    train(learner, 3)
    state = learner.state()
    other = make_learner(student_seed=7)
    untouched = other.state()["ranks"]
    other.load_state(state | {"ranks": state["ranks"] * 2})
    assert "the checkpoint is of 2 ranks and there are 1 now" in caplog.text
    assert_same_weights(other, weights_of(learner))
    assert other.state()["counters"] == state["counters"]
    for name in ("received", "rng"):
        assert other.state()["ranks"][0][name] == untouched[0][name]


def test_samples_that_died_with_a_former_life_are_taken_again():
    """Of three chunks that come again, the checkpoint knows the first: it was trained on."""
    chunks = [make_chunk(sequence=number) for number in range(4)]
    sizes = [chunk.num_transitions for chunk in chunks]
    before = make_learner(batch_size=1)
    before.receive(item(chunks[0], granted=sizes[0]))
    learner = make_learner(batch_size=1)
    learner.load_state(before.state())
    learner.receive(FeedItem(granted=5, chunks=chunks, again=3))
    assert learner.env_steps == sum(sizes)
    steps = 0
    while learner.can_step:
        learner.step()
        steps += 1
    assert steps == sizes[1] + sizes[2] + 5
