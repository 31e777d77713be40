"""The copy of the student that Q-learning aims at."""

from pathlib import Path
from typing import Any

import pytest
import torch

from learners.checkpoint import save_checkpoint
from learners.config import LearnerConfig
from learners.learner import Learner
from learners.objectives import ObjectiveConfig
from tests.builders import make_chunk, make_policy
from tests.checkpoints import newest_state
from tests.learners.learning import item

INTERVAL = 3


def make_learner(*, seed: int = 0, **settings: Any) -> Learner:
    tree = {"qdagger": {"target_interval_steps": INTERVAL, **settings}}
    return Learner(
        student=make_policy(seed=seed, dist="q_values"),
        teacher_dist="logits",
        objective=ObjectiveConfig.model_validate(tree),
        config=LearnerConfig(batch_size=16, sequence_length=8, precision="float32"),
        window_capacity=1_000,
        total_env_steps=1_000,
        seed=seed,
        device=torch.device("cpu"),
    )


def copied(state: dict[str, Any]) -> dict[str, torch.Tensor]:
    return {name: tensor.clone() for name, tensor in state.items()}


def same(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor]) -> bool:
    return all(torch.equal(a[name], b[name]) for name in a)


def test_the_target_is_the_student_of_the_last_interval():
    learner = make_learner()
    learner.receive(item(make_chunk(num_steps=16), granted=160))
    last = copied(learner.state()["network"])
    for step in range(1, 9):
        learner.step()
        state = learner.state()
        if step % INTERVAL == 0:
            last = copied(state["network"])
        assert same(state["target"], last)
        assert same(state["network"], last) == (step % INTERVAL == 0)


def test_a_learner_goes_on_with_its_target(tmp_path: Path):
    learner = make_learner()
    learner.receive(item(make_chunk(num_steps=16), granted=160))
    for _ in range(INTERVAL + 1):
        learner.step()
    save_checkpoint(tmp_path, learner.state(), step=1, keep=1)
    resumed = make_learner(seed=5)
    resumed.load_state(newest_state(tmp_path))
    resumed.receive(item(make_chunk(num_steps=16), granted=160))
    for either in (learner, resumed):
        either.step()
    assert same(resumed.state()["network"], learner.state()["network"])
    assert same(resumed.state()["target"], learner.state()["target"])


def test_steps_aim_at_the_target_and_not_at_the_student():
    losses = []
    for shift in (0.0, 5.0):
        learner = make_learner(teacher_weight=0.0, discount=0.9)
        state = learner.state()
        target = copied(state["target"])
        target["head.bias"] += shift
        learner.load_weights(state | {"target": target})
        learner.receive(item(make_chunk(num_steps=16), granted=16))
        learner.step()
        losses.append(learner.metrics["loss"])
    assert losses[0] != pytest.approx(losses[1])


def test_other_objectives_keep_no_target():
    learner = make_learner()
    assert learner.state()["target"] is not None
    plain = Learner(
        student=make_policy(),
        teacher_dist="logits",
        objective=ObjectiveConfig.model_validate({"kl": {}}),
        config=LearnerConfig(),
        window_capacity=1_000,
        total_env_steps=1_000,
        seed=0,
        device=torch.device("cpu"),
    )
    assert plain.state()["target"] is None
