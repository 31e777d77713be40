"""Interleaves the parts and the whole, and turns medians into the figures that matter.

With e, t, s and l the core-seconds that environment, teacher, student and training step need for
a transition (each measured alone, on one core, in the same run), r the samples trained on a
transition and C the cores:

    efficiency    = transitions/s end to end ÷ (C / (e + t + s + r·l))
    overlap       = end to end with C − 1 env runners, so that the learner has a core of its own
                    ÷ min(these env runners alone, learner alone)
    collector     = env runner without its networks ÷ bare environment
    inference     = teacher forward in the env runner ÷ the best type and layout for this CPU
    training_step = gradient step in the learner ÷ the best micro-batch and layout
    gather        = bytes/s of batches out of the window ÷ memcpy of as many

With as many env runners as cores the overlap has a ceiling below 1, because env runners alone may
then use what the learner needs: `overlap_shared` is reported with its `overlap_shared_ceiling`,
n / (n + r·l) with n = e + t + s.
"""

import statistics
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.table import Table

from actors.behavior import StudentDriven
from cluster.bench.parts import Part, build_parts, measure_in_turn, resolve_on_play
from cluster.config import RunConfig
from cluster.prepare import Preparation, prepare
from cluster.session import Backend, Session, Snapshot
from common.policies.policy import Policy

SETTLE_S = 5.0
"""Left out at the start of an end-to-end measurement, after the first gradient step."""

START_TIMEOUT_S = 180.0
ENDLESS = 10**12

PART_SHARE = 15.0
"""A part works for this fraction of an end-to-end measurement, before and after each of them."""

IDLE = 1e-6
"""Samples per insert at which the learner has next to nothing to do."""

HUNGRY = 16.0
"""Samples per insert at which the env runners supply more than the learner can take."""

Samples = dict[str, list[float]]


