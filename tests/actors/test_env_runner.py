"""What a runner of real environments stores is what the environments and the policies did."""

import functools
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest

from actors.behavior import Mixed
from actors.env_runner import EnvRunner, EpisodeResult
from actors.environments import VectorEnvironment, make_environment
from actors.environments.atari import AtariConfig
from actors.environments.gymnasium_env import GymnasiumConfig
from common.codec import encode
from common.policies.inference import InferencePolicy, PolicyOutputs
from common.policies.policy import Policy
from common.trajectory import STUDENT, TEACHER, UNLABELLED, ChunkId, TrajectoryChunk
from tests.acting import log_probabilities
from tests.builders import make_policy, observations_of


class Recorder(VectorEnvironment):
    """Hands through to an environment and keeps every observation that it showed."""

    def __init__(self, env: VectorEnvironment) -> None:
        self.env, self.spec, self.num_envs = env, env.spec, env.num_envs
        self.shown: list[np.ndarray] = []
        self.actions: list[np.ndarray] = []

    def reset(self, seed: int) -> np.ndarray:
        observations = self.env.reset(seed)
        self.shown.append(observations.copy())
        return observations

    def step(self, actions: np.ndarray):
        result = self.env.step(actions)
        self.actions.append(actions.copy())
        self.shown.append(result.observations.copy())
        return result

    def close(self) -> None:
        self.env.close()


@dataclass
class Case:
    """A real environment with a teacher and a student of certain kinds."""

    config: Any
    num_envs: int
    unroll_length: int
    num_chunks: int
    teacher: dict[str, Any] = field(default_factory=dict)
    student: dict[str, Any] = field(default_factory=dict)


CASES = {
    "cartpole": Case(
        config=GymnasiumConfig(id="CartPole-v1"),
        num_envs=4,
        unroll_length=7,
        num_chunks=9,
        teacher={"acting": {"mode": "sample"}, "has_value": True},
        student={"acting": {"mode": "sample"}},
    ),
    "pong": Case(
        config=AtariConfig(id="pong", frame_size=24, max_frames_per_episode=80),
        num_envs=3,
        unroll_length=10,
        num_chunks=5,
        teacher={"dist": "q_values"},
        student={"dist": "logits"},
    ),
}


@dataclass
class Played:
    """What a runner with half of the episodes by the teacher did."""

    chunks: list[TrajectoryChunk]
    episodes: list[EpisodeResult]
    env_steps: int
    shown: np.ndarray
    taken: np.ndarray
    teacher: Policy
    student: Policy

    def rows(self, name: str) -> np.ndarray:
        """Return an array of the chunks, one behind the other, [all T, N, …]."""
        return np.concatenate([getattr(chunk, name) for chunk in self.chunks])

    @property
    def ends(self) -> np.ndarray:
        return self.rows("terminated") | self.rows("truncated")


def fitting(env: VectorEnvironment, seed: int, **changes: Any) -> Policy:
    kind = "vectors" if env.spec.frame_stack is None else "frames"
    return make_policy(
        kind,
        seed=seed,
        observation=env.spec.observation.model_dump(),
        num_actions=env.spec.num_actions,
        **changes,
    )


class Elsewhere:
    """The teacher in another process, without the process."""

    def __init__(self, policy: InferencePolicy) -> None:
        self._policy = policy
        self.spec = policy.spec

    def __call__(self, observations: np.ndarray) -> PolicyOutputs:
        return self.ask(observations)()

    def ask(self, observations: np.ndarray) -> Callable[[], PolicyOutputs]:
        asked = observations.copy()
        return lambda: self._policy(asked)


