"""Measures the parts and the whole in turn; `cluster.bench.report` says what comes of it."""

import statistics
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from actors.behavior import StudentDriven
from cluster.bench.parts import Part, build_parts, measure_in_turn, resolve_on_play
from cluster.bench.report import BenchReport, Measurements, Rounds
from cluster.prepare import Preparation, prepare
from cluster.recipe.config import RunConfig
from cluster.session import Backend, Session, Snapshot
from common.policies.policy import Policy

SETTLE_S = 5.0
"""Left out at the start of an end-to-end measurement, after the first gradient step."""

START_TIMEOUT_S = 180.0
ENDLESS = 10**12

WHOLE_SHARE = 4.0
"""The whole is watched for this many times as long: the rate limiter lets training lead or lag by
two chunks, which over a short time weighs more than the ratio that it holds to."""

PART_SHARE = 15.0
"""A part works for this fraction of an end-to-end measurement, before and after each of them."""

IDLE = 1e-6
"""Samples per insert at which the learner has next to nothing to do."""

HUNGRY = 16.0
"""Samples per insert at which the env runners supply more than the learner can take."""


def run_bench(
    preparation: Preparation,
    teacher: Policy,
    make_backend: Callable[[], Backend],
    *,
    num_cores: int,
    seconds: float,
    rounds: int,
    with_whole: bool,
    say: Callable[[str], None],
) -> BenchReport:
    """Measure parts and whole in turn.

    Args:
        preparation: the recipe, found good.
        teacher: its teacher.
        make_backend: starts what runs the whole; it is closed after each round.
        num_cores: cores that the whole may use.
        seconds: of each end-to-end measurement; a part gets a part of it, the whole several.
        rounds: how often everything is measured.
        with_whole: whether to run end to end, which takes most of the time, or the parts only.
        say: told what is being measured.
    """
    parts: Measurements = {}
    whole: Rounds = {}
    say("playing, and measuring what is fastest")
    # In nine tenths of a run the student acts; in an endless one it would never come to that.
    driven = preparation.config.model_copy(update={"behavior": StudentDriven()})
    resolved = resolve_on_play(preparation.with_config(driven), teacher)
    for line in resolved.found:
        say(line)
    config = resolved.preparation.config
    built: list[Part] = list(build_parts(resolved.preparation, teacher, resolved.observations))
    sessions = _sessions(config, num_cores) if with_whole else {}
    for number in range(rounds):
        say(f"round {number + 1} of {rounds}")
        measured = [measure_in_turn(built, seconds / PART_SHARE)]
        backend = make_backend() if sessions else None
        try:
            for name, (changed, share, figures) in sessions.items():
                assert backend is not None
                say(f"  {name}")
                watched = _watch(changed, teacher, backend, seconds * share)
                for figure, value in figures(watched).items():
                    whole.setdefault(figure, []).append(value)
                measured.append(measure_in_turn(built, seconds / PART_SHARE))
        finally:
            if backend is not None:
                backend.close()
        for part in built:
            parts.setdefault(part.name, []).append([speeds[part.name] for speeds in measured])
    return BenchReport(config=config, num_cores=num_cores, parts=parts, whole=whole)


