"""Scores of a student that was distilled from a dataset: held-out sequences, and play where it can.

They go where `cluster.scoring.Scores` go, under the same keys, and `held_out` beside them.
"""

from dataclasses import asdict, dataclass
from typing import Any

from rich.table import Table

from cluster.scoring import Scores, add_footprints, add_likeness
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
        likeness = self.held_out.likeness
        task = {
            "greedy_agreement": likeness.greedy_agreement,
            "action_error": likeness.action_error,
            "held_out": held_out,
        }
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
            add_footprints(table, self.teacher_footprint, self.student_footprint)
        else:
            table = self.played.table()
        add_likeness(
            table,
            greedy_agreement=held_out.likeness.greedy_agreement,
            action_error=held_out.likeness.action_error,
            prefix="held-out: ",
        )
        if held_out.likeness.kl is not None:
            table.add_row("held-out: KL", "", f"{held_out.likeness.kl:.3g}")
        table.add_row("held-out: states", "", f"{held_out.transitions:,}")
        return table
