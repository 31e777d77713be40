"""Chaos: a random process of a run, or a whole node, killed every 20 s for 5 minutes.

    python -m tests.benchmarks.chaos --minutes 5 --every-s 20 --seed 0 --out chaos.json

Runs a recipe twice from baseline to scored student, through the product's own controller and
`RayBackend`, each time in a process of its own on a fresh cluster of `--raylets` nodes on this
machine: first undisturbed, then with SIGKILL every `--every-s` seconds, once data flows, at an env
runner, a replay shard, the learner, or a raylet (never the head's), drawn with `--seed`. A node
whose raylet was killed is replaced by a new one, as an operator's autoscaler would. `--recipe` is
`pong` (deploy/recipes/pong.toml), `cartpole` (the tests' own; seconds of work a minute of chaos)
or a file with a `[teacher]`.

Prints what was killed how often, restarts by role, what became of the env steps, and the student's
score beside that of the undisturbed run. Exit code 1 where a run did not finish. A run that is
over before the chaos is was too short: give it more `--env-steps`. No run lasts longer than three
times `--minutes`, and two minutes.
"""

import argparse
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from ray.cluster_utils import Cluster
from rich.console import Console

from cluster.board import RunStatus
from cluster.control import Control
from cluster.controller import Controller, Outcome
from cluster.on_ray.backend import RayBackend
from cluster.prepare import prepare
from cluster.progress import PlainReporter
from cluster.recipe.config import RunConfig, load_recipe
from cluster.run_directory import create_run_directory
from cluster.session import Session, Snapshot
from tests.benchmarks.processes import family
from tests.cartpole import save_cartpole_teacher, write_recipe

PONG = Path(__file__).resolve().parents[2] / "deploy" / "recipes" / "pong.toml"
CARTPOLE_ENV_STEPS = 3_000_000
CHAOS = (
    "actors.max_restarts=1000",
    "learner.max_restarts=1000",
    "supervision.max_shard_restarts=1000",
)
NODE: dict[str, Any] = {"num_cpus": 1, "object_store_memory": 200 * 2**20}
NODE_ROLE = "node"
ROLES = ("env runner", "shard", "learner", NODE_ROLE)
SHARE = "share_of_teacher"


class RecordedSession:
    """A session, and the last that was seen of it."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self.last: Snapshot | None = None

    def __getattr__(self, name: str) -> Any:
        return getattr(self._session, name)

    def poll(self) -> Snapshot:
        """Poll and keep the snapshot."""
        self.last = self._session.poll()
        return self.last


class RecordingBackend(RayBackend):
    """The product's backend; `session` is the last one that was started."""

    session: RecordedSession | None = None

    def distil(self, *args: Any, **kwargs: Any) -> Session:
        """Start a session and keep it."""
        self.session = RecordedSession(super().distil(*args, **kwargs))
        return self.session


class Killer:
    """Kills while a run goes on, in the main thread, which alone may start Ray's nodes.

    Args:
        cluster: whose nodes may be killed.
        backend: killing begins with the first transitions of its session.
        run: the run, which goes on in a thread of its own.
        seed: of the draws.
        every_s: between two kills.
        seconds: after which it stops.
    """

    def __init__(
        self,
        cluster: Cluster,
        backend: RecordingBackend,
        run: Future[Outcome],
        *,
        seed: int,
        every_s: float,
        seconds: float,
    ) -> None:
        self._cluster = cluster
        self._backend = backend
        self._run = run
        self._rng = random.Random(seed)
        self._every_s = every_s
        self._seconds = seconds
        self.kills: Counter[str] = Counter()
        self.lasted_s = 0.0

    def work(self) -> None:
        """Kill until time or the distillation is over."""
        while not self._data_flows():
            if self._over_within(0.5):
                return
        started = time.monotonic()
        while not self._over_within(self._every_s) and not self._finished():
            if time.monotonic() - started > self._seconds:
                break
            self._kill(self._rng.choice(ROLES))
        self.lasted_s = time.monotonic() - started

    def _over_within(self, seconds: float) -> bool:
        return bool(wait([self._run], timeout=seconds).done)

    def _data_flows(self) -> bool:
        session = self._backend.session
        return (
            session is not None
            and session.last is not None
            and (session.last.trainer.env_steps > 0)
        )

    def _finished(self) -> bool:
        session = self._backend.session
        return session is not None and session.last is not None and session.last.finished

    def _kill(self, role: str) -> None:
        if role == NODE_ROLE:
            node = self._rng.choice(sorted(self._cluster.worker_nodes, key=lambda n: n.unique_id))
            (raylet,) = node.all_processes["raylet"]
            os.kill(raylet.process.pid, signal.SIGKILL)
            say(f"killed the raylet {raylet.process.pid}")
            self.kills[role] += 1
            self._cluster.remove_node(node, allow_graceful=False)
            self._cluster.add_node(**NODE)
            return
        alive = sorted(process.pid for found, process in family() if found == role)
        if not alive:
            say(f"no {role} to kill: it is still starting again")
            return
        pid = self._rng.choice(alive)
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
            say(f"killed the {role} {pid}")
            self.kills[role] += 1


@contextmanager
def nodes(number: int) -> Iterator[Cluster]:
    """Start a cluster of so many nodes, yield it, and end it."""
    cluster = Cluster(initialize_head=True, head_node_args=NODE | {"include_dashboard": False})
    try:
        for _ in range(number - 1):
            cluster.add_node(**NODE)
        yield cluster
    finally:
        cluster.shutdown()  # type: ignore[no-untyped-call]


