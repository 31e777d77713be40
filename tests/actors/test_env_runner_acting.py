"""Who acts, with which weights, and how much it explores, on an environment that counts down."""

import numpy as np
import pytest

from actors.behavior import Dagger, Mixed, StudentDriven, TeacherDriven
from actors.env_runner import EnvRunner
from common.labels import LOWEST_LOGIT
from common.policies.inference import InferencePolicy
from common.policies.policy import Policy
from common.trajectory import STUDENT, TEACHER
from common.weights import weights_of
from tests.acting import log_probabilities
from tests.builders import NUM_ACTIONS, Countdown, make_policy, observations_of

TOTAL = 1_000
"""Env steps of a run, for schedules."""


def countdown_runner(
    env: Countdown, behavior, *, unroll_length: int = 12, teacher: Policy | None = None
) -> EnvRunner:
    return EnvRunner(
        env,
        teacher=InferencePolicy(teacher or make_policy(seed=1)),
        student=InferencePolicy(make_policy(seed=2)),
        behavior=behavior,
        unroll_length=unroll_length,
        total_env_steps=TOTAL,
        runner_id=0,
        incarnation=0,
        task_id="task",
        seed=0,
    )


def weights(version: int, *, env_steps: int, seed: int = 2):
    network = make_policy(seed=seed).network
    return weights_of(network, version=version, learner_steps=0, env_steps=env_steps)


@pytest.mark.parametrize(
    ("behavior", "who"),
    [(TeacherDriven(), TEACHER), (StudentDriven(), STUDENT), (Dagger(), TEACHER)],
)
def test_at_the_start_the_behavior_decides_who_acts(behavior, who):
    chunk = countdown_runner(Countdown(3, 4, 5), behavior).sample()
    assert (chunk.acting_policy == who).all()


def test_a_mixed_share_of_the_episodes_is_the_teachers():
    runner = countdown_runner(Countdown(*[1] * 50), Mixed(share=0.3), unroll_length=40)
    episodes = (runner.sample(), runner.drain_episodes())[1]
    by_teacher = sum(episode.acting_policy == TEACHER for episode in episodes)
    assert len(episodes) == 1_000
    assert by_teacher == pytest.approx(300, abs=60)


def test_dagger_hands_over_to_the_student_as_the_run_goes_on():
    runner = countdown_runner(Countdown(*[1] * 50), Dagger(anneal_fraction=0.5), unroll_length=40)
    shares = []
    for version, env_steps in enumerate((0, TOTAL // 4, TOTAL // 2, 5 * TOTAL)):
        runner.set_weights(weights(version, env_steps=env_steps))
        shares.append(float((runner.sample().acting_policy == TEACHER).mean()))
    assert shares == pytest.approx([1.0, 0.5, 0.0, 0.0], abs=0.06)


def test_an_episode_under_way_keeps_its_policy_when_the_share_falls():
    runner = countdown_runner(Countdown(10), Dagger(), unroll_length=6)
    assert (runner.sample().acting_policy == TEACHER).all()
    runner.set_weights(weights(1, env_steps=TOTAL))
    acting = runner.sample().acting_policy[:, 0]
    # Rows 6 to 10 are the episode's last and its autoreset row; row 11 starts the next one.
    assert acting.tolist() == [TEACHER] * 5 + [STUDENT]


def test_new_weights_act_and_are_named_from_the_next_chunk_on():
    env = Countdown(5, 7)
    runner = countdown_runner(env, StudentDriven(student_epsilon=0.2))
    before = runner.sample()
    runner.set_weights(weights(8, env_steps=10, seed=5))
    after = runner.sample()
    assert (before.policy_version, after.policy_version) == (0, 8)
    assert {episode.policy_version for episode in runner.drain_episodes()} == {0, 8}
    student = InferencePolicy(make_policy(seed=5))
    for t, observations in enumerate(observations_of(after)):
        logs = log_probabilities(
            student(observations).dist_inputs, "logits", epsilon=0.2, mode="greedy"
        )
        wanted = logs[np.arange(2), after.actions[t]]
        np.testing.assert_allclose(after.behavior_log_prob[t], wanted, rtol=1e-6)


def test_episodes_are_reported_once():
    runner = countdown_runner(Countdown(3), TeacherDriven(), unroll_length=8)
    runner.sample()
    assert [episode.length for episode in runner.drain_episodes()] == [3, 3]
    assert runner.drain_episodes() == []


def test_ends_are_told_apart():
    chunk = countdown_runner(Countdown(3), TeacherDriven(), unroll_length=8).sample()
    assert np.flatnonzero(chunk.terminated).tolist() == [2]
    assert np.flatnonzero(chunk.truncated).tolist() == [6]


def test_without_exploration_a_greedy_teacher_takes_its_best_action():
    chunk = countdown_runner(Countdown(3, 4), TeacherDriven(teacher_epsilon=0.0)).sample()
    np.testing.assert_array_equal(chunk.actions, chunk.teacher_dist_inputs.argmax(-1))
    assert not chunk.behavior_log_prob.any()


def test_exploration_alone_is_uniform():
    behavior = TeacherDriven(teacher_epsilon=1.0)
    chunk = countdown_runner(Countdown(*[5] * 30), behavior, unroll_length=100).sample()
    counts = np.bincount(chunk.actions.flat, minlength=NUM_ACTIONS)
    np.testing.assert_allclose(counts, 1_000, atol=110)  # some four standard deviations
    np.testing.assert_allclose(chunk.behavior_log_prob, np.log(1 / NUM_ACTIONS), rtol=1e-6)


def test_logits_too_far_apart_for_float16_stay_finite():
    teacher = make_policy(seed=1)
    teacher.network.head.weight.data.mul_(1e7)
    chunk = countdown_runner(Countdown(3, 4), TeacherDriven(), teacher=teacher).sample()
    labels = chunk.teacher_dist_inputs
    assert labels.max() == 0.0
    assert labels.min() == np.float16(LOWEST_LOGIT)
