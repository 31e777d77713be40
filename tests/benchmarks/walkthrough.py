"""A run's life on a cluster of three nodes, from its launch to its student, with everything killed.

    python -m tests.benchmarks.walkthrough

Starts, on this machine, a head without CPUs and two nodes with two each, which ask for a token, and
an S3 server; then drives one detached run, whose run directory lies on S3, through the commands
that a user has: run, status, scale, pause, stop, resume, watch, `ray job submit`. In between env
runner, replay shard, learner, controller and a whole node are killed with SIGKILL.

Prints every command and what it waited for, with the seconds that this took, and ends with exit
code 1 where something did not come about. Seconds are counted from the kill, or from the start of
the command, to the run's own report on the run board, which it writes twice a second.
"""

import json
import os
import secrets
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil
import ray

from cluster.board import RunStatus
from cluster.on_ray.board import BoardClient
from cluster.run_directory import RunDirectory
from tests.cartpole import save_cartpole_teacher, write_recipe
from tests.commands import ROOT
from tests.deploy.ray_head import RayHead
from tests.object_store import ObjectStore

NAME = "walk"
TOKEN = "RAY_AUTH_TOKEN"
TIMEOUT_S = 180.0
STEPS_AFTER_RESUME = 20_000
ENDLESS = (
    "total_env_steps=100_000_000",
    "replay.samples_per_insert=1.0",
    "replay.checkpoint=true",
    "learner.checkpoint_interval_s=1",
    "learner.num_cpus=0.3",
    "actors.num_cpus_per_runner=0.3",
)
ACTORS = {
    "env_runner": "ray::EnvRunnerActor",
    "shard": "ray::ReplayShardActor",
    "learner": "ray::LearnerActor",
    "controller": "ray::DetachedRun",
}

Condition = Callable[[RunStatus], bool]


