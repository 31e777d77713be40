"""Growth: 1 to 64 env runners on a cluster of many raylets, with an environment that costs nothing.

    python -m tests.benchmarks.growth --runners 1 4 16 64 --seconds 60 --out growth.json

Every size runs in a process of its own, on a fresh cluster of `--raylets` nodes on this machine,
through the product's own `RayBackend`. The environment keeps its own pace, so every runner yields
`--rate` transitions a second however few the cores are, and what is measured is what one more
runner costs everybody else. Once data of all runners flows, over `--seconds`: transitions a
second; chunks, replay bytes and processor microseconds a transition by role; the controller's own
share: processor time, bytes through its TCP sockets, and how long a `poll()` takes beyond its
second of waiting; policy lag in versions (the learner publishes about once a chunk); the memory
of all processes.

Aim: everything a transition flat within 10 %, transitions/s a runner too, and the controller
never on the data's way: its bytes a transition a small part of the replay's. What a process does
a second, whatever the data, weighs less a transition the more runners there are.
"""

import argparse
import json
import math
import subprocess
import sys
import tempfile
import time
from itertools import pairwise
from pathlib import Path
from statistics import median

from cluster.on_ray.backend import RayBackend
from cluster.on_ray.session import POLL_S
from cluster.prepare import prepare
from cluster.session import Session, Snapshot
from tests.benchmarks.null_run import CPUS_PER_RAYLET, many_raylets, null_recipe, wait_for_data
from tests.benchmarks.processes import OwnTraffic, ProcessorTime, memory_by_role

COLUMNS = (
    ("runners", "runners", "d"),
    ("transitions/s", "transitions_per_s", ".0f"),
    ("a runner", "transitions_per_s_per_runner", ".1f"),
    ("chunks/1000", "chunks_per_1000_transitions", ".3f"),
    ("replay B", "replay_bytes_per_transition", ".1f"),
    ("controller B", "controller_bytes_per_transition", ".2f"),
    ("controller us", "driver_cpu_us_per_transition", ".1f"),
    ("controller CPU", "driver_cpu_s_per_s", ".4f"),
    ("runner us", "env_runner_cpu_us_per_transition", ".1f"),
    ("shard us", "shard_cpu_us_per_transition", ".1f"),
    ("learner us", "learner_cpu_us_per_transition", ".1f"),
    ("raylet us", "raylet_cpu_us_per_transition", ".1f"),
    ("poll ms", "poll_ms_median", ".1f"),
    ("lag", "policy_lag_versions_median", ".1f"),
    ("waiting", "runner_wait_share", ".1%"),
    ("PSS GB", "pss_gb", ".2f"),
    ("start s", "start_s", ".0f"),
)


def measure(num_runners: int, args: argparse.Namespace) -> dict[str, float]:
    """Run one size from a fresh cluster to its end and return its figures."""
    started = time.monotonic()
    with tempfile.TemporaryDirectory() as name, many_raylets(args.raylets) as address:
        config = null_recipe(
            Path(name),
            num_runners=num_runners,
            num_raylets=args.raylets,
            num_shards=min(args.shards, num_runners),
            rate=args.rate,
        )
        preparation = prepare(config, num_cpus=math.inf, num_gpus=0)
        assert preparation.teacher is not None
        backend = RayBackend(address=address, num_cpus=CPUS_PER_RAYLET)
        try:
            session = backend.distil(preparation, preparation.teacher, Path(name) / "checkpoints")
            try:
                wait_for_data(session, num_runners, timeout_s=args.start_timeout)
                start_s = time.monotonic() - started
                figures = observe(session, num_runners, args.seconds)
            finally:
                session.abort()
        finally:
            backend.close()
    return {"runners": num_runners, "raylets": args.raylets, "start_s": start_s, **figures}


