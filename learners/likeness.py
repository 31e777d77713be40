"""How like its teacher a student is on a batch, whatever is minimised."""

import torch

from common.networks import NetworkOutput
from common.policies.spec import CONTINUOUS
from learners.batch import DistillBatch
from learners.gaussian import student_kind, taken_actions


def likeness(batch: DistillBatch, output: NetworkOutput) -> dict[str, torch.Tensor]:
    """Return one figure [] by name, without gradient.

    `agreement` is the share of valid samples with the same greedy action; for Box actions
    `action_error` is the mean absolute difference of the actions taken without chance, in halves of
    the range.
    """
    student, teacher = output.dist_inputs.detach(), batch.teacher_dist_inputs
    if batch.teacher_dist not in CONTINUOUS:
        return {"agreement": batch.mean((student.argmax(-1) == teacher.argmax(-1)).float())}
    own = taken_actions(student_kind(batch, student), student)
    error = (own - taken_actions(batch.teacher_dist, teacher)).abs().mean(-1)
    return {"action_error": batch.mean(error)}
