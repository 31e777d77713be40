"""Env runner and evaluator with actions that are vectors."""

import math
from typing import Any

import numpy as np
import pytest

from actors.behavior import Mixed
from actors.env_runner import EnvRunner
from actors.environments import make_environment
from actors.environments.gymnasium_env import GymnasiumConfig
from actors.evaluator import evaluate
from common.policies.actions import mean_actions
from common.policies.inference import InferencePolicy
from common.policies.policy import Policy
from common.policies.spec import ActingSpec
from common.trajectory import STUDENT, TEACHER, TrajectoryChunk
from tests.builders import make_policy

PENDULUM = GymnasiumConfig(id="Pendulum-v1")
BOX = {"low": (-2.0,), "high": (2.0,)}


def policy_of(dist: str, seed: int, **changes: Any) -> Policy:
    observation = {"shape": (3,), "dtype": "float32"}
    return make_policy(
        seed=seed, num_actions=None, action_box=BOX, dist=dist, observation=observation, **changes
    )


def sampled(
    teacher: Policy, student: Policy, *, labels: bool = True, **behavior: Any
) -> TrajectoryChunk:
    env = make_environment(PENDULUM, num_envs=6)
    runner = EnvRunner(
        env,
        teacher=InferencePolicy(teacher),
        student=InferencePolicy(student),
        behavior=Mixed(share=0.5, **behavior),
        unroll_length=40,
        total_env_steps=1_000,
        runner_id=0,
        incarnation=0,
        task_id="task",
        seed=0,
        labels=labels,
    )
    chunk = runner.sample()
    env.close()
    return chunk


def test_a_chunk_has_the_actions_that_led_on_and_the_teachers_labels() -> None:
    teacher, student = policy_of("gaussian", 1), policy_of("deterministic", 2)
    chunk = sampled(teacher, student, teacher_epsilon=0.0, student_epsilon=0.0, action_noise=0.0)
    assert (chunk.actions.shape, chunk.actions.dtype) == ((40, 6, 1), np.float32)
    assert (chunk.labels.shape, chunk.labels.dtype) == ((40, 6, 2), np.float32)
    observations = chunk.observations.values
    outputs = InferencePolicy(teacher)(observations.reshape(-1, 3)).dist_inputs
    np.testing.assert_allclose(chunk.labels.reshape(-1, 2), outputs, rtol=1e-4, atol=1e-5)
    own = InferencePolicy(student)(observations.reshape(-1, 3)).dist_inputs
    taken = chunk.actions.reshape(-1, 1)
    acting = chunk.acting_policy.reshape(-1)
    assert set(acting.tolist()) == {TEACHER, STUDENT}
    for who, dist, says in ((TEACHER, "gaussian", outputs), (STUDENT, "deterministic", own)):
        rows = acting == who
        wanted = mean_actions(dist, says[rows])
        np.testing.assert_allclose(taken[rows], wanted, rtol=1e-4, atol=1e-5)
    np.testing.assert_array_equal(chunk.behavior_log_prob, 0.0)
    torque = np.clip(chunk.actions[:-1, :, 0], -1, 1) * 2
    angle = np.arctan2(observations[:-1, :, 1], observations[:-1, :, 0])
    speed = observations[:-1, :, 2]
    cost = angle**2 + 0.1 * speed**2 + 0.001 * torque**2
    np.testing.assert_allclose(chunk.rewards[:-1], -cost, rtol=1e-3, atol=1e-3)


def test_sampled_actions_have_the_density_of_who_acted() -> None:
    sample = {"mode": "sample"}
    teacher = policy_of("squashed_gaussian", 1, acting=sample)
    student = policy_of("gaussian", 2, acting=sample)
    chunk = sampled(teacher, student, teacher_epsilon=0.0, student_epsilon=0.0)
    outputs = {
        TEACHER: InferencePolicy(teacher)(chunk.observations.values.reshape(-1, 3)).dist_inputs,
        STUDENT: InferencePolicy(student)(chunk.observations.values.reshape(-1, 3)).dist_inputs,
    }
    acting, taken = chunk.acting_policy.reshape(-1), chunk.actions.reshape(-1)
    for row, log_prob in enumerate(chunk.behavior_log_prob.reshape(-1).tolist()):
        mean, log_std = outputs[acting[row]][row].astype(float)
        action = float(taken[row])
        if acting[row] == TEACHER and abs(action) > 0.999:
            continue  # where a float32 no longer tells what was squashed
        u = math.atanh(action) if acting[row] == TEACHER else action
        slope = math.log(1 - action**2) if acting[row] == TEACHER else 0.0
        z = (u - mean) / math.exp(log_std)
        density = -0.5 * z**2 - log_std - 0.5 * math.log(2 * math.pi) - slope
        assert log_prob == pytest.approx(density, rel=1e-2, abs=2e-2)


def test_a_learner_may_label_box_actions() -> None:
    chunk = sampled(policy_of("gaussian", 1), policy_of("gaussian", 2), labels=False)
    assert chunk.teacher_dist_inputs is None
    assert chunk.actions.shape == (40, 6, 1)


def test_the_error_is_the_mean_difference_of_mean_actions() -> None:
    env = make_environment(PENDULUM, num_envs=3)
    policy, reference = (InferencePolicy(policy_of("gaussian", seed)) for seed in (1, 2))
    result = evaluate(
        env,
        policy,
        acting=ActingSpec(),
        num_episodes=3,
        seed=0,
        reference=reference,
        num_observations=10_000,
    )
    env.close()
    assert result.greedy_agreement is None
    assert result.num_compared == sum(result.lengths) == len(result.observations) == 600
    ours, theirs = (
        mean_actions("gaussian", p(result.observations).dist_inputs) for p in (policy, reference)
    )
    assert result.action_error == pytest.approx(np.abs(ours - theirs).mean(), rel=1e-4)


def test_a_random_policy_takes_any_action_of_the_box() -> None:
    env = make_environment(PENDULUM, num_envs=30)
    result = evaluate(env, None, acting=ActingSpec(), num_episodes=30, seed=0)
    env.close()
    assert -1_700 < np.mean(result.returns) < -900
    assert (result.greedy_agreement, result.action_error) == (None, None)
