"""Teachers with a memory and a view of their own, in env runners and evaluations."""

from typing import Any

import numpy as np
import pytest
import torch

from actors.behavior import Behavior, Mixed, StudentDriven, TeacherDriven
from actors.env_runner import EnvRunner
from actors.environments import VectorEnvironment, make_environment
from actors.environments.atari import AtariConfig, AtariView
from actors.evaluator import evaluate
from common.policies.inference import InferencePolicy, PolicyOutputs
from common.policies.policy import Policy
from common.policies.spec import ActingSpec, ObservationSpec
from common.trajectory import STUDENT, TEACHER
from tests.acting import log_probabilities
from tests.builders import make_policy, observations_of

PONG = AtariConfig(
    id="pong", frame_size=20, frame_stack=2, frame_skip_max=5, max_frames_per_episode=60
)
"""Episodes of twelve to fifteen steps."""
VIEW = AtariView(picture="field", frame_size=16, frame_stack=1, max_pool=False).of(PONG)
GRU: dict[str, Any] = {
    "name": "gru",
    "channels": (2,),
    "kernels": (3,),
    "strides": (4,),
    "paddings": (1,),
    "hidden": 6,
}
COPIES, STEPS, CHUNKS = 3, 8, 6


def teacher_of(observation: ObservationSpec, **changes: Any) -> Policy:
    fields = {"network": GRU, "num_actions": 6, "acting": {"mode": "sample"}, "has_value": True}
    return make_policy("frames", seed=1, observation=observation.model_dump(), **(fields | changes))


def student_of(env: VectorEnvironment) -> Policy:
    observation = env.spec.observation.model_dump()
    return make_policy("frames", seed=2, observation=observation, num_actions=6)


class Watched(VectorEnvironment):
    """Hands through to an environment and keeps what both were shown."""

    def __init__(self, env: VectorEnvironment) -> None:
        self._env, self.spec, self.num_envs = env, env.spec, env.num_envs
        self.by_student: list[np.ndarray] = []
        self.by_teacher: list[np.ndarray] = []

    def reset(self, seed: int) -> np.ndarray:
        return self._kept(self._env.reset(seed))

    def step(self, actions: np.ndarray) -> Any:
        result = self._env.step(actions)
        self._kept(result.observations)
        return result

    def close(self) -> None:
        self._env.close()

    def _kept(self, observations: np.ndarray) -> np.ndarray:
        shown = self._env.teacher_observations
        self.teacher_observations = shown
        self.by_student.append(observations)
        self.by_teacher.append(observations if shown is None else shown)
        return observations


def in_order(teacher: Policy, shown: np.ndarray, starts: np.ndarray) -> np.ndarray:
    """Return what a teacher says of one copy's observations, forgetting where episodes start."""
    policy = InferencePolicy(teacher)
    memory, said = np.zeros((1, 6), np.float32), []
    for observation, start in zip(shown, starts, strict=True):
        memory = np.zeros_like(memory) if start else memory
        outputs, memory = policy.remember(observation[None], memory)
        said.append(outputs.dist_inputs[0])
    return np.stack(said)


@pytest.mark.parametrize("view", [VIEW, None])
@pytest.mark.parametrize(
    "behavior", [TeacherDriven(), StudentDriven(), Mixed(share=0.5)], ids=lambda b: b.name
)
def test_labels_are_of_the_teachers_view_in_the_order_of_episodes(
    behavior: Behavior, view: AtariConfig | None
) -> None:
    """Recomputed copy by copy from what the environment showed, over chunks and episodes."""
    env = Watched(make_environment(PONG, num_envs=COPIES, teacher_view=view))
    teacher, student = teacher_of(env.spec.seen_by_teacher), student_of(env)
    runner = EnvRunner(
        env,
        teacher=InferencePolicy(teacher),
        student=InferencePolicy(student),
        behavior=behavior,
        unroll_length=STEPS,
        total_env_steps=1_000,
        runner_id=0,
        incarnation=0,
        task_id="task",
        seed=0,
    )
    chunks = [runner.sample() for _ in range(CHUNKS)]
    rows = STEPS * CHUNKS
    stored = np.concatenate([observations_of(chunk) for chunk in chunks])
    np.testing.assert_array_equal(stored, np.stack(env.by_student)[:rows])
    labels = np.concatenate([chunk.labels for chunk in chunks])
    valid = np.concatenate([chunk.valid for chunk in chunks])
    shown = np.stack(env.by_teacher)[:rows]
    starts = np.zeros((rows, COPIES), np.bool_)
    starts[0], starts[1:] = True, ~valid[:-1]
    assert (starts.sum(0) >= 3).all()
    wanted = np.stack([in_order(teacher, shown[:, n], starts[:, n]) for n in range(COPIES)], 1)
    # A chunk holds logits in float16, shifted.
    apart = (labels - labels.max(-1, keepdims=True)) - (wanted - wanted.max(-1, keepdims=True))
    np.testing.assert_allclose(apart[valid], 0.0, atol=2e-3)
    once = in_order(teacher, shown[:, 0], np.arange(rows) == 0)
    assert np.abs(once - wanted[:, 0]).max() > 1e-2  # forgetting matters here
    acting = np.concatenate([chunk.acting_policy for chunk in chunks])
    actions = np.concatenate([chunk.actions for chunk in chunks])
    log_probs = np.concatenate([chunk.behavior_log_prob for chunk in chunks])
    logs = log_probabilities(wanted, "logits", epsilon=behavior.teacher_epsilon, mode="sample")
    taken = np.take_along_axis(logs, actions[..., None].astype(int), -1)[..., 0]
    by_teacher = (acting == TEACHER) & valid
    np.testing.assert_allclose(log_probs[by_teacher], taken[by_teacher], atol=1e-4)
    assert by_teacher.any() == (behavior.name != "student")
    assert (acting == STUDENT).any() == (behavior.name != "teacher")


