"""The distributed road against a plain loop in one process, in turn on the same machine.

    python -m tests.benchmarks.plain_loop --seconds 60 --rounds 3

Both distil the bundled Pong teacher into the 113k student with the same batch, samples a
transition, optimiser and precision, and are asked for transitions a second once they are warm
(replay filled, student learning). The plain loop is what one would write first: one environment
batch stepped on all cores, then act → store → train in turn. It computes on one torch thread: with
more, torch's and the environment's threads spin against each other and it may fall to a twentieth.
"""

import argparse
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import torch
from ale_py.vector_env import AtariVectorEnv
from torch.nn import functional as F

from cluster.bench.parts import real_observations
from cluster.cli import num_cpus_here
from cluster.compute import resolve_compute
from cluster.config import load_recipe
from cluster.prepare import new_student, prepare
from cluster.ray_backend import RayBackend
from common.policies.policy import load_policy

ROOT = Path(__file__).resolve().parents[2]
RECIPE = ROOT / "deploy" / "recipes" / "pong.toml"
WARM_UP_STEPS = 12_000


def plain_loop(seconds: float, threads: int) -> float:
    """Run the plain loop and return its transitions a second after the warm-up."""
    torch.set_num_threads(threads)
    config = load_recipe(RECIPE, [])
    preparation = prepare(config, num_cpus=1000, num_gpus=0)
    assert preparation.teacher is not None
    teacher = preparation.teacher.network.to(torch.bfloat16).eval()
    student = new_student(config, preparation.environment, preparation.teacher.spec).network
    optimizer = torch.optim.Adam(student.parameters(), lr=5e-4)
    num_envs, capacity, batch = 32, 60_000, 128
    env = AtariVectorEnv("pong", num_envs, reward_clipping=False)
    rng = np.random.default_rng(0)
    replay = np.empty((capacity, 4, 84, 84), np.uint8)
    labels = np.empty((capacity, 6), np.float32)
    seen, observations, started, counted = 0, env.reset(seed=0)[0], time.monotonic(), 0
    while not counted or time.monotonic() - started < seconds:
        if not counted and seen >= WARM_UP_STEPS:
            started, counted = time.monotonic(), seen
        with torch.inference_mode():
            inputs = torch.from_numpy(observations).to(torch.bfloat16) / 255
            logits = teacher(inputs).dist_inputs.float().numpy()
            with torch.autocast("cpu", torch.bfloat16):
                own = student(inputs).dist_inputs.float().numpy()
        by_teacher = rng.random(num_envs) < max(0.0, 1 - seen / 60_000)
        actions = np.where(by_teacher, logits.argmax(-1), own.argmax(-1))
        actions = np.where(rng.random(num_envs) < 0.02, rng.integers(6, size=num_envs), actions)
        where = (seen + np.arange(num_envs)) % capacity
        replay[where], labels[where] = observations, logits
        observations = env.step(actions)[0]
        seen += num_envs
        if seen % batch == 0 and seen > 4_096:
            rows = rng.integers(min(seen, capacity), size=batch)
            inputs = torch.from_numpy(replay[rows]).to(torch.bfloat16) / 255
            with torch.autocast("cpu", torch.bfloat16):
                output = student(inputs).dist_inputs
            target = torch.from_numpy(labels[rows])
            log_pi = F.log_softmax(output.float(), -1)
            loss = F.kl_div(log_pi, F.log_softmax(target, -1), log_target=True, reduction="sum")
            optimizer.zero_grad()
            (loss / batch).backward()
            optimizer.step()
    return (seen - counted) / (time.monotonic() - started)


def distributed(seconds: float) -> float:
    """Run the recipe on Ray and return its transitions a second after the warm-up."""
    config = load_recipe(RECIPE, ["total_env_steps=100_000_000", "objective.kl.temperature=1.0"])
    preparation = prepare(config, num_cpus=num_cpus_here(), num_gpus=0)
    assert preparation.teacher is not None
    teacher = preparation.teacher
    student = new_student(config, preparation.environment, teacher.spec)
    observations = real_observations(preparation, teacher, 2_048)
    preparation = preparation.with_config(
        resolve_compute(config, teacher, student, observations)[0]
    )
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


def main() -> None:
    """Measure both in turn, each in a process of its own."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=1, help="torch threads of the plain loop")
    parser.add_argument("--only", choices=["plain", "distributed"])
    args = parser.parse_args()
    if args.only:
        plain = args.only == "plain"
        speed = plain_loop(args.seconds, args.threads) if plain else distributed(args.seconds)
        print(f"{speed:.1f}")
        return
    load_policy(ROOT / "deploy" / "teachers" / "pong-nature.safetensors")
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


if __name__ == "__main__":
    main()
