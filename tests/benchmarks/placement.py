"""The three places of the teacher, in turn on the same machine, by one recipe.

    python -m tests.benchmarks.placement --seconds 30 --rounds 3

Each round runs the recipe's session once with each placement (A B C A B C), each in a process and
on a Ray cluster of its own, and measures, once training goes on steadily, for `--seconds`:
transitions inserted a second; the CPU milliseconds that all of its processes together spent on one,
Ray's included, which other work on the machine moves less; and the samples trained on, which must
be about the recipe's number for the others to be compared. By default the student drives, as it
does for nine tenths of a run; `--set behavior.name=teacher` measures the road on which every action
waits for the teacher. `--set actors.inference.KEY=VALUE` goes to the placements that know KEY.
"""

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import psutil
import torch

from actors.placement import AtSamplingPlacement, RunnerPlacement, SharedPlacement
from cluster.backends import num_cpus_here
from cluster.on_ray.backend import RayBackend
from cluster.prepare import prepare
from cluster.recipe.config import load_recipe
from cluster.session import Snapshot
from common.threads import set_threads

RECIPE = Path(__file__).resolve().parents[2] / "deploy" / "recipes" / "pong.toml"
WARM_UP_STEPS = 20_000
"""More than the rate limiter lets the env runners lead by."""
OURS = "actors.inference."
PLACEMENTS = {
    "runner": RunnerPlacement,
    "shared": SharedPlacement,
    "at_sampling": AtSamplingPlacement,
}


def measure(recipe: Path, overrides: list[str], seconds: float) -> dict[str, float]:
    """Run the recipe's session and return its figures after the warm-up."""
    set_threads(1)
    config = load_recipe(recipe, overrides)
    config = config.model_copy(update={"objective": config.objective.with_temperature(1.0)})
    preparation = prepare(config, num_cpus=num_cpus_here(), num_gpus=torch.cuda.device_count())
    assert preparation.teacher is not None, f"{recipe}: needs a [teacher] with a path"
    backend = RayBackend(address=None, num_cpus=num_cpus_here())
    try:
        with tempfile.TemporaryDirectory() as folder:
            session = backend.distil(preparation, preparation.teacher, Path(folder))
            try:
                while session.poll().trainer.env_steps < WARM_UP_STEPS:
                    pass
                first, started, cpu = session.poll(), time.monotonic(), _cpu_seconds()
                last = first
                while time.monotonic() - started < seconds:
                    last = session.poll()
                seconds, cpu = time.monotonic() - started, _cpu_seconds() - cpu
                inserted, sampled = (
                    b - a for a, b in zip(*map(_moved, (first, last)), strict=True)
                )
                figures = {
                    "transitions_per_s": inserted / seconds,
                    "cpu_ms_per_transition": 1e3 * cpu / max(1, inserted),
                    "samples_per_insert": sampled / max(1, inserted),
                }
                if last.inference:
                    (rows, batches), (rows_before, batches_before) = map(_answered, (last, first))
                    figures["rows_per_batch"] = (rows - rows_before) / (batches - batches_before)
                return figures
            finally:
                session.abort()
    finally:
        backend.close()


def _moved(snapshot: Snapshot) -> tuple[int, int]:
    """Return the transitions inserted so far, and the samples trained on."""
    return sum(shard.inserted for shard in snapshot.shards), snapshot.trainer.samples


def _answered(snapshot: Snapshot) -> tuple[int, int]:
    """Return the observations and the forward passes of all shared teachers so far."""
    stats = snapshot.inference
    return sum(each.num_rows for each in stats), sum(each.num_batches for each in stats)


def _cpu_seconds() -> float:
    """Return the CPU seconds of this process and all that it started and that still live."""
    this, total = psutil.Process(), 0.0
    for process in [this, *this.children(recursive=True)]:
        try:
            times = process.cpu_times()
        except psutil.NoSuchProcess:
            continue
        total += times.user + times.system
    return total


def _overrides(name: str, given: list[str]) -> list[str]:
    """Return what is set for a placement, without the keys that only others know."""
    known = PLACEMENTS[name].model_fields
    kept = [
        override
        for override in given
        if not override.startswith(OURS)
        or override.removeprefix(OURS).split("=")[0].strip() in known
    ]
    return [
        "behavior.name=student",
        *kept,
        "total_env_steps=1_000_000_000",
        f"{OURS}placement={name}",
    ]


def main() -> None:
    """Measure all placements in turn, each in a process of its own."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--recipe", type=Path, default=RECIPE)
    parser.add_argument("--seconds", type=float, default=30.0)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--set", action="append", default=[], dest="overrides")
    parser.add_argument("--only", choices=list(PLACEMENTS))
    args = parser.parse_args()
    if args.only:
        overrides = _overrides(args.only, args.overrides)
        print(json.dumps(measure(args.recipe, overrides, args.seconds)))
        return
    found: dict[str, dict[str, list[float]]] = {name: {} for name in PLACEMENTS}
    for _ in range(args.rounds):
        for name, rounds in found.items():
            command = [sys.executable, "-m", "tests.benchmarks.placement", "--only", name]
            command += ["--recipe", str(args.recipe), "--seconds", str(args.seconds)]
            command += [f"--set={override}" for override in args.overrides]
            answer = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
            figures: dict[str, float] = json.loads(answer.stdout.splitlines()[-1])
            for figure, value in figures.items():
                rounds.setdefault(figure, []).append(value)
            print(f"{name:12}", _line(figures), flush=True)
    print(f"medians of {args.rounds}")
    for name, rounds in found.items():
        medians = {figure: statistics.median(values) for figure, values in rounds.items()}
        print(f"{name:12}", _line(medians))


def _line(figures: dict[str, float]) -> str:
    return "  ".join(f"{value:,.4g} {name}" for name, value in figures.items())


if __name__ == "__main__":
    main()