class Elsewhere:
    """A teacher in another process, without the process."""

    def __init__(self, policy: InferencePolicy) -> None:
        self._policy, self.spec = policy, policy.spec

    def __call__(self, observations: np.ndarray) -> PolicyOutputs:
        return self.ask(observations)()

    def ask(self, observations: np.ndarray) -> Any:
        asked = observations.copy()
        return lambda: self._policy(asked)


def test_a_distant_teacher_without_a_memory_is_asked_about_its_view() -> None:
    network = {"name": "nature_cnn", "channels": (2,), "kernels": (4,), "strides": (4,)}
    env = Watched(make_environment(PONG, num_envs=COPIES, teacher_view=VIEW))
    teacher = InferencePolicy(teacher_of(VIEW.observation(), network=network))
    runner = EnvRunner(
        env,
        teacher=Elsewhere(teacher),
        student=InferencePolicy(student_of(env)),
        behavior=Mixed(share=0.5),
        unroll_length=STEPS,
        total_env_steps=1_000,
        runner_id=0,
        incarnation=0,
        task_id="task",
        seed=0,
    )
    labels = runner.sample().labels
    for t in range(STEPS):
        wanted = teacher(env.by_teacher[t]).dist_inputs
        wanted -= wanted.max(-1, keepdims=True)
        np.testing.assert_allclose(labels[t] - labels[t].max(-1, keepdims=True), wanted, atol=2e-3)


@pytest.mark.parametrize("view", [VIEW, None])
def test_agreement_is_with_what_the_teacher_says_of_its_own_view(view: AtariConfig | None) -> None:
    env = Watched(make_environment(PONG, num_envs=2, teacher_view=view))
    teacher, student = teacher_of(env.spec.seen_by_teacher), student_of(env)
    evaluate(env, None, acting=ActingSpec(), num_episodes=2, seed=1)
    centre(teacher, np.concatenate(env.by_teacher))
    centre(student, np.concatenate(env.by_student))
    env.by_student, env.by_teacher = [], []
    result = evaluate(
        env,
        InferencePolicy(student),
        acting=ActingSpec(epsilon=0.5),
        num_episodes=4,
        seed=0,
        reference=InferencePolicy(teacher),
    )
    agreed = 0
    for copy in range(2):
        first, second = result_lengths(env, copy)
        for rows in (slice(0, first), slice(first + 1, first + 1 + second)):
            seen, shown = (np.stack(kept)[rows, copy] for kept in (env.by_student, env.by_teacher))
            said = in_order(teacher, shown, np.arange(len(shown)) == 0)
            own = InferencePolicy(student)(seen).dist_inputs
            agreed += int((own.argmax(-1) == said.argmax(-1)).sum())
    assert result.num_compared == sum(result.lengths)
    assert result.greedy_agreement == pytest.approx(agreed / sum(result.lengths))
    assert 0.0 < result.greedy_agreement < 1.0


def centre(policy: Policy, seen: np.ndarray) -> None:
    """Let every action be the best one now and then: give all the same mean output."""
    said = InferencePolicy(policy)(seen).dist_inputs
    with torch.no_grad():
        policy.network.head.bias -= torch.from_numpy(said.mean(0))


def result_lengths(env: Watched, copy: int) -> tuple[int, int]:
    """Return the lengths of a copy's first two episodes, by the stacks that start empty."""
    stacks = np.stack(env.by_student)[:, copy]
    starts = np.flatnonzero(~stacks[:, 0].any((1, 2)))
    first, second, *_ = np.diff([*starts, len(stacks)]) - 1
    return int(first), int(second)
