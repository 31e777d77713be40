"""Ranks in two processes, over gloo; what one process can show is in `test_learner.py`."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from common.trajectory import TrajectoryChunk
from common.weights import PolicyWeights
from learners.config import LearnerConfig
from learners.feed import FeedItem
from learners.learner import Learner
from learners.objectives import ObjectiveConfig
from learners.ranks import ALONE, Ranks, Report, merged
from learners.samplers import Draw
from learners.trainer import Trainer
from tests.builders import NUM_ACTIONS, Kind, make_chunk, make_policy
from tests.checkpoints import newest_state
from tests.learners.rank_processes import RankProcesses
from tests.learners.training import ListFeed, Weights, same

BATCH = 16
STEPS = 6


@pytest.fixture(scope="module")
def pair() -> Iterator[RankProcesses]:
    processes = RankProcesses()
    try:
        yield processes
    finally:
        processes.kill()


class SharingLearner(Learner):
    """Draws the whole batch, the same on every rank, and keeps this rank's part of it."""

    def __init__(self, **settings: Any) -> None:
        super().__init__(**settings)
        self._rng = np.random.default_rng(0)

    def draw(self, num_samples: int) -> Draw:
        whole = super().draw(num_samples * self.ranks.size)
        return whole.split(num_samples)[self.ranks.rank]


def make_learner(
    ranks: Ranks,
    *,
    kind: Kind = "vectors",
    make: type[Learner] = Learner,
    capacity: int = 1_000,
    has_value: bool = False,
    objective: dict[str, Any] | None = None,
    **config: Any,
) -> Learner:
    values = {"batch_size": BATCH, "precision": "float32"} | config
    return make(
        # Ranks start with different weights, and must not go on with them.
        student=make_policy(kind, seed=ranks.rank, has_value=has_value),
        teacher_dists=("logits",),
        objective=ObjectiveConfig.model_validate(objective or {"kl": {}}),
        config=LearnerConfig.model_validate(values),
        window_capacity=capacity,
        total_env_steps=1_000,
        seed=0,
        device=torch.device("cpu"),
        ranks=ranks,
        teacher=make_policy(kind, seed=9),
    )


SCHEDULE = {"start": 2.0, "end": 1.0, "until": 0.8, "by": "share_of_teacher"}


def item(*chunks: TrajectoryChunk, steps: int = 0, size: int = 2) -> FeedItem:
    """Return chunks and this rank's share of the samples of some steps."""
    granted = steps * BATCH // size
    return FeedItem(granted=granted, chunks=list(chunks))


def weights_of(learner: Learner) -> Weights:
    return dict(learner.weights(0).arrays)


def shared_batches(ranks: Ranks, kind: Kind, config: dict[str, Any]) -> tuple[Weights, Any]:
    # All ranks get all data here, which would put them further along the schedule.
    learner = make_learner(
        ranks, kind=kind, make=SharingLearner, final_learning_rate_fraction=1.0, **config
    )
    chunks = [make_chunk(kind, sequence=sequence) for sequence in range(3)]
    learner.receive(item(*chunks, steps=STEPS, size=ranks.size))
    share = 0.5 if ranks.rank == 0 else 0.9  # only rank 0 is told in time
    together = learner.agree(received=True, stop=False, save=False, share_of_teacher=share)
    for _ in range(together.steps):
        learner.step()
    assert not learner.can_step
    return weights_of(learner), learner.metrics


