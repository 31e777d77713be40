"""What the learner minimises: a weighted sum of terms. A new term is one file and one line here.

The recipe names terms as tables: `[objective.kl]`, `temperature = 1.0`.
"""

from typing import NamedTuple, get_args

import torch
from pydantic import model_validator

from common.config import StrictModel
from common.errors import MismatchError
from common.networks import NetworkOutput
from common.policies.spec import DistKind, PolicySpec
from learners.batch import DistillBatch
from learners.objectives.action_mse import ActionMSE
from learners.objectives.base import Term
from learners.objectives.cross_entropy import CrossEntropy
from learners.objectives.expected_entropy import ExpectedEntropy
from learners.objectives.feature import Feature
from learners.objectives.gaussian_kl import GaussianKL
from learners.objectives.jsd import JSD
from learners.objectives.kickstart import Kickstart
from learners.objectives.kl import KL
from learners.objectives.n_distill import NDistill
from learners.objectives.nll import NLL
from learners.objectives.ppd import PPD
from learners.objectives.q_mse import QMSE
from learners.objectives.qdagger import QDagger
from learners.objectives.reverse_kl import ReverseKL
from learners.objectives.schedule import Moment, Schedule, present
from learners.objectives.soft_policy_gradient import SoftPolicyGradient
from learners.objectives.softmax import ReadsTeacher
from learners.objectives.value import Value

__all__ = ["Moment", "ObjectiveConfig", "ObjectiveValue", "Term"]


class ObjectiveValue(NamedTuple):
    """What an objective says of a batch."""

    loss: torch.Tensor
    """[] to minimise: mean over the batch of the sum of terms, by their weights and the batch's."""
    terms: dict[str, torch.Tensor]
    """[] each: mean of every term, without any weight."""
    losses: torch.Tensor
    """[B] sum of the terms by their weights, without the batch's."""


