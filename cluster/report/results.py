"""`evaluation.json` as a report reads it: what is missing, as in old files, is None."""

from typing import Any

from pydantic import BaseModel, ConfigDict


class _Lenient(BaseModel):
    """Takes what it knows and leaves the rest."""

    model_config = ConfigDict(frozen=True, extra="ignore", allow_inf_nan=False)


class Played(_Lenient):
    """How one policy played."""

    mean_return: float
    ci_low: float | None = None
    ci_high: float | None = None
    episodes: int | None = None


class HeldOutFigures(_Lenient):
    """How like its teacher a student is on sequences that it has not learned."""

    transitions: int | None = None
    greedy_agreement: float | None = None
    kl: float | None = None
    action_error: float | None = None


class Onnx(_Lenient):
    """The student as ONNX, held against the student."""

    bytes: int | None = None
    greedy_agreement: float | None = None
    action_error: float | None = None
    observations: int | None = None


class Cost(_Lenient):
    """What a policy costs to run; fields as `learners.footprint.Footprint` has them."""

    parameters: int | None = None
    multiply_adds: int | None = None
    bytes: int | None = None
    latency_ms: float | None = None


class TaskResult(_Lenient):
    """Everything that is said of one task."""

    teacher: Played | None = None
    student: Played | None = None
    random: Played | None = None
    share_of_teacher: float | None = None
    share_ci_low: float | None = None
    share_ci_high: float | None = None
    greedy_agreement: float | None = None
    action_error: float | None = None
    value_error: float | None = None
    value_scale: float | None = None
    states_compared: int | None = None
    acting: str | None = None
    held_out: HeldOutFigures | None = None
    onnx: Onnx | None = None


class Results(_Lenient):
    """The scores of a run."""

    tasks: dict[str, TaskResult]
    student: Cost = Cost()
    teacher: Cost = Cost()
    onnx: Onnx | None = None
    """Of a student of one task."""

    @property
    def lowest(self) -> tuple[str, TaskResult] | None:
        """The task with the lowest share of its teacher, or None where one's is unknown."""
        shares = {name: task.share_of_teacher for name, task in self.tasks.items()}
        known = {name: share for name, share in shares.items() if share is not None}
        if not known or len(known) < len(shares):
            return None
        name = min(known, key=known.__getitem__)
        return name, self.tasks[name]


def read_results(tree: Any) -> Results:
    """Return what `evaluation.json` says.

    Raises:
        ValueError: it is something else.
    """
    return Results.model_validate(tree)