@pytest.mark.parametrize(
    ("kind", "config"),
    [
        ("frames", {"micro_batch_size": 3, "max_grad_norm": 0.05}),
        ("frames", {"micro_batch_size": 4, "layout": "channels_last"}),
        ("vectors", {"micro_batch_size": "auto"}),
        ("vectors", {"micro_batch_size": 1}),
        ("vectors", {"has_value": True}),
        ("frames", {"objective": {"kl": {"weight": SCHEDULE}, "feature": {}}}),
        ("vectors", {"objective": {"kl": {}, "value": {}}, "has_value": True}),
    ],
)
def test_two_ranks_learn_what_one_learns_from_the_same_batches(
    pair: RankProcesses, kind: Kind, config: dict[str, Any]
) -> None:
    (first, metrics), (second, same_metrics) = pair(shared_batches, kind, config)
    wanted, wanted_metrics = shared_batches(ALONE, kind, config)
    assert same(first, second)
    assert metrics == same_metrics
    fresh = weights_of(make_learner(ALONE, kind=kind, has_value=config.get("has_value", False)))
    for name, array in wanted.items():
        np.testing.assert_allclose(first[name], array, rtol=1e-3, atol=1e-6)
        if not name.startswith("value") or "objective" in config:
            assert np.abs(array - fresh[name]).max() > 1e-3, name
    for name, value in wanted_metrics.items():
        assert metrics[name] == pytest.approx(value, rel=1e-4, abs=1e-6)


def nan_on_the_second(ranks: Ranks) -> tuple[list[Weights], Learner | Any]:
    learner = make_learner(ranks, capacity=60)
    labels = np.full((8, 3, NUM_ACTIONS), np.nan, np.float16)
    bad = make_chunk(teacher_dist_inputs=labels)
    found = []
    for chunk in (make_chunk(), bad if ranks.rank == 1 else make_chunk(), make_chunk()):
        for _ in range(3):  # fills the window with nothing else
            learner.receive(item(chunk))
        learner.receive(item(steps=1))
        learner.agree(received=True, stop=False, save=False, share_of_teacher=0.0)
        learner.step()
        found.append(weights_of(learner))
    return found, (learner.learner_steps, learner.skipped_steps, learner.metrics)


def test_nan_on_one_rank_skips_the_step_on_all(pair: RankProcesses) -> None:
    (weights, counters), (weights_1, counters_1) = pair(nan_on_the_second)
    assert counters == counters_1
    assert counters[:2] == (3, 1)
    assert all(same(a, b) for a, b in zip(weights, weights_1, strict=True))
    first, skipped, last = weights
    assert same(first, skipped)
    assert not same(skipped, last)


class Run:
    """A trainer on one rank."""

    def __init__(
        self, ranks: Ranks, folder: Path, items: list[FeedItem | None], **config: Any
    ) -> None:
        self.published: list[PolicyWeights] = []
        self.feed = ListFeed(*items)
        values = {"publish_interval_steps": 2, "checkpoint_interval_s": 1e9} | config
        self.learner = make_learner(ranks, **values)
        self.trainer = Trainer(
            self.learner,
            self.feed,
            publish=self.published.append,
            config=self.learner._config,
            checkpoints=folder,
        )


def uneven(ranks: Ranks, folder: Path) -> dict[str, Any]:
    plenty: list[FeedItem | None] = [item(make_chunk(), steps=4), item(steps=9)]
    late: list[FeedItem | None] = [None, None, item(make_chunk(sequence=1)), None]
    late += [item(steps=1), item(steps=2), None, item(steps=1)]
    run = Run(ranks, folder, [plenty, late][ranks.rank])
    came = []
    while run.learner.learner_steps < 4:
        came.append(run.trainer.run_once(0.0))
    stats = run.trainer.stats()
    return {
        "came": came,
        "weights": weights_of(run.learner),
        "steps": (stats.learner_steps, stats.samples, stats.policy_version),
        "data": (stats.env_steps, stats.window_size, stats.learning_rate),
        "reads": run.feed.reads,
        "published": [weights.learner_steps for weights in run.published],
    }


def test_a_rank_with_data_waits_for_one_without(pair: RankProcesses, tmp_path: Path) -> None:
    first, second = pair(uneven, tmp_path)
    assert same(first["weights"], second["weights"])
    assert first["steps"] == second["steps"] == (4, 4 * BATCH, 2)
    assert first["data"] == second["data"]
    both = sum(make_chunk(sequence=sequence).num_transitions for sequence in (0, 1))
    assert first["data"][:2] == (both, both)
    assert first["came"] == second["came"]
    assert (first["reads"], second["reads"]) == (1, 8)  # who has data in hand reads no further
    assert (first["published"], second["published"]) == ([0, 2, 4], [])


