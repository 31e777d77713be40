"""Scoring: who plays what, and against whom."""

from actors.evaluator import EvaluationResult
from cluster.config import RunConfig
from cluster.scoring import Scores
from cluster.session import Backend, EvaluationJob
from common.policies.policy import Policy
from common.policies.spec import ActingSpec
from learners.footprint import measure_footprint


def play_random(config: RunConfig, backend: Backend) -> EvaluationResult:
    """Let a uniformly random policy play."""
    evaluation = config.evaluation
    episodes = evaluation.num_random_episodes or evaluation.num_episodes
    job = EvaluationJob(policy=None, reference=None, num_episodes=episodes, seed=config.seed)
    return backend.evaluate(config, job)


def play_policy(
    config: RunConfig, backend: Backend, policy: Policy, *, reference: Policy | None
) -> EvaluationResult:
    """Let a policy play as its specification says, compared with `reference` where given."""
    job = EvaluationJob(
        policy=policy,
        reference=reference,
        num_episodes=config.evaluation.num_episodes,
        seed=config.seed,
        num_observations=config.evaluation.num_observations,
    )
    return backend.evaluate(config, job)


def evaluate_student(
    config: RunConfig,
    backend: Backend,
    teacher: Policy,
    student: Policy,
    *,
    random_result: EvaluationResult | None = None,
    teacher_result: EvaluationResult | None = None,
) -> Scores:
    """Score a student; results that are already there are not played again."""
    return Scores(
        task=config.env.id,
        random=random_result or play_random(config, backend),
        teacher=teacher_result or play_policy(config, backend, teacher, reference=None),
        student=play_policy(config, backend, student, reference=teacher),
        teacher_footprint=measure_footprint(teacher, bytes_on_disk=None),
        student_footprint=measure_footprint(student, bytes_on_disk=None),
        acting=_acting(teacher.spec.acting, student.spec.acting),
    )


def _acting(teacher: ActingSpec, student: ActingSpec) -> str:
    if teacher == student:
        return f"{student.mode}, ε = {student.epsilon:g}"
    each = {"teacher": teacher, "student": student}
    return "; ".join(f"{who} {spec.mode}, ε = {spec.epsilon:g}" for who, spec in each.items())
