"""Scores of a student that was distilled from a dataset: held-out sequences, and play where it can.

They go where `cluster.scoring.Scores` go, under the same keys, and `held_out` beside them.
"""

from dataclasses import asdict, dataclass
from typing import Any

from rich.table import Table

from cluster.scoring import Scores
from common.policies.inference import Observations
from common.statistics import ShareInterval
from learners.footprint import Footprint
from learners.held_out import HeldOut


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class OfflineScores:
    """Everything that is said of such a student in the end."""

    task: str
    held_out: HeldOut
    played: Scores | None
    """None where the environment was not made."""
    teacher_footprint: Footprint
    student_footprint: Footprint

    @property
    def share(self) -> ShareInterval | None:
        """The student's random-offset share of the teacher's return, where they played."""
        return None if self.played is None else self.played.share

    @property
    def observations(self) -> Observations:
        """Real observations [M, *shape], for checks of exports."""
        return self.held_out.observations if self.played is None else self.played.observations

    def as_json(self) -> dict[str, Any]:
        """Return the content of `evaluation.json`."""
        held_out = self.held_out.as_json()
        if self.played is not None:
            tree = self.played.as_json()
            tree["tasks"][self.task]["held_out"] = held_out
            return tree
        task = {"greedy_agreement": self.held_out.greedy_agreement, "held_out": held_out}
        return {
            "tasks": {self.task: task},
            "student": asdict(self.student_footprint),
            "teacher": asdict(self.teacher_footprint),
        }

    def table(self) -> Table:
        """Return the table for the screen."""
        held_out = self.held_out
        if self.played is None:
            table = Table(title=f"{self.task}: student against its teacher's labels")
            table.add_column("")
            table.add_column("teacher", justify="right")
            table.add_column("student", justify="right")
            prints = (self.teacher_footprint, self.student_footprint)
            table.add_row("parameters", *(f"{p.parameters:,}" for p in prints))
            table.add_row("multiply-adds", *(f"{p.multiply_adds:,}" for p in prints))
            table.add_row("bytes", *(f"{p.bytes:,}" for p in prints))
            table.add_row("latency, one thread", *(f"{p.latency_ms:.3f} ms" for p in prints))
        else:
            table = self.played.table()
        table.add_row("held-out agreement", "", f"{100 * held_out.greedy_agreement:.1f} %")
        table.add_row("held-out KL", "", f"{held_out.kl:.3g}")
        table.add_row("held-out states", "", f"{held_out.transitions:,}")
        return table
