from cluster.board import Entry, RunStatus, Wanted
from cluster.commands.runs import _remarks

TEACHER = "teacher: version 3 (policy-9.safetensors), mean return 412.00"


def entry(**changes: object) -> Entry:
    fields: dict[str, object] = {"name": "pong", "run_dir": "runs/pong", "task": "Pong"}
    return Entry(RunStatus.model_validate(fields | changes), 1.0, Wanted(), 1)


def test_status_shows_which_version_of_the_teacher_is_learnt_from() -> None:
    running = entry(phase="distilling", teacher=TEACHER, figures={"teacher/version": 3.0})
    assert TEACHER in list(_remarks(running))
    tree = running.as_json()
    assert (tree["teacher"], tree["figures"]["teacher/version"]) == (TEACHER, 3.0)


def test_where_the_teacher_never_changes_nothing_is_said_of_it() -> None:
    assert list(_remarks(entry(phase="distilling"))) == []
