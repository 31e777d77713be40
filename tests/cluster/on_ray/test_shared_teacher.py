"""The shared inference actor without Ray: a plain object with async methods."""

import asyncio
from pathlib import Path

import numpy as np
import pytest

from cluster.on_ray.shared_teacher import SharedInferenceActor
from common.policies.inference import InferencePolicy, PolicyOutputs
from common.policies.policy import policy_to_bytes
from common.policies.question import pack
from tests.builders import make_policy
from tests.cartpole import cartpole_teacher, load_config

QUESTION = np.random.default_rng(0).normal(size=(8, 4)).astype(np.float32)


@pytest.fixture
def actor(tmp_path: Path) -> SharedInferenceActor:
    config = load_config(tmp_path, "actors.inference.placement=shared")
    return SharedInferenceActor(config.model_dump_json())


def test_questions_wait_until_the_teacher_has_come(actor: SharedInferenceActor) -> None:
    async def scenario() -> PolicyOutputs:
        asked = asyncio.create_task(actor.answer(pack(QUESTION)))
        for _ in range(3):
            await asyncio.sleep(0)
        before = await actor.stats()
        assert (before.ready, before.num_rows, asked.done()) == (False, 0, False)
        await actor.load(policy_to_bytes(cartpole_teacher()))
        outputs = await asked
        after = await actor.stats()
        assert (after.ready, after.num_rows, after.num_batches) == (True, 8, 1)
        assert (after.life, after.pid) == (before.life, before.pid)
        return outputs

    outputs = asyncio.run(scenario())
    wanted = InferencePolicy(cartpole_teacher())(QUESTION)
    np.testing.assert_array_equal(outputs.dist_inputs, wanted.dist_inputs)


def test_a_teacher_that_comes_twice_is_taken_once(actor: SharedInferenceActor) -> None:
    """Ray may send a call twice, and the supervisor may not know of the first."""
    other = make_policy(**cartpole_teacher().spec.model_dump(exclude={"format", "version"}))

    async def scenario() -> PolicyOutputs:
        await actor.load(policy_to_bytes(cartpole_teacher()))
        await actor.answer(pack(QUESTION))
        await actor.load(policy_to_bytes(other))
        assert (await actor.stats()).num_rows == 8
        return await actor.answer(pack(QUESTION))

    wanted = InferencePolicy(cartpole_teacher())(QUESTION)
    np.testing.assert_array_equal(asyncio.run(scenario()).dist_inputs, wanted.dist_inputs)


def test_every_life_has_a_name_of_its_own(actor: SharedInferenceActor, tmp_path: Path) -> None:
    again = SharedInferenceActor(
        load_config(tmp_path, "actors.inference.placement=shared").model_dump_json()
    )
    lives = {asyncio.run(each.stats()).life for each in (actor, again)}
    assert len(lives) == 2
