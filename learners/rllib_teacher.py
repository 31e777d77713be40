"""Train a teacher with RLlib and hand it over as a policy of our own.

Every so often the RLModule's weights are copied into a network of ours, checked against the
RLModule, and given to `TeacherSearch`; the best copy becomes the teacher. With a folder for them,
checkpoints are written between two iterations, and a training that ended anyhow goes on from one.
The modules `learners.rllib_…` and `learners.export.rl_module_export` are the only ones outside
`cluster` that know Ray.
"""

import logging
import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import ray
from ray.rllib.utils.metrics import ENV_RUNNER_RESULTS, NUM_ENV_STEPS_SAMPLED_LIFETIME

from common.errors import RunFailedError, StorageError
from common.policies.policy import Policy
from common.policies.spec import PolicySpec
from common.storage import Location
from learners.checkpoint import Part
from learners.rllib_algorithm import episode_returns, policy_from_algorithm, running_algorithm
from learners.rllib_quiet import quiet_rllib
from learners.rllib_state import algorithm_state, restore_algorithm
from learners.taught_environment import MakeCopies
from learners.teach_checkpoint import REPLAY, TeachCheckpoint, save_training
from learners.teach_config import TeachConfig
from learners.teacher_search import TeacherSearch, TeachEvaluation, TeachProgress

__all__ = ["TeachEvaluation", "TeachHooks", "TeachProgress", "train_teacher"]

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class TeachHooks:
    """What whoever trains a teacher hears of it, and asks."""

    on_progress: Callable[[TeachProgress], None] = lambda progress: None
    """Called after each iteration, every second or so."""
    on_evaluation: Callable[[TeachEvaluation], None] = lambda evaluation: None
    """Called after each greedy evaluation."""
    should_stop: Callable[[], bool] = lambda: False
    """Asked after each iteration; True ends training with the best weights so far."""


def train_teacher(
    config: TeachConfig,
    spec: PolicySpec,
    make_copies: MakeCopies,
    *,
    hooks: TeachHooks,
    checkpoints: Location | None = None,
    resumed: TeachCheckpoint | None = None,
) -> Policy:
    """Train a teacher and return its best-evaluated weights.

    The caller has initialised Ray; nothing here starts actors or asks for resources. The
    process's global random generators are seeded.

    Args:
        config: the recipe's `[teach]`.
        spec: of the teacher (`teacher_spec`).
        make_copies: makes the environment.
        hooks: who hears of it.
        checkpoints: folder for checkpoints, or None for none.
        resumed: the one to go on from.

    Raises:
        ConfigError: the checkpoint is of another training.
        RunFailedError: training diverged before the first evaluation.
        StorageError: the replay of the checkpoint to go on from cannot be read.
    """
    if resumed is not None:
        resumed.check(config, spec)
    search = TeacherSearch(config, make_copies)
    seed = config.seed if resumed is None else _seed_from(config.seed, resumed.env_steps)
    with running_algorithm(config, spec, make_copies, seed=seed) as algorithm:
        training = _Training(config, spec, search, algorithm, hooks, checkpoints)
        if resumed is not None:
            training.restore(resumed)
        training.run()
    if search.best is None:
        raise RunFailedError(
            f"teacher training diverged within {training.env_steps} env steps (weights of NaN or "
            f"infinity); lower teach.learning_rate = {config.learning_rate}"
        )
    # The best of many evaluations is also the luckiest, so what is told is measured afresh.
    measured = {
        "mean_return": search.evaluate(search.best),
        "episodes": config.evaluation_episodes,
        "acting": "greedy",
    }
    provenance = {
        "trainer": "rllib",
        "ray": ray.__version__,
        "algorithm": config.algorithm,
        "seed": config.seed,
        "env_steps": training.env_steps,
    }
    update = {"measured": measured, "provenance": provenance}
    return Policy(spec.model_copy(update=update), search.best.network)


def _seed_from(seed: int, env_steps: int) -> int:
    """Return a seed of a training's own for where it goes on, which plays no episode again."""
    return int(np.random.SeedSequence([seed, env_steps]).generate_state(1)[0]) % 2**30


