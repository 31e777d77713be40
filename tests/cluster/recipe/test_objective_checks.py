"""What terms along time ask of a recipe."""

from typing import Any

import pytest

from actors.environments import make_environment
from cluster.prepare import new_student
from cluster.recipe.config import RunConfig
from common.config import validate
from common.errors import ConfigError
from tests.cartpole import cartpole_teacher

ON_POLICY = ["expected_entropy", "n_distill", "ppd", "kickstart"]

GOOD: dict[str, Any] = {
    "name": "along-time",
    "total_env_steps": 1_000,
    "env": {"family": "gymnasium", "id": "CartPole-v1"},
    "teacher": {"path": "teacher.safetensors"},
    "student": {"network": {"name": "mlp"}},
    "behavior": {"name": "student", "student_epsilon": 0.0},
    "actors": {"num_env_runners": 2, "num_envs_per_runner": 8, "unroll_length": 64},
    "replay": {"window": 2_048, "revisits": 0, "samples_per_insert": 4.0},
    "learner": {"sequence_length": 64, "batch_size": 256, "publish_interval_steps": 8},
}
"""All that a term on fresh data asks for."""


def config_with(objective: dict[str, Any], **changes: Any) -> RunConfig:
    tree = GOOD | {"objective": objective}
    for key, value in changes.items():
        tree[key] = GOOD[key] | value if key != "behavior" else value
    return validate(RunConfig, tree, "recipe")


@pytest.mark.parametrize("name", [*ON_POLICY, "qdagger"])
def test_what_every_term_asks_for_is_enough(name: str) -> None:
    config = config_with({name: {}})
    assert config.objective.over_time == [name]


@pytest.mark.parametrize("name", ON_POLICY)
@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"behavior": {"name": "dagger"}}, r"behavior.name = 'dagger': objective.NAME .*'student'"),
        ({"behavior": {"name": "teacher"}}, "behavior.name = 'teacher': objective.NAME"),
        ({"behavior": {"name": "mixed", "share": 0.1}}, "behavior.name = 'mixed'"),
        (
            {"behavior": {"name": "student"}},
            "behavior.student_epsilon = 0.02: objective.NAME .* set it to 0",
        ),
        (
            {"replay": {"sampler": {"name": "prioritized"}}},
            "replay.sampler.name = 'prioritized': objective.NAME .*'fresh_first' or 'uniform'",
        ),
        (
            {"replay": {"revisits": 1}},
            "replay.revisits = 1: objective.NAME .* set it to 0",
        ),
        (
            {"replay": {"window": 4_000}},
            "replay.window = 4000: objective.NAME .* at most 2048, 2 chunks of every env runner",
        ),
        (
            {"learner": {"publish_interval_steps": 33}},
            "publish_interval_steps = 33: objective.NAME .* at most 32",
        ),
        (
            {"learner": {"sequence_length": 1}},
            "learner.sequence_length = 1: objective.NAME looks along time",
        ),
    ],
)
def test_data_that_is_not_the_students_own_and_fresh_is_refused_in_one_line(
    name: str, changes: dict[str, Any], reason: str
) -> None:
    with pytest.raises(ConfigError, match=reason.replace("NAME", name)) as caught:
        config_with({name: {}}, **changes)
    assert "\n" not in str(caught.value)


def test_a_dagger_whose_teacher_never_acts_will_do() -> None:
    behavior = {"name": "dagger", "anneal_fraction": 0.0, "student_epsilon": 0.0}
    assert config_with({"ppd": {}}, behavior=behavior).behavior.teacher_share(0.0) == 0.0


def test_anybody_may_act_for_qdagger_and_old_data_will_do() -> None:
    config_with(
        {"qdagger": {}}, behavior={"name": "dagger"}, replay={"window": 10_000, "revisits": 1}
    )
    with pytest.raises(ConfigError, match=r"sequence_length = 1: objective.qdagger"):
        config_with({"qdagger": {}}, learner={"sequence_length": 1})


def test_sequences_lie_within_a_chunk() -> None:
    with pytest.raises(
        ConfigError, match=r"learner.sequence_length = 128: must divide actors.unroll_length = 64"
    ):
        config_with({"kl": {}}, learner={"sequence_length": 128})


@pytest.mark.parametrize("name", [*ON_POLICY, "qdagger", "kl"])
def test_students_get_the_heads_and_the_acting_that_their_terms_need(name: str) -> None:
    config = config_with({name: {}})
    env = make_environment(config.env, num_envs=1)
    student = new_student(config, env.spec, cartpole_teacher().spec)
    env.close()
    assert student.spec.has_value == student.network.has_value == (name in ON_POLICY)
    assert student.spec.dist == ("q_values" if name == "qdagger" else "logits")
    assert student.spec.acting.mode == ("sample" if name in ON_POLICY else "greedy")


LSTM = {"network": {"name": "lstm", "hidden": 8}}


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        (
            {"student": LSTM, "learner": {"sequence_length": 1}},
            "learner.sequence_length = 1: student.network.name = 'lstm' has a memory",
        ),
        ({"learner": {"burn_in": 8}}, "learner.burn_in = 8: .* 'mlp' has no memory to fill"),
        (
            {"student": LSTM, "learner": {"burn_in": 64}},
            "learner: burn_in = 64: must leave some of .* sequence_length = 64",
        ),
    ],
)
def test_a_memory_needs_sequences_and_burning_in_needs_a_memory(
    changes: dict[str, Any], reason: str
) -> None:
    config_with({"kl": {}}, student=LSTM, learner={"burn_in": 8})
    with pytest.raises(ConfigError, match=reason) as caught:
        config_with({"kl": {}}, **changes)
    assert "\n" not in str(caught.value)
