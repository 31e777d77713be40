"""Which versions take over, on a backend that plays what the test says."""

import logging
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from actors.evaluator import EvaluationResult
from cluster.recipe.config import RunConfig
from cluster.session import EvaluationJob
from cluster.teacher_refresh import TeacherRefresh
from common.errors import RunFailedError
from common.policies.policy import Policy, new_policy, save_policy
from common.storage import locate
from tests.cartpole import cartpole_teacher, load_config


class FakeBackend:
    """Plays what the teacher's name says."""

    is_local = True

    def __init__(self) -> None:
        self.jobs: list[EvaluationJob] = []
        self.broken: Exception | None = None

    def evaluate(self, config: RunConfig, job: EvaluationJob) -> EvaluationResult:
        self.jobs.append(job)
        if self.broken is not None:
            raise self.broken
        assert job.policy is not None
        value = float(job.policy.spec.name)
        return EvaluationResult(
            returns=(value - 1.0, value + 1.0),
            lengths=(1, 1),
            num_compared=0,
            greedy_agreement=None,
            value_error=None,
            value_scale=None,
            observations=np.empty(0, np.float32),
        )


class Bench:
    def __init__(self, folder: Path) -> None:
        self.folder = folder
        refresh = (
            f"teacher.refresh={{path = '{folder}/versions', interval_s = 5, num_episodes = 7}}"
        )
        self.config = load_config(folder, refresh)
        self.backend: Any = FakeBackend()
        self.said: list[str] = []
        self.now = 100.0
        self.taken = locate(folder / "run" / "teachers")
        self.refresh = TeacherRefresh(
            self.config,
            cartpole_teacher(),
            50.0,
            backend=self.backend,
            folder=self.taken,
            say=self.said.append,
            clock=lambda: self.now,
        )

    def write(self, number: int, plays: float) -> None:
        spec = cartpole_teacher().spec.model_copy(update={"name": str(plays)})
        place = self.folder / "versions" / f"policy-{number}.safetensors"
        save_policy(new_policy(spec, seed=number), place)

    def poll(self) -> Policy | None:
        """Poll until a judgement that was under way is settled."""
        taken = self.refresh.poll()
        deadline = time.monotonic() + 60
        while taken is None and self.refresh._thread is not None:
            assert time.monotonic() < deadline
            self.refresh._thread.join(60)
            taken = self.refresh.poll()
            if self.refresh._thread is None:
                break
        return taken


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return Bench(tmp_path)


def test_a_better_version_is_taken_kept_and_said(bench: Bench) -> None:
    bench.write(1, plays=60.0)
    taken = bench.poll()
    assert taken is bench.refresh.teacher
    assert taken.spec.teacher_version == 1
    assert taken.spec.measured == {"mean_return": 60.0, "episodes": 7}
    assert bench.refresh.mean_return == 60.0
    assert bench.said == [
        "policy-1.safetensors plays 60.00 over 7 episodes, better than 50.00: version 1 of the "
        "teacher"
    ]
    assert bench.taken.names() == ["version-000001.json", "version-000001.safetensors"]
    (job,) = bench.backend.jobs
    assert (job.num_episodes, job.beside_run, job.reference) == (7, True, None)
    described = "teacher: version 1 (policy-1.safetensors), mean return 60.00"
    assert bench.refresh.description == described


@pytest.mark.parametrize("plays", [49.0, 50.0])
def test_one_that_is_no_better_is_refused_and_never_played_again(
    plays: float, bench: Bench
) -> None:
    bench.write(1, plays=plays)
    for _ in range(3):
        assert bench.poll() is None
        bench.now += 10
    assert len(bench.backend.jobs) == 1
    assert bench.refresh.teacher.spec.teacher_version == 0
    assert bench.said == [
        f"policy-1.safetensors plays {plays:.2f} over 7 episodes, no better than the present "
        f"teacher's 50.00"
    ]
    assert bench.taken.names() == []


def test_versions_are_numbered_as_they_are_taken_and_play_other_episodes(bench: Bench) -> None:
    versions = []
    for number, plays in ((3, 60.0), (8, 55.0), (12, 70.0)):
        bench.write(number, plays)
        taken = bench.poll()
        versions.append(None if taken is None else taken.spec.teacher_version)
    assert versions == [1, None, 2]
    assert len({job.seed for job in bench.backend.jobs}) == 3
    assert bench.taken.names()[-1] == "version-000002.safetensors"


def test_of_several_the_newest_plays_first_and_the_others_where_it_is_worse(bench: Bench) -> None:
    for number, plays in ((1, 60.0), (2, 70.0), (3, 20.0)):
        bench.write(number, plays)
    assert bench.poll() is None
    taken = bench.poll()  # at once, without waiting for the interval
    assert taken is not None
    assert taken.spec.provenance["version_file"] == "policy-2.safetensors"
    assert [job.policy.spec.name for job in bench.backend.jobs] == ["20.0", "70.0"]


def test_between_two_looks_is_the_interval(bench: Bench) -> None:
    assert bench.poll() is None
    bench.write(1, plays=60.0)
    bench.now += 4.9
    assert bench.poll() is None
    assert bench.backend.jobs == []
    bench.now += 0.2
    assert bench.poll() is not None


def test_a_look_holds_nobody_up(bench: Bench) -> None:
    bench.write(1, plays=60.0)
    assert bench.refresh.poll() is None  # it only starts
    assert bench.poll() is not None


def test_what_cannot_be_played_is_told_once_and_tried_again(
    bench: Bench, caplog: pytest.LogCaptureFixture
) -> None:
    bench.write(1, plays=60.0)
    bench.backend.broken = RunFailedError("an evaluation failed: its worker died")
    with caplog.at_level(logging.WARNING):
        for _ in range(3):
            assert bench.poll() is None
            bench.now += 10
    (record,) = caplog.records
    assert record.getMessage() == (
        "no version of the teacher can be judged: an evaluation failed: its worker died"
    )
    bench.backend.broken = None
    assert bench.poll() is not None


def test_what_cannot_be_kept_is_not_taken(bench: Bench, caplog: pytest.LogCaptureFixture) -> None:
    bench.write(1, plays=60.0)
    place = bench.folder / "run" / "teachers"
    place.parent.mkdir()
    place.write_text("a file where the folder should be")
    with caplog.at_level(logging.WARNING):
        assert bench.poll() is None
    assert "version 1 of the teacher is not taken" in caplog.text
    assert bench.refresh.teacher.spec.teacher_version == 0
    place.unlink()
    bench.now += 10
    assert bench.poll() is not None


def test_a_bug_is_raised(bench: Bench) -> None:
    bench.write(1, plays=60.0)
    bench.backend.broken = KeyError("a bug")
    with pytest.raises(KeyError):
        bench.poll()
