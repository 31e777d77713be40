"""What a finished run came to, as its evaluation.json has it."""

from contextlib import suppress
from typing import Any

from cluster.next_command import next_command
from cluster.run_directory import RunDirectory, read_evaluation, write_json
from common.errors import RunDirectoryError, RunFailedError, StorageError

Evaluation = dict[str, Any]

_FINISHED = "finished_student"
"""Key of the SHA-256 of the student with which the run finished."""


def share_reached(evaluation: Evaluation) -> str:
    """Say in one line what a finished run came to."""
    return "; ".join(_share_in(task, scores) for task, scores in evaluation["tasks"].items())


def require_share(directory: RunDirectory, evaluation: Evaluation, required: float | None) -> None:
    """Hold the lowest of the tasks' shares against what is required.

    Args:
        directory: of the run, to say how it goes on.
        evaluation: its scores.
        required: the least share of the teacher; None: any will do.

    Raises:
        RunFailedError: it is below, or one of them is not defined.
    """
    shares = [scores.get("share_of_teacher") for scores in evaluation["tasks"].values()]
    known = [share for share in shares if share is not None]
    if required is None or (len(known) == len(shares) and min(known) >= required):
        return
    reached = f"{100 * min(known):.1f} %" if len(known) == len(shares) else "no defined share"
    longer = next_command(directory, "resume", "--set", "total_env_steps=N")
    raise RunFailedError(
        f"the student reaches {reached} of its teacher, below "
        f"evaluation.required_share = {100 * required:g} %; it and its scores are kept: train it "
        f"longer with {longer}, or take a wider student.network"
    )


def note_finished(directory: RunDirectory, evaluation: Evaluation) -> None:
    """Write down, and in `evaluation`, that the run has finished with the student that lies there.

    Where that cannot be written, the run's next start scores its student once more.
    """
    with suppress(StorageError):
        evaluation[_FINISHED] = directory.student.checksum().sha256
        write_json(directory.evaluation, evaluation)


def finished_evaluation(directory: RunDirectory) -> Evaluation | None:
    """Return the scores of a run that has finished, or None where there is something left to do.

    Raises:
        StorageError: the run directory cannot be reached.
    """
    try:
        evaluation = read_evaluation(directory)
    except RunDirectoryError:  # damaged: it is written anew
        return None
    if _FINISHED not in evaluation or not directory.student.exists():
        return None
    same = evaluation[_FINISHED] == directory.student.checksum().sha256
    return evaluation if same else None


def _share_in(task: str, scores: dict[str, Any]) -> str:
    if "student" not in scores:
        agreement = scores["greedy_agreement"]
        return f"{task}: {100 * agreement:.1f} % of its teacher's greedy actions, held out"
    share = scores["share_of_teacher"]
    reached = "" if share is None else f", {100 * share:.1f} % of its teacher"
    return f"{task}: the student plays {scores['student']['mean_return']:.2f}{reached}"
