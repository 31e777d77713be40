"""What a learner does for its objective: schedules, a value head, and features of its teacher."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from common.errors import ConfigError
from common.networks.inputs import Layout
from common.policies.inference import InferencePolicy
from common.policies.policy import policy_from_bytes, policy_to_bytes
from common.trajectory import TrajectoryChunk
from learners.checkpoint import save_checkpoint
from learners.config import LearnerConfig
from learners.feed import FeedItem
from learners.learner import Learner
from learners.objectives import ObjectiveConfig
from learners.trainer import Trainer
from tests.builders import NUM_ACTIONS, Kind, make_chunk, make_policy
from tests.checkpoints import newest_state
from tests.learners.training import ListFeed

BATCH = 16
TOTAL = 200
TEACHER_HIDDEN = 24


def make_learner(
    objective: dict[str, Any], kind: Kind = "vectors", *, seed: int = 0, **config: Any
) -> Learner:
    values = {"batch_size": BATCH, "micro_batch_size": 5, "precision": "float32"} | config
    wanted = ObjectiveConfig.model_validate(objective)
    wide = {"network": {"name": "mlp", "hidden": (TEACHER_HIDDEN,)}} if kind == "vectors" else {}
    return Learner(
        student=make_policy(kind, seed=seed, has_value=wanted.needs_value),
        teacher_dists=("logits",),
        objective=wanted,
        config=LearnerConfig.model_validate(values),
        window_capacity=1_000,
        total_env_steps=TOTAL,
        seed=seed,
        device=torch.device("cpu"),
        teacher=make_policy(kind, seed=9, **wide),
    )


def receive(learner: Learner, *chunks: TrajectoryChunk, steps: int = 0) -> None:
    learner.receive(FeedItem(granted=steps * BATCH, chunks=list(chunks)))


def train(learner: Learner, num_steps: int) -> None:
    receive(learner, steps=num_steps)
    for _ in range(num_steps):
        learner.step()


def weights_of(learner: Learner) -> dict[str, torch.Tensor]:
    return {name: t.clone() for name, t in learner.student.network.state_dict().items()}


def assert_same(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor]) -> None:
    assert a.keys() == b.keys()
    assert all(torch.equal(a[name], b[name]) for name in a)


def test_weights_and_temperatures_follow_the_run() -> None:
    learner = make_learner(
        {
            "kl": {"weight": {"start": 1.0, "end": 0.0, "until": 0.5}},
            "jsd": {"weight": 0.5, "temperature": {"start": 4.0, "end": 2.0}},
        }
    )
    seen = []
    for sequence in range(12):
        receive(learner, make_chunk(sequence=sequence))
        train(learner, 1)
        progress = min(1.0, learner.env_steps / TOTAL)
        weight, temperature = max(0.0, 1 - 2 * progress), 4 - 2 * progress
        assert learner.metrics["kl_weight"] == pytest.approx(weight)
        assert learner.metrics["jsd_temperature"] == pytest.approx(temperature)
        seen.append(weight)
    assert seen[0] > seen[1] > seen[-1] == 0.0
    assert "jsd_weight" not in learner.metrics


def test_a_step_under_a_schedule_is_the_step_with_the_present_number() -> None:
    scheduled = make_learner({"kl": {"weight": {"start": 3.0, "end": 1.0, "until": 0.25}}})
    plain = make_learner({"kl": {"weight": 1.0}}, final_learning_rate_fraction=0.1)
    for learner in (scheduled, plain):
        receive(learner, *(make_chunk(sequence=sequence) for sequence in range(4)))
        assert learner.env_steps > 0.25 * TOTAL
        train(learner, 3)
    assert_same(weights_of(scheduled), weights_of(plain))


def share_learner() -> Learner:
    schedule = {"start": 2.0, "end": 0.0, "by": "share_of_teacher"}
    return make_learner({"kl": {"weight": schedule}, "nll": {}})


def test_what_the_student_reaches_is_told_to_the_trainer_and_saved(tmp_path: Path) -> None:
    def trainer_of(learner: Learner) -> Trainer:
        return Trainer(
            learner,
            ListFeed(
                FeedItem(granted=BATCH, chunks=[make_chunk()]),
                FeedItem(granted=BATCH, chunks=[]),
            ),
            publish=lambda weights: None,
            config=LearnerConfig(),
            checkpoints=tmp_path,
        )

    trainer = trainer_of(share_learner())
    trainer.run_once(0.0)
    assert trainer.stats().metrics["kl_weight"] == 2.0
    trainer.share_of_teacher = 0.75
    trainer.run_once(0.0)
    assert trainer.stats().metrics["kl_weight"] == pytest.approx(0.5)
    trainer.close()
    resumed = trainer_of(share_learner())
    resumed.run_once(0.0)
    assert resumed.stats().metrics["kl_weight"] == pytest.approx(0.5)


@pytest.mark.parametrize("layout", ["contiguous", "channels_last", "blocks"])
@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_a_student_of_frames_learns_its_teachers_features(layout: Layout, precision: str) -> None:
    learner = make_learner(
        {"feature": {"weight": 1.0}},
        "frames",
        layout=layout,
        precision=precision,
        learning_rate=3e-3,
    )
    receive(learner, make_chunk("frames"))
    train(learner, 1)
    first = learner.metrics["feature"]
    train(learner, 80)
    assert learner.metrics["feature"] < 0.5 * first


def test_the_student_leaves_without_the_projection() -> None:
    learner = make_learner({"kl": {}, "feature": {}})
    receive(learner, make_chunk())
    train(learner, 2)
    plain = make_policy().network.state_dict().keys()
    assert learner.weights(0).arrays.keys() == plain
    assert weights_of(learner).keys() == plain
    back = policy_from_bytes(*policy_to_bytes(learner.student))
    assert_same(back.network.state_dict(), weights_of(learner))


def test_the_projection_learns_and_goes_on_from_a_checkpoint(tmp_path: Path) -> None:
    objective = {"kl": {}, "feature": {"weight": 0.5}}
    learner = make_learner(objective)
    receive(learner, make_chunk())
    fresh = learner.state()["projection"]["weight"].clone()
    assert fresh.shape == (TEACHER_HIDDEN, 16)
    train(learner, 3)
    assert bool((learner.state()["projection"]["weight"] != fresh).any())
    save_checkpoint(tmp_path, learner.state(), step=3, keep=1)
    state = newest_state(tmp_path)
    assert state is not None
    resumed = make_learner(objective, seed=5)
    resumed.load_state(state)
    receive(resumed, make_chunk())
    for either in (learner, resumed):
        train(either, 4)
    assert_same(weights_of(resumed), weights_of(learner))
    assert torch.equal(
        resumed.state()["projection"]["weight"], learner.state()["projection"]["weight"]
    )
    learner.load_weights(state)
    assert torch.equal(learner.state()["projection"]["weight"], state["projection"]["weight"])


@pytest.mark.parametrize(
    ("former", "now", "reason"),
    [
        ({"kl": {}}, {"kl": {}, "feature": {}}, "objective.feature = on, .* made with off"),
        ({"kl": {}, "feature": {}}, {"kl": {}}, "objective.feature = off, .* made with on"),
        ({"kl": {}}, {"kl": {}, "value": {}}, "the student's value head = on, .* made with off"),
    ],
)
def test_a_checkpoint_without_what_is_trained_now_is_refused(
    former: dict[str, Any], now: dict[str, Any], reason: str
) -> None:
    state = make_learner(former).state()
    with pytest.raises(ConfigError, match=reason):
        make_learner(now).load_state(state)


def test_a_student_learns_values_beside_its_policy() -> None:
    teacher = make_policy(seed=9, has_value=True)
    chunks = []
    for sequence in range(4):
        chunk = make_chunk(sequence=sequence)
        outputs = InferencePolicy(teacher)(chunk.observations.values.reshape(-1, 5))
        assert outputs.value is not None
        shape = chunk.actions.shape
        labels = {
            "teacher_dist_inputs": (5 * outputs.dist_inputs).reshape(*shape, NUM_ACTIONS),
            "teacher_value": outputs.value.reshape(shape),
        }
        labels["teacher_dist_inputs"] = labels["teacher_dist_inputs"].astype(np.float16)
        chunks.append(make_chunk(sequence=sequence, **labels))
    learner = make_learner({"kl": {}, "value": {}}, learning_rate=0.02)
    receive(learner, *chunks)
    train(learner, 1)
    first = dict(learner.metrics)
    train(learner, 300)
    assert first.keys() == {"loss", "kl", "value", "agreement", "grad_norm"}
    for name in ("kl", "value"):
        assert learner.metrics[name] < 0.1 * first[name]
    assert "value.weight" in learner.weights(0).arrays
