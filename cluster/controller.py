"""The controller: a run from recipe to delivered student.

    teach (where the recipe says so) → baseline: teacher and random policy play (where no dataset
      takes the place of the env runners)
      → distil: a `Session` runs the main road, polled here about once a second
      → evaluate the student → export, footprint, table, evaluation.json, report.html

The data's own loops, and what each waits for, are listed in `cluster.on_ray.actors`; the controller
is on none of them. It decides when a run ends, and it writes down what happened.
"""

import time
from contextlib import closing
from dataclasses import dataclass, replace
from typing import Any

from cluster.board import Wanted
from cluster.control import Control
from cluster.delivery import Delivery
from cluster.finished import share_reached
from cluster.groundwork import Groundwork, lay_groundwork
from cluster.health import HealthWatch
from cluster.interrupt import deferred_interrupt
from cluster.monitor import Monitor
from cluster.next_command import next_command
from cluster.prepare import Preparation
from cluster.progress import Reporter, describe
from cluster.report.versions import note_start
from cluster.run_directory import RunDirectory, withdraw_scores
from cluster.run_log import STOPS, RunLog
from cluster.scaling import fewest_env_runners
from cluster.session import Backend, Session, Snapshot
from cluster.spool import Spool
from cluster.student_delivery import StudentDelivery
from cluster.teacher_refresh import TeacherRefresh
from cluster.teaching.directory import TeachDirectory
from cluster.teaching.training import train_teacher_for
from cluster.telemetry import Metrics
from common.errors import RunFailedError
from common.policies.policy import Policy, save_policy
from learners.teach_checkpoint import newest_training


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Outcome:
    """How a run ended."""

    finished: bool
    """False where the user stopped it: the student is saved, but not evaluated."""
    evaluation: dict[str, Any] | None


