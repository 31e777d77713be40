"""A distillation on Ray: who is started, polled, replaced and ended, in which order.

| room                 | supervises                                                      |
|----------------------|-----------------------------------------------------------------|
| `learner`            | the learner's ranks: one that dies or freezes takes all with it |
| `env_runners`        | the env runners: as many as are wanted                          |
| `shards`             | the replay shards, which Ray restarts                           |
| `teacher_supervisor` | shared inference, where the teacher computes there              |

The session is never on the data's way. A poll waits a second for something to end, and half a
second for reports.
"""

import time

import ray

from cluster.accounting import account, first_incarnation
from cluster.on_ray.actors import (
    RAY_ENV_RUNNER,
    RAY_REPLAY_SHARD,
    RAY_WEIGHT_STORE,
    Handle,
    Reference,
)
from cluster.on_ray.env_runners import EnvRunners
from cluster.on_ray.head import AWAY, head_is_away
from cluster.on_ray.learner import START_TIMEOUT_S, RayLearner
from cluster.on_ray.log_collector import LogCollector
from cluster.on_ray.object_store import when_room
from cluster.on_ray.placement import SPREAD, Reservation
from cluster.on_ray.pulse import collect
from cluster.on_ray.rank import RAY_LEARNER
from cluster.on_ray.resources import missing, node_of
from cluster.on_ray.shards import RayShards
from cluster.on_ray.teacher_supervisor import SharedTeachers
from cluster.prepare import Preparation
from cluster.scaling import AutoScaler, check_num_env_runners, fewest_env_runners
from cluster.session import Snapshot
from common.policies.policy import Policy, policy_from_bytes, policy_to_bytes
from common.storage import Named, locate
from common.trajectory import Life

POLL_S = 1.0
REPORTS_WITHIN_S = 0.5
STOP_TIMEOUT_S = 10.0


