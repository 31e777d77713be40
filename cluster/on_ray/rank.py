"""A rank of the learner as a Ray actor; `cluster.on_ray.learner` supervises them."""

import logging
import os
import threading
import time
from collections.abc import Callable, Collection
from concurrent.futures import Future
from dataclasses import replace

import ray
from ray.exceptions import RayError

from cluster.assembly import build_readers, build_saved_replay, build_trainer
from cluster.on_ray.actor_logs import hand_over_logs
from cluster.on_ray.actors import Handle, PolicyBytes
from cluster.on_ray.errors import own_error
from cluster.on_ray.object_store import RETRY_S, is_full
from cluster.on_ray.remote import remote
from cluster.placement import build_labeller, build_relabeller
from cluster.recipe.config import RunConfig
from common.errors import StorageError
from common.policies.policy import policy_from_bytes, policy_to_bytes
from common.policies.spec import DistKind
from common.replay.shard import ReplaySample
from common.storage import Location, Named, Written
from common.threads import give_way, set_threads
from common.weights import PolicyWeights
from learners.feed import PrefetchFeed
from learners.labeller import Labeller
from learners.ranks import ALONE, GLOO, NCCL, Address, Ranks, join, open_meeting
from learners.relabeller import Relabeller
from learners.trainer import Trainer, TrainerStats

logger = logging.getLogger(__name__)


class LearnerActor:
    """A rank of the learner and its loop; `run` comes first, and the ranks meet in it."""

    def __init__(
        self,
        recipe: str,
        student: PolicyBytes,
        teacher_dists: tuple[DistKind, ...],
        *,
        rank: int,
        teacher: PolicyBytes | None,
        store: Handle,
        logs: str,
        shards: list[Handle],
        checkpoints: Named,
    ) -> None:
        set_threads(1)
        hand_over_logs(logs, f"learner {rank}")
        self._config = RunConfig.model_validate_json(recipe)
        self._student = policy_from_bytes(*student)
        self._teacher_dists = teacher_dists
        self._rank = rank
        self._teacher = teacher
        self._store = store
        self._shards = [_RemoteShard(shard) for shard in shards]
        self._checkpoints = checkpoints
        self._meeting: object = None
        self._stop = threading.Event()
        self._trainer: Future[Trainer] = Future()

    def open_meeting(self) -> Address:
        """Open, on rank 0, the place where all ranks meet."""
        host: str = ray.util.get_node_ip_address()  # type: ignore[no-untyped-call]
        self._meeting, address = open_meeting(host)
        return address

    def run(self, meeting: Address | None) -> None:
        """Train until the run's transitions are used up, or until `stop` on any rank.

        Args:
            meeting: where the ranks meet, or None for a single one.
        """
        try:
            trainer = self._build(meeting)
        except BaseException as error:
            self._trainer.set_exception(error)
            raise
        self._trainer.set_result(trainer)
        give_way()
        while not trainer.stopped and not trainer.finished:
            trainer.run_once(0.5, stop=self._stop.is_set())
        trainer.close()

    def stop(self) -> None:
        """End `run` after the answer in hand."""
        self._stop.set()

    def take_share_of_teacher(self, share: float) -> None:
        """Take what the student reaches of its teacher's return, once `run` has started."""
        self._trainer.result().share_of_teacher = share

    def take_teacher(self, teacher: PolicyBytes) -> None:
        """Learn from a newer version of the teacher, once `run` has started."""
        self._trainer.result().take_teacher(policy_from_bytes(*teacher))

    def stats(self) -> TrainerStats:
        """Return the counters, once `run` has started."""
        stats = self._trainer.result().stats()
        return replace(stats, store_wait_s=sum(shard.store_wait_s for shard in self._shards))

    def student(self) -> PolicyBytes:
        """Return the student as it is; call it when `run` has ended."""
        return policy_to_bytes(self._student)

    def unsaved(self) -> str | None:
        """Return why the last checkpoint could not be written; call it when `run` has ended."""
        return self._trainer.result().unsaved

    def pid(self) -> int:
        """Return the process id."""
        return os.getpid()

    def _publish(self, weights: PolicyWeights) -> None:
        """Send a version on its way; where there is no room for it, the next one will do."""
        try:
            self._store.publish.remote(weights)
        except RayError as error:
            if not is_full(error):
                raise
            logger.warning("no room for version %d of the weights: skipped", weights.version)

    def _build(self, meeting: Address | None) -> Trainer:
        config = self._config
        ranks: Ranks = ALONE
        if meeting is not None:
            # NCCL wants a whole GPU for each rank; those that share one average over the host.
            backend = NCCL if config.learner.num_gpus >= 1 else GLOO
            size = config.learner.num_ranks
            ranks = join(meeting, rank=self._rank, size=size, backend=backend)
        # A teacher comes along where the learner asks it, for labels or for features.
        teacher = None if self._teacher is None else policy_from_bytes(*self._teacher)
        labeller: Labeller | None = None
        relabeller: Relabeller | None = None
        if teacher is not None:
            if not config.actors.labels_chunks:
                labeller = build_labeller(config, teacher)
            relabeller = build_relabeller(config, teacher, labeller)
        return build_trainer(
            config,
            student=self._student,
            teacher_dists=self._teacher_dists,
            feed=PrefetchFeed(
                build_readers(config, list(self._shards), labeller), queue_size=config.answers_ready
            ),
            publish=self._publish,
            checkpoints=self._checkpoints,
            ranks=ranks,
            replay=build_saved_replay(config, list(self._shards), labeller),
            teacher=teacher,
            relabeller=relabeller,
        )


class _RemoteShard:
    """A shard actor as a `ChunkSource` and a `SavedShard`."""

    def __init__(self, shard: Handle) -> None:
        self._shard = shard
        self.store_wait_s = 0.0
        """Seconds in which it had no room for its answer."""

    def sample(
        self, *, cursor: int, num_samples: int, held: Collection[int]
    ) -> ReplaySample | None:
        """Ask and wait; None also where the shard has no room for its answer."""
        asked = time.monotonic()
        try:
            answer: ReplaySample | None = ray.get(
                self._shard.sample.remote(cursor, num_samples, held)
            )
        except RayError as error:
            if not is_full(error):
                raise
            logger.warning("no room for the answer of a replay shard: asking again")
            time.sleep(RETRY_S)
            self.store_wait_s += time.monotonic() - asked
            return None
        return answer

    def save(self) -> Callable[[Location], Written]:
        """Let it take a snapshot now; what is returned lets it write, and waits."""
        taken = self._shard.take_snapshot.remote()

        def write(location: Location) -> Written:
            try:
                ray.get(taken)
                written: Written = ray.get(self._shard.write_snapshot.remote(location))
            except RayError as error:  # a dead shard starts again; the next save is whole
                failed = own_error("a replay shard did not write its snapshot", error)
                raise StorageError(str(failed)) from error
            return written

        return write

    def load(self, location: Location, *, epoch: str | None, granted: int, cursor: int) -> bool:
        """Let it read its snapshot, and wait."""
        try:
            loaded: bool = ray.get(self._shard.load.remote(location, epoch, granted, cursor))
        except RayError as error:
            raise own_error("a replay shard did not read its snapshot", error) from error
        return loaded


RAY_LEARNER = remote(LearnerActor, max_concurrency=2)
