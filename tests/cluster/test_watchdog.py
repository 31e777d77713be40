"""Each stage that can stand still, on snapshots that a clock of the test's own dates."""

from dataclasses import replace
from typing import Any

import pytest

from actors.shared_inference import InferenceStats
from cluster.recipe.config import WatchdogConfig
from cluster.session import Snapshot
from cluster.watchdog import Watchdog
from common.replay.rate_limiter import RateLimits
from tests.cluster.snapshots import COLLECTOR, SHARD, SNAPSHOT, TRAINER

AFTER_S = 60.0
ROOMY = RateLimits(samples_per_insert=1.0, min_size_to_sample=100, error_buffer=1e9)
TIGHT = RateLimits(samples_per_insert=1.0, min_size_to_sample=100, error_buffer=200.0)
PUBLISH_INTERVAL_STEPS = 10

EVERYTHING = frozenset({"collected", "inserted", "sampled", "received", "steps", "version", "wait"})
"""What moves in a run that is well."""


class Run:
    """A run of two env runners and one shard whose counters move as the test says."""

    def __init__(
        self, limits: RateLimits = ROOMY, after_s: float = AFTER_S, **counters: int
    ) -> None:
        self.now = 1_000.0
        self.watchdog = Watchdog(
            WatchdogConfig(after_s=after_s),
            limits,
            publish_interval_steps=PUBLISH_INTERVAL_STEPS,
            clock=lambda: self.now,
        )
        self.counters = {
            "collected": 500,
            "inserted": 500,
            "sampled": 400,
            "received": 500,
            "steps": 40,
            "version": 4,
            "pulled": 4,
            "wait": 7,
        } | counters
        self.check()

    def snapshot(self, **changes: Any) -> Snapshot:
        count = self.counters
        collector = replace(
            COLLECTOR, env_steps=count["collected"], chunks=1, policy_version=count["pulled"]
        )
        snapshot = replace(
            SNAPSHOT,
            trainer=replace(
                TRAINER,
                learner_steps=count["steps"],
                env_steps=count["received"],
                policy_version=count["version"],
                wait_s=float(count["wait"]),
            ),
            collectors=(collector, replace(collector, runner_id=1)),
            shards=(replace(SHARD, inserted=count["inserted"], sampled=count["sampled"]),),
        )
        return replace(snapshot, **changes)

    def check(self, seconds: float = 0.0, **changes: Any) -> str | None:
        self.now += seconds
        return self.watchdog.check(self.snapshot(**changes))

    def go_on(
        self, seconds: float, *, without: set[str] = frozenset(), **changes: Any
    ) -> list[str]:
        """Poll every second while all counters move but those; return what is said."""
        said = []
        for _ in range(round(seconds)):
            for name in EVERYTHING - set(without):
                self.counters[name] += PUBLISH_INTERVAL_STEPS if name != "version" else 1
            if "pulled" not in without:
                self.counters["pulled"] = self.counters["version"]
            said.append(self.check(1.0, **changes))
        return [line for line in said if line is not None]


def test_a_run_that_is_well_is_not_spoken_of() -> None:
    run = Run()
    assert run.go_on(10 * AFTER_S) == []
    assert (run.watchdog.standstill, run.watchdog.standstill_s) == (None, 0.0)


@pytest.mark.parametrize(
    ("still", "text"),
    [
        (EVERYTHING - {"wait"}, "the env runners collect nothing"),
        (EVERYTHING, "no counter of env runners, replay or learner moves"),
        (
            EVERYTHING - {"wait", "collected"},
            "the replay takes in nothing of what the env runners collect",
        ),
        (
            {"received", "steps", "version", "sampled"},
            "the learner has no data: it receives nothing of what the replay holds",
        ),
        ({"steps", "version"}, "the learner receives data and takes no step"),
    ],
    ids=["env_runners", "everything", "replay", "no_data", "no_steps"],
)
def test_the_stage_that_stands_still_is_named(still: frozenset[str], text: str) -> None:
    run = Run()
    run.go_on(5)
    assert run.go_on(AFTER_S - 1, without=set(still)) == []
    assert run.watchdog.standstill is None
    assert run.go_on(1, without=set(still)) == [f"standing still for 60 s: {text}"]
    assert run.watchdog.standstill_s == AFTER_S


def test_weights_that_are_not_published_are_named() -> None:
    run = Run()
    run.go_on(5)
    version = run.counters["version"]
    # A learner may take two intervals for a version before any time counts.
    assert run.go_on(AFTER_S, without={"version"}) == []
    assert run.go_on(2, without={"version"}) == [
        f"standing still for 60 s: the learner steps and publishes no weights after version "
        f"{version}"
    ]


def test_weights_that_do_not_arrive_are_named() -> None:
    run = Run()
    run.go_on(5)
    pulled = run.counters["pulled"]
    assert run.go_on(AFTER_S - 1, without={"pulled"}) == []
    assert run.go_on(1, without={"pulled"}) == [
        f"standing still for 60 s: the env runners get no new weights: the learner is at version "
        f"{run.counters['version']}, the best of them at {pulled}"
    ]


def test_a_learner_that_holds_the_env_runners_back_is_named_and_not_they() -> None:
    run = Run(TIGHT, inserted=1_000, sampled=600)
    (said,) = run.go_on(AFTER_S, without=EVERYTHING - {"wait"})
    assert said == (
        "standing still for 60 s: the learner has no data: it receives nothing of what the replay "
        "holds; the replay's rate limiter holds the env runners back until it does"
    )


