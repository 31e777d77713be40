"""Soak: half an hour of the product, and how much memory each of its processes gains an hour.

    python -m tests.benchmarks.soak --minutes 30 --out soak.json

Runs a recipe (Pong by default, endless, teacher and student acting in half of the episodes each)
on a `RayBackend` of its own, polls and writes metrics as the controller does, and every `--every`
seconds adds up the memory of all processes by role: driver, raylet, gcs, env runners, shards,
learner, weight store, Ray's own agents. What counts is what a process holds, in parts where several
do: its own pages and those of shared memory, as Ray's object store's, where a shard's chunks lie.
Pages of programs and libraries do not: the kernel drops them and reads them again as it likes. A
line is fitted over the last two thirds of the run: before that, replay and the learner's window
fill up, so runs of a few minutes always seem to grow.

Aim: flat. Exit code 1 where a role gains more than `--allowed` MB an hour.
"""

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from cluster.backends import num_cpus_here
from cluster.bench.parts import resolve_on_play
from cluster.on_ray.backend import RayBackend
from cluster.prepare import prepare
from cluster.recipe.config import load_recipe
from cluster.run_directory import RunDirectory
from cluster.session import Session
from cluster.spool import Spool
from cluster.telemetry import Telemetry
from tests.benchmarks.processes import RoleUsage, memory_by_role

RECIPE = Path(__file__).resolve().parents[2] / "deploy" / "recipes" / "pong.toml"
ENDLESS = ("total_env_steps=1_000_000_000_000", "behavior.name=mixed")
ALL = "all together"


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    """What was seen at one moment."""

    elapsed_s: float
    env_steps: int
    restarts: int
    usage: dict[str, RoleUsage]

    def held_mb(self, role: str) -> float:
        """Return what a role holds."""
        if role == ALL:
            return sum(usage.held_mb for usage in self.usage.values())
        return self.usage.get(role, RoleUsage()).held_mb


@dataclass(frozen=True, slots=True, kw_only=True)
class Trend:
    """How a role's memory went over the last two thirds of the run."""

    processes: int
    """At the end."""
    start_mb: float
    """Of the fitted line, where the last two thirds begin."""
    end_mb: float
    mb_per_hour: float
    pss_end_mb: float
    """Proportional set size at the end, pages of files included."""


@contextmanager
def running(recipe: Path, overrides: list[str], folder: Path) -> Iterator[Session]:
    """Start a run on Ray, yield it, and end it."""
    config = load_recipe(recipe, [*ENDLESS, *overrides])
    # Any temperature costs the same, and no score is taken here.
    config = config.model_copy(update={"objective": config.objective.with_temperature(1.0)})
    preparation = prepare(config, num_cpus=num_cpus_here(), num_gpus=0)
    assert preparation.teacher is not None
    teacher = preparation.teacher
    preparation = resolve_on_play(preparation, teacher).preparation
    backend = RayBackend(address=None, num_cpus=num_cpus_here())
    try:
        session = backend.distil(preparation, teacher, folder / "checkpoints")
        try:
            yield session
        finally:
            session.abort()
    finally:
        backend.close()


def soak(session: Session, folder: Path, *, seconds: float, every: float) -> list[Sample]:
    """Poll for so long and return what was seen, from the first transition on."""
    telemetry = Telemetry(Spool(RunDirectory(folder)), teacher_return=21.0, random_return=-21.0)
    while (steps := session.poll().trainer.env_steps) == 0:
        pass
    samples = [Sample(elapsed_s=0.0, env_steps=steps, restarts=0, usage=memory_by_role())]
    started = time.monotonic()
    while samples[-1].elapsed_s < seconds:
        due = started + min(samples[-1].elapsed_s + every, seconds)
        telemetry.record(snapshot := session.poll())
        while time.monotonic() < due:
            telemetry.record(snapshot := session.poll())
        former = samples[-1]
        sample = Sample(
            elapsed_s=time.monotonic() - started,
            env_steps=snapshot.trainer.env_steps,
            restarts=sum(snapshot.restarts.values()),
            usage=memory_by_role(),
        )
        samples.append(sample)
        speed = (sample.env_steps - former.env_steps) / (sample.elapsed_s - former.elapsed_s)
        parts = [f"{role} {usage.held_mb:.0f}" for role, usage in sorted(sample.usage.items())]
        print(
            f"[{sample.elapsed_s:5.0f} s] {speed:5.0f} transitions/s, "
            f"{sample.held_mb(ALL):.0f} MB: {', '.join(parts)}",
            flush=True,
        )
    return samples


def trends(samples: list[Sample]) -> dict[str, Trend]:
    """Fit a line to each role's memory over the last two thirds."""
    begin, end = samples[-1].elapsed_s / 3, samples[-1].elapsed_s
    late = [sample for sample in samples if sample.elapsed_s >= begin]
    found: dict[str, Trend] = {}
    for role in [*sorted({role for sample in samples for role in sample.usage}), ALL]:
        times = [sample.elapsed_s for sample in late]
        slope, offset = np.polyfit(times, [sample.held_mb(role) for sample in late], 1)
        usage = samples[-1].usage
        last = list(usage.values()) if role == ALL else [usage.get(role, RoleUsage())]
        found[role] = Trend(
            processes=sum(part.processes for part in last),
            start_mb=float(offset + slope * begin),
            end_mb=float(offset + slope * end),
            mb_per_hour=float(3600 * slope),
            pss_end_mb=sum(part.pss_mb for part in last),
        )
    return found


def main() -> None:
    """Run, print the trends, and fail where one is too steep."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--recipe", type=Path, default=RECIPE)
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE")
    parser.add_argument("--minutes", type=float, default=30.0)
    parser.add_argument("--every", type=float, default=15.0, help="seconds between two samples")
    parser.add_argument("--allowed", type=float, default=60.0, help="MB an hour of a role")
    parser.add_argument("--out", type=Path)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        with running(args.recipe, args.set, folder) as session:
            samples = soak(session, folder, seconds=60 * args.minutes, every=args.every)
    found = trends(samples)
    first, last = samples[0], samples[-1]
    speed = (last.env_steps - first.env_steps) / last.elapsed_s
    print(f"{'role':14} processes  start MB    end MB  MB/hour  (with pages of files)")
    for role, trend in found.items():
        print(
            f"{role:14} {trend.processes:9} {trend.start_mb:9.1f} {trend.end_mb:9.1f} "
            f"{trend.mb_per_hour:8.1f}  ({trend.pss_end_mb:.1f})"
        )
    print(f"{speed:.0f} transitions/s over {last.elapsed_s / 60:.1f} min, {last.restarts} restarts")
    if args.out is not None:
        tree = {
            "transitions_per_s": speed,
            "roles": {role: asdict(trend) for role, trend in found.items()},
            "samples": [asdict(sample) for sample in samples],
        }
        args.out.write_text(json.dumps(tree, indent=2) + "\n", encoding="utf-8")
    steep = [role for role in found if role != ALL and found[role].mb_per_hour > args.allowed]
    if steep:
        sys.exit(f"more than {args.allowed:g} MB an hour: {', '.join(steep)}")


if __name__ == "__main__":
    main()
