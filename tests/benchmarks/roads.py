"""The two roads from a teacher to a student that `time_to_share` compares, each a process.

A road is started, ended after a while, and then asked for the students that it left on disk, with
the time of each since the start of the process.
"""

import json
import signal
import subprocess
import sys
import time
from abc import ABC, abstractmethod
from dataclasses import dataclass
from pathlib import Path

import torch

from cluster.prepare import Preparation, new_student
from cluster.run_directory import RunDirectory
from common.policies.policy import Policy, load_policy, policy_from_state

STOP_TIMEOUT_S = 120.0
ENDED_WELL = (0, 130, -signal.SIGINT)
"""Done, and stopped by Ctrl-C."""


@dataclass(frozen=True, slots=True)
class Student:
    """A student on disk: a policy's file, or a checkpoint of the learner."""

    path: Path
    seconds: float
    """From the start of the road's process to the moment at which it was written."""
    env_steps: int

    def load(self, preparation: Preparation) -> Policy:
        """Read it."""
        if self.path.suffix == ".safetensors":
            return load_policy(self.path)
        assert preparation.teacher is not None
        fresh = new_student(preparation.config, preparation.environment, preparation.teacher.spec)
        state = torch.load(self.path, weights_only=True, map_location="cpu")
        return policy_from_state(fresh.spec, state["network"], source=str(self.path))


class Road(ABC):
    """One way to distil a recipe.

    Args:
        recipe: the recipe.
        overrides: what is changed in it.
        folder: an empty folder for what it leaves.
    """

    name: str

    def __init__(self, recipe: Path, overrides: list[str], folder: Path) -> None:
        self._recipe = recipe
        self._sets = [word for override in overrides for word in ("--set", override)]
        self._folder = folder
        self._started = 0.0

    def run(self, *, every: float, limit: float) -> float:
        """Run for at most `limit` seconds and return when it began to collect."""
        log = self._folder / "log.txt"
        with log.open("wb") as file:
            self._started = time.time()
            process = subprocess.Popen(
                self.command(every, limit), stdout=file, stderr=subprocess.STDOUT
            )
            try:
                process.wait(timeout=limit)
            except subprocess.TimeoutExpired:
                process.send_signal(signal.SIGINT)
                process.wait(timeout=STOP_TIMEOUT_S)
            finally:
                process.kill()
        if process.returncode not in ENDED_WELL:
            sys.exit(f"{self.name} failed:\n{log.read_text(encoding='utf-8')[-2000:]}")
        return self.began_s()

    def students(self) -> list[Student]:
        """Return what it left, in the order of time."""
        found = sorted(
            (
                Student(path, path.stat().st_mtime - self._started, self.env_steps(path))
                for path in self.files()
            ),
            key=lambda student: student.seconds,
        )
        if not found:
            sys.exit(f"{self.name} left no student; give it more time with --limit")
        return found

    @abstractmethod
    def command(self, every: float, limit: float) -> list[str]:
        """Return the command line that writes a student every so often."""

    @abstractmethod
    def began_s(self) -> float:
        """Return how many seconds after its start it began to collect."""

    @abstractmethod
    def files(self) -> list[Path]:
        """Return the students' files."""

    @abstractmethod
    def env_steps(self, path: Path) -> int:
        """Return the transitions behind a student."""


class Product(Road):
    """`stillhouse run`, whose checkpoints are the students."""

    name = "stillhouse"

    def command(self, every: float, limit: float) -> list[str]:
        """Return `stillhouse run` with frequent checkpoints, all of them kept."""
        program = [sys.executable, "-c", "from cluster.cli import main; main()", "run"]
        kept = ["--set", f"learner.checkpoint_interval_s={every}"]
        kept += ["--set", "learner.checkpoints_kept=1000000"]
        where = ["--run-dir", str(self._directory.path)]
        return [*program, str(self._recipe), *where, *self._sets, *kept]

    def began_s(self) -> float:
        """Return when the first metrics were about to be written."""
        path = Path(self._directory.metrics.path)
        if not path.exists():
            sys.exit("stillhouse did not begin to distil; give it more time with --limit")
        last = json.loads(path.read_text(encoding="utf-8").splitlines()[-1])
        return float(path.stat().st_mtime - last["time/elapsed_s"] - self._started)

    def files(self) -> list[Path]:
        """Return the checkpoints."""
        return list(Path(self._directory.checkpoints.path).glob("step-*/learner.pt"))

    def env_steps(self, path: Path) -> int:
        """Return the learner's count."""
        state = torch.load(path, weights_only=True, map_location="cpu")
        return int(state["counters"]["env_steps"])

    @property
    def _directory(self) -> RunDirectory:
        return RunDirectory(self._folder / "run")


class Plain(Road):
    """The plain loop."""

    name = "plain"

    def command(self, every: float, limit: float) -> list[str]:
        """Return the plain loop's program."""
        program = [sys.executable, "-m", "tests.benchmarks.one_process"]
        times = ["--every", str(every), "--seconds", str(limit)]
        where = ["--students", str(self._folder), "--recipe", str(self._recipe)]
        return [*program, *where, *times, *self._sets]

    def began_s(self) -> float:
        """Return 0: it does nothing but load the teacher before."""
        return 0.0

    def files(self) -> list[Path]:
        """Return the saved students."""
        return list(self._folder.glob("step-*.safetensors"))

    def env_steps(self, path: Path) -> int:
        """Return the number in its name."""
        return int(path.stem.removeprefix("step-"))


ROADS: dict[str, type[Road]] = {road.name: road for road in (Product, Plain)}
