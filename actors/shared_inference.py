"""The shared teacher: answers the questions of several env runners in one forward pass.

| part       | waits for                                     | unblocked by                      |
|------------|-----------------------------------------------|-----------------------------------|
| gatherer   | enough rows, but no longer than `max_wait_s`; | questions; the clock              |
|            | the forward pass under way                    |                                   |
| env runner | answers, where its teacher acts or too many   | the forward pass                  |
|            | questions are under way                       |                                   |

Nothing is kept between two questions, so one that is asked again after the actor died gets the
same answer.
"""

import asyncio
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np

from common.policies.acting import ActingPolicy
from common.policies.inference import Observations, PolicyOutputs
from common.policies.policy import Policy
from common.policies.question import PackedObservations, unpack
from common.policies.refreshable import RefreshablePolicy
from common.policies.spec import PolicySpec


@dataclass(frozen=True, slots=True, kw_only=True)
class InferenceStats:
    """What an actor with a shared teacher reports."""

    life: str
    """Another one each time that the actor is started."""
    ready: bool
    """Whether it has its teacher."""
    pid: int
    num_rows: int
    """Observations answered for in this life."""
    num_batches: int
    """Forward passes taken in this life."""


class SharedInference:
    """A teacher that answers many at once. Called alone, it is a policy like any other.

    Args:
        policy: the teacher.
        max_batch_size: observations of one forward pass.
    """

    def __init__(self, policy: ActingPolicy, *, max_batch_size: int) -> None:
        self._policy = policy
        self._max_batch_size = max_batch_size
        self.num_rows = 0
        """Observations answered for."""
        self.num_batches = 0
        """Forward passes taken."""

    @property
    def spec(self) -> PolicySpec:
        """What the teacher is."""
        return self._policy.spec

    @property
    def version(self) -> int:
        """Of the teacher that answers now."""
        return self.spec.teacher_version

    def take(self, newer: Policy) -> bool:
        """Go on with a newer version of a teacher that is refreshed; return whether it was."""
        assert isinstance(self._policy, RefreshablePolicy), "this teacher never changes"
        return self._policy.take(newer)

    def __call__(self, observations: Observations) -> PolicyOutputs:
        """Return the outputs for observations [B, *shape]."""
        return self.answer([observations])[0]

    def answer(self, questions: Sequence[Observations]) -> list[PolicyOutputs]:
        """Return the outputs for each of several questions [B, *shape]."""
        together = questions[0] if len(questions) == 1 else np.concatenate(questions)
        size = self._max_batch_size
        parts = [self._policy(together[at : at + size]) for at in range(0, len(together), size)]
        self.num_rows += len(together)
        self.num_batches += len(parts)
        logits = np.concatenate([part.dist_inputs for part in parts])
        values = [part.value for part in parts if part.value is not None]
        borders = np.cumsum([len(question) for question in questions])[:-1]
        answers = np.split(logits, borders)
        version = min(part.version for part in parts)
        if not values:
            return [PolicyOutputs(answer, None, version) for answer in answers]
        pairs = zip(answers, np.split(np.concatenate(values), borders), strict=True)
        return [PolicyOutputs(answer, value, version) for answer, value in pairs]

    def answer_packed(self, questions: Sequence[PackedObservations]) -> list[PolicyOutputs]:
        """Return the outputs for questions that came from another process."""
        return self.answer([unpack(question) for question in questions])


@dataclass(frozen=True, slots=True, eq=False)
class _Waiting:
    question: PackedObservations
    answer: asyncio.Future[PolicyOutputs]
    since: float
    """Of the event loop's clock, in seconds."""


class QuestionGatherer:
    """Lets questions wait for each other, and has them answered together in a thread of its own.

    Args:
        answer: answers questions, in order; what it raises, every asker gets.
        max_rows: observations answered together at most, unless one question has more.
        enough_rows: observations that are not made to wait for more, because everyone who could
            ask has asked.
        max_wait_s: how long the oldest question waits for others, in seconds.
    """

    def __init__(
        self,
        answer: Callable[[list[PackedObservations]], list[PolicyOutputs]],
        *,
        max_rows: int,
        enough_rows: int,
        max_wait_s: float,
    ) -> None:
        self._answer = answer
        self._max_rows = max_rows
        self._enough_rows = min(max_rows, enough_rows)
        self._max_wait_s = max_wait_s
        self._waiting: deque[_Waiting] = deque()
        self._enough = asyncio.Event()
        self._serving: asyncio.Task[None] | None = None
        # One thread, so that there is one forward pass at a time, on one set of warm caches.
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="inference")

    async def ask(self, question: PackedObservations) -> PolicyOutputs:
        """Return the outputs for a question."""
        loop = asyncio.get_running_loop()
        waiting = _Waiting(question, loop.create_future(), loop.time())
        self._waiting.append(waiting)
        self._look()
        if self._serving is None:
            self._serving = loop.create_task(self._serve())
        return await waiting.answer

    async def _serve(self) -> None:
        """Answer until nobody waits; the next question starts it again."""
        loop = asyncio.get_running_loop()
        while self._waiting:
            try:
                async with asyncio.timeout_at(self._waiting[0].since + self._max_wait_s):
                    await self._enough.wait()
            except TimeoutError:
                pass
            batch = self._take()
            questions = [waiting.question for waiting in batch]
            try:
                answers = await loop.run_in_executor(self._thread, self._answer, questions)
            except Exception as error:  # everyone who asked is told
                _settle(batch, error)
            else:
                _settle(batch, answers)
        self._serving = None

    def _take(self) -> list[_Waiting]:
        """Take the oldest questions that fit into a batch, at least one."""
        batch = [self._waiting.popleft()]
        rows = batch[0].question.num_rows
        while self._waiting and rows + self._waiting[0].question.num_rows <= self._max_rows:
            batch.append(self._waiting.popleft())
            rows += batch[-1].question.num_rows
        self._look()
        return batch

    def _look(self) -> None:
        """See whether enough rows wait."""
        if sum(waiting.question.num_rows for waiting in self._waiting) >= self._enough_rows:
            self._enough.set()
        else:
            self._enough.clear()


def _settle(batch: list[_Waiting], outcome: list[PolicyOutputs] | Exception) -> None:
    for place, waiting in enumerate(batch):
        if waiting.answer.done():  # who asked has gone
            continue
        if isinstance(outcome, Exception):
            waiting.answer.set_exception(outcome)
        else:
            waiting.answer.set_result(outcome[place])
