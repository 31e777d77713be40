import numpy as np
import pytest
import torch

from common.policies.policy import Policy, new_policy
from common.policies.tasks import joined_spec
from common.replay.sampler_config import Prioritized, Uniform
from common.trajectory import ChunkId, VectorObservations, labelled_chunk
from learners.batch import DistillBatch
from learners.config import LearnerConfig
from learners.feed import FeedItem
from learners.learner import Learner
from learners.objectives import ObjectiveConfig
from learners.samplers import Draw
from tests.cartpole import cartpole_teacher
from tests.tasks import heavy_teacher

CPU = torch.device("cpu")
ACTIONS = {"light": 2, "heavy": 3}


def student() -> Policy:
    specs = {"light": cartpole_teacher().spec, "heavy": heavy_teacher().spec}
    return new_policy(joined_spec(specs, name="both"), seed=0)


def learner(*, micro_batch_size: int | str = "auto", sampler: str = "uniform") -> Learner:
    config = {"batch_size": 32, "micro_batch_size": micro_batch_size}
    return Learner(
        student=student(),
        teacher_dists=("logits", "q_values"),
        objective=ObjectiveConfig.model_validate({"kl": {}}),
        config=LearnerConfig.model_validate(config),
        window_capacity=400,
        total_env_steps=1_000,
        seed=0,
        device=CPU,
        sampler=Uniform() if sampler == "uniform" else Prioritized(),
    )


def item(task: str, *, num_steps: int = 20, mark: float = 0.0, granted: int = 0) -> FeedItem:
    """Return a chunk of a task whose observations all start with `mark`."""
    from dataclasses import replace

    rng = np.random.default_rng(0)
    values = rng.normal(size=(num_steps, 2, 4)).astype(np.float32)
    values[..., 0] = mark
    labels = rng.normal(size=(num_steps, 2, ACTIONS[task])).astype(np.float32)
    chunk = labelled_chunk(VectorObservations(values), labels)
    chunk_id = ChunkId(runner=list(ACTIONS).index(task), incarnation=0, sequence=0)
    return FeedItem(granted=granted, chunks=[replace(chunk, task_id=task, chunk_id=chunk_id)])


def test_nothing_is_learnt_until_there_are_transitions_of_every_task():
    learning = learner()
    learning.receive(item("light", granted=64))
    assert not learning.can_step
    learning.receive(item("heavy"))
    assert learning.can_step
    assert learning.env_steps == 80


@pytest.mark.parametrize("sampler", ["uniform", "prioritized"])
@pytest.mark.parametrize("micro_batch_size", ["auto", 5, 16])
def test_every_batch_has_as_many_samples_of_each_task(
    sampler: str, micro_batch_size: int | str, monkeypatch: pytest.MonkeyPatch
) -> None:
    learning = learner(micro_batch_size=micro_batch_size, sampler=sampler)
    for _ in range(4):  # four times as many of one task
        learning.receive(item("light", mark=1.0, granted=64))
    learning.receive(item("heavy", mark=2.0))
    seen: list[DistillBatch] = []
    gather = learning._window.gather

    def noted(rows: torch.Tensor) -> DistillBatch:
        seen.append(gather(rows))
        return seen[-1]

    monkeypatch.setattr(learning._window, "gather", noted)
    for step in range(1, 4):
        learning.step()
        for task, mark in (("light", 1.0), ("heavy", 2.0)):
            own = [batch for batch in seen if batch.task == task]
            assert sum(batch.size for batch in own) == 16 * step
            assert all((batch.observations[:, 0] == mark).all() for batch in own)
    assert {"kl", "light/kl", "heavy/kl", "light/agreement"} <= learning.metrics.keys()


def test_a_task_s_means_are_over_its_own_samples() -> None:
    learning = learner(micro_batch_size=5)
    learning.receive(item("light", granted=32))
    learning.receive(item("heavy"))
    learning.step()
    metrics = learning.metrics
    both = (metrics["light/kl"] + metrics["heavy/kl"]) / 2
    assert metrics["kl"] == pytest.approx(both, rel=1e-5)
    assert metrics["light/kl"] != pytest.approx(metrics["heavy/kl"], rel=1e-3)


def test_gradients_reach_the_head_of_the_rows_task_only() -> None:
    learning = learner()
    learning.receive(item("light", granted=32))
    learning.receive(item("heavy"))
    draw = learning.draw(32)
    light = Draw(draw.rows[:16], group_size=16)
    learning._backward(light, learning._window, ObjectiveConfig.model_validate({"kl": {}}))
    head = learning.student.network.head.weight.grad
    assert head.shape == (5, 2)
    assert bool(head[:2].abs().sum() > 0)
    assert bool((head[2:] == 0).all())
    assert bool(learning.student.network.layers[0].weight.grad.abs().sum() > 0)


def test_rows_leave_each_task_s_window_for_themselves() -> None:
    learning = learner()
    learning.receive(item("heavy", mark=1.0))
    for _ in range(20):
        learning.receive(item("light", mark=2.0))
    rows = learning.draw(200).rows
    marks = [learning.gather(part.rows).observations[:, 0] for part in Draw(rows).split(100)]
    assert (marks[0] == 2.0).all()
    assert (marks[1] == 1.0).all()
