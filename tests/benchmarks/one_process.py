"""The plain loop: distillation in one process, as one would write it first.

    python -m tests.benchmarks.one_process --students DIR --seconds 600

One environment batch stepped on all cores, then act → store → train in turn, with the recipe's
batch, rates and schedules and the project's networks. It computes on one torch thread: with more,
torch's and the environment's threads spin against each other and it may fall to a twentieth.
As a program it saves its student every so often (for `tests.benchmarks.time_to_share`) and prints
its transitions a second, start included.
"""

import argparse
import time
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from ale_py.vector_env import AtariVectorEnv
from torch.nn import functional as F

from actors.environments.atari import AtariConfig
from cluster.prepare import new_student, prepare
from cluster.recipe.config import RunConfig, load_recipe
from common.policies.policy import save_policy
from learners.objectives.temperature import find_temperature

RECIPE = Path(__file__).resolve().parents[2] / "deploy" / "recipes" / "pong.toml"
NUM_ENVS, CAPACITY, EXPLORE = 32, 60_000, 0.02


class PlainLoop:
    """Environments, replay, teacher, student and optimiser in one process.

    Args:
        config: an Atari recipe with a KL objective; the loop takes batch, rates and schedules.
        num_threads: that torch computes with.
    """

    def __init__(self, config: RunConfig, *, num_threads: int) -> None:
        torch.set_num_threads(num_threads)
        preparation = prepare(config, num_cpus=1000, num_gpus=0)
        assert preparation.teacher is not None
        assert isinstance(config.env, AtariConfig)
        assert config.objective.kl is not None
        self._config = config
        self._teacher = preparation.teacher.network.to(torch.bfloat16).eval()
        self.student = new_student(config, preparation.environment, preparation.teacher.spec)
        parameters = self.student.network.parameters()
        self._optimizer = torch.optim.Adam(parameters, lr=config.learner.learning_rate, fused=True)
        self._temperature = config.objective.kl.temperature or 1.0
        self._env = AtariVectorEnv(config.env.id, NUM_ENVS, reward_clipping=False)
        self._rng = np.random.default_rng(config.seed)
        num_actions = preparation.environment.num_actions
        self._replay = np.empty((CAPACITY, *preparation.environment.observation.shape), np.uint8)
        self._labels = np.empty((CAPACITY, num_actions), np.float32)
        self._observations: npt.NDArray[np.uint8] = self._env.reset(seed=config.seed)[0]
        self.seen = 0
        """Transitions so far."""

    @property
    def finished(self) -> bool:
        """Whether all transitions of the recipe are collected."""
        return self.seen >= self._config.total_env_steps

    def step(self) -> None:
        """Take one step in every environment copy, and train where a batch is due."""
        with torch.inference_mode():
            inputs = self._inputs(self._observations)
            logits = self._teacher(inputs).dist_inputs.float().numpy()
            with torch.autocast("cpu", torch.bfloat16):
                own = self.student.network(inputs).dist_inputs.float().numpy()
        progress = min(1.0, self.seen / self._config.total_env_steps)
        by_teacher = self._rng.random(NUM_ENVS) < self._config.behavior.teacher_share(progress)
        actions = np.where(by_teacher, logits.argmax(-1), own.argmax(-1))
        explored = self._rng.integers(logits.shape[1], size=NUM_ENVS)
        actions = np.where(self._rng.random(NUM_ENVS) < EXPLORE, explored, actions)
        where = (self.seen + np.arange(NUM_ENVS)) % CAPACITY
        self._replay[where], self._labels[where] = self._observations, logits
        self._observations = self._env.step(actions)[0]
        self.seen += NUM_ENVS
        learner = self._config.learner
        if (
            self.seen % learner.batch_size == 0
            and self.seen > self._config.replay.min_size_to_sample
        ):
            self._train(learner.batch_size, progress)

    def _train(self, batch: int, progress: float) -> None:
        if self._temperature == "auto":
            self._temperature = find_temperature(self._labels[: self.seen])
        final = self._config.learner.final_learning_rate_fraction
        decay = final + (1 - final) * 0.5 * (1 + np.cos(np.pi * progress))
        self._optimizer.param_groups[0]["lr"] = self._config.learner.learning_rate * decay
        rows = self._rng.integers(min(self.seen, CAPACITY), size=batch)
        with torch.autocast("cpu", torch.bfloat16):
            output = self.student.network(self._inputs(self._replay[rows])).dist_inputs
        target = F.log_softmax(torch.from_numpy(self._labels[rows]) / self._temperature, -1)
        log_pi = F.log_softmax(output.float(), -1)
        self._optimizer.zero_grad()
        loss = F.kl_div(log_pi, target, log_target=True, reduction="batchmean")
        loss.backward()  # type: ignore[no-untyped-call]
        self._optimizer.step()

    def _inputs(self, observations: npt.NDArray[np.uint8]) -> torch.Tensor:
        return torch.from_numpy(observations).to(torch.bfloat16) / 255


def save_students(loop: PlainLoop, folder: Path, *, every: float, seconds: float) -> float:
    """Run the loop, save its student every so often, and return its transitions a second."""
    started = saved = time.monotonic()
    while not loop.finished and (now := time.monotonic()) - started < seconds:
        loop.step()
        if now - saved >= every:
            save_policy(loop.student, folder / f"step-{loop.seen:09d}.safetensors")
            saved = now
    save_policy(loop.student, folder / f"step-{loop.seen:09d}.safetensors")
    return loop.seen / (time.monotonic() - started)


def main() -> None:
    """Distil a recipe and save students on the way."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--students", type=Path, required=True, help="folder to save them in")
    parser.add_argument("--recipe", type=Path, default=RECIPE)
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE")
    parser.add_argument("--seconds", type=float, default=600.0)
    parser.add_argument("--every", type=float, default=15.0, help="seconds between two students")
    parser.add_argument("--threads", type=int, default=1, help="torch threads")
    args = parser.parse_args()
    loop = PlainLoop(load_recipe(args.recipe, args.set), num_threads=args.threads)
    speed = save_students(loop, args.students, every=args.every, seconds=args.seconds)
    print(f"{speed:.1f} transitions/s")


if __name__ == "__main__":
    main()