def observe(session: Session, num_runners: int, seconds: float) -> dict[str, float]:
    """Poll for `seconds` as the controller does and return what was seen."""
    processor, traffic = ProcessorTime(), OwnTraffic()
    traffic.update()
    seen: list[tuple[float, Snapshot]] = []
    polls: list[float] = []
    started = time.monotonic()
    while time.monotonic() - started < seconds or len(seen) < 2:
        before = time.monotonic()
        snapshot = session.poll()
        polls.append(1e3 * (time.monotonic() - before - POLL_S))
        seen.append((time.monotonic() - started, snapshot))
        traffic.update()
    restarts = sum(seen[-1][1].restarts.values())
    if restarts:
        sys.exit(f"{restarts} actors died and started again: nothing to compare")
    elapsed, cpu = time.monotonic() - started, processor.by_role()
    rate = growth_per_s(seen, "env_steps")
    transitions = rate * elapsed
    shards = seen[-1][1].shards
    lags = [s.trainer.policy_version - c.policy_version for _, s in seen for c in s.collectors]
    calls = len(polls) * (num_runners + 1 + len(shards))
    figures = {
        "seconds": elapsed,
        "transitions_per_s": rate,
        "transitions_per_s_per_runner": rate / num_runners,
        "chunks_per_1000_transitions": 1e3 * growth_per_s(seen, "chunks") / rate,
        "controller_calls_per_1000_transitions": 1e3 * calls / transitions,
        "replay_bytes_per_transition": sum(shard.num_bytes for shard in shards)
        / sum(shard.transitions for shard in shards),
        "controller_bytes_per_transition": traffic.total / transitions,
        "controller_bytes_per_s": traffic.total / elapsed,
        "driver_cpu_s_per_s": cpu["driver"] / elapsed,
        "poll_ms_median": median(polls),
        "poll_ms_max": max(polls),
        "policy_lag_versions_median": median(lags),
        "policy_lag_versions_max": max(lags),
        "runner_wait_share": growth_per_s(seen, "wait_s") / num_runners,
        "restarts": restarts,
    }
    for role, spent in cpu.items():
        figures[f"{role.replace(' ', '_')}_cpu_us_per_transition"] = 1e6 * spent / transitions
    memory = memory_by_role()
    figures["pss_gb"] = sum(usage.pss_mb for usage in memory.values()) / 1e3
    for role, usage in memory.items():
        figures[f"{role.replace(' ', '_')}_pss_mb"] = usage.pss_mb
        figures[f"{role.replace(' ', '_')}_uss_mb"] = usage.uss_mb
    return figures


def growth_per_s(seen: list[tuple[float, Snapshot]], counter: str) -> float:
    """Return how fast a collectors' counter grows, all runners together.

    Counters move a chunk at a time: each runner's rate is taken from its first to its last chunk.
    """
    total = 0.0
    for number in range(len(seen[0][1].collectors)):
        series = [(t, snapshot.collectors[number]) for t, snapshot in seen]
        moved = [b for a, b in pairwise(series) if a[1].chunks != b[1].chunks]
        if len(moved) < 2:
            sys.exit(f"env runner {number} gave fewer than two chunks: measure for longer")
        (begin, first), (end, last) = moved[0], moved[-1]
        total += (getattr(last, counter) - getattr(first, counter)) / (end - begin)
    return total


def show(row: dict[str, float], first: dict[str, float]) -> None:
    """Print a row, and below it what it is of the first row."""
    cells = [format(row.get(key, 0), form) for _, key, form in COLUMNS]
    ratios = [""] * len(COLUMNS)
    if row is not first:
        for index, (_, key, _) in enumerate(COLUMNS):
            ratios[index] = f"x{row[key] / first[key]:.2f}" if first.get(key) else ""
    for line in (cells, ratios):
        if any(line):
            widths = [max(len(title), 7) for title, _, _ in COLUMNS]
            print("  ".join(cell.rjust(w) for cell, w in zip(line, widths, strict=True)))
    sys.stdout.flush()


def main() -> None:
    """Measure every size in a process of its own and print its row."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--runners", type=int, nargs="+", default=[1, 4, 16, 64])
    parser.add_argument("--raylets", type=int, default=8)
    parser.add_argument("--shards", type=int, default=1, help="replay shards, at most one a runner")
    parser.add_argument("--rate", type=float, default=256.0, help="transitions/s of every runner")
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--start-timeout", type=float, default=900.0)
    parser.add_argument("--out", type=Path)
    parser.add_argument("--only", type=int, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.only is not None:
        args.out.write_text(json.dumps(measure(args.only, args)), encoding="utf-8")
        return
    rows: list[dict[str, float]] = []
    print("  ".join(title.rjust(7) for title, _, _ in COLUMNS), flush=True)
    with tempfile.TemporaryDirectory() as name:
        for num_runners in args.runners:
            answer = Path(name) / "answer.json"
            command = [sys.executable, "-m", "tests.benchmarks.growth", *sys.argv[1:]]
            command += ["--only", str(num_runners), "--out", str(answer)]
            if subprocess.run(command, check=False).returncode:
                sys.exit(f"{num_runners} env runners: not measured, see above")
            rows.append(json.loads(answer.read_text(encoding="utf-8")))
            show(rows[-1], rows[0])
            if args.out is not None:  # after every size: the next one may not fit the machine
                args.out.write_text(json.dumps(rows, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