def play(
    case: Case,
    *,
    seed: int = 0,
    incarnation: int = 0,
    elsewhere: bool = False,
    labels: bool = True,
) -> Played:
    env = Recorder(make_environment(case.config, num_envs=case.num_envs))
    teacher, student = fitting(env, 1, **case.teacher), fitting(env, 2, **case.student)
    acting = InferencePolicy(teacher)
    runner = EnvRunner(
        env,
        teacher=Elsewhere(acting) if elsewhere else acting,
        student=InferencePolicy(student),
        behavior=Mixed(share=0.5, teacher_epsilon=0.1, student_epsilon=0.3),
        unroll_length=case.unroll_length,
        total_env_steps=1_000,
        runner_id=3,
        incarnation=incarnation,
        task_id="task",
        seed=seed,
        labels=labels,
    )
    chunks = [runner.sample() for _ in range(case.num_chunks)]
    return Played(
        chunks=chunks,
        episodes=runner.drain_episodes(),
        env_steps=runner.env_steps,
        shown=np.stack(env.shown),
        taken=np.stack(env.actions),
        teacher=teacher,
        student=student,
    )


@functools.cache
def played_case(name: str) -> Played:
    return play(CASES[name])


@pytest.fixture(params=CASES)
def played(request) -> Played:
    return played_case(request.param)


def episodes_of(played: Played, env: int) -> list[slice]:
    """Return the rows of every finished episode of an env copy, without its autoreset row."""
    stops = np.flatnonzero(played.ends[:, env]) + 1
    starts = [0, *(stops + 1)]
    return [slice(start, stop) for start, stop in zip(starts, stops, strict=False)]


def test_observations_are_those_that_the_environment_showed(played: Played):
    stored = np.concatenate([observations_of(chunk) for chunk in played.chunks])
    np.testing.assert_array_equal(stored, played.shown[: len(stored)])


def test_actions_are_those_that_the_environment_took(played: Played):
    np.testing.assert_array_equal(played.rows("actions"), played.taken)


def test_a_row_is_invalid_exactly_after_an_end(played: Played):
    valid, ends = played.rows("valid"), played.ends
    assert ends.any(axis=0).all()
    assert valid[0].all()
    np.testing.assert_array_equal(valid[1:], ~ends[:-1])
    assert played.env_steps == valid.sum() == sum(chunk.num_transitions for chunk in played.chunks)


def test_some_autoreset_row_opens_a_chunk(played: Played):
    """Else the other tests would not see an episode that ends on a chunk's border."""
    assert any(not chunk.valid[0].all() for chunk in played.chunks[1:])


def test_rewards_and_rows_add_up_to_the_episodes_reported(played: Played):
    rewards, acting = played.rows("rewards"), played.rows("acting_policy")
    wanted = [
        (int(acting[rows.start, env]), float(rewards[rows, env].sum()), rows.stop - rows.start)
        for env in range(rewards.shape[1])
        for rows in episodes_of(played, env)
    ]
    found = [(e.acting_policy, e.episode_return, e.length) for e in played.episodes]
    assert sorted(found) == sorted(wanted)
    assert len(found) >= 4


def test_the_same_policy_acts_throughout_an_episode(played: Played):
    acting = played.rows("acting_policy")
    for env in range(acting.shape[1]):
        for rows in episodes_of(played, env):
            assert len(set(acting[rows, env])) == 1
    assert set(acting.flat) == {TEACHER, STUDENT}


def test_labels_are_the_teachers_outputs_for_the_stored_observations(played: Played):
    teacher = InferencePolicy(played.teacher)
    for chunk in played.chunks:
        for t, observations in enumerate(observations_of(chunk)):
            outputs = teacher(observations)
            wanted = outputs.dist_inputs
            if teacher.spec.dist == "logits":
                wanted = (wanted - wanted.max(-1, keepdims=True)).astype(np.float16)
            np.testing.assert_array_equal(chunk.teacher_dist_inputs[t], wanted)
            if teacher.spec.has_value:
                assert chunk.teacher_value is not None
                np.testing.assert_array_equal(chunk.teacher_value[t], outputs.value)
        assert (chunk.teacher_value is not None) == teacher.spec.has_value


