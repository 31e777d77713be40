"""The distributed road against a plain loop in one process, in turn on the same machine.

    python -m tests.benchmarks.plain_loop --seconds 60 --rounds 3

Both distil the bundled Pong teacher into the 113k student with the same batch, samples a
transition, optimiser, precision and schedules, and are asked for transitions a second once they
are warm (replay filled, student learning). The plain loop is `tests.benchmarks.one_process`.
"""

import argparse
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from cluster.backends import num_cpus_here
from cluster.bench.parts import resolve_on_play
from cluster.on_ray.backend import RayBackend
from cluster.prepare import prepare
from cluster.recipe.config import load_recipe
from tests.benchmarks.one_process import RECIPE, PlainLoop

SPEED = [
    "total_env_steps=100_000_000",
    "behavior.name=student",
    "objective.kl.temperature=1.0",
]
"""What both sides change in the recipe when they are asked for their speed only: the student acts,
as it does in nine tenths of a whole run (while only the teacher acts, the distributed road leaves
the student out)."""
WARM_UP_STEPS = 12_000


def plain_speed(seconds: float, threads: int) -> float:
    """Run the plain loop and return its transitions a second after the warm-up."""
    loop = PlainLoop(load_recipe(RECIPE, SPEED), num_threads=threads)
    while loop.seen < WARM_UP_STEPS:
        loop.step()
    started, counted = time.monotonic(), loop.seen
    while time.monotonic() - started < seconds:
        loop.step()
    return (loop.seen - counted) / (time.monotonic() - started)


def distributed_speed(seconds: float) -> float:
    """Run the recipe on Ray and return its transitions a second after the warm-up."""
    preparation = prepare(load_recipe(RECIPE, SPEED), num_cpus=num_cpus_here(), num_gpus=0)
    assert preparation.teacher is not None
    teacher = preparation.teacher
    preparation = resolve_on_play(preparation, teacher).preparation
    backend = RayBackend(address=None, num_cpus=num_cpus_here())
    try:
        with tempfile.TemporaryDirectory() as folder:
            session = backend.distil(preparation, teacher, Path(folder))
            try:
                while session.poll().trainer.env_steps < WARM_UP_STEPS:
                    pass
                started, counted = time.monotonic(), session.poll().trainer.env_steps
                while time.monotonic() - started < seconds:
                    steps = session.poll().trainer.env_steps
                return (steps - counted) / (time.monotonic() - started)
            finally:
                session.abort()
    finally:
        backend.close()


def in_turn(args: argparse.Namespace) -> None:
    """Measure both in turn, each in a process of its own."""
    figures: dict[str, list[float]] = {"plain": [], "distributed": []}
    for _ in range(args.rounds):
        for name, values in figures.items():
            command = [sys.executable, "-m", "tests.benchmarks.plain_loop"]
            command += ["--seconds", str(args.seconds), "--threads", str(args.threads)]
            command += ["--only", name]
            answer = subprocess.run(command, check=True, capture_output=True, text=True)
            values.append(float(answer.stdout.split()[-1]))
            print(f"{name:12} {values[-1]:8.0f} transitions/s", flush=True)
    medians = {name: statistics.median(values) for name, values in figures.items()}
    print(f"medians      {medians}, ratio {medians['distributed'] / medians['plain']:.2f}")


def main() -> None:
    """Do what is asked for."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=1, help="torch threads of the plain loop")
    parser.add_argument("--only", choices=["plain", "distributed"])
    args = parser.parse_args()
    if args.only:
        plain = args.only == "plain"
        speed = (
            plain_speed(args.seconds, args.threads) if plain else distributed_speed(args.seconds)
        )
        print(f"{speed:.1f}")
    else:
        in_turn(args)


if __name__ == "__main__":
    main()
