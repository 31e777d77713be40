"""A recording on Ray: the env runners of a run, and one actor that takes their chunks.

The recorder stands where a replay shard stands in a run, on the node of the command that started
the recording, so that a local folder means the same to both.

| actor      | its loop        | waits for                                | unblocked by |
|------------|-----------------|------------------------------------------|--------------|
| env runner | sample → insert | the insert before the last               | the recorder |
| recorder   | none (calls)    | nothing; it writes a part while it takes | the disk     |
|            |                 | the chunk that fills it                  |              |
"""

import ray
from ray.exceptions import RayError
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from cluster.on_ray.actors import RAY_ENV_RUNNER, RAY_WEIGHT_STORE, Handle, PolicyBytes
from cluster.on_ray.env_runners import EnvRunners
from cluster.on_ray.errors import own_error
from cluster.on_ray.log_collector import LogCollector
from cluster.on_ray.placement import SPREAD
from cluster.on_ray.pulse import collect
from cluster.on_ray.remote import remote
from cluster.on_ray.resources import missing
from cluster.prepare import new_student
from cluster.recording import RecordingJob, RecordingSnapshot
from common.codec import EncodedChunk
from common.dataset import DatasetWriter, Manifest, Recorded
from common.errors import StorageError
from common.policies.policy import policy_from_bytes, policy_to_bytes
from common.storage import Location
from common.threads import set_threads
from common.trajectory import Life

POLL_S = 1.0
REPORTS_WITHIN_S = 0.5
STOP_TIMEOUT_S = 10.0


class RecorderActor:
    """Takes chunks and writes the dataset."""

    def __init__(self) -> None:
        set_threads(1)
        self._writer: DatasetWriter | None = None
        self._failed: StorageError | None = None

    def open(
        self, out: Location, manifest: Manifest, teacher: PolicyBytes, num_transitions: int
    ) -> None:
        """Start the dataset.

        Raises:
            StorageError: it cannot be written.
        """
        self._writer = DatasetWriter(
            out, manifest, policy_from_bytes(*teacher), num_transitions=num_transitions
        )

    def insert(self, chunk: EncodedChunk) -> None:
        """Take a chunk; what goes wrong is told by `recorded`, not to the env runner."""
        assert self._writer is not None
        if self._failed is None:
            try:
                self._writer.add(chunk)
            except StorageError as error:
                self._failed = error

    def recorded(self) -> Recorded:
        """Return the counters.

        Raises:
            StorageError: a part could not be written.
        """
        assert self._writer is not None
        if self._failed is not None:
            raise self._failed
        return self._writer.recorded()

    def close(self) -> Manifest:
        """Write the last part and return the manifest.

        Raises:
            StorageError: it cannot be written.
        """
        assert self._writer is not None
        return self._writer.close()


class RayRecording:
    """Records. This object is the supervisor.

    Args:
        job: what.
    """

    def __init__(self, job: RecordingJob) -> None:
        config = job.preparation.config
        self._config = config
        self._recipe = config.model_dump_json()
        teacher = policy_to_bytes(job.teacher)
        student = new_student(config, job.preparation.environment, job.teacher.spec)
        self._student_bytes = policy_to_bytes(student)
        self._recorder: Handle = RAY_RECORDER.options(scheduling_strategy=_here()).remote()
        try:
            ray.get(
                self._recorder.open.remote(job.out, job.manifest(), teacher, job.num_transitions)
            )
        except RayError as error:
            ray.kill(self._recorder)
            raise own_error("the recorder does not start", error) from error
        self._teacher_ref = ray.put(teacher)
        self._logs = LogCollector()
        self._store: Handle = RAY_WEIGHT_STORE.remote()
        self._runners = EnvRunners(self._start_runner, config.actors, fewest=1, first_incarnation=0)

    def poll(self) -> RecordingSnapshot:
        """Wait a second, start again what died or froze, and collect reports."""
        runners = self._runners
        ray.wait(runners.loops, num_returns=1, timeout=POLL_S)
        runners.mend(ray.wait(runners.loops, num_returns=len(runners.loops), timeout=0)[0])
        runners.adjust()
        collect(runners.pulses, REPORTS_WITHIN_S)
        collectors = runners.reports()
        runners.replace_frozen(self._config.supervision.silence_s)
        self._logs.poll()
        try:
            recorded: Recorded = ray.get(self._recorder.recorded.remote())
        except RayError as error:
            raise own_error("the recorder died", error) from error
        waiting = runners.waiting()
        num_cpus = self._config.actors.num_cpus_per_runner
        return RecordingSnapshot(
            recorded=recorded,
            collectors=collectors,
            restarts=runners.restarts,
            waiting_for=missing(waiting, "env runner", num_cpus) if waiting else None,
        )

    def finish(self) -> Manifest:
        """Let env runners hand over what is in their hands, write the last part, end all."""
        stopping = self._runners.stop()
        ray.wait(stopping, num_returns=len(stopping), timeout=STOP_TIMEOUT_S)
        loops = self._runners.loops
        ray.wait(loops, num_returns=len(loops), timeout=STOP_TIMEOUT_S)
        try:
            manifest: Manifest = ray.get(self._recorder.close.remote())
        except RayError as error:
            raise own_error("the recorder died", error) from error
        self.abort()
        return manifest

    def abort(self) -> None:
        """Kill all actors: those that call first, so that none calls one that is dead."""
        for actor in self._runners.actors:
            ray.kill(actor)
        ray.kill(self._recorder)
        ray.kill(self._store)
        self._logs.close()

    def _start_runner(self, life: Life, paused: bool) -> Handle:
        return RAY_ENV_RUNNER.options(
            num_cpus=self._config.actors.num_cpus_per_runner, scheduling_strategy=SPREAD
        ).remote(
            self._recipe,
            self._teacher_ref,
            self._student_bytes,
            runner_id=life.runner,
            incarnation=life.incarnation,
            store=self._store,
            logs=self._logs.name,
            shard=self._recorder,
            paused=paused,
            start_env_steps=0,
        )


def _here() -> NodeAffinitySchedulingStrategy:
    """Return the node of this process."""
    return NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=False)


RAY_RECORDER = remote(RecorderActor, num_cpus=0)
