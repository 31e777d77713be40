"""Scoring: who plays what, and against whom."""

from collections.abc import Sequence

from actors.evaluator import EvaluationResult
from cluster.offline import some_observations
from cluster.offline_scores import OfflineScores
from cluster.prepare import Preparation
from cluster.recipe.config import RunConfig
from cluster.scoring import Scores, Verdict
from cluster.session import Backend, EvaluationJob
from cluster.task_scores import TaskScores
from common.policies.policy import Policy
from common.policies.spec import ActingSpec
from common.policies.tasks import policy_of_task
from learners.footprint import measure_footprint
from learners.held_out import score_held_out
from learners.objectives.temperature import resolve_temperature

Baseline = tuple[EvaluationResult | None, EvaluationResult | None]
"""Results of a random policy and of the teacher, where they played."""


def play_random(config: RunConfig, backend: Backend) -> EvaluationResult:
    """Let a uniformly random policy play."""
    evaluation = config.evaluation
    episodes = evaluation.num_random_episodes or evaluation.num_episodes
    job = EvaluationJob(policy=None, reference=None, num_episodes=episodes, seed=config.seed)
    return backend.evaluate(config, job)


def play_teacher(config: RunConfig, backend: Backend, teacher: Policy) -> EvaluationResult:
    """Let the teacher play as its specification says, by what it sees."""
    return play_policy(config.seen_by_teacher(), backend, teacher, reference=None)


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
        task=config.task_name,
        random=random_result or play_random(config, backend),
        teacher=teacher_result or play_teacher(config, backend, teacher),
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


def judge_student(
    preparation: Preparation,
    backend: Backend,
    teacher: Policy,
    student: Policy,
    *,
    random_result: EvaluationResult | None = None,
    teacher_result: EvaluationResult | None = None,
    baselines: Sequence[Baseline] = (),
) -> Verdict:
    """Score a student in every way that its run allows: by playing, and on what was held out.

    Results that are already there are not played again; `baselines` are those of several tasks.
    """
    if preparation.parts:
        return _judge_tasks(preparation, backend, teacher, student, baselines)
    config, dataset = preparation.config, preparation.dataset
    played = None
    if config.evaluation.play is not False:
        played = evaluate_student(
            config,
            backend,
            teacher,
            student,
            random_result=random_result,
            teacher_result=teacher_result,
        )
    if dataset is None or config.dataset is None:
        assert played is not None
        return played
    if played is None:
        sizes = [measure_footprint(policy, bytes_on_disk=None) for policy in (teacher, student)]
    else:
        sizes = [played.teacher_footprint, played.student_footprint]
    held_out = dataset.split(config.dataset.holdout).held_out
    objective = config.objective
    if objective.kl is not None and objective.kl.temperature == "auto":
        seen = some_observations(config, dataset)  # the same on which the run resolved it
        objective = resolve_temperature(objective, teacher, seen, say=lambda text: None)
    return OfflineScores(
        task=config.task_name,
        held_out=score_held_out(
            student,
            (dataset.read(number) for number in held_out),
            teacher_dist=teacher.spec.dist,
            objective=objective,
            num_observations=config.evaluation.num_observations,
        ),
        played=played,
        teacher_footprint=sizes[0],
        student_footprint=sizes[1],
    )


def _judge_tasks(
    preparation: Preparation,
    backend: Backend,
    teacher: Policy,
    student: Policy,
    baselines: Sequence[Baseline],
) -> TaskScores:
    played = baselines or [(None, None)] * len(preparation.parts)
    teachers = preparation.teachers(teacher)
    return TaskScores(
        tasks=tuple(
            evaluate_student(
                part.config,
                backend,
                own,
                policy_of_task(student, part.config.task_name),
                random_result=random,
                teacher_result=result,
            )
            for part, own, (random, result) in zip(preparation.parts, teachers, played, strict=True)
        ),
        student_footprint=measure_footprint(student, bytes_on_disk=None),
    )