def recipe(args: argparse.Namespace, folder: Path) -> RunConfig:
    """Load what is run."""
    path, steps = Path(args.recipe), args.env_steps
    if args.recipe == "pong":
        path = PONG
    elif args.recipe == "cartpole":
        save_cartpole_teacher(folder / "teacher.safetensors")
        path, steps = write_recipe(folder / "recipe.toml"), steps or CARTPOLE_ENV_STEPS
        args.overrides = ["actors.num_env_runners=2", "replay.num_shards=2", *args.overrides]
    limit = [f"stop.max_duration_s={180 * args.minutes + 120}"]
    length = [] if steps is None else [f"total_env_steps={steps}"]
    config = load_recipe(path, [*CHAOS, *limit, *length, *args.overrides])
    # A student that falls short is shown, beside the other one, and is no failure here.
    return config.model_copy(
        update={"evaluation": config.evaluation.model_copy(update={"required_share": None})}
    )


def run(args: argparse.Namespace, *, disturbed: bool) -> dict[str, Any]:
    """Run once from a fresh cluster to the scored student and return what happened."""
    with tempfile.TemporaryDirectory() as name, nodes(args.raylets) as cluster:
        config = recipe(args, Path(name))
        preparation = prepare(config, num_cpus=args.raylets * NODE["num_cpus"], num_gpus=0)
        backend = RecordingBackend(address=cluster.address, num_cpus=NODE["num_cpus"])
        started = time.monotonic()
        try:
            directory = create_run_directory(Path(name) / "run", config)
            reporter = PlainReporter(Console(stderr=True))
            status = RunStatus(name=config.name, run_dir=name, task=config.env.id)
            controller = Controller(preparation, directory, backend, reporter, Control(status))
            with ThreadPoolExecutor(1) as thread:
                future = thread.submit(controller.run)
                killer = Killer(
                    cluster,
                    backend,
                    future,
                    seed=args.seed,
                    every_s=args.every_s,
                    seconds=60 * args.minutes if disturbed else 0.0,
                )
                killer.work()
                outcome = future.result()
        finally:
            backend.close()
    session = backend.session
    assert session is not None
    assert session.last is not None
    assert outcome.evaluation is not None
    (task,) = outcome.evaluation["tasks"].values()
    return {
        "finished": outcome.finished,
        "took_s": time.monotonic() - started,
        "chaos_s": killer.lasted_s,
        "kills": dict(killer.kills),
        "restarts": session.last.restarts,
        "collected": session.last.collected,
        "trained_on": session.last.trainer.env_steps,
        "lost": session.last.lost,
        "duplicates": sum(shard.duplicates for shard in session.last.shards),
        "student": task["student"],
        SHARE: task[SHARE],
    }


def main() -> None:
    """Run undisturbed and disturbed, and show both beside each other."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--recipe", default="pong", help="pong, cartpole or a .toml file")
    parser.add_argument("--set", dest="overrides", action="append", default=[], metavar="KEY=VALUE")
    parser.add_argument("--env-steps", type=int, help="by default the recipe's")
    parser.add_argument("--minutes", type=float, default=5.0, help="of chaos")
    parser.add_argument("--every-s", type=float, default=20.0, help="seconds between two kills")
    parser.add_argument("--seed", type=int, default=0, help="of what is killed")
    parser.add_argument("--raylets", type=int, default=3, help="nodes, the head among them")
    parser.add_argument("--disturbed-only", action="store_true")
    parser.add_argument("--out", type=Path)
    parser.add_argument("--only", choices=["undisturbed", "disturbed"], help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.only is not None:
        found = run(args, disturbed=args.only == "disturbed")
        args.out.write_text(json.dumps(found), encoding="utf-8")
        return
    results: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as name:
        for kind in ("undisturbed", "disturbed")[args.disturbed_only :]:
            answer = Path(name) / "answer.json"
            command = [sys.executable, "-m", "tests.benchmarks.chaos", *sys.argv[1:]]
            command += ["--only", kind, "--out", str(answer)]
            if subprocess.run(command, check=False).returncode:
                sys.exit(f"{kind}: the run did not finish, see above")
            results[kind] = json.loads(answer.read_text(encoding="utf-8"))
            if args.out is not None:
                args.out.write_text(json.dumps(results, indent=2) + "\n", encoding="utf-8")
    for kind, found in results.items():
        show(kind, found)
    if results["disturbed"]["chaos_s"] < 60 * args.minutes:
        say("the run was over before the chaos: give it more --env-steps")


def show(kind: str, found: dict[str, Any]) -> None:
    """Print one run."""
    student, collected, trained = found["student"], found["collected"], found["trained_on"]
    say(f"{kind}: finished after {found['took_s']:.0f} s, killed: {listed(found['kills'])}")
    if found["kills"]:
        say(f"  {sum(found['kills'].values())} kills in {found['chaos_s']:.0f} s")
    say(f"  started again: {listed(found['restarts'])}")
    say(
        f"  env steps: {collected:,} collected, {trained:,} trained on, {found['lost']:,} lost, "
        f"{collected - trained - found['lost']:,} stored or under way at the end; "
        f"{found['duplicates']:,} chunks came twice and were counted once"
    )
    say(
        f"  student {student['mean_return']:.2f} ({student['ci_low']:.2f} to "
        f"{student['ci_high']:.2f}), {100 * found[SHARE]:.1f} % of its teacher"
    )


def listed(counts: dict[str, int]) -> str:
    """Return what there is of each, in words."""
    return ", ".join(f"{n} × {name}" for name, n in sorted(counts.items()) if n) or "nothing"


def say(text: str) -> None:
    """Print a line at once."""
    print(text, flush=True)


if __name__ == "__main__":
    main()