@pytest.mark.parametrize(("name", "dtype"), [("cartpole", np.float16), ("pong", np.float32)])
def test_logits_travel_as_float16_and_q_values_as_float32(name, dtype):
    assert {chunk.teacher_dist_inputs.dtype for chunk in played_case(name).chunks} == {
        np.dtype(dtype)
    }


def test_behavior_log_prob_is_that_of_the_action_taken(played: Played):
    acting_policies = {
        TEACHER: (InferencePolicy(played.teacher), 0.1),
        STUDENT: (InferencePolicy(played.student), 0.3),
    }
    checked = 0
    for chunk in played.chunks:
        for t, observations in enumerate(observations_of(chunk)):
            for who, (policy, epsilon) in acting_policies.items():
                copies = np.flatnonzero(chunk.acting_policy[t] == who)
                if not copies.size:
                    continue
                logs = log_probabilities(
                    policy(observations[copies]).dist_inputs,
                    policy.spec.dist,
                    epsilon=epsilon,
                    mode=policy.spec.acting.mode,
                )
                wanted = logs[np.arange(copies.size), chunk.actions[t, copies]]
                np.testing.assert_allclose(
                    chunk.behavior_log_prob[t, copies], wanted, rtol=1e-4, atol=1e-5
                )
                checked += copies.size
    assert checked == played.rows("actions").size


def test_chunks_are_numbered_and_named(played: Played):
    ids = [chunk.chunk_id for chunk in played.chunks]
    assert ids == [ChunkId(3, 0, sequence) for sequence in range(len(ids))]
    assert {(chunk.task_id, chunk.policy_version) for chunk in played.chunks} == {("task", 0)}


def test_chunks_tell_how_much_their_life_had_collected_before(played: Played):
    before = 0
    for chunk in played.chunks:
        assert chunk.steps_before == before
        before += chunk.num_transitions


@pytest.mark.parametrize("name", CASES)
def test_the_same_seed_gives_the_same_bytes(name):
    again = play(CASES[name])
    for found, wanted in zip(again.chunks, played_case(name).chunks, strict=True):
        assert encode(found).payload.tobytes() == encode(wanted).payload.tobytes()
    assert again.episodes == played_case(name).episodes


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("changes", [{"elsewhere": True}, {"labels": False}])
def test_where_the_teacher_computes_changes_nothing_but_who_labels(name, changes):
    """Batches of other sizes may differ in a float's last bits, so labels are compared closely."""
    wanted, found = played_case(name), play(CASES[name], **changes)
    np.testing.assert_array_equal(found.shown, wanted.shown)
    np.testing.assert_array_equal(found.taken, wanted.taken)
    assert found.episodes == wanted.episodes
    for array in ("rewards", "valid", "acting_policy"):
        np.testing.assert_array_equal(found.rows(array), wanted.rows(array))
    np.testing.assert_allclose(
        found.rows("behavior_log_prob"), wanted.rows("behavior_log_prob"), rtol=1e-4, atol=1e-5
    )
    for chunk, labelled in zip(found.chunks, wanted.chunks, strict=True):
        if changes == {"labels": False}:
            assert (chunk.teacher_dist_inputs, chunk.teacher_value) == (None, None)
            assert chunk.teacher_version == UNLABELLED
            continue
        assert chunk.teacher_version == labelled.teacher_version
        np.testing.assert_allclose(chunk.labels, labelled.labels, rtol=1e-3, atol=1e-5)
        assert (chunk.teacher_value is None) == (labelled.teacher_value is None)


@pytest.mark.parametrize("changes", [{"seed": 1}, {"incarnation": 1}])
def test_another_seed_or_start_plays_otherwise(changes):
    other = play(CASES["cartpole"], **changes)
    assert (other.shown[0] != played_case("cartpole").shown[0]).any()
    assert (other.taken != played_case("cartpole").taken).any()
