"""The end of a run: its student is scored, exported, filmed and written down, and held to what is
required of it.
"""

from typing import Any

from cluster.delivery import Delivery
from cluster.evaluation import judge_student
from cluster.finished import note_finished, require_share
from cluster.games import write_games
from cluster.groundwork import Groundwork
from cluster.prepare import Preparation
from cluster.progress import Reporter
from cluster.report.disagreements import keep_disagreements
from cluster.report.results import read_results
from cluster.report.verdict import remarks
from cluster.run_directory import RunDirectory, write_json
from cluster.scoring import Verdict
from cluster.session import Backend
from cluster.task_scores import TaskScores
from common.errors import RunFailedError
from common.policies.policy import Policy
from common.policies.tasks import policy_of_task
from common.storage import Location
from learners.export import LIMITS, ExportCheck, export_onnx, verify_onnx


class StudentDelivery:
    """Delivers the student of a run.

    Args:
        directory: of the run.
        backend: where episodes are played.
        delivery: keeps what cannot be written from keeping all else from it.
        reporter: where it is told.
    """

    def __init__(
        self,
        directory: RunDirectory,
        backend: Backend,
        delivery: Delivery,
        reporter: Reporter,
    ) -> None:
        self._directory = directory
        self._backend = backend
        self._delivery = delivery
        self._reporter = reporter

    def deliver(
        self,
        preparation: Preparation,
        teacher: Policy,
        student: Policy,
        groundwork: Groundwork,
    ) -> dict[str, Any]:
        """Do all of it, and return the evaluation.

        Args:
            preparation: the recipe, with what was found out for the run.
            teacher: the newest.
            student: trained.
            groundwork: scores that are there already.

        Raises:
            RunFailedError: something could not be written, or the student or its export falls
                short of what is required.
        """
        config = preparation.config.evaluation
        if config.play is not False:
            self._reporter.say(f"student plays {config.num_episodes} episodes")
        scores = judge_student(
            preparation,
            self._backend,
            teacher,
            student,
            random_result=groundwork.random,
            teacher_result=groundwork.teacher,
            baselines=[(part.random, part.teacher) for part in groundwork.parts],
        )
        evaluation = scores.as_json()
        if preparation.config.refresh is not None:
            evaluation["teacher_version"] = teacher.spec.teacher_version
        exported: dict[Location, ExportCheck] = {}
        with self._delivery.attempt():
            exported = self._export(student, scores, evaluation)
        with self._delivery.attempt():
            write_json(self._directory.evaluation, evaluation)
        with self._delivery.attempt():
            keep_disagreements(self._directory, preparation, scores, teacher, student)
        if config.play is not False and config.video:
            self._reporter.say("a game of teacher and student is filmed")
            with self._delivery.attempt():
                write_games(self._directory, preparation, teacher, student, say=self._reporter.say)
        self._reporter.show(scores.table())
        for told in remarks(read_results(evaluation)):
            self._reporter.say(f"note: {told}")
        self._delivery.finish(self._reporter.say)
        for path, check in exported.items():
            self._require_agreement(path, check)
        note_finished(self._directory, evaluation)
        require_share(self._directory, evaluation, config.required_share)
        return evaluation

    def _export(
        self, student: Policy, scores: Verdict, evaluation: dict[str, Any]
    ) -> dict[Location, ExportCheck]:
        """Write the student as ONNX, of several tasks a file a task."""
        if not isinstance(scores, TaskScores):
            path = self._directory.onnx
            return {path: self._export_to(path, student, scores, evaluation)}
        exported = {}
        for own in scores.tasks:
            path, policy = self._directory.of_task(own.task).onnx, policy_of_task(student, own.task)
            exported[path] = self._export_to(path, policy, own, evaluation["tasks"][own.task])
        return exported

    def _export_to(
        self, path: Location, student: Policy, scores: Verdict, evaluation: dict[str, Any]
    ) -> ExportCheck:
        """Write a file, run it, and add what it is like to the evaluation."""
        export_onnx(student, path)
        check = verify_onnx(path, student, scores.observations)
        evaluation["onnx"] = {
            "bytes": path.num_bytes(),
            "greedy_agreement": check.greedy_agreement,
            "action_error": check.action_error,
            "observations": check.observations,
            "max_abs_difference": check.max_abs_difference,
        }
        return check

    def _require_agreement(self, path: Location, check: ExportCheck) -> None:
        self._reporter.say(f"{path.name}, against the student: {check}")
        if not check.suffices(LIMITS["float32"]):
            raise RunFailedError(f"{path}: not like the student, it {check}")