@dataclass(frozen=True, slots=True, kw_only=True)
class BenchReport:
    """All rounds, by name."""

    config: RunConfig
    num_cores: int
    parts: Samples
    whole: Samples

    def figures(self) -> dict[str, float]:
        """Return medians over the rounds by the names that programs read.

        Ratios are taken of what was measured in the same round. Without a whole, only those of
        the parts are given.
        """
        figures = {
            "collector": self._ratio("env_runner_without_networks", "environment"),
            "inference": self._ratio("teacher_forward", self._best("teacher_forward ")),
            "training_step": self._ratio("training_step", self._best("training_step ")),
            "gather": self._ratio("gather", "memcpy"),
        }
        return figures | (self._figures_of_the_whole() if self.whole else {})

    def _figures_of_the_whole(self) -> dict[str, float]:
        whole, cores = self.whole, self.num_cores
        acting, training = self._core_seconds()
        total = [a + t for a, t in zip(acting, training, strict=True)]
        found = {
            "efficiency": _products(whole["transitions_per_s"], total, 1 / cores),
            "overlap": _overlap(
                whole["split_transitions_per_s"], whole["split_collectors_alone_per_s"], training
            ),
            "overlap_shared": _overlap(
                whole["transitions_per_s"], whole["collectors_alone_per_s"], training
            ),
            "overlap_shared_ceiling": [a / t for a, t in zip(acting, total, strict=True)],
        }
        same = (
            "transitions_per_s",
            "samples_per_s",
            "bytes_per_transition",
            "data_wait",
            "samples_per_insert",
            "learner_wait",
            "env_runner_wait",
        )
        found |= {name: whole[name] for name in same}
        return {name: statistics.median(values) for name, values in found.items()}

    def _core_seconds(self) -> tuple[list[float], list[float]]:
        """Return core-seconds a transition, round by round: acting (n), training (r·l)."""
        r = self.config.replay.samples_per_insert
        names = ("environment", "teacher_forward", "student_forward")
        acting = [sum(1 / self.parts[name][i] for name in names) for i in range(self.num_rounds)]
        return acting, [r / speed for speed in self.parts["training_step"]]

    @property
    def num_rounds(self) -> int:
        """Rounds measured."""
        return len(self.parts["environment"])

    def _ratio(self, part: str, other: str) -> float:
        pairs = zip(self.parts[part], self.parts[other], strict=True)
        return statistics.median(a / b for a, b in pairs)

    def _best(self, prefix: str) -> str:
        named = [name for name in self.parts if name.startswith(prefix)]
        return max(named, key=lambda name: statistics.median(self.parts[name]))

    def as_json(self) -> dict[str, Any]:
        """Return the figures and every round behind them."""
        return {
            **self.figures(),
            "num_cores": self.num_cores,
            "rounds": {**self.parts, **self.whole},
        }

    def tables(self) -> list[Table]:
        """Return the parts and the figures for the screen."""
        parts = Table(title="alone, one core")
        for column in ("part", "a second", "lowest", "highest"):
            parts.add_column(column, justify="left" if column == "part" else "right")
        for name, values in {**self.parts, **self.whole}.items():
            cells = (statistics.median(values), min(values), max(values))
            parts.add_row(name, *(f"{value:,.5g}" for value in cells))
        figures = Table(title=f"{self.config.name} on {self.num_cores} cores")
        figures.add_column("figure")
        figures.add_column("median", justify="right")
        for name, value in self.figures().items():
            figures.add_row(name, f"{value:,.4g}")
        return [parts, figures]


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
        seconds: of each end-to-end measurement; a part gets a part of it.
        rounds: how often everything is measured.
        with_whole: whether to run end to end, which takes most of the time, or the parts only.
        say: told what is being measured.
    """
    parts: Samples = {}
    whole: Samples = {}
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
            for name, (changed, figures) in sessions.items():
                assert backend is not None
                say(f"  {name}")
                watched = _watch(changed, teacher, backend, seconds)
                for figure, value in figures(watched).items():
                    whole.setdefault(figure, []).append(value)
                measured.append(measure_in_turn(built, seconds / PART_SHARE))
        finally:
            if backend is not None:
                backend.close()
        for part in built:
            middle = statistics.median(speeds[part.name] for speeds in measured)
            parts.setdefault(part.name, []).append(middle)
    return BenchReport(config=config, num_cores=num_cores, parts=parts, whole=whole)


def _sessions(
    config: RunConfig, num_cores: int
) -> dict[str, tuple[Preparation, Callable[["_Window"], dict[str, float]]]]:
    """Return what runs end to end, and the figures that each gives."""

    def changed(samples_per_insert: float, num_env_runners: int) -> Preparation:
        replay = config.replay.model_copy(update={"samples_per_insert": samples_per_insert})
        actors = config.actors.model_copy(update={"num_env_runners": num_env_runners})
        update = {"total_env_steps": ENDLESS, "replay": replay, "actors": actors}
        # The rate limits follow from the ratio, so they are computed again.
        return prepare(config.model_copy(update=update), num_cpus=ENDLESS, num_gpus=ENDLESS)

    r, runners = config.replay.samples_per_insert, config.actors.num_env_runners
    split = max(1, num_cores - 1)
    return {
        "the whole": (changed(r, runners), _road_figures),
        "env runners with an idle learner": (
            changed(IDLE, runners),
            lambda w: {"collectors_alone_per_s": w.inserted / w.seconds},
        ),
        "a learner with more data than it can take": (
            changed(HUNGRY, runners),
            lambda w: {"data_wait": w.learner_wait_s / w.seconds},
        ),
        "the whole, one core for the learner": (
            changed(r, split),
            lambda w: {"split_transitions_per_s": w.env_steps / w.seconds},
        ),
        "these env runners with an idle learner": (
            changed(IDLE, split),
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


def _products(values: list[float], others: list[float], factor: float) -> list[float]:
    return [a * b * factor for a, b in zip(values, others, strict=True)]


def _overlap(whole: list[float], collectors: list[float], training: list[float]) -> list[float]:
    """Return end to end ÷ the slower of both sides alone, round by round."""
    sides = zip(whole, collectors, training, strict=True)
    return [both / min(collected, 1 / trained) for both, collected, trained in sides]


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