def test_env_runners_that_wait_for_a_slow_learner_are_well() -> None:
    run = Run(TIGHT, inserted=1_000, sampled=600)
    still = {"collected", "inserted", "sampled", "received"}
    assert run.go_on(10 * AFTER_S, without=still) == []


def test_a_learner_that_waits_until_the_replay_is_filled_is_well() -> None:
    run = Run(inserted=0, sampled=0, received=0, steps=0)
    for _ in range(5):  # under the minimum, chunks come rarely
        run.counters["inserted"] += 15
        run.counters["collected"] += 15
        assert run.go_on(AFTER_S / 2, without=EVERYTHING - {"wait"}) == []
    run.counters["inserted"] = run.counters["collected"] = 1_000
    still = {"received", "steps", "version", "sampled"}
    assert run.go_on(AFTER_S - 1, without=still) == []
    assert run.go_on(1, without=still) != []


def test_a_missing_env_runner_is_named() -> None:
    run = Run()
    (said,) = run.go_on(AFTER_S, without=EVERYTHING - {"wait"}, collectors=())
    assert said == "standing still for 60 s: no env runner reports"


def test_a_shared_teacher_that_answers_nothing_is_named() -> None:
    teacher = InferenceStats(life="a", ready=True, pid=1, num_rows=0, num_batches=0)
    run = Run()
    still = EVERYTHING - {"wait"}
    (said,) = run.go_on(AFTER_S, without=still, inference=(teacher,))
    assert said.endswith("the env runners collect nothing: the shared teacher answers nothing")
    run = Run()
    run.check(1.0, inference=(replace(teacher, num_rows=8),))
    run.go_on(AFTER_S / 2, without=still, inference=(replace(teacher, num_rows=8),))
    (said,) = run.go_on(AFTER_S / 2, without=still, inference=(replace(teacher, num_rows=9),))
    assert said.endswith("the env runners collect nothing")


def test_resources_that_are_waited_for_are_named() -> None:
    run = Run()
    missing = "env runner 3 needs 1 CPU and 0 are free"
    assert run.go_on(AFTER_S - 1, waiting_for=missing) == []
    run.check(waiting_for=None)
    run.go_on(AFTER_S - 1, waiting_for=missing)
    assert run.go_on(1, waiting_for=missing) == [
        f"standing still for 60 s: waiting for resources: {missing}"
    ]


def test_a_paused_run_stands_still_as_it_should() -> None:
    run = Run()
    assert run.go_on(10 * AFTER_S, without=EVERYTHING, paused=True) == []
    assert run.go_on(AFTER_S - 1, without=EVERYTHING - {"wait"}) == []
    assert run.go_on(1, without=EVERYTHING - {"wait"}) != []


def test_a_standstill_is_said_again_ever_more_rarely_and_once_when_it_is_over() -> None:
    run = Run()
    still = EVERYTHING - {"wait"}
    said = run.go_on(10 * AFTER_S, without=still)
    assert [line.split(":")[0] for line in said] == [
        "standing still for 60 s",
        "standing still for 120 s",
        "standing still for 240 s",
        "standing still for 480 s",
    ]
    assert run.watchdog.standstill == "standing still for 600 s: the env runners collect nothing"
    assert run.go_on(3) == ["moving again after a standstill of 600 s (env runners)"]
    assert (run.watchdog.standstill, run.watchdog.standstill_s) == (None, 0.0)


def test_another_stage_is_said_at_once() -> None:
    run = Run()
    still = EVERYTHING - {"wait"}
    run.go_on(2 * AFTER_S, without=still)
    assert run.go_on(AFTER_S, without=still, waiting_for="no CPU is free") == [
        "standing still for 60 s: waiting for resources: no CPU is free"
    ]


def test_env_runners_that_only_die_and_start_again_collect_nothing() -> None:
    run = Run()
    said = []
    for life in range(1, 7):
        started = tuple(
            replace(collector, incarnation=life, env_steps=0)
            for collector in run.snapshot().collectors
        )
        said += run.go_on(10, without=EVERYTHING - {"wait"}, collectors=started)
    assert said == ["standing still for 60 s: the env runners collect nothing"]


def test_a_learner_back_at_its_checkpoint_moves_from_there() -> None:
    run = Run()
    run.go_on(5)
    run.counters |= {"steps": 20, "received": 300}
    assert run.go_on(2 * AFTER_S) == []


def test_the_time_until_it_speaks_is_the_recipes() -> None:
    run = Run(after_s=5.0)
    assert run.go_on(4, without=EVERYTHING - {"wait"}) == []
    assert run.go_on(1, without=EVERYTHING - {"wait"}) != []


def test_the_time_before_the_first_snapshot_does_not_count() -> None:
    now = 1_000.0
    run = Run()
    watchdog = Watchdog(
        WatchdogConfig(after_s=AFTER_S),
        ROOMY,
        publish_interval_steps=PUBLISH_INTERVAL_STEPS,
        clock=lambda: now,
    )
    now += 5 * AFTER_S  # actors are started
    assert watchdog.check(run.snapshot()) is None
    now += AFTER_S
    assert watchdog.check(run.snapshot()) is not None


def test_chunks_that_come_rarely_are_not_taken_for_lost() -> None:
    run = Run(after_s=30.0)
    for _ in range(5):
        assert run.go_on(27, without={"collected", "inserted"}) == []
        assert run.go_on(1, without={"inserted"}) == []
        assert run.go_on(1, without={"collected"}) == []
