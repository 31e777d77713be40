from collections.abc import Callable

import numpy as np
import pytest

from actors.labelling import (
    MAX_UNANSWERED,
    ROWS_PER_QUESTION,
    LabelAtOnce,
    LabelInOrder,
    LabelLater,
    LeaveUnlabelled,
    make_labelling,
)
from common.policies.acting import ActingPolicy
from common.policies.inference import InferencePolicy, PolicyOutputs
from common.policies.refreshable import RefreshablePolicy
from common.trajectory import UNLABELLED
from tests.builders import VECTOR, make_policy

NUM_ENVS = 3
EVERYONE = np.arange(NUM_ENVS)
NOBODY = np.arange(0)


def here(**changes) -> InferencePolicy:
    return InferencePolicy(make_policy(seed=1, **({"has_value": True} | changes)))


class Elsewhere:
    """A policy that counts its questions and the answers that were waited for."""

    def __init__(self, policy: ActingPolicy) -> None:
        self._policy = policy
        self.spec = policy.spec
        self.sizes: list[int] = []
        self.answered = 0
        self.most_under_way = 0

    def __call__(self, observations: np.ndarray) -> PolicyOutputs:
        return self.ask(observations)()

    def ask(self, observations: np.ndarray) -> Callable[[], PolicyOutputs]:
        self.sizes.append(len(observations))
        self.most_under_way = max(self.most_under_way, len(self.sizes) - self.answered)

        def answer() -> PolicyOutputs:
            self.answered += 1
            return self._policy(observations)

        return answer


MEMORY = {"name": "lstm", "hidden": 4, "torso": {"name": "mlp", "hidden": (8,)}}


def rows(num_steps: int) -> np.ndarray:
    return np.random.default_rng(0).normal(size=(num_steps, NUM_ENVS, VECTOR)).astype(np.float32)


@pytest.mark.parametrize(
    ("teacher", "labels", "kind"),
    [
        (here(), True, LabelAtOnce),
        (here(network=MEMORY), True, LabelInOrder),
        (Elsewhere(here()), True, LabelLater),
        (here(), False, LeaveUnlabelled),
    ],
)
def test_where_the_teacher_is_decides_how_rows_are_labelled(
    teacher: ActingPolicy, labels: bool, kind: type
) -> None:
    assert type(make_labelling(teacher, labels=labels, num_envs=NUM_ENVS)) is kind


@pytest.mark.parametrize("num_steps", [1, ROWS_PER_QUESTION, 3 * ROWS_PER_QUESTION + 1, 64])
@pytest.mark.parametrize("has_value", [True, False])
@pytest.mark.parametrize("acting", ["nobody", "everyone", "now and then"])
def test_labels_are_the_same_now_and_later(num_steps: int, has_value: bool, acting: str) -> None:
    """However the rows are shared out among questions, each gets its own labels."""
    teacher = here(has_value=has_value)
    elsewhere = Elsewhere(teacher)
    now, later = LabelAtOnce(teacher), LabelLater(elsewhere)
    chunk = rows(num_steps)
    for _ in range(2):  # a second chunk starts afresh
        now.start(num_steps, NUM_ENVS)
        later.start(num_steps, NUM_ENVS)
        for t, observations in enumerate(chunk):
            who = EVERYONE if acting == "everyone" or (acting != "nobody" and t % 3) else NOBODY
            wanted = now.row(t, observations, who)
            np.testing.assert_array_equal(later.row(t, observations, who), wanted)
            assert len(wanted) == len(who)
        wanted, found = now.finish(), later.finish()
        assert found.version == wanted.version != UNLABELLED
        np.testing.assert_allclose(found.dist_inputs, wanted.dist_inputs, rtol=1e-3, atol=1e-6)
        assert (found.value is not None) == has_value
        if found.value is not None and wanted.value is not None:
            np.testing.assert_allclose(found.value, wanted.value, rtol=1e-5, atol=1e-6)
        chunk = chunk[::-1]
    assert elsewhere.answered == len(elsewhere.sizes)


