import asyncio
import threading

import numpy as np
import pytest

from actors.shared_inference import QuestionGatherer, SharedInference
from common.policies.inference import InferencePolicy, PolicyOutputs
from common.policies.question import PackedObservations, pack, unpack
from tests.builders import VECTOR, Kind, make_policy

LONG_S = 60.0
"""Never waited for, unless something is wrong."""


def observations(count: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(count, VECTOR)).astype(np.float32)


def policy(**changes) -> InferencePolicy:
    return InferencePolicy(make_policy(seed=1, **changes))


class Sizes:
    """A policy that keeps the sizes of its batches."""

    def __init__(self, inner: InferencePolicy) -> None:
        self._inner = inner
        self.spec = inner.spec
        self.sizes: list[int] = []

    def __call__(self, observations: np.ndarray) -> PolicyOutputs:
        self.sizes.append(len(observations))
        return self._inner(observations)


@pytest.mark.parametrize("has_value", [True, False])
@pytest.mark.parametrize("max_batch_size", [1, 4, 7, 100])
def test_each_question_gets_its_own_answer(has_value: bool, max_batch_size: int) -> None:
    alone = policy(has_value=has_value)
    sizes = Sizes(alone)
    shared = SharedInference(sizes, max_batch_size=max_batch_size)
    questions = [observations(count, seed=count) for count in (3, 1, 6, 4)]
    answers = shared.answer(questions)
    assert len(answers) == 4
    for question, answer in zip(questions, answers, strict=True):
        wanted = alone(question)
        np.testing.assert_allclose(answer.dist_inputs, wanted.dist_inputs, rtol=1e-5, atol=1e-6)
        assert (answer.value is not None) == has_value
        if answer.value is not None:
            np.testing.assert_allclose(answer.value, wanted.value, rtol=1e-5, atol=1e-6)
    assert sum(sizes.sizes) == shared.num_rows == 14
    assert max(sizes.sizes) == min(max_batch_size, 14)
    assert shared.num_batches == len(sizes.sizes)


def test_alone_it_is_a_policy_like_any_other() -> None:
    alone = policy(has_value=True)
    shared = SharedInference(alone, max_batch_size=64)
    assert shared.spec is alone.spec
    question = observations(5)
    for found, wanted in zip(shared(question), alone(question), strict=True):
        np.testing.assert_array_equal(found, wanted)


@pytest.mark.parametrize("kind", ["frames", "vectors"])
def test_packed_questions_are_answered_as_plain_ones(kind: Kind) -> None:
    spec = make_policy(kind).spec.observation
    rng = np.random.default_rng(0)
    questions = [
        rng.integers(256, size=(count, *spec.shape)).astype(spec.dtype) for count in (2, 3)
    ]
    shared = SharedInference(InferencePolicy(make_policy(kind)), max_batch_size=64)
    plain, packed = shared.answer(questions), shared.answer_packed([*map(pack, questions)])
    for wanted, found in zip(plain, packed, strict=True):
        np.testing.assert_array_equal(found.dist_inputs, wanted.dist_inputs)


class Echo:
    """Answers with the first entry of each row, once it is let; keeps how rows came together."""

    def __init__(self, *, held: bool = False) -> None:
        self.batches: list[list[int]] = []
        self.begun = threading.Event()
        self.may_answer = threading.Event()
        if not held:
            self.may_answer.set()

    def __call__(self, questions: list[PackedObservations]) -> list[PolicyOutputs]:
        self.batches.append([question.num_rows for question in questions])
        self.begun.set()
        assert self.may_answer.wait(LONG_S)
        return [PolicyOutputs(unpack(question)[:, :1].copy(), None) for question in questions]


def gatherer(answer, *, max_rows=100, enough_rows=100, max_wait_s=LONG_S) -> QuestionGatherer:
    return QuestionGatherer(
        answer, max_rows=max_rows, enough_rows=enough_rows, max_wait_s=max_wait_s
    )


async def ask_all(gathering: QuestionGatherer, *counts: int) -> None:
    """Ask questions of these sizes at once, and check that each gets its own answer."""
    questions = [observations(count, seed=place) for place, count in enumerate(counts)]
    answers = await asyncio.gather(*(gathering.ask(pack(question)) for question in questions))
    for question, answer in zip(questions, answers, strict=True):
        np.testing.assert_array_equal(answer.dist_inputs, question[:, :1])


def test_questions_wait_for_each_other_until_there_are_enough() -> None:
    echo = Echo()
    asyncio.run(ask_all(gatherer(echo, enough_rows=9), 4, 3, 2))
    assert echo.batches == [[4, 3, 2]]


def test_a_question_does_not_wait_for_ever() -> None:
    echo = Echo()
    asyncio.run(ask_all(gatherer(echo, max_wait_s=0.01), 4))
    assert echo.batches == [[4]]


def test_a_batch_is_not_larger_than_it_may_be_unless_a_question_is() -> None:
    echo = Echo()
    asyncio.run(ask_all(gatherer(echo, max_rows=8, max_wait_s=0.01), 5, 3, 4, 20, 1))
    assert echo.batches == [[5, 3], [4], [20], [1]]


def test_what_comes_during_a_forward_pass_goes_into_the_next_one_together() -> None:
    echo = Echo(held=True)

    async def scenario() -> None:
        gathering = gatherer(echo, max_wait_s=0.0)
        first = asyncio.create_task(ask_all(gathering, 1))
        await asyncio.to_thread(echo.begun.wait, LONG_S)
        others = asyncio.create_task(ask_all(gathering, 2, 3, 4))
        await asyncio.sleep(0)  # they have asked
        await asyncio.sleep(0)
        echo.may_answer.set()
        await asyncio.gather(first, others)
        await ask_all(gathering, 5)  # nobody waited, and it starts again

    asyncio.run(scenario())
    assert echo.batches == [[1], [2, 3, 4], [5]]


def test_what_goes_wrong_everyone_who_asked_is_told_and_later_questions_are_answered() -> None:
    echo = Echo()
    broken = [RuntimeError("out of memory")]

    def answer(questions: list[PackedObservations]) -> list[PolicyOutputs]:
        if broken:
            raise broken.pop()
        return echo(questions)

    async def scenario() -> list[object]:
        gathering = gatherer(answer, enough_rows=3)
        asked = [gathering.ask(pack(observations(count))) for count in (1, 2)]
        told = await asyncio.gather(*asked, return_exceptions=True)
        await ask_all(gathering, 3)
        return told

    told = asyncio.run(scenario())
    assert [str(error) for error in told] == ["out of memory"] * 2
    assert echo.batches == [[3]]


def test_one_who_has_gone_keeps_nobody_from_an_answer() -> None:
    echo = Echo(held=True)

    async def scenario() -> None:
        gathering = gatherer(echo, enough_rows=3)
        gone = asyncio.create_task(gathering.ask(pack(observations(1))))
        stays = asyncio.create_task(ask_all(gathering, 2))
        await asyncio.to_thread(echo.begun.wait, LONG_S)
        gone.cancel()
        echo.may_answer.set()
        await stays
        assert gone.cancelled()

    asyncio.run(scenario())
    assert echo.batches == [[1, 2]]
