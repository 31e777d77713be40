"""A student with a memory, from the env runner to the learner and back, on a task for one."""

import numpy as np
import numpy.typing as npt
import pytest
import torch

from actors.behavior import StudentDriven
from actors.env_runner import EnvRunner
from actors.environments import EnvironmentSpec, StepResult, VectorEnvironment
from actors.evaluator import evaluate
from common.policies.inference import InferencePolicy, Observations, PolicyOutputs
from common.policies.policy import new_policy
from common.policies.spec import ActingSpec, ObservationSpec, PolicySpec
from common.weights import weights_of
from learners.config import LearnerConfig
from learners.feed import FeedItem
from learners.learner import Learner
from learners.objectives import ObjectiveConfig

DELAY, NUM_CUES = 4, 3
CUE, CLOCK = slice(0, NUM_CUES), NUM_CUES
NETWORKS = {
    "lstm": {"name": "lstm", "hidden": 16, "torso": {"name": "mlp", "hidden": (16,)}},
    "mlp": {"name": "mlp", "hidden": (32,)},
}


class DelayedCue(VectorEnvironment):
    """A cue is shown once; `DELAY` steps later naming it gives 1, and the episode ends.

    Observations are (cue, one-hot, at the first step only; steps so far; the cue, for the teacher).
    """

    def __init__(self, num_envs: int) -> None:
        self.num_envs = num_envs
        self.spec = EnvironmentSpec(
            observation=ObservationSpec(shape=(NUM_CUES + 1,), dtype="float32"),
            num_actions=NUM_CUES,
            action_meanings=None,
            frame_stack=None,
        )

    def reset(self, seed: int) -> npt.NDArray[np.float32]:
        self._rng = np.random.default_rng(seed)
        self.cue = self._rng.integers(NUM_CUES, size=self.num_envs)
        self._clock = np.zeros(self.num_envs, np.int64)
        return self._show()

    def step(self, actions: npt.NDArray[np.int64]) -> StepResult:
        resets = self._clock > DELAY
        asked = self._clock == DELAY
        rewards = (asked & (actions == self.cue)).astype(np.float32)
        self.cue = np.where(resets, self._rng.integers(NUM_CUES, size=self.num_envs), self.cue)
        self._clock = np.where(resets, 0, self._clock + 1)
        return StepResult(self._show(), rewards, asked, np.zeros_like(asked))

    def close(self) -> None:
        """Do nothing."""

    def _show(self) -> npt.NDArray[np.float32]:
        shown = np.zeros((self.num_envs, NUM_CUES + 1), np.float32)
        shown[:, CUE] = np.eye(NUM_CUES)[self.cue] * (self._clock == 0)[:, None]
        shown[:, CLOCK] = self._clock / DELAY
        return shown


class Knows:
    """A teacher that looks at the environment's cue; it is asked about all copies at once."""

    def __init__(self, env: DelayedCue) -> None:
        self._env = env
        self.spec = PolicySpec.model_validate(
            {
                "name": "knows",
                "network": NETWORKS["mlp"],
                "observation": env.spec.observation,
                "num_actions": NUM_CUES,
            }
        )

    def __call__(self, observations: Observations) -> PolicyOutputs:
        return PolicyOutputs(6 * np.eye(NUM_CUES, dtype=np.float32)[self._env.cue], None)


def success_after(network: str, *, burn_in: int, num_chunks: int = 40) -> float:
    """Return the mean return of a student that learnt while it played."""
    env = DelayedCue(16)
    teacher = Knows(env)
    spec = teacher.spec.model_copy(update={"name": "student"})
    spec = PolicySpec.model_validate(spec.model_dump() | {"network": NETWORKS[network]})
    student = new_policy(spec, seed=0)
    runner = EnvRunner(
        env,
        teacher=teacher,
        student=InferencePolicy(student),
        behavior=StudentDriven(),
        unroll_length=24,
        total_env_steps=10**6,
        runner_id=0,
        incarnation=0,
        task_id="cue",
        seed=0,
    )
    learner = Learner(
        student=student,
        teacher_dist="logits",
        objective=ObjectiveConfig.model_validate({"kl": {}}),
        config=LearnerConfig(
            batch_size=192, sequence_length=24, burn_in=burn_in, learning_rate=1e-2
        ),
        window_capacity=4_000,
        total_env_steps=10**6,
        seed=0,
        device=torch.device("cpu"),
    )
    for number in range(num_chunks):
        chunk = runner.sample()
        granted = 4 * 192
        learner.receive(FeedItem(granted=granted, chunks=[chunk]))
        while learner.can_step:
            learner.step()
        runner.set_weights(learner.weights(number))
    result = evaluate(
        DelayedCue(10),
        InferencePolicy(student),
        acting=ActingSpec(),
        num_episodes=100,
        seed=1,
        reference=InferencePolicy(student),
    )
    assert result.greedy_agreement == 1.0
    return float(np.mean(result.returns))


@pytest.mark.parametrize("burn_in", [0, 6])
def test_a_student_with_a_memory_learns_to_remember(burn_in):
    assert success_after("lstm", burn_in=burn_in) > 0.95


def test_a_student_without_one_cannot():
    assert success_after("mlp", burn_in=0) < 0.6


def test_an_env_runner_keeps_a_memory_a_copy_and_starts_it_over_with_every_episode():
    """What acted is what the whole history since the episode's start says."""
    env = DelayedCue(5)
    spec = PolicySpec.model_validate(Knows(env).spec.model_dump() | {"network": NETWORKS["lstm"]})
    student = new_policy(spec, seed=3)
    runner = EnvRunner(
        env,
        teacher=Knows(env),
        student=InferencePolicy(student),
        behavior=StudentDriven(),
        unroll_length=10,
        total_env_steps=1_000,
        runner_id=0,
        incarnation=0,
        task_id="cue",
        seed=0,
    )
    runner.set_weights(weights_of(student.network, version=1, learner_steps=0, env_steps=0))
    chunks = [runner.sample() for _ in range(3)]
    seen = np.concatenate([chunk.observations.values for chunk in chunks])
    valid = np.concatenate([chunk.valid for chunk in chunks])
    log_probs = np.concatenate([chunk.behavior_log_prob for chunk in chunks])
    actions = np.concatenate([chunk.actions for chunk in chunks])
    plain = InferencePolicy(student)
    epsilon = StudentDriven().student_epsilon
    for copy in range(5):
        memory = np.zeros((1, 2, 16), np.float32)
        for t in range(len(seen)):
            if t and not valid[t - 1, copy]:
                memory[:] = 0.0
            outputs, memory = plain.remember(seen[t, copy][None], memory)
            greedy = outputs.dist_inputs[0].argmax()
            chance = epsilon / NUM_CUES + (1 - epsilon) * (actions[t, copy] == greedy)
            assert log_probs[t, copy] == pytest.approx(np.log(chance), rel=1e-5)
