import pytest
from ray.exceptions import ActorDiedError, RayError, RayTaskError, WorkerCrashedError

from cluster.on_ray.errors import one_line, own_error
from common.errors import MismatchError, RunFailedError

TRACE = """Traceback (most recent call last):
  File "somewhere/ray_actors.py", line 42, in __init__
    self.build(config)
    ^^^^^^^^^^^^^^^^^^
{reason}"""


def task_error(cause: Exception, reason: str = "") -> RayTaskError:
    trace = TRACE.format(reason=reason)
    return RayTaskError("run", trace, cause, proctitle="ray::Actor.run", pid=7, ip="10.0.0.1")


def test_an_exception_of_a_task_is_told_without_its_traceback() -> None:
    assert one_line(task_error(ValueError("no room\nat all"))) == "ValueError: no room at all"
    raised = task_error(KeyError("fc")).as_instanceof_cause()
    assert one_line(raised) == "KeyError: 'fc'"


@pytest.mark.parametrize(
    ("reason", "told"),
    [
        ("ValueError: bad", "ValueError: bad"),
        (
            "RuntimeError: Error(s) in loading:\n\tsize mismatch\nof fc",
            "RuntimeError: Error(s) in loading: size mismatch of fc",
        ),
    ],
)
def test_an_exception_of_a_constructor_is_told_without_its_traceback(
    reason: str, told: str
) -> None:
    assert one_line(ActorDiedError(task_error(ValueError("bad"), reason))) == told


def test_a_process_that_died_is_told_without_its_particulars() -> None:
    error = RayError(
        "The actor died unexpectedly before finishing this task.\n\tclass_name: LearnerActor\n"
        "\tactor_id: 0123\n\tpid: 4\nThe actor is dead because its worker process has died.\n"
        "Worker exit type: SYSTEM_ERROR"
    )
    assert one_line(error) == (
        "The actor is dead because its worker process has died. Worker exit type: SYSTEM_ERROR"
    )


def test_an_error_that_has_one_line_keeps_it() -> None:
    assert one_line(ActorDiedError()) == ActorDiedError.BASE_ERROR_MSG
    assert one_line(WorkerCrashedError()) == " ".join(str(WorkerCrashedError()).split())


def test_what_a_task_met_on_the_way_to_another_actor_is_told_of_that_actor() -> None:
    nested = task_error(ActorDiedError(task_error(ValueError("bad"), "ValueError: bad")))
    assert one_line(nested) == "ValueError: bad"


def test_an_error_of_our_own_comes_back_as_it_was() -> None:
    cause = MismatchError("the two do not fit")
    assert own_error("it failed", task_error(cause).as_instanceof_cause()) is cause


def test_any_other_error_says_who_failed() -> None:
    error = own_error("the learner failed", task_error(ValueError("bad")))
    assert isinstance(error, RunFailedError)
    assert str(error) == "the learner failed: ValueError: bad"
