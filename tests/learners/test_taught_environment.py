import numpy as np
import pytest
import torch

from common.policies.policy import new_policy
from learners.taught_environment import TaughtEnvironment
from learners.teach_config import DqnConfig, TeachConfig
from learners.teacher_search import TeacherSearch, teacher_spec
from tests.matrices import matrices_registered

TINY = TeachConfig(
    hidden=(8,),
    total_env_steps=300,
    evaluation_episodes=2,
    dqn=DqnConfig(batch_size=16, learning_starts=50, training_intensity=1.0),
)


@pytest.mark.parametrize(("kwargs", "size"), [({}, 6), ({"shape": (3, 4)}, 12)])
def test_what_rllib_makes_is_what_the_teacher_is_specified_for(
    kwargs: dict[str, tuple[int, ...]], size: int
) -> None:
    with matrices_registered() as env_id:
        spec = teacher_spec(TINY, env_id=env_id, env_kwargs=kwargs, name="teacher")
        env = TaughtEnvironment(spec.environment)
    assert env.observation_space.shape == spec.observation.shape == (size,)
    np.testing.assert_array_equal(env.reset()[0], np.arange(size))
    np.testing.assert_array_equal(env.step(1)[0], np.arange(size) + 10)


def test_a_teacher_of_matrices_is_evaluated() -> None:
    with matrices_registered() as env_id:
        spec = teacher_spec(TINY, env_id=env_id, env_kwargs={}, name="teacher")
        policy = new_policy(spec, seed=0)
        with torch.no_grad():
            policy.network.head.bias.copy_(torch.tensor([-1e4, 1e4]))
        assert TeacherSearch(TINY, spec).evaluate(policy) == 10.0


@pytest.mark.ray
@pytest.mark.usefixtures("ray_of_this_process")
def test_a_teacher_is_trained_on_matrices() -> None:
    from learners.rllib_teacher import train_teacher

    with matrices_registered() as env_id:
        policy = train_teacher(
            TINY,
            env_id=env_id,
            env_kwargs={"shape": (3, 4)},
            name="teacher",
            on_progress=lambda progress: None,
            should_stop=lambda: False,
        )
    assert policy.spec.observation.shape == (12,)
    assert policy.spec.environment["kwargs"] == {"shape": (3, 4)}
    assert policy.network(torch.zeros(1, 12)).dist_inputs.shape == (1, 2)