def stopped_by_the_second(ranks: Ranks, folder: Path) -> tuple[int, int, bool]:
    items = [item(make_chunk(sequence=k), steps=1) for k in range(50)]
    run = Run(ranks, folder, list(items))
    while not run.trainer.stopped:
        run.trainer.run_once(0.0, stop=ranks.rank == 1 and run.learner.learner_steps == 3)
    run.trainer.close()
    return run.learner.learner_steps, run.learner.env_steps, run.trainer.finished


def test_a_stop_on_one_rank_stops_all_at_the_same_step(pair: RankProcesses, tmp_path: Path) -> None:
    first, second = pair(stopped_by_the_second, tmp_path)
    assert first == second
    assert first[0] == 3
    state = newest_state(tmp_path)
    assert state is not None
    assert state["counters"]["learner_steps"] == 3


def resumed_and_gone_on(
    ranks: Ranks, folder: Path
) -> tuple[Weights, Weights, list[Any], list[Any]]:
    chunks = [make_chunk(sequence=2 * k + ranks.rank) for k in range(3)]
    run = Run(ranks, folder, [item(*chunks, steps=3), item(steps=3)])
    run.trainer.run_once(0.0)
    run.trainer.save()
    run.trainer.wait_until_saved()
    run.trainer.run_once(0.0)
    again = Run(ranks, folder, [item(*chunks, steps=3)])
    again.trainer.run_once(0.0)
    stats = [trainer.stats() for trainer in (run.trainer, again.trainer)]
    counted = [(s.learner_steps, s.env_steps, s.samples, s.metrics) for s in stats]
    versions = [weights.version for weights in again.published]
    return weights_of(run.learner), weights_of(again.learner), counted, versions


def test_ranks_resumed_from_a_checkpoint_go_on_identically(
    pair: RankProcesses, tmp_path: Path
) -> None:
    first, second = pair(resumed_and_gone_on, tmp_path)
    for gone_on, resumed, (one, other), _ in (first, second):
        assert same(gone_on, resumed)
        assert one == other
    assert same(first[0], second[0])
    assert len(first[3]) == 3  # the checkpoint's weights, and those of steps 4 and 6
    assert second[3] == []


def restored(ranks: Ranks, folder: Path) -> tuple[Weights, Weights, int]:
    labels = np.full((300, 3, NUM_ACTIONS), np.nan, np.float16)
    bad = make_chunk(num_steps=300, teacher_dist_inputs=labels)
    poison = bad if ranks.rank == 0 else make_chunk(sequence=1)
    run = Run(
        ranks,
        folder,
        [item(make_chunk(), steps=2), item(steps=1), item(poison, steps=2)],
        max_bad_steps=2,
    )
    run.trainer.run_once(0.0)
    run.trainer.save()
    run.trainer.wait_until_saved()
    saved = weights_of(run.learner)
    run.trainer.run_once(0.0)
    run.trainer.run_once(0.0)
    return saved, weights_of(run.learner), run.trainer.stats().restores


def test_repeated_nan_on_one_rank_restores_all(pair: RankProcesses, tmp_path: Path) -> None:
    for saved, now, restores in pair(restored, tmp_path):
        assert same(saved, now)
        assert restores == 1


def report(**changes: Any) -> Report:
    values = {"steps": 3, "env_steps": 10, "window_size": 7}
    flags = dict.fromkeys(("received", "stop", "save"), False)
    return Report(**(values | flags | {"share_of_teacher": 0.0} | changes))


def test_reports_together_are_the_fewest_steps_all_data_and_any_wish() -> None:
    assert merged([report(steps=0), report(env_steps=5, stop=True), report(window_size=0)]) == (
        report(steps=0, env_steps=25, window_size=14, stop=True)
    )
    assert merged([report(share_of_teacher=0.3), report(share_of_teacher=0.7)]) == report(
        env_steps=20, window_size=14, share_of_teacher=0.3
    )
    assert merged([report(received=True), report(save=True)]) == report(
        env_steps=20, window_size=14, received=True, save=True
    )
