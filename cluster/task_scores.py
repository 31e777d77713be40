"""Scores of a student of several tasks, side by side."""

from dataclasses import asdict, dataclass
from typing import Any

from rich.table import Table

from cluster.scoring import Scores, likeness_text, share_text
from common.policies.inference import Observations
from common.statistics import ShareInterval
from learners.footprint import Footprint


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class TaskScores:
    """What a run of several tasks says of its student in the end."""

    tasks: tuple[Scores, ...]
    student_footprint: Footprint
    """Of the student with all heads; those in `tasks` are with one."""

    @property
    def share(self) -> ShareInterval | None:
        """The lowest of the tasks' shares, or None where one is not defined."""
        shares = [scores.share for scores in self.tasks]
        known = [share for share in shares if share is not None]
        return min(known, key=lambda share: share.share) if len(known) == len(shares) else None

    @property
    def observations(self) -> Observations:
        """Observations of the first task's play."""
        return self.tasks[0].observations

    def as_json(self) -> dict[str, Any]:
        """Return the content of `evaluation.json`; sizes of teachers are those of all together."""
        parts = [scores.as_json() for scores in self.tasks]
        tasks = {
            scores.task: part["tasks"][scores.task] | {"teacher_footprint": part["teacher"]}
            for scores, part in zip(self.tasks, parts, strict=True)
        }
        return {
            "tasks": tasks,
            "student": asdict(self.student_footprint),
            "teacher": asdict(_together([scores.teacher_footprint for scores in self.tasks])),
        }

    def table(self) -> Table:
        """Return the table for the screen, one row a task."""
        teachers = _together([scores.teacher_footprint for scores in self.tasks])
        own = self.student_footprint
        table = Table(
            title=f"one student ({own.parameters:,} parameters, {own.latency_ms:.3f} ms) against "
            f"{len(self.tasks)} teachers ({teachers.parameters:,} parameters)"
        )
        for name in ("task", "teacher", "student", "random", "share of the teacher", "likeness"):
            table.add_column(name, justify="left" if name == "task" else "right", overflow="fold")
        for scores in self.tasks:
            means = scores.intervals()
            table.add_row(
                f"{scores.task} ({scores.acting})",
                *(f"{means[name].mean:.2f}" for name in ("teacher", "student", "random")),
                share_text(scores.share),
                likeness_text(scores.student.greedy_agreement, scores.student.action_error),
            )
        return table


def _together(footprints: list[Footprint]) -> Footprint:
    """Return what several policies cost that are asked in turn."""
    counts = [footprint.multiply_adds for footprint in footprints]
    known = [count for count in counts if count is not None]
    return Footprint(
        parameters=sum(footprint.parameters for footprint in footprints),
        multiply_adds=sum(known) if len(known) == len(counts) else None,
        bytes=sum(footprint.bytes for footprint in footprints),
        latency_ms=sum(footprint.latency_ms for footprint in footprints),
    )