class Walk:
    """The run, and the cluster under it.

    Args:
        head: of the cluster.
        folder: where commands are given.
    """

    def __init__(self, head: RayHead, folder: Path) -> None:
        self._head = head
        self._folder = folder
        self._board = BoardClient()

    def command(self, *words: str) -> str:
        """Run `stillhouse WORDS`, show it, and return what it printed."""
        return self._run("stillhouse", [sys.executable, "-m", "cluster"], words)

    def submit(self, *words: str) -> str:
        """Run `stillhouse WORDS` as a Ray job and wait for its end.

        Without `--working-dir`: nodes of one machine would unpack it over each other's.
        """
        ray_command = [sys.executable, "-c", "from ray.scripts.scripts import main; main()"]
        program = str(Path(sys.executable).with_name("stillhouse"))
        submit = ("job", "submit", "--address", self._head.url, "--")
        return self._run("ray", ray_command, (*submit, program, *words))

    def look(self) -> RunStatus:
        """Return the run's newest report."""
        self._board = BoardClient()  # the board may have moved with its node
        return self._board.entry(NAME).status

    def until(self, what: str, condition: Condition, *, since: float) -> RunStatus:
        """Wait for a report, say how long it took, and return it."""
        while True:
            found = self.look()
            took = time.monotonic() - since
            if condition(found):
                say(f"  {took:5.1f} s  {what}")
                return found
            if found.ended or took > TIMEOUT_S:
                sys.exit(f"  {took:.0f} s and not yet: {what}; {found}")
            time.sleep(0.1)

    def scale(self, number: int) -> None:
        """Scale, and wait until so many env runners collect, from when that is wanted."""
        with ThreadPoolExecutor(1) as thread:
            started = time.monotonic()
            command = thread.submit(self.command, "scale", NAME, "--env-runners", str(number))
            while self._board.entry(NAME).wanted.num_env_runners != number:
                assert not command.done(), command.result()
                time.sleep(0.05)
            wanted = time.monotonic()
            say(f"  {wanted - started:5.1f} s  until the board has the wish; from then on:")
            what = f"{number} env runners at work, nothing started again"
            found = self.until(what, lambda found: found.env_runners == number, since=wanted)
            assert not any(found.restarts.values()), found.restarts
            command.result()

    def kill(self, role: str, *, expect: str) -> None:
        """Kill an actor of the run, and wait until data flows on.

        Args:
            role: of the actor.
            expect: the figure that must grow again.
        """
        before = self.look()
        [pid, *_] = [found.pid for found in self._actors(role)]
        os.kill(pid, signal.SIGKILL)
        killed = time.monotonic()
        say(f"kill -9 {pid}   # {role}")
        self._goes_on((role,), before, expect, killed)

    def kill_node(self) -> None:
        """Kill the raylet that hosts the learner, and wait until data flows on."""
        before = self.look()
        [learner] = self._actors("learner")
        raylet = learner.parent()
        assert raylet is not None
        say(f"kill -9 {raylet.pid}   # the raylet under the learner: a node is lost")
        raylet.kill()
        # With its node the controller may be lost too; it starts everything anew then.
        lost = ("learner", "controller")
        self._goes_on(lost, before, "learner/env_steps", time.monotonic())

    def at_rest(self) -> None:
        """Pause, and hold what was collected against where it is."""
        self.command("pause", NAME)
        paused, former = time.monotonic(), -1.0

        def rests(found: RunStatus) -> bool:
            nonlocal former
            still, former = found.figures["actor/env_steps"] == former, places(found)[0]
            collected, *others = places(found)
            return still and collected == sum(others)

        found = self.until("every env step is accounted for", rests, since=paused)
        text = "{:,.0f} collected = {:,.0f} received + {:,.0f} stored + {:,.0f} lost"
        say("           " + text.format(*places(found)))
        self.command("pause", NAME, "--off")

    def _goes_on(
        self, roles: tuple[str, ...], before: RunStatus, figure: str, since: float
    ) -> None:
        def started_again(found: RunStatus) -> bool:
            return any(found.restarts.get(role, 0) > before.restarts.get(role, 0) for role in roles)

        again = self.until(f"{' or '.join(roles)} started again", started_again, since=since)
        top = max(status.figures.get(figure, 0.0) for status in (before, again))
        self.until(
            f"{figure} grows beyond {top:,.0f}",
            lambda found: found.figures.get(figure, 0.0) > top,
            since=since,
        )

    def _actors(self, role: str) -> list[psutil.Process]:
        found = []
        for process in self._head.processes():
            try:
                if process.cmdline()[:1] and process.cmdline()[0].startswith(ACTORS[role]):
                    found.append(process)
            except psutil.Error:
                continue
        assert found, f"there is no {role}"
        return found

    def _run(self, shown: str, program: list[str], words: tuple[str, ...]) -> str:
        say(f"$ {shown} {' '.join(words)}")
        done = subprocess.run(
            [*program, *words],
            cwd=self._folder,
            env=os.environ | {"PYTHONPATH": str(ROOT)},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=4 * TIMEOUT_S,
            check=False,
        )
        if done.returncode:
            sys.exit(f"exit code {done.returncode}:\n{done.stdout}")
        return done.stdout


