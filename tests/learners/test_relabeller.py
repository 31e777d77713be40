"""Labels that are stale when they are drawn become the present teacher's own outputs."""

from typing import Any

import numpy as np
import pytest
import torch

from common.policies.inference import InferencePolicy, Observations
from common.policies.policy import Policy
from common.policies.refreshable import RefreshablePolicy
from common.replay.sampler_config import UNIFORM
from common.trajectory import TrajectoryChunk
from learners.batch import DistillBatch
from learners.relabeller import Relabeller
from learners.samplers import make_sampler
from learners.window import TransitionWindow
from tests.builders import Kind, make_chunk, make_policy, observations_of

CPU = torch.device("cpu")


class Bench:
    """A window whose teacher is refreshed."""

    def __init__(self, kind: Kind = "vectors", *, length: int = 1, **changes: Any) -> None:
        self.kind = kind
        self.changes: dict[str, Any] = {"has_value": True} | changes
        self.asked: list[int] = []
        self.teacher = RefreshablePolicy(self.version(0), self._spy)
        self.relabeller = Relabeller(self.teacher)
        self.window = TransitionWindow(
            200,
            teacher_dist=self.changes.get("dist", "logits"),
            device=CPU,
            sampler=make_sampler(UNIFORM, capacity=200 // length, device=CPU),
            block=2 if kind == "frames" else None,
            sequence_length=length,
            relabeller=self.relabeller,
        )

    def version(self, number: int) -> Policy:
        return make_policy(self.kind, seed=number, teacher_version=number, **self.changes)

    def insert(self, sequence: int, version: int) -> TrajectoryChunk:
        """Insert a chunk with random labels that are said to be of a version."""
        chunk = make_chunk(
            self.kind,
            sequence=sequence,
            dist=self.changes.get("dist", "logits"),
            has_value=self.changes["has_value"],
            teacher_version=version,
        )
        self.window.insert(chunk)
        return chunk

    def all_rows(self) -> torch.Tensor:
        segments = self.window._segments
        return torch.cat([torch.arange(part.row_start, part.row_stop) for part in segments])

    def _spy(self, policy: Policy) -> Any:
        inner = InferencePolicy(policy)

        class Spy:
            spec = policy.spec

            def __call__(spy, observations: Observations) -> Any:
                self.asked.append(len(observations))
                return inner(observations)

        return Spy()


def labels_of(batch: DistillBatch, reward: float) -> tuple[np.ndarray, float]:
    (row,) = torch.nonzero(batch.rewards == reward).flatten().tolist()
    assert batch.teacher_value is not None
    return batch.teacher_dist_inputs[row].numpy(), float(batch.teacher_value[row])


@pytest.mark.parametrize("kind", ["frames", "vectors"])
@pytest.mark.parametrize("dist", ["logits", "q_values"])
def test_stale_labels_become_the_present_teachers_outputs_and_others_stay(
    kind: Kind, dist: str
) -> None:
    bench = Bench(kind, dist=dist)
    stale, fresh = bench.insert(0, version=1), bench.insert(1, version=2)
    assert bench.relabeller.take(bench.version(2))
    batch = bench.window.gather(bench.all_rows())
    assert batch.teacher_version is not None
    assert batch.teacher_version.tolist() == [2] * len(batch.rewards)
    assert bench.relabeller.relabelled == stale.num_transitions
    assert bench.relabeller.unknown == 0
    teacher = InferencePolicy(bench.version(2))
    for t, n in np.argwhere(stale.valid):
        wanted = teacher(observations_of(stale)[t, n][None].copy())
        logits = wanted.dist_inputs[0]
        logits = logits - logits.max() if dist == "logits" else logits
        found, value = labels_of(batch, float(stale.rewards[t, n]))
        np.testing.assert_allclose(found, logits, rtol=1e-3, atol=1e-3)
        assert wanted.value is not None
        assert value == pytest.approx(wanted.value[0], abs=1e-5)
    for t, n in np.argwhere(fresh.valid):
        found, value = labels_of(batch, float(fresh.rewards[t, n]))
        np.testing.assert_array_equal(found, fresh.labels[t, n].astype(np.float32))
        assert fresh.teacher_value is not None
        assert value == fresh.teacher_value[t, n]


def test_a_row_is_labelled_once_a_version_and_only_if_it_is_drawn() -> None:
    bench = Bench()
    bench.insert(0, version=0)
    rows = bench.all_rows()
    bench.window.gather(rows)
    assert bench.asked == []
    bench.relabeller.take(bench.version(1))
    drawn = torch.cat([rows[:5], rows[:3]])  # some twice, as a sampler may
    first = bench.window.gather(drawn)
    again = bench.window.gather(drawn)
    assert bench.asked == [5]
    torch.testing.assert_close(again.teacher_dist_inputs, first.teacher_dist_inputs)
    bench.window.gather(rows)
    assert bench.asked == [5, len(rows) - 5]
    bench.relabeller.take(bench.version(2))
    bench.window.gather(rows[:2])
    assert bench.asked[2:] == [2]
    assert bench.relabeller.relabelled == len(rows) + 2


def test_labels_of_a_version_that_the_learner_has_not_are_replaced_and_counted() -> None:
    """They cannot come, as the learner has each version first; if they did, nothing learns them."""
    bench = Bench()
    chunk = bench.insert(0, version=7)
    batch = bench.window.gather(bench.all_rows())
    assert batch.teacher_version is not None
    assert set(batch.teacher_version.tolist()) == {0}
    assert bench.relabeller.unknown == chunk.num_transitions


def test_sequences_are_labelled_whole() -> None:
    bench = Bench(length=4)
    chunk = bench.insert(0, version=0)
    bench.relabeller.take(bench.version(1))
    batch = bench.window.gather(torch.arange(chunk.valid.size // 4))
    assert batch.teacher_version is not None
    assert set(batch.teacher_version.tolist()) == {1}
    wanted = InferencePolicy(bench.version(1))(batch.observations.numpy()).dist_inputs
    wanted = wanted - wanted.max(-1, keepdims=True)
    np.testing.assert_allclose(batch.teacher_dist_inputs.numpy(), wanted, rtol=1e-3, atol=1e-3)


def test_where_no_teacher_is_refreshed_rows_know_no_version() -> None:
    window = TransitionWindow(
        100,
        teacher_dist="logits",
        device=CPU,
        sampler=make_sampler(UNIFORM, capacity=100, device=CPU),
    )
    window.insert(make_chunk(teacher_version=3))
    assert window.gather(torch.arange(4)).teacher_version is None