class _Training:
    """Trains, evaluates and saves in turns until one of the ends is reached."""

    def __init__(
        self,
        config: TeachConfig,
        spec: PolicySpec,
        search: TeacherSearch,
        algorithm: Any,
        hooks: TeachHooks,
        checkpoints: Location | None,
    ) -> None:
        self._config, self._spec, self._search = config, spec, search
        self._algorithm, self._hooks, self._checkpoints = algorithm, hooks, checkpoints
        self._returns = episode_returns(algorithm)
        self._next_evaluation = config.evaluation_interval
        self._started = self._saved_at = time.monotonic()
        self._reached_goal = False
        self.env_steps = 0

    def restore(self, checkpoint: TeachCheckpoint) -> None:
        """Go on from a checkpoint."""
        state = checkpoint.state
        restore_algorithm(self._algorithm, state["algorithm"])
        if self._replay is not None:
            self._replay.read(checkpoint.replay.open())
        self._search.restore(state["search"], self._spec)
        self._returns.episodes = state["episodes"]
        self._returns.recent.extend(state["recent_returns"])
        self._next_evaluation = state["next_evaluation"]
        goal, reached = self._config.stop_return, state["reached_return"]
        self._reached_goal = None not in (goal, reached) and goal <= reached
        self._started = time.monotonic() - state["elapsed_s"]
        self.env_steps = checkpoint.env_steps

    def run(self) -> None:
        """Iterate to the end, and write a last checkpoint."""
        finished = self._search.best is not None and (self._reached_goal or self._ends())
        while not finished:
            try:
                finished = self._iterate()
            except FloatingPointError as error:
                logger.warning("teacher training ends at %d env steps: %s", self.env_steps, error)
                return
            due = time.monotonic() - self._saved_at >= self._config.checkpoint_interval_s
            if finished or due:
                self._save()
        self._tell_where_it_falls_short()

    @property
    def _replay(self) -> Any:
        """The replay of a DQN, or None."""
        return self._algorithm.local_replay_buffer

    @property
    def _elapsed_s(self) -> float:
        return time.monotonic() - self._started

    def _ends(self) -> bool:
        return self._limit() is not None or self._hooks.should_stop()

    def _limit(self) -> str | None:
        """Return the key in `[teach]` whose limit is reached, or None."""
        if self.env_steps >= self._config.total_env_steps:
            return "total_env_steps"
        return "max_duration_s" if self._elapsed_s >= self._config.max_duration_s else None

    def _tell_where_it_falls_short(self) -> None:
        """Warn where a limit ended the training before the return that was asked for."""
        goal, best, limit = self._config.stop_return, self._search.best_return, self._limit()
        if goal is None or limit is None or best >= goal:
            return
        logger.warning(
            "teacher training ended by teach.%s = %s: its greedy return is %.1f at best, below "
            "teach.stop_return = %s, and a student is measured by it; raise teach.%s",
            limit,
            getattr(self._config, limit),
            best,
            goal,
            limit,
        )

    def _iterate(self) -> bool:
        """Run an iteration, evaluate where it is time, and return whether training ends.

        Raises:
            FloatingPointError: weights are NaN or infinite.
        """
        self.env_steps = int(self._sample_and_learn()[NUM_ENV_STEPS_SAMPLED_LIFETIME])
        finished, greedy_return = self._ends(), math.nan
        if finished or self.env_steps >= self._next_evaluation:
            self._next_evaluation = self.env_steps + self._config.evaluation_interval
            self._reached_goal = self._evaluate()
            finished = finished or self._reached_goal
            greedy_return = self._search.latest_return
        progress = TeachProgress(
            env_steps=self.env_steps,
            mean_return=self._returns.mean(),
            episodes=self._returns.episodes,
            elapsed_s=self._elapsed_s,
            best_return=self._search.best_return,
            greedy_return=greedy_return,
        )
        self._hooks.on_progress(progress)
        return finished

    def _sample_and_learn(self) -> dict[str, Any]:
        """Run an iteration of RLlib's and return the env runner's results.

        Raises:
            FloatingPointError: it failed because the weights are NaN or infinite.
        """
        try:
            with quiet_rllib():
                results: dict[str, Any] = self._algorithm.train()[ENV_RUNNER_RESULTS]
                return results
        except (RuntimeError, ValueError):
            # It raises the truer error where NaN is the cause.
            policy_from_algorithm(self._algorithm, self._spec)
            raise

    def _evaluate(self) -> bool:
        """Evaluate the present weights; return whether they reach the return to stop at."""
        search = self._search
        candidate = policy_from_algorithm(self._algorithm, self._spec, seed=self.env_steps)
        former_best = search.best_return
        reached = search.consider(candidate)
        evaluation = TeachEvaluation(
            policy=candidate,
            env_steps=self.env_steps,
            mean_return=self._returns.mean(),
            greedy_return=search.latest_return,
            is_best=not search.latest_return <= former_best,
        )
        self._hooks.on_evaluation(evaluation)
        return reached

    def _save(self) -> None:
        """Write a checkpoint; where that fails, training goes on with a warning."""
        if self._checkpoints is None:
            return
        state = algorithm_state(self._algorithm, self.env_steps)
        if state is None:  # the next evaluation finds weights of NaN too, and ends the training
            return
        replay, parts = self._replay, dict[str, Part]()
        if replay is not None:
            parts[REPLAY] = lambda location: location.write(replay.write)
        whole = {
            "env_steps": self.env_steps,
            "elapsed_s": self._elapsed_s,
            "episodes": self._returns.episodes,
            "recent_returns": list(self._returns.recent),
            "next_evaluation": self._next_evaluation,
            "reached_return": self._config.stop_return if self._reached_goal else None,
            "search": self._search.state(),
            "algorithm": state,
        }
        try:
            save_training(self._checkpoints, self._config, self._spec, whole, parts)
        except StorageError as error:
            logger.warning("a checkpoint is not written: %s; the training goes on", error)
        self._saved_at = time.monotonic()
