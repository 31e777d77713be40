"""Interleaves the parts and the whole, and turns medians into the figures that matter.

With e, t, s and l the core-seconds that environment, teacher, student and training step need for
a transition (each measured alone, on one core, in the same run), r the samples trained on a
transition and C the cores:

    efficiency = transitions/s end to end ÷ (C / (e + t + s + r·l))
    overlap    = transitions/s end to end ÷ min(env runners alone, learner alone)
    collector  = env runner without its networks ÷ bare environment
    inference  = teacher forward in the env runner ÷ the best type and layout for this CPU
    gather     = bytes/s of batches out of the window ÷ memcpy of as many
"""

import statistics
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.table import Table

from cluster.bench.parts import Part, build_parts
from cluster.config import RunConfig
from cluster.prepare import Preparation, prepare
from cluster.session import Backend, Session, Snapshot
from common.policies.policy import Policy

SETTLE_S = 5.0
"""Left out at the start of an end-to-end measurement, after the first gradient step."""

START_TIMEOUT_S = 180.0
ENDLESS = 10**12

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
        """Return medians and ratios by the names that programs read."""
        parts = {name: statistics.median(values) for name, values in self.parts.items()}
        whole = {name: statistics.median(values) for name, values in self.whole.items()}
        r = self.config.replay.samples_per_insert
        needed = sum(
            1 / parts[name] for name in ("environment", "teacher_forward", "student_forward")
        )
        needed += r / parts["training_step"]
        forwards = [v for name, v in parts.items() if name.startswith("teacher_forward_")]
        return {
            "transitions_per_s": whole["transitions_per_s"],
            "samples_per_s": whole["samples_per_s"],
            "efficiency": whole["transitions_per_s"] * needed / self.num_cores,
            "overlap": whole["transitions_per_s"]
            / min(whole["collectors_alone_per_s"], parts["training_step"] / r),
            "collector": parts["env_runner_without_networks"] / parts["environment"],
            "inference": parts["teacher_forward"] / max(forwards),
            "training_step": parts["training_step"],
            "bytes_per_transition": whole["bytes_per_transition"],
            "gather": parts["gather"] / parts["memcpy"],
            "data_wait": whole["data_wait"],
            "samples_per_insert": whole["samples_per_insert"],
        }

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
    say: Callable[[str], None],
) -> BenchReport:
    """Measure parts and whole in turn.

    Args:
        preparation: the recipe, found good.
        teacher: its teacher.
        make_backend: starts what runs the whole; it is closed after each round.
        num_cores: cores that the whole may use.
        seconds: of each end-to-end measurement; a part gets a tenth.
        rounds: how often everything is measured.
        say: told what is being measured.
    """
    parts: Samples = {}
    whole: Samples = {}
    say("setting up the parts")
    built: list[Part] = list(build_parts(preparation, teacher))
    for number in range(rounds):
        say(f"round {number + 1} of {rounds}")
        for part in built:
            parts.setdefault(part.name, []).append(part.measure(seconds / 10))
        backend = make_backend()
        try:
            for name, value in _measure_whole(preparation, teacher, backend, seconds).items():
                whole.setdefault(name, []).append(value)
        finally:
            backend.close()
    return BenchReport(config=preparation.config, num_cores=num_cores, parts=parts, whole=whole)


def _measure_whole(
    preparation: Preparation, teacher: Policy, backend: Backend, seconds: float
) -> dict[str, float]:
    """Measure the road as it is, with a learner that hardly trains, and with one that must."""
    per_insert = preparation.config.replay.samples_per_insert

    def watch(samples_per_insert: float) -> _Window:
        config = preparation.config
        replay = config.replay.model_copy(update={"samples_per_insert": samples_per_insert})
        config = config.model_copy(update={"total_env_steps": ENDLESS, "replay": replay})
        # The rate limits follow from the ratio, so they are computed again.
        return _watch(
            prepare(config, num_cpus=ENDLESS, num_gpus=ENDLESS), teacher, backend, seconds
        )

    road, idle, flooded = watch(per_insert), watch(1e-6), watch(HUNGRY)
    return {
        "transitions_per_s": road.env_steps / road.seconds,
        "samples_per_s": road.samples / road.seconds,
        "collectors_alone_per_s": idle.inserted / idle.seconds,
        "bytes_per_transition": road.bytes_per_transition,
        "data_wait": flooded.learner_wait_s / flooded.seconds,
        "samples_per_insert": road.sampled / max(1, road.inserted),
    }


@dataclass(frozen=True, slots=True)
class _Window:
    """What happened between two snapshots."""

    first: Snapshot
    last: Snapshot
    seconds: float

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
    def sampled(self) -> int:
        return sum(s.sampled for s in self.last.shards) - sum(s.sampled for s in self.first.shards)

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
            first, started = session.poll(), time.perf_counter()
            while time.perf_counter() - started < seconds:
                last = session.poll()
            return _Window(first, last, time.perf_counter() - started)
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