def walk_through(walk: Walk, head: RayHead, runs: str) -> None:
    """Do everything, in order.

    Args:
        walk: the run.
        head: of the cluster.
        runs: URI of the folder for run directories.
    """
    say("# launch, status, scale")
    settings = [word for each in ENDLESS for word in ("--set", each)]
    started = time.monotonic()
    where = ("--name", NAME, "--run-dir", f"{runs}/{NAME}")
    walk.command("run", "recipe.toml", *where, "--detach", *settings)
    walk.until("the learner trains", lambda found: found.env_steps > 10_000, since=started)
    print(walk.command("status"))
    walk.scale(4)
    walk.scale(1)

    say("# kill -9 of every part")
    walk.kill("env_runner", expect="actor/env_steps")
    walk.kill("shard", expect="learner/env_steps")
    walk.kill("learner", expect="learner/env_steps")
    walk.at_rest()
    walk.kill("controller", expect="learner/env_steps")
    walk.kill_node()
    walk.at_rest()

    say("# stop, resume, finish")
    walk.command("stop", NAME)
    directory = RunDirectory(f"{runs}/{NAME}")
    before = lines(directory)
    stopped_at = before[-1]["learner/env_steps"]
    enough = f"total_env_steps={int(stopped_at) + STEPS_AFTER_RESUME}"
    walk.command("resume", f"{runs}/{NAME}", "--detach", "--set", enough)
    say(walk.command("watch", NAME).splitlines()[-1])
    first = lines(directory)[len(before)]
    say(
        f"  stopped at {stopped_at:,.0f} env steps and {before[-1]['learner/steps']:,.0f} steps, "
        f"went on at {first['learner/env_steps']:,.0f} and {first['learner/steps']:,.0f}"
    )
    assert first["learner/env_steps"] >= stopped_at
    share = json.loads(directory.evaluation.read_text())["tasks"]["CartPole-v1"]["share_of_teacher"]
    say(f"  {directory.evaluation}: {100 * share:.1f} % of the teacher")

    say("# the job API")
    for who, token in (("nobody", None), ("another's", secrets.token_hex(32))):
        status = head.ask("/api/jobs/", token).status
        say(f"  with {who} token: {status}")
        assert status in (401, 403)
    recipe = str(head.token_file.with_name("recipe.toml"))
    tail = walk.submit("run", recipe, "--name", "job", "--run-dir", f"{runs}/job")
    say("  with the token: " + tail.strip().splitlines()[-1].strip())


def places(status: RunStatus) -> tuple[float, float, float, float]:
    """Return env steps collected, received, stored and lost."""
    names = ("actor/env_steps", "learner/env_steps", "replay/unseen", "cluster/lost")
    collected, received, unseen, lost = (status.figures[name] for name in names)
    return collected, received, unseen, lost


def lines(directory: RunDirectory) -> list[dict[str, Any]]:
    """Return the metrics that were written."""
    return [json.loads(line) for line in directory.metrics.read_text().splitlines()]


@contextmanager
def cluster(folder: Path) -> Iterator[RayHead]:
    """Start three nodes that ask for the token which this process and its children hold."""
    with RayHead(folder, os.environ[TOKEN], num_cpus=0) as head:
        os.environ["RAY_ADDRESS"] = head.address
        for _ in range(2):
            head.add_node(num_cpus=2)
        ray.init(head.address, log_to_driver=False, logging_level="ERROR")
        try:
            yield head
        finally:
            ray.shutdown()


def say(text: str) -> None:
    """Print a line at once."""
    print(text, flush=True)


def main() -> None:
    """Start everything, walk through, and end everything."""
    if TOKEN not in os.environ:  # Ray looks for it when it is imported
        held = {"RAY_AUTH_MODE": "token", TOKEN: secrets.token_hex(32)}
        os.execve(sys.executable, [sys.executable, "-m", __spec__.name], os.environ | held)
    store = ObjectStore()
    try:
        os.environ |= {
            "AWS_ENDPOINT_URL": store.endpoint,
            "AWS_ACCESS_KEY_ID": "test",
            "AWS_SECRET_ACCESS_KEY": "test",
            "OMP_NUM_THREADS": "1",
        }
        runs = f"s3://{store.new_bucket()}"
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            save_cartpole_teacher(folder / "teacher.safetensors")
            write_recipe(folder / "recipe.toml")
            started = time.monotonic()
            with cluster(folder) as head:
                walk_through(Walk(head, folder), head, runs)
            say(f"all of it: {time.monotonic() - started:.0f} s")
    finally:
        store.close()


if __name__ == "__main__":
    main()
