"""Students that act well, with real observations, within seconds."""

from functools import cache
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch.nn import functional as F

from actors.environments import VectorEnvironment, make_environment
from actors.environments.atari import AtariConfig
from actors.environments.gymnasium_env import GymnasiumConfig
from actors.evaluator import evaluate
from common.policies.inference import InferencePolicy, Observations
from common.policies.policy import Policy, load_policy, new_policy
from common.policies.spec import ActingSpec, PolicySpec
from tests.cartpole import cartpole_teacher

PONG = Path(__file__).resolve().parents[1] / "deploy/teachers/pong-nature.safetensors"


class Student(NamedTuple):
    """A policy and what it sees."""

    policy: Policy
    calibration: Observations
    observations: Observations
    """Others, of the same play."""


@cache
def cartpole_student() -> Student:
    """Return a student of CartPole's feedback."""
    env = make_environment(GymnasiumConfig(id="CartPole-v1"), num_envs=16)
    acting = ActingSpec(epsilon=0.3)
    seen = _seen(env, cartpole_teacher(), acting, num_steps=250, count=2_500)
    network = {"name": "mlp", "hidden": (32, 32)}
    return _fitted(cartpole_teacher(), network, seen, num_steps=600, sharpness=4.0)


@cache
def pong_student() -> Student:
    """Return the bundled policy of Pong, which was a student itself, of frames."""
    policy = load_policy(PONG)
    env = make_environment(AtariConfig(id="pong"), num_envs=8)
    seen = _seen(env, policy, ActingSpec(epsilon=0.1), num_steps=150, count=1_000)
    return _split(policy, seen)


STUDENTS = {"cartpole": cartpole_student, "pong": pong_student}


def _seen(
    env: VectorEnvironment, teacher: Policy, acting: ActingSpec, *, num_steps: int, count: int
) -> Observations:
    steps = iter(range(num_steps))
    result = evaluate(
        env,
        InferencePolicy(teacher),
        acting=acting,
        num_episodes=10_000,
        seed=0,
        num_observations=count,
        should_stop=lambda: next(steps, None) is None,
    )
    env.close()
    assert len(result.observations) == count
    return result.observations


def _fitted(
    teacher: Policy,
    network: dict[str, object],
    seen: Observations,
    *,
    num_steps: int,
    sharpness: float,
) -> Student:
    """Fit a network to the teacher's softmax at temperature 1 / `sharpness`."""
    told = teacher.spec.model_dump() | {"name": "student", "network": network}
    student = new_policy(PolicySpec.model_validate(told), seed=0)
    rng = np.random.default_rng(0)
    seen = seen[rng.permutation(len(seen))]
    labels = torch.from_numpy(InferencePolicy(teacher)(seen).dist_inputs)
    targets = (labels * sharpness).softmax(-1)
    optimizer = torch.optim.Adam(student.network.parameters(), lr=3e-3)
    for _ in range(num_steps):
        rows = rng.integers(len(seen), size=64)
        inputs = torch.from_numpy(seen[rows]).float()
        logits = student.network(inputs, input_scale=student.spec.observation.scale).dist_inputs
        loss = F.cross_entropy(logits, targets[rows])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return _split(student, seen)


def _split(policy: Policy, seen: Observations) -> Student:
    split = len(seen) // 3
    return Student(policy, seen[:split], seen[split:])
