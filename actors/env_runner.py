"""The env runner: steps N env copies with teacher and student, and yields `TrajectoryChunk`s.

On the main road it is the source. It is plain Python: `cluster` runs it in a Ray actor, or in the
driver's process. Produces chunks; waits for nothing but a teacher in another process; new weights
come in between two chunks.
"""

from collections import deque
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from actors.behavior import Behavior
from actors.environments import StepResult, VectorEnvironment
from actors.labelling import make_labelling
from common.frames import FrameObservations, FramePacker
from common.policies.acting import ActingPolicy
from common.policies.actions import Drawn, draw_actions, empty_actions
from common.policies.inference import InferencePolicy
from common.policies.remembering import RememberingPolicy
from common.policies.spec import PolicySpec
from common.trajectory import STUDENT, TEACHER, ChunkId, TrajectoryChunk, VectorObservations
from common.weights import PolicyWeights


@dataclass(frozen=True, slots=True, kw_only=True)
class EpisodeResult:
    """A finished episode of one env copy."""

    acting_policy: int
    """TEACHER or STUDENT."""
    episode_return: float
    """Sum of raw rewards."""
    length: int
    """Env steps."""
    policy_version: int
    """Student weights at its end."""


class EnvRunner:
    """Collects chunks.

    Args:
        env: the N env copies; chunks hold what the student sees of them.
        teacher: acts in its share of the episodes, and labels every observation.
        student: acts in the others.
        behavior: who acts, and how much either explores.
        unroll_length: T.
        total_env_steps: length of the run, for schedules.
        runner_id: number of this runner.
        incarnation: how often this runner was started before.
        task_id: name of the task, for the chunks.
        seed: of this runner's environments and draws.
        start_env_steps: transitions that the run had when this session of it started; a part of
            the seed.
        labels: False where the learner labels: the teacher then acts only.
    """

    def __init__(
        self,
        env: VectorEnvironment,
        *,
        teacher: ActingPolicy,
        student: InferencePolicy,
        behavior: Behavior,
        unroll_length: int,
        total_env_steps: int,
        runner_id: int,
        incarnation: int,
        task_id: str,
        seed: int,
        start_env_steps: int = 0,
        labels: bool = True,
    ) -> None:
        self._env = env
        self._teacher = teacher
        self._labelling = make_labelling(teacher, labels=labels, num_envs=env.num_envs)
        self._student = student
        self._playing_student = RememberingPolicy(student, env.num_envs)
        self._behavior = behavior
        self._unroll_length = unroll_length
        self._total_env_steps = total_env_steps
        self._task_id = task_id
        self._chunk_id = ChunkId(runner_id, incarnation, 0)
        self._rng = np.random.default_rng((seed, runner_id, incarnation, start_env_steps))
        self._progress = 0.0
        self.policy_version = 0
        self.env_steps = 0
        """Valid transitions collected."""
        self._episodes: deque[EpisodeResult] = deque()
        num_envs = env.num_envs
        self._observations = env.reset(int(self._rng.integers(2**30)))
        self._returns = np.zeros(num_envs)
        self._lengths = np.zeros(num_envs, np.int64)
        self._resetting = np.arange(0)  # copies of which this row is an autoreset row
        self._fresh = np.arange(num_envs)  # copies of which this row starts an episode
        self._acting = np.full(num_envs, TEACHER, np.uint8)
        self._by_teacher, self._by_student = np.arange(num_envs), np.arange(0)

    def set_weights(self, weights: PolicyWeights) -> None:
        """Act with these weights, and with the schedules' progress that they carry."""
        self._student.load(weights.state())
        self.policy_version = weights.version
        self._progress = min(1.0, weights.env_steps / self._total_env_steps)

    def drain_episodes(self) -> list[EpisodeResult]:
        """Return the episodes that ended since the last call.

        It may be called in another thread while `sample` goes on: each episode is returned once.
        """
        return [self._episodes.popleft() for _ in range(len(self._episodes))]

    def close(self) -> None:
        """Close the environments."""
        self._env.close()

    def sample(self) -> TrajectoryChunk:
        """Step the env copies T times and return what happened."""
        rows = _Rows(self._resetting)
        self._labelling.start(self._unroll_length, self._env.num_envs)
        frames, vectors = self._frame_packer(), []
        for t in range(self._unroll_length):
            if self._fresh.size:
                self._choose_who_acts()
            if frames is not None:
                frames.append(self._observations, self._fresh)
            else:
                vectors.append(self._observations)
            drawn = self._act(t)
            result = self._env.step(drawn.actions)
            rows.append(self._acting, drawn, result)
            self._observations = result.observations
            self._fresh = self._resetting
            self._resetting = (result.terminated | result.truncated).nonzero()[0]
        observations: FrameObservations | VectorObservations
        observations = VectorObservations(np.stack(vectors)) if frames is None else frames.finish()
        labels = self._labelling.finish()
        chunk = TrajectoryChunk(
            chunk_id=self._chunk_id,
            task_id=self._task_id,
            steps_before=self.env_steps,
            policy_version=self.policy_version,
            teacher_version=labels.version,
            observations=observations,
            **rows.stacked(),
            teacher_dist_inputs=labels.dist_inputs,
            teacher_value=labels.value,
        )
        self._chunk_id = self._chunk_id._replace(sequence=self._chunk_id.sequence + 1)
        self.env_steps += int(chunk.valid.sum())
        self._count_episodes(chunk)
        return chunk

    def _frame_packer(self) -> FramePacker | None:
        if self._env.spec.frame_stack is None:
            return None
        stack, height, width = self._env.spec.observation.shape
        return FramePacker(self._unroll_length, self._env.num_envs, stack, height, width)

    def _choose_who_acts(self) -> None:
        """Draw teacher or student for every env copy whose episode starts at this row."""
        starting = self._fresh
        share = self._behavior.teacher_share(self._progress)
        by_teacher = self._rng.random(starting.size) < share
        self._acting = self._acting.copy()  # the rows before keep theirs
        self._acting[starting] = np.where(by_teacher, TEACHER, STUDENT)
        self._by_teacher = np.flatnonzero(self._acting == TEACHER)
        self._by_student = np.flatnonzero(self._acting == STUDENT)
        self._playing_student.forget(starting)
        self._labelling.forget(starting)

    def _act(self, t: int) -> Drawn:
        """Draw the actions of row t."""
        shown = self._env.teacher_observations
        shown = self._observations if shown is None else shown
        outputs = self._labelling.row(t, shown, self._by_teacher)
        epsilons = self._behavior.teacher_epsilon, self._behavior.student_epsilon
        if not self._by_student.size:
            return self._draw(self._teacher.spec, outputs, epsilons[0])
        everywhere = not self._by_teacher.size
        seen = self._observations if everywhere else self._observations[self._by_student]
        said = self._playing_student(seen, self._by_student)
        own = self._draw(self._student.spec, said.dist_inputs, epsilons[1])
        if everywhere:
            return own
        actions = empty_actions(self._env.spec.action_box, self._acting.size)
        drawn = Drawn(actions, np.empty(self._acting.size, np.float32))
        teachers = self._draw(self._teacher.spec, outputs, epsilons[0])
        for copies, part in ((self._by_teacher, teachers), (self._by_student, own)):
            drawn.actions[copies], drawn.log_probs[copies] = part
        return drawn

    def _draw(self, spec: PolicySpec, outputs: npt.NDArray[np.float32], epsilon: float) -> Drawn:
        return draw_actions(
            spec,
            outputs,
            mode=spec.acting.mode,
            epsilon=epsilon,
            noise=self._behavior.action_noise,
            rng=self._rng,
        )

    def _count_episodes(self, chunk: TrajectoryChunk) -> None:
        """Add the chunk's rows to the episodes under way, and keep those that ended."""
        starts = np.zeros(self._env.num_envs, np.intp)
        for row, env in np.argwhere(chunk.terminated | chunk.truncated):
            self._add_rows(chunk, env, slice(starts[env], row + 1))
            starts[env] = row + 1
            self._episodes.append(
                EpisodeResult(
                    acting_policy=int(chunk.acting_policy[row, env]),
                    episode_return=float(self._returns[env]),
                    length=int(self._lengths[env]),
                    policy_version=self.policy_version,
                )
            )
            self._returns[env], self._lengths[env] = 0.0, 0
        for env, start in enumerate(starts):
            self._add_rows(chunk, env, slice(start, None))

    def _add_rows(self, chunk: TrajectoryChunk, env: int, rows: slice) -> None:
        """Add rows of an env copy to its episode under way."""
        self._returns[env] += chunk.rewards[rows, env].sum(dtype=np.float64)
        self._lengths[env] += chunk.valid[rows, env].sum()


