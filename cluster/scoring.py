"""Scores of teacher, student and a random policy: `evaluation.json` and the table on screen."""

from dataclasses import asdict, dataclass
from typing import Any, Protocol

from rich.table import Table

from actors.evaluator import EvaluationResult
from common.policies.inference import Observations
from common.statistics import MeanInterval, ShareInterval, bootstrap_mean, share_of_teacher
from learners.footprint import Footprint


class Verdict(Protocol):
    """What a run says of its student in the end."""

    @property
    def share(self) -> ShareInterval | None:
        """The student's random-offset share of the teacher's return, where it is known."""

    @property
    def observations(self) -> Observations:
        """Real observations [M, *shape]."""

    def as_json(self) -> dict[str, Any]:
        """Return the content of `evaluation.json`."""

    def table(self) -> Table:
        """Return the table for the screen."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Scores:
    """Everything that is said of a student in the end."""

    task: str
    teacher: EvaluationResult
    student: EvaluationResult
    random: EvaluationResult
    teacher_footprint: Footprint
    student_footprint: Footprint
    acting: str
    """How they acted: greedy or sampled, and ε."""

    @property
    def share(self) -> ShareInterval | None:
        """The student's random-offset share of the teacher's return."""
        return share_of_teacher(self.student.returns, self.teacher.returns, self.random.returns)

    @property
    def observations(self) -> Observations:
        """Real observations [M, *shape] of the student's play, for checks of exports."""
        return self.student.observations

    def intervals(self) -> dict[str, MeanInterval]:
        """Return mean returns with bootstrap intervals by policy."""
        results = {"teacher": self.teacher, "student": self.student, "random": self.random}
        return {name: bootstrap_mean(result.returns) for name, result in results.items()}

    def as_json(self) -> dict[str, Any]:
        """Return the content of `evaluation.json`."""
        task: dict[str, Any] = {
            name: {
                "mean_return": interval.mean,
                "ci_low": interval.ci_low,
                "ci_high": interval.ci_high,
                "episodes": interval.episodes,
            }
            for name, interval in self.intervals().items()
        }
        share = self.share
        task |= {
            "share_of_teacher": None if share is None else share.share,
            "share_ci_low": None if share is None else share.ci_low,
            "share_ci_high": None if share is None else share.ci_high,
            "greedy_agreement": self.student.greedy_agreement,
            "action_error": self.student.action_error,
            "states_compared": self.student.num_compared,
            "acting": self.acting,
            "value_error": self.student.value_error,
            "value_scale": self.student.value_scale,
        }
        return {
            "tasks": {self.task: task},
            "student": asdict(self.student_footprint),
            "teacher": asdict(self.teacher_footprint),
        }

    def table(self) -> Table:
        """Return the table for the screen."""
        table = Table(title=f"{self.task}: student against teacher ({self.acting})")
        table.add_column("")
        for name in ("teacher", "student", "random"):
            table.add_column(name, justify="right")
        means = self.intervals()
        order = [means[name] for name in ("teacher", "student", "random")]
        table.add_row("mean return", *(f"{mean.mean:.2f}" for mean in order))
        table.add_row("95 % interval", *(f"{m.ci_low:.2f} to {m.ci_high:.2f}" for m in order))
        table.add_row("episodes", *(str(mean.episodes) for mean in order))
        table.add_row("share of the teacher", "100 %", _share_text(self.share), "0 %")
        add_likeness(
            table,
            greedy_agreement=self.student.greedy_agreement,
            action_error=self.student.action_error,
        )
        if self.student.value_error is not None and self.student.value_scale is not None:
            error = f"{self.student.value_error:.3g} (spread {self.student.value_scale:.3g})"
            table.add_row("mean value error", "", error, "")
        add_footprints(table, self.teacher_footprint, self.student_footprint)
        return table


def add_footprints(table: Table, teacher: Footprint, student: Footprint) -> None:
    """Add the rows that tell how large and how fast both are."""
    prints = (teacher, student)
    table.add_row("parameters", *(f"{p.parameters:,}" for p in prints))
    table.add_row("multiply-adds", *(_count(p.multiply_adds) for p in prints))
    table.add_row("bytes", *(f"{p.bytes:,}" for p in prints))
    table.add_row("latency, one thread", *(f"{p.latency_ms:.3f} ms" for p in prints))


def add_likeness(
    table: Table, *, greedy_agreement: float | None, action_error: float | None, prefix: str = ""
) -> None:
    """Add the row that tells how like its teacher the student acts."""
    if action_error is not None:
        error = f"{100 * action_error:.2g} % of half the range"
        table.add_row(f"{prefix}mean action error", "", error)
    else:
        table.add_row(f"{prefix}same greedy action", "", _percent(greedy_agreement))


def _count(value: int | None) -> str:
    return "unknown" if value is None else f"{value:,}"


def _percent(value: float | None) -> str:
    return "unknown" if value is None else f"{100 * value:.1f} %"


def _share_text(share: ShareInterval | None) -> str:
    if share is None:
        return "undefined (teacher no better than random)"
    return f"{_percent(share.share)} ({100 * share.ci_low:.1f} to {100 * share.ci_high:.1f})"