class Controller:
    """Runs a recipe.

    Args:
        preparation: the recipe, found good.
        directory: where everything is written.
        backend: where the work is done.
        reporter: where progress goes.
        control: where the status goes, and what is wanted comes from.
    """

    def __init__(
        self,
        preparation: Preparation,
        directory: RunDirectory,
        backend: Backend,
        reporter: Reporter,
        control: Control,
    ) -> None:
        self._preparation = preparation
        self._config = preparation.config
        self._directory = directory
        self._backend = backend
        self._spool = Spool(directory)
        self._reporter = self._log = RunLog(self._spool.log, preparation.config, reporter)
        self._control = control
        self._told = Wanted()
        self._delivery = Delivery(directory, self._spool)
        self._refresh: TeacherRefresh | None = None
        self._health = HealthWatch()

    def run(self) -> Outcome:
        """Do all phases.

        Raises:
            RunFailedError: too much broke, something could not be written, or the student falls
                short of what the recipe requires.
        """
        try:
            with self._log:
                return self._run()
        except RunFailedError:
            self._delivery.report_failure()
            raise
        finally:
            self._spool.close()

    def _run(self) -> Outcome:
        config = self._config
        with self._delivery.attempt():
            note_start(self._directory, is_local=self._backend.is_local)
        self._control.report(
            total_env_steps=config.total_env_steps, min_env_runners=fewest_env_runners(config)
        )
        for warning in self._preparation.warnings:
            self._reporter.say(f"note: {warning}")
        teacher = self._preparation.teacher or self._teach()
        # What depends on the teacher's kind can only be checked now where it was just trained.
        self._preparation.new_student(teacher)
        self._control.report(phase="baseline")
        groundwork = lay_groundwork(
            self._preparation, self._directory, self._backend, teacher, self._reporter
        )
        student = self._distil(teacher, groundwork)
        if self._refresh is not None:  # the last version has to play, and is what counts
            teacher, groundwork = self._refresh.teacher, replace(groundwork, teacher=None)
        if student is None:
            self._delivery.finish(self._reporter.say)
            self._control.report(phase="stopped")
            return Outcome(finished=False, evaluation=None)
        self._control.report(phase="evaluating")
        ending = StudentDelivery(self._directory, self._backend, self._delivery, self._reporter)
        evaluation = ending.deliver(
            groundwork.resolved(self._preparation), teacher, student, groundwork
        )
        self._control.report(phase="finished", detail=share_reached(evaluation))
        return Outcome(finished=True, evaluation=evaluation)

    def _teach(self) -> Policy:
        self._control.report(phase="teaching")
        directory = TeachDirectory(self._directory.teaching)
        teacher, interrupted = train_teacher_for(
            self._preparation,
            self._reporter,
            directory=directory,
            resumed=newest_training(directory.checkpoints),
        )
        if interrupted:  # a half-trained teacher is not what the recipe asks for
            self._reporter.say(f"stopped; go on with: {next_command(self._directory, 'resume')}")
            raise KeyboardInterrupt
        with self._delivery.attempt():
            save_policy(teacher, self._directory.teacher)
        return teacher

    def _distil(self, teacher: Policy, groundwork: Groundwork) -> Policy | None:
        """Return the student, or None where the user stopped the run (it is saved then)."""
        preparation = groundwork.resolved(self._preparation)
        monitor = Monitor(
            preparation,
            self._spool,
            self._log,
            self._backend.exporter(groundwork.config),
            teacher_return=groundwork.teacher_return,
            random_return=groundwork.random_return,
            tasks=groundwork.task_returns(),
        )
        with deferred_interrupt() as interrupt, closing(self._reporter):
            self._control.report(phase="distilling")
            self._reporter.say("starting env runners, replay and learner")
            session = self._backend.distil(preparation, teacher, self._directory.checkpoints)
            self._refresh = self._refreshed(teacher, groundwork)
            started = time.monotonic()
            try:
                while not (stopped := interrupt.requested or self._control.wanted.stop):
                    self._steer(session)
                    self._refresh_teacher(session, monitor)
                    snapshot = session.poll()
                    metrics = monitor.take(snapshot)
                    self._tell_share(session, metrics)
                    self._control.report(stands_still=monitor.standstill)
                    self._report(snapshot, metrics)
                    if snapshot.finished or self._ends_early(metrics, time.monotonic() - started):
                        break
                if stopped:
                    self._reporter.say(f"{STOPS}; Ctrl-C again breaks off")
                trained = session.finish()
            except BaseException:
                session.abort()
                raise
            self._delivery.note(session.unsaved)
            with self._delivery.attempt():
                if former := withdraw_scores(self._directory):
                    self._reporter.say(f"note: {', '.join(former)}: of the student before this one")
                save_policy(trained, self._directory.student)
            return None if stopped else trained

    def _steer(self, session: Session) -> None:
        """Tell the session what is wanted of it and was not told yet."""
        wanted, told = self._control.wanted, self._told
        if wanted.num_env_runners not in (None, told.num_env_runners):
            self._reporter.say(f"scaling to {wanted.num_env_runners} env runners")
            session.scale(wanted.num_env_runners)
        if wanted.paused not in (None, told.paused):
            self._reporter.say("pausing" if wanted.paused else "going on")
            session.pause(wanted.paused)
        self._told = wanted

    def _refreshed(self, teacher: Policy, groundwork: Groundwork) -> TeacherRefresh | None:
        """Return what refreshes the teacher, where the recipe asks for it."""
        if self._config.refresh is None:
            return None
        assert groundwork.teacher_return is not None
        refresh = TeacherRefresh(
            groundwork.config,
            teacher,
            groundwork.teacher_return,
            backend=self._backend,
            folder=self._directory.teachers,
            say=self._reporter.say,
        )
        self._control.report(teacher=refresh.description)
        return refresh

    def _refresh_teacher(self, session: Session, monitor: Monitor) -> None:
        """Let all go on with a newer version of the teacher, where there is one."""
        if self._refresh is not None and (newer := self._refresh.poll()) is not None:
            session.take_teacher(newer)
            monitor.take_teacher(self._refresh.mean_return)
            self._control.report(teacher=self._refresh.description)

    def _tell_share(self, session: Session, metrics: Metrics) -> None:
        share = metrics.get("student/share_of_teacher")
        if share is not None and self._config.objective.follows_share_of_teacher:
            session.tell_share_of_teacher(share)

    def _report(self, snapshot: Snapshot, metrics: Metrics) -> None:
        total = self._config.total_env_steps
        fraction = min(1.0, metrics["learner/env_steps"] / total)
        self._control.report(
            env_steps=snapshot.trainer.env_steps,
            env_runners=len(snapshot.collectors),
            env_runners_wanted=snapshot.env_runners_wanted,
            paused=snapshot.paused,
            waiting_for=snapshot.waiting_for,
            restarts=snapshot.restarts,
            actors=self._health.take(snapshot),
            figures=metrics,
        )
        self._reporter.progress("distil", fraction, describe(metrics, total_env_steps=total))

    def _ends_early(self, metrics: Metrics, elapsed_s: float) -> bool:
        stop = self._config.stop
        if stop.max_duration_s is not None and elapsed_s >= stop.max_duration_s:
            self._reporter.say(f"stop.max_duration_s = {stop.max_duration_s:g} is reached")
            return True
        share = metrics.get("student/share_of_teacher")
        if stop.share_of_teacher is None or share is None or share < stop.share_of_teacher:
            return False
        self._reporter.say(f"stop.share_of_teacher = {stop.share_of_teacher:g} is reached")
        return True
