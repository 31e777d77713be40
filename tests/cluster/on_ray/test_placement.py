"""The reservation against a placement group that does as it is told."""

from pathlib import Path
from typing import Any

import pytest

from cluster.on_ray import placement as ray_placement
from cluster.on_ray import resources as ray_resources
from cluster.on_ray.placement import SPREAD, Reservation
from common.errors import ResourceError
from tests.cartpole import load_config


class Group:
    """A placement group, and what was asked of it."""

    def __init__(self, answers: list[bool]) -> None:
        self.answers = answers
        self.waited: list[int] = []
        self.bundles: list[dict[str, float]] = []
        self.removed = False

    def make(self, bundles: list[dict[str, float]], *, strategy: str) -> "Group":
        """Stand for Ray's `placement_group`."""
        self.bundles = bundles
        return self

    def wait(self, seconds: int) -> bool:
        """Answer whether it is there."""
        self.waited.append(seconds)
        return self.answers.pop(0)

    def remove(self) -> None:
        """Stand for Ray's `remove_placement_group`."""
        self.removed = True


def reserved(
    folder: Path, monkeypatch: pytest.MonkeyPatch, answers: list[bool], *overrides: str
) -> tuple[Group, Reservation]:
    group = Group(answers)
    monkeypatch.setattr(ray_placement, "placement_group", group.make)
    monkeypatch.setattr(ray_placement, "remove_placement_group", Group.remove)
    monkeypatch.setattr(ray_resources, "free", lambda with_gpus: "0.3 of 2 CPUs are free")
    return group, Reservation(load_config(folder, *overrides))


def bundle_of(strategy: Any) -> int:
    bundle: int = strategy.placement_group_bundle_index
    return bundle


def test_every_part_that_a_run_needs_has_a_bundle_of_its_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    group, reservation = reserved(
        tmp_path,
        monkeypatch,
        [True],
        "learner.num_ranks=2",
        "learner.num_gpus=1",
        "replay.num_shards=2",
        "actors.num_env_runners=4",
        "actors.inference.placement=shared",
    )
    reservation.wait()
    rank, inference, runner = {"CPU": 0.5, "GPU": 1.0}, {"CPU": 0.1}, {"CPU": 0.7}
    assert group.bundles == [rank, rank, inference, runner, runner]
    places = [
        *(reservation.of_rank(rank) for rank in range(2)),
        reservation.of_inference(0),
        *(reservation.of_runner(index) for index in range(2)),
    ]
    assert [bundle_of(place) for place in places] == [0, 1, 2, 3, 4]
    assert [reservation.of_runner(index) for index in (2, 3)] == [SPREAD, SPREAD]
    assert not group.removed


def test_a_run_that_waits_says_so_once_and_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    group, reservation = reserved(tmp_path, monkeypatch, [False, True])
    reservation.wait()
    assert [record.getMessage() for record in caplog.records] == [
        "the run waits for 1.2 CPUs to start with: 0.3 of 2 CPUs are free; it gives up after 300 s"
    ]
    assert sum(group.waited) == 300
    assert not group.removed


def test_a_run_that_waits_in_vain_holds_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    group, reservation = reserved(
        tmp_path, monkeypatch, [False, False], "supervision.wait_for_resources_s=9"
    )
    with pytest.raises(ResourceError) as caught:
        reservation.wait()
    assert str(caught.value) == (
        "the run waits for 1.2 CPUs to start with, in vain for 9 s "
        "(supervision.wait_for_resources_s): 0.3 of 2 CPUs are free; end another run, add nodes, "
        "or ask for less"
    )
    assert group.removed
    assert sum(group.waited) == 9
