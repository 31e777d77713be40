"""Who acts while data is collected, apart from what is minimised.

Each env copy follows teacher or student for a whole episode. A behaviour tells the share β of
teacher episodes by progress, and how much either explores.
"""

from typing import Annotated, Literal

from pydantic import Field

from common.config import StrictModel

Share = Annotated[float, Field(ge=0.0, le=1.0)]


class Behavior(StrictModel):
    """Base of the behaviours in `BehaviorConfig`."""

    name: str
    teacher_epsilon: Share = 0.05
    """Share of uniformly random actions in teacher episodes."""
    student_epsilon: Share = 0.02
    """Share of uniformly random actions in student episodes."""
    action_noise: float = Field(default=0.05, ge=0.0)
    """For actions within a Box: σ of Gaussian noise on those that are not sampled from the policy,
    in halves of the Box's range."""

    def teacher_share(self, progress: float) -> float:
        """Return β, the share of teacher episodes, at progress 0 to 1 of the run."""
        raise NotImplementedError


class Dagger(Behavior):
    """β falls from 1 to 0, then the student drives (Ross et al. 2011, DAgger)."""

    name: Literal["dagger"] = "dagger"
    anneal_fraction: Share = 0.1
    """Progress at which β reaches 0."""

    def teacher_share(self, progress: float) -> float:
        """Return β."""
        if self.anneal_fraction == 0:
            return 0.0
        return max(0.0, 1.0 - progress / self.anneal_fraction)


class TeacherDriven(Behavior):
    """The teacher acts (Rusu et al. 2015)."""

    name: Literal["teacher"] = "teacher"

    def teacher_share(self, progress: float) -> float:
        """Return β."""
        return 1.0


class StudentDriven(Behavior):
    """The student acts from the first step on."""

    name: Literal["student"] = "student"

    def teacher_share(self, progress: float) -> float:
        """Return β."""
        return 0.0


class Mixed(Behavior):
    """A fixed share of teacher episodes."""

    name: Literal["mixed"] = "mixed"
    share: Share = 0.5
    """β."""

    def teacher_share(self, progress: float) -> float:
        """Return β."""
        return self.share


BehaviorConfig = Annotated[
    Dagger | TeacherDriven | StudentDriven | Mixed, Field(discriminator="name")
]