class RaySession:
    """A distillation on Ray. This object is the supervisor."""

    def __init__(self, preparation: Preparation, teacher: Policy, checkpoints: Named) -> None:
        config = preparation.config
        self._config = config
        self._recipe = config.model_dump_json()
        self._limits = preparation.limits
        self._checkpoints = locate(checkpoints)
        self._teacher_spec = teacher.spec
        self._student_bytes = policy_to_bytes(preparation.new_student(teacher))
        self._teacher_dists = preparation.teacher_dists(teacher)
        teachers = [ray.put(policy_to_bytes(own)) for own in preparation.teachers(teacher)]
        recipes = [part.config.model_dump_json() for part in preparation.tasks]
        self._recipes, self._teachers = recipes, teachers
        self._teacher_version = teacher.spec.teacher_version
        self._reservation = Reservation(config)
        self._reservation.wait()
        try:
            self._start()
        except BaseException:
            self._reservation.release()  # ends what was started in it
            raise
        scaling = config.actors.scaling
        self._scaler = None if scaling is None else AutoScaler(scaling)

    def _start(self) -> None:
        config = self._config
        self._shared_teachers = SharedTeachers(
            config, self._teacher_spec, self._teachers[0], place=self._reservation.of_inference
        )
        self._logs = LogCollector()
        self._store = RAY_WEIGHT_STORE.remote()
        self._shards = RayShards(
            self._start_shard,
            num_shards=config.replay.num_shards,
            max_restarts=config.supervision.max_shard_restarts,
        )
        self._learner = RayLearner(self._start_rank, config.learner)
        self._learner.wait_until_started()
        self._shared_teachers.wait_until_ready(START_TIMEOUT_S)
        # All ranks and shards may go on from a checkpoint: what they hold names former lives.
        pulses = [*self._learner.pulses, *self._shards.pulses]
        questions = [pulse.question() for pulse in pulses]
        ray.wait(questions, num_returns=len(questions), timeout=START_TIMEOUT_S)
        collect(pulses, 0.0)
        self._learner.look()
        self._shards.look()
        self._runners = EnvRunners(
            self._start_runner,
            config.actors,
            fewest=fewest_env_runners(config),
            first_incarnation=first_incarnation(self._learner.lives, self._shards.stats),
        )

    def scale(self, num_env_runners: int) -> None:
        """Want so many env runners; automatic scaling rests from now on.

        Raises:
            ConfigError: the recipe's other parts do not work with so many.
        """
        check_num_env_runners(self._config, num_env_runners)
        self._scaler = None
        self._runners.wanted = num_env_runners
        self._runners.adjust(make_room=self._learner.waiting() > 0)

    def pause(self, paused: bool) -> None:
        """Let env runners rest after the chunk in hand, or go on; training follows the data."""
        self._runners.pause(paused)

    def tell_share_of_teacher(self, share: float) -> None:
        """Tell rank 0, from which the others have it."""
        self._learner.actors[0].take_share_of_teacher.remote(share)

    def take_teacher(self, teacher: Policy) -> None:
        """Tell the learner and wait for it, then shared inference; env runners ask the store.

        What is started again from now on starts with it.
        """
        content = policy_to_bytes(teacher)
        reference: Reference = when_room(lambda: ray.put(content))
        self._teachers = [reference]
        self._teacher_version = teacher.spec.teacher_version
        self._learner.take_teacher(reference)
        self._shared_teachers.take(reference)
        self._publish_teacher()

    def _publish_teacher(self) -> None:
        self._store.publish_teacher.remote(self._teacher_version, self._teachers)

    @property
    def unsaved(self) -> str | None:
        """Why the last checkpoint could not be written."""
        return self._learner.unsaved

    def poll(self) -> Snapshot:
        """Wait a second, start again what died or froze, and collect reports."""
        loops = [*self._learner.running, *self._runners.loops]
        ray.wait(loops, num_returns=1, timeout=POLL_S)
        ended, _ = ray.wait(loops, num_returns=len(loops), timeout=0)
        finished = self._learner.mend(ended)
        inference = self._shared_teachers.poll()
        self._runners.mend(ended)
        # What the run cannot do without goes before what makes it faster.
        self._runners.adjust(make_room=self._learner.waiting() > 0)
        learner, runners, shards = self._learner, self._runners, self._shards
        collect([*learner.pulses, *runners.pulses, *shards.pulses], REPORTS_WITHIN_S)
        collectors = runners.reports()
        versions = [report.teacher_version for report in collectors]
        if any(version is not None and version < self._teacher_version for version in versions):
            self._publish_teacher()  # the store may have died and forgotten it
        self._logs.poll()
        learner.look()
        shards.look()
        silence_s = self._config.supervision.silence_s
        learner.replace_frozen(silence_s)
        runners.replace_frozen(silence_s)
        shards.replace_frozen(silence_s)
        if self._scaler is not None and not runners.paused:
            runners.wanted = self._scaler.decide(
                time.monotonic(),
                wanted=runners.wanted,
                all_running=runners.all_running,
                trainer=learner.stats,
                collectors=collectors,
            )
        totals = account(
            collected=runners.collected,
            running=runners.lives,
            received=learner.lives,
            shards=shards.stats,
        )
        return Snapshot(
            trainer=learner.stats,
            collectors=collectors,
            shards=tuple(shards.stats),
            restarts={
                "env_runner": runners.restarts,
                "learner": learner.restarts,
                "shard": shards.restarts,
                "inference": self._shared_teachers.restarts,
            },
            finished=finished,
            inference=inference,
            env_runners_wanted=runners.wanted,
            paused=runners.paused,
            waiting_for=self._waiting_for(),
            collected=totals.collected,
            lost=totals.lost,
        )

    def finish(self) -> Policy:
        """Stop the loops, fetch the student, end the actors.

        A learner that is dead starts again from its newest checkpoint to hand the student over.
        """
        student = None
        while student is None:
            stopping = [*self._learner.stop(), *self._runners.stop()]
            ray.wait(stopping, num_returns=len(stopping), timeout=STOP_TIMEOUT_S)
            student = self._learner.student()
        self.abort()
        return policy_from_bytes(*student)

    def abort(self) -> None:
        """Kill all actors: those that call first, so that none calls one that is dead."""
        callers = [*self._runners.actors, *self._learner.actors]
        for actor in callers:
            ray.kill(actor)
        # A call to a dead actor fails at once: this waits until all of them are.
        calls = [actor.pid.remote() for actor in callers]
        ray.wait(calls, num_returns=len(calls), timeout=STOP_TIMEOUT_S)
        self._shared_teachers.kill()
        self._shards.kill()
        ray.kill(self._store)
        self._logs.close()
        self._reservation.release()

    def runner_pid(self, index: int) -> int:
        """Return the process id of an env runner, for whoever must find or kill it."""
        pid: int = ray.get(self._runners.actor(index).pid.remote())
        return pid

    def learner_pid(self, rank: int = 0) -> int:
        """Return the process id of a rank of the learner."""
        pid: int = ray.get(self._learner.actors[rank].pid.remote())
        return pid

    def learner_node(self, rank: int = 0) -> str | None:
        """Return the id of the node that a rank of the learner was placed on."""
        return node_of(self._learner.actors[rank])

    def shard_pid(self, index: int) -> int:
        """Return the process id of a replay shard."""
        pid: int = ray.get(self._shards.actors[index].pid.remote())
        return pid

    def _waiting_for(self) -> str | None:
        learner, actors = self._config.learner, self._config.actors
        if waiting := self._learner.waiting():
            return missing(waiting, "learner rank", learner.num_cpus, learner.num_gpus)
        if waiting := self._runners.waiting():
            return missing(waiting, "env runner", actors.num_cpus_per_runner)
        return AWAY if head_is_away() else None

    def _start_shard(self, index: int) -> Handle:
        return RAY_REPLAY_SHARD.options(scheduling_strategy=SPREAD).remote(
            self._recipe, self._limits, index, logs=self._logs.name
        )

    def _start_rank(self, rank: int) -> Handle:
        learner = self._config.learner
        return RAY_LEARNER.options(
            num_cpus=learner.num_cpus,
            num_gpus=learner.num_gpus,
            scheduling_strategy=self._reservation.of_rank(rank),
        ).remote(
            self._recipe,
            self._student_bytes,
            self._teacher_dists,
            teacher=self._teachers[0] if self._config.learner_asks_teacher else None,
            rank=rank,
            store=self._store,
            logs=self._logs.name,
            shards=self._shards.actors[rank :: learner.num_ranks],
            checkpoints=self._checkpoints,
        )

    def _start_runner(self, life: Life, paused: bool) -> Handle:
        index, shards = life.runner, self._shards.actors
        task = index % len(self._teachers)
        return RAY_ENV_RUNNER.options(
            num_cpus=self._config.actors.num_cpus_per_runner,
            scheduling_strategy=self._reservation.of_runner(index),
        ).remote(
            self._recipes[task],
            self._shared_teachers.of_runner(index) or self._teachers[task],
            self._student_bytes,
            runner_id=index,
            incarnation=life.incarnation,
            store=self._store,
            logs=self._logs.name,
            shard=shards[index % len(shards)],
            paused=paused,
            start_env_steps=self._learner.stats.env_steps,
        )