class _Rows:
    """The rows of a chunk, one after another.

    Every array of a step is new, so they are kept as they are and put together at the end: the
    fewer calls between two steps of the env copies, the less they wait.

    Args:
        resetting: env copies of which the first row is an autoreset row.
    """

    def __init__(self, resetting: npt.NDArray[np.intp]) -> None:
        self._resetting = resetting
        self._rows: list[tuple[npt.NDArray[Any], ...]] = []

    def append(self, acting: npt.NDArray[np.uint8], drawn: Drawn, result: StepResult) -> None:
        """Add what was done in a row, by whom, and what the env copies answered."""
        ends = result.terminated, result.truncated
        self._rows.append((acting, drawn.actions, drawn.log_probs, result.rewards, *ends))

    def stacked(self) -> dict[str, npt.NDArray[Any]]:
        """Return the rows' part of a `TrajectoryChunk`."""
        columns = map(np.stack, zip(*self._rows, strict=True))
        acting, actions, log_probs, rewards, terminated, truncated = columns
        valid = np.ones_like(terminated)
        valid[0, self._resetting] = False
        valid[1:] = ~(terminated | truncated)[:-1]
        return {
            "actions": actions.astype(np.int32) if actions.dtype == np.int64 else actions,
            "rewards": rewards,
            "terminated": terminated,
            "truncated": truncated,
            "valid": valid,
            "acting_policy": acting,
            "behavior_log_prob": log_probs,
        }