class ObjectiveConfig(StrictModel):
    """The recipe's `[objective]`: the terms to sum, by name."""

    kl: KL | None = None
    reverse_kl: ReverseKL | None = None
    jsd: JSD | None = None
    nll: NLL | None = None
    cross_entropy: CrossEntropy | None = None
    soft_policy_gradient: SoftPolicyGradient | None = None
    q_mse: QMSE | None = None
    gaussian_kl: GaussianKL | None = None
    action_mse: ActionMSE | None = None
    value: Value | None = None
    feature: Feature | None = None
    expected_entropy: ExpectedEntropy | None = None
    n_distill: NDistill | None = None
    ppd: PPD | None = None
    kickstart: Kickstart | None = None
    qdagger: QDagger | None = None

    @model_validator(mode="after")
    def _not_empty(self) -> "ObjectiveConfig":
        if not self.terms():
            raise ValueError(
                f"no term is named; give one of {', '.join(type(self).model_fields)}, for "
                f"example [objective.kl]"
            )
        return self

    @model_validator(mode="after")
    def _one_reading(self) -> "ObjectiveConfig":
        readings = self._readings()
        if len(set(readings.values())) > 1:
            each = " and ".join(f"{name} as {dist}" for name, dist in readings.items())
            raise ValueError(f"the student's outputs cannot be read by {each}; leave one out")
        return self

    def terms(self) -> dict[str, Term]:
        """Return the terms that the recipe names."""
        named = {name: getattr(self, name) for name in type(self).model_fields}
        return {name: term for name, term in named.items() if term is not None}

    def student_dist(self, teacher: PolicySpec) -> DistKind:
        """Return what the student's first output means under these terms."""
        if teacher.action_box is None:
            return next(iter(self._readings().values()), "logits")
        return "deterministic" if self.gaussian_kl is None else teacher.dist

    @property
    def needs_value(self) -> bool:
        """Whether the student must have a value head."""
        return any(term.needs_value for term in self.terms().values())

    @property
    def needs_features(self) -> bool:
        """Whether the learner must ask the teacher for features."""
        return any(term.needs_features for term in self.terms().values())

    @property
    def over_time(self) -> list[str]:
        """The terms that need sequences."""
        return [name for name, term in self.terms().items() if term.over_time]

    @property
    def on_policy(self) -> list[str]:
        """The terms that learn from the student's own fresh actions only."""
        return [name for name, term in self.terms().items() if term.on_policy]

    @property
    def target_interval(self) -> int | None:
        """Learner steps after which the target network is made anew; None: no term needs one."""
        intervals = [term.target_interval for term in self.terms().values()]
        return min((interval for interval in intervals if interval is not None), default=None)

    @property
    def follows_share_of_teacher(self) -> bool:
        """Whether a schedule goes by the student's share of its teacher's return."""
        return any(schedule.by == "share_of_teacher" for schedule in self.schedules().values())

    def check_teacher(self, teacher: PolicySpec) -> None:
        """Hold all terms against the teacher.

        Raises:
            MismatchError: it does not give what one of them needs.
        """
        for name, term in self.terms().items():
            if teacher.dist not in term.teachers:
                fields = type(self).model_fields.items()
                kinds = {other: get_args(field.annotation)[0] for other, field in fields}
                fitting = next(other for other in kinds if teacher.dist in kinds[other].teachers)
                raise MismatchError(
                    f"objective.{name} needs a teacher that gives {' or '.join(term.teachers)}, "
                    f"and {teacher.name} gives {teacher.dist}; use objective.{fitting}"
                )
            term.check_teacher(teacher)

    def wanting_temperature(self) -> list[str]:
        """Return the terms that leave their temperature `auto`."""
        return [
            name
            for name, term in self.terms().items()
            if isinstance(term, ReadsTeacher) and term.temperature == "auto"
        ]

    def with_temperature(self, temperature: float) -> "ObjectiveConfig":
        """Return the same with a number in the place of every `temperature = "auto"`."""
        changes = {"temperature": temperature}
        return self._changed(dict.fromkeys(self.wanting_temperature(), changes))

    def schedules(self) -> dict[str, Schedule]:
        """Return what changes while the run goes on, by names such as `kl_weight`."""
        return {
            f"{name}_{field}": schedule
            for name, term in self.terms().items()
            for field, schedule in term.schedules().items()
        }

    def at(self, moment: Moment) -> "ObjectiveConfig":
        """Return the same with a moment's numbers in the place of schedules."""
        changes: dict[str, dict[str, float]] = {}
        for name, term in self.terms().items():
            for field, schedule in term.schedules().items():
                changes.setdefault(name, {})[field] = schedule.value(moment)
        return self._changed(changes)

    def __call__(self, batch: DistillBatch, output: NetworkOutput) -> ObjectiveValue:
        """Compute loss, terms and the samples' losses; only the loss has a gradient.

        No term may have a schedule left: `at` gives the objective of a moment.
        """
        terms = self.terms()
        weights = {name: present(term.weight) for name, term in terms.items()}
        each = {name: term(batch, output) for name, term in terms.items()}
        means = {name: batch.mean(losses) for name, losses in each.items()}
        minimised = means
        if batch.weights is not None:
            factors = batch.weights
            minimised = {name: batch.mean(factors * losses) for name, losses in each.items()}
        weighted = [weights[name] * mean for name, mean in minimised.items()]
        total = sum(weights[name] * losses.detach() for name, losses in each.items())
        assert isinstance(total, torch.Tensor)
        return ObjectiveValue(
            loss=torch.stack(weighted).sum(),
            terms={name: mean.detach() for name, mean in means.items()},
            losses=total,
        )

    def _readings(self) -> dict[str, DistKind]:
        """Return how the terms must read the student's outputs, where they cannot do otherwise."""
        readings = {name: term.reads_student_as for name, term in self.terms().items()}
        return {name: dist for name, dist in readings.items() if dist is not None}

    def _changed(self, changes: dict[str, dict[str, float]]) -> "ObjectiveConfig":
        """Return the same with other numbers in some terms, or itself where there are none."""
        if not changes:
            return self
        terms = self.terms()
        changed = {name: terms[name].model_copy(update=fields) for name, fields in changes.items()}
        return self.model_copy(update=changed)