def _sessions(
    config: RunConfig, num_cores: int
) -> dict[str, tuple[Preparation, float, Callable[["_Window"], dict[str, float]]]]:
    """Return what runs end to end, for how many measurements' time, and the figures it gives."""

    def changed(samples_per_insert: float, num_env_runners: int) -> Preparation:
        replay = config.replay.model_copy(update={"samples_per_insert": samples_per_insert})
        actors = config.actors.model_copy(update={"num_env_runners": num_env_runners})
        update = {"total_env_steps": ENDLESS, "replay": replay, "actors": actors}
        # The rate limits follow from the ratio, so they are computed again.
        return prepare(config.model_copy(update=update), num_cpus=ENDLESS, num_gpus=ENDLESS)

    r, runners = config.replay.samples_per_insert, config.actors.num_env_runners
    split = max(1, num_cores - 1)
    return {
        "the whole": (changed(r, runners), WHOLE_SHARE, _road_figures),
        "env runners with an idle learner": (
            changed(IDLE, runners),
            1.0,
            lambda w: {"collectors_alone_per_s": w.inserted / w.seconds},
        ),
        "a learner with more data than it can take": (
            changed(HUNGRY, runners),
            1.0,
            lambda w: {"data_wait": w.learner_wait_s / w.seconds},
        ),
        "the whole, one core for the learner": (
            changed(r, split),
            1.0,
            lambda w: {"split_transitions_per_s": w.env_steps / w.seconds},
        ),
        "these env runners with an idle learner": (
            changed(IDLE, split),
            1.0,
            lambda w: {"split_collectors_alone_per_s": w.inserted / w.seconds},
        ),
    }


def _road_figures(window: "_Window") -> dict[str, float]:
    runners = len(window.last.collectors)
    return {
        "transitions_per_s": window.env_steps / window.seconds,
        "samples_per_s": window.samples / window.seconds,
        "bytes_per_transition": window.bytes_per_transition,
        "samples_per_insert": window.samples_per_insert,
        "learner_wait": window.learner_wait_s / window.seconds,
        "env_runner_wait": window.env_runner_wait_s / window.seconds / runners,
    }


@dataclass(frozen=True, slots=True)
class _Window:
    """What happened between two snapshots."""

    snapshots: list[Snapshot]
    seconds: float

    @property
    def first(self) -> Snapshot:
        return self.snapshots[0]

    @property
    def last(self) -> Snapshot:
        return self.snapshots[-1]

    @property
    def env_steps(self) -> int:
        return self.last.trainer.env_steps - self.first.trainer.env_steps

    @property
    def samples(self) -> int:
        return self.last.trainer.samples - self.first.trainer.samples

    @property
    def learner_wait_s(self) -> float:
        return self.last.trainer.wait_s - self.first.trainer.wait_s

    @property
    def inserted(self) -> int:
        return sum(s.inserted for s in self.last.shards) - sum(
            s.inserted for s in self.first.shards
        )

    @property
    def env_runner_wait_s(self) -> float:
        return sum(c.wait_s for c in self.last.collectors) - sum(
            c.wait_s for c in self.first.collectors
        )

    @property
    def samples_per_insert(self) -> float:
        """Slope of samples over inserts: both come in lumps, at different moments."""
        shards = [snapshot.shards for snapshot in self.snapshots]
        inserted = [sum(shard.inserted for shard in polled) for polled in shards]
        sampled = [sum(shard.sampled for shard in polled) for polled in shards]
        return statistics.linear_regression(inserted, sampled).slope

    @property
    def bytes_per_transition(self) -> float:
        shards = self.last.shards
        return sum(s.num_bytes for s in shards) / sum(s.transitions for s in shards)


def _watch(preparation: Preparation, teacher: Policy, backend: Backend, seconds: float) -> _Window:
    """Run a session and watch it for `seconds` once data flows."""
    with tempfile.TemporaryDirectory() as folder:
        session = backend.distil(preparation, teacher, Path(folder))
        try:
            _wait_for_data(session)
            snapshots, started = [session.poll()], time.perf_counter()
            while time.perf_counter() - started < seconds:
                snapshots.append(session.poll())
            return _Window(snapshots, time.perf_counter() - started)
        finally:
            session.abort()


def _wait_for_data(session: Session) -> None:
    deadline = time.monotonic() + START_TIMEOUT_S
    settled: float | None = None
    while settled is None or time.monotonic() < settled:
        snapshot = session.poll()
        flowing = any(shard.sampled or shard.inserted > 16_384 for shard in snapshot.shards)
        if settled is None and flowing:
            settled = time.monotonic() + SETTLE_S
        if time.monotonic() > deadline:
            raise TimeoutError(f"no data flowed within {START_TIMEOUT_S:g} s")