def test_rows_that_the_student_plays_go_together_and_are_not_waited_for() -> None:
    teacher = Elsewhere(here())
    labelling = LabelLater(teacher)
    labelling.start(64, NUM_ENVS)
    for t, observations in enumerate(rows(64)):
        labelling.row(t, observations, NOBODY)
        assert teacher.answered == max(0, (t + 1) // ROWS_PER_QUESTION - MAX_UNANSWERED)
    labelling.finish()
    assert teacher.sizes == [NUM_ENVS * ROWS_PER_QUESTION] * (64 // ROWS_PER_QUESTION)
    assert teacher.most_under_way == MAX_UNANSWERED


def test_a_row_on_which_the_teacher_acts_is_answered_at_once() -> None:
    teacher = Elsewhere(here())
    labelling = LabelLater(teacher)
    labelling.start(5, NUM_ENVS)
    one = np.array([1])
    for t, observations in enumerate(rows(5)):
        outputs = labelling.row(t, observations, one)
        np.testing.assert_array_equal(outputs, here()(observations).dist_inputs[one])
        assert (len(teacher.sizes), teacher.answered) == (t + 1, t + 1)


def test_a_teacher_that_only_acts_is_asked_only_where_it_acts() -> None:
    class Counting:
        spec = here().spec
        sizes: list[int] = []  # noqa: RUF012  # one test, one list

        def __call__(self, observations: np.ndarray) -> PolicyOutputs:
            self.sizes.append(len(observations))
            return here()(observations)

    labelling = LeaveUnlabelled(Counting())
    labelling.start(3, NUM_ENVS)
    observations = rows(1)[0]
    for t, who in enumerate((NOBODY, np.array([0, 2]), EVERYONE)):
        outputs = labelling.row(t, observations, who)
        np.testing.assert_allclose(
            outputs, here()(observations).dist_inputs[who], rtol=1e-5, atol=1e-6
        )
    assert Counting.sizes == [2, 3]
    assert labelling.finish() == (UNLABELLED, None, None)


@pytest.mark.parametrize("kind", [LabelAtOnce, LabelLater])
def test_a_chunk_in_which_a_newer_teacher_takes_over_counts_as_the_older_ones(kind: type) -> None:
    """So it is stale as a whole, and the learner labels all of it anew."""
    versions = [make_policy(seed=number, teacher_version=number) for number in range(4)]
    teacher = RefreshablePolicy(versions[1], InferencePolicy)
    elsewhere = Elsewhere(teacher)
    labelling = kind(teacher if kind is LabelAtOnce else elsewhere)
    found = []
    for taken in (2, 3):  # in the middle of the first chunk, and after it
        labelling.start(16, NUM_ENVS)
        for t, observations in enumerate(rows(16)):
            labelling.row(t, observations, NOBODY)
            if t == 13:  # a distant teacher has answered about the first rows by then
                teacher.take(versions[taken])
        found.append(labelling.finish().version)
        labelling.start(2, NUM_ENVS)
        for t, observations in enumerate(rows(2)):
            labelling.row(t, observations, EVERYONE)
        found.append(labelling.finish().version)
    assert found == [1, 2, 2, 3]


@pytest.mark.parametrize("who", [NOBODY, EVERYONE, np.array([1])])
def test_a_teacher_with_a_memory_hears_every_row_of_an_episode(who: np.ndarray) -> None:
    """Over chunks, whoever acts; copy 1 starts an episode at the third row of the second chunk."""
    teacher, seen = here(network=MEMORY), rows(9)
    labelling = LabelInOrder(teacher, NUM_ENVS)
    found = []
    for chunk in (0, 1):
        labelling.start(4, NUM_ENVS)
        for t in range(4):
            if (chunk, t) == (1, 2):
                labelling.forget(np.array([1]))
            said = labelling.row(t, seen[4 * chunk + t], who)
            assert len(said) == len(who)
        found.append(labelling.finish().dist_inputs)
    labels = np.concatenate(found)
    for copy in range(NUM_ENVS):
        memory = np.zeros((1, 2, 4), np.float32)
        for t in range(8):
            if (copy, t) == (1, 6):
                memory[:] = 0
            outputs, memory = teacher.remember(seen[t, copy][None], memory)
            wanted = outputs.dist_inputs[0] - outputs.dist_inputs[0].max()  # as labels are kept
            np.testing.assert_allclose(labels[t, copy], wanted, atol=2e-3)
