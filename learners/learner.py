"""The learner: takes gradient steps on a window of transitions.

On the main road it is the sink of data and the source of weights. It is plain Python: it knows
neither Ray nor threads; `learners.trainer` feeds it. It may be one of several ranks
(`learners.ranks`), each with a share of the data and of every batch; weights, optimiser, counters
and metrics are the same on all of them.
"""

import logging
import math
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import torch

from common.policies.policy import Policy
from common.policies.spec import DistKind
from common.replay.sampler_config import UNIFORM, SamplerConfig
from common.trajectory import UNLABELLED, Life, TrajectoryChunk
from common.weights import PolicyWeights, weights_of
from learners.backward import BackwardPass
from learners.batch import DistillBatch
from learners.config import LearnerConfig
from learners.counting import LifeCount, ReceivedChunks
from learners.feed import FeedItem
from learners.identity import check_same_identity, check_teacher_version, identity_of
from learners.objectives import Moment, ObjectiveConfig
from learners.optimizers import OPTIMIZERS
from learners.ranks import ALONE, Ranks, Report
from learners.relabeller import Relabeller
from learners.samplers import Draw
from learners.task_windows import make_windows
from learners.window import WindowContent

logger = logging.getLogger(__name__)

METRIC_DECAY = 0.98
"""Of the running means of loss and agreement, a step."""


class Learner:
    """A student, its optimiser and its window.

    Args:
        student: the policy to train; its network is trained in place.
        teacher_dists: what the teachers' outputs are, one a task of the student, in their order.
        objective: what to minimise.
        config: how.
        window_capacity: transitions to sample from, of this rank.
        total_env_steps: length of the run, for what goes by progress.
        seed: of the draws from the window.
        device: where to compute.
        sampler: how to choose transitions.
        ranks: who else takes each step; `config.batch_size` is shared out among them.
        teacher: the teacher, where the objective needs its features.
        samples_per_insert: samples for each transition, as the shards grant them.
        relabeller: labels anew what an older teacher labelled, where the run refreshes it.
    """

    def __init__(
        self,
        *,
        student: Policy,
        teacher_dists: Sequence[DistKind],
        objective: ObjectiveConfig,
        config: LearnerConfig,
        window_capacity: int,
        total_env_steps: int,
        seed: int,
        device: torch.device,
        sampler: SamplerConfig = UNIFORM,
        ranks: Ranks = ALONE,
        teacher: Policy | None = None,
        samples_per_insert: float = 1.0,
        relabeller: Relabeller | None = None,
    ) -> None:
        self.student = student
        self.ranks = ranks
        self._objective, self._schedules = objective, objective.schedules()
        self._identity = identity_of(student.spec, objective, config.optimizer)
        self._config = config
        self._total_env_steps = total_env_steps
        self._backward = BackwardPass(
            student, objective, config, device=device, ranks=ranks, teacher=teacher, seed=seed
        )
        self._network = self._backward.network
        self._optimizer = OPTIMIZERS[config.optimizer](
            self._backward.trained.parameters(), config.learning_rate, config.weight_decay
        )
        self._sampler_name = sampler.name
        self._window_capacity = window_capacity
        self._sequence_length = config.sequence_length
        self._window, self._sampler = make_windows(
            student.spec,
            teacher_dists,
            capacity=window_capacity,
            sampler=sampler,
            device=device,
            block=self._backward.block,
            config=config,
            relabeller=relabeller,
        )
        self._relabeller = relabeller
        self._rng = np.random.default_rng((seed, 1, ranks.rank))
        self._batch_size = config.batch_size // ranks.size
        self._samples_per_insert = samples_per_insert
        self._budget = 0.0
        """Samples granted and not yet taken; whole, but for shares of several ranks' sequences."""
        self._received = ReceivedChunks()
        self._unreported = 0
        """Of `env_steps`, what this rank has not yet told the others."""
        self._newest_label = UNLABELLED
        """Version of the newest labels received."""
        self.learner_steps = 0
        self.env_steps = 0
        """Transitions received by all ranks, each counted once."""
        self.samples = 0
        self.skipped_steps = 0
        self.bad_steps_in_a_row = 0
        self.share_of_teacher = 0.0
        """What the student was last said to reach of its teacher's return, on all ranks."""
        self.metrics: dict[str, float] = {}
        """Running means: loss, one entry a term, likeness to the teacher on the batches. And the
        present values of what has a schedule in the objective."""

    def receive(self, item: FeedItem) -> None:
        """Take chunks into the window and the granted samples into the budget.

        Chunks that come again, because the window had lost them or because a shard got them a
        second time, are no new env steps. For those that a former life of this learner had and
        forgot in its death, it takes the samples again that it was granted then.
        """
        for chunk, encoded in item.paired_revisited():
            self._window.insert(chunk, revisited=True, encoded=encoded)
        for number, (chunk, encoded) in enumerate(item.paired()):
            self._window.insert(chunk, encoded=encoded)
            self._newest_label = max(self._newest_label, chunk.teacher_version)
            new = self._received.count(chunk)
            self.env_steps += new
            self._unreported += new
            self._budget += self._samples_per_insert * new if number < item.again else 0
        self._budget += item.granted

    def take_teacher(self, newer: Policy) -> None:
        """Go on with a newer version of the teacher: from now on all labels of a batch are its."""
        assert self._relabeller is not None, "nothing here can label"
        self._relabeller.take(newer)

    @property
    def teacher_version(self) -> int:
        """Of the teacher that is learnt from; where it never changes, of the labels received."""
        return self._newest_label if self._relabeller is None else self._relabeller.version

    @property
    def relabelled(self) -> int:
        """Rows that were labelled anew because an older teacher had labelled them."""
        return 0 if self._relabeller is None else self._relabeller.relabelled

    @property
    def unknown_labels(self) -> int:
        """Rows drawn with labels of a version that this learner did not have; they were labelled
        anew before anything learnt from them."""
        return 0 if self._relabeller is None else self._relabeller.unknown

    def lives(self) -> dict[Life, LifeCount]:
        """Return what this rank has received of each env runner's life."""
        return self._received.lives()

    @property
    def can_step(self) -> bool:
        """Whether this rank's share of a batch is granted and there is data to draw it from."""
        return self._steps_ready > 0

    @property
    def _steps_ready(self) -> int:
        return int(self._budget // self._batch_size) if len(self._window) else 0

    def agree(self, *, received: bool, stop: bool, save: bool, share_of_teacher: float) -> Report:
        """Tell the other ranks how things are here, and return how they are together.

        Every rank then takes the `steps` of what is returned, or none does. The arguments are the
        report's fields of these names.
        """
        own = Report(
            steps=self._steps_ready,
            env_steps=self._unreported,
            window_size=len(self._window),
            received=received,
            stop=stop,
            save=save,
            share_of_teacher=share_of_teacher,
        )
        together = self.ranks.together(own)
        self.env_steps += together.env_steps - own.env_steps
        self.share_of_teacher = together.share_of_teacher
        self._unreported = 0
        return together

    def step(self) -> None:
        """Take one gradient step; a step whose gradient is not finite is skipped and counted.

        Of sequences only the valid rows are samples, so a batch of them may have fewer than
        `batch_size`; what was granted and not taken stays granted.
        """
        self._optimizer.zero_grad(set_to_none=True)
        moment = Moment(progress=self._progress, share_of_teacher=self.share_of_teacher)
        self.metrics |= {name: found.value(moment) for name, found in self._schedules.items()}
        draw = self.draw(self._batch_size)
        objective = self._objective.at(moment) if self._schedules else self._objective
        gradient = self._backward(draw, self._window, objective)
        self._sampler.update(draw.rows, gradient.losses)
        values = self._backward.averaged(gradient)
        taken = values.pop("num_samples", self._batch_size)
        self._budget -= taken
        self.samples += round(taken * self.ranks.size)
        self.learner_steps += 1
        if not math.isfinite(values["grad_norm"] + values["loss"]):
            self.skipped_steps += 1
            self.bad_steps_in_a_row += 1
            return
        self.bad_steps_in_a_row = 0
        for group in self._optimizer.param_groups:
            group["lr"] = self.learning_rate
        self._optimizer.step()
        self._backward.stepped(self.learner_steps)
        for name, value in values.items():
            former = self.metrics.get(name, value)
            self.metrics[name] = METRIC_DECAY * former + (1 - METRIC_DECAY) * value

    def draw(self, num_samples: int) -> Draw:
        """Draw rows of the window, or as many sequences as have that many rows."""
        return self._sampler.draw(self._rng, num_samples // self._sequence_length)

    def gather(self, rows: torch.Tensor) -> DistillBatch:
        """Return what was drawn from the window as a batch."""
        return self._window.gather(rows)

    @property
    def learning_rate(self) -> float:
        """The rate at this point of the run."""
        return self._config.rate(step=self.learner_steps, progress=self._progress)

    @property
    def _progress(self) -> float:
        return min(1.0, self.env_steps / self._total_env_steps)

    @property
    def finished(self) -> bool:
        """Whether all transitions of the run have been received."""
        return self.env_steps >= self._total_env_steps

    @property
    def window_size(self) -> int:
        """Transitions in the window."""
        return len(self._window)

    def weights(self, version: int) -> PolicyWeights:
        """Copy the student's weights out."""
        return weights_of(
            self._network,
            version=version,
            learner_steps=self.learner_steps,
            env_steps=self.env_steps,
        )

    def state(self) -> dict[str, Any]:
        """Return everything that a checkpoint must hold, in types that load without unpickling.

        All ranks call it together; what is each rank's own is whole on rank 0 only.
        """
        own = {
            "received": self._received.state(),
            "rng": self._rng.bit_generator.state,
            "torch_rng": torch.get_rng_state(),
        }
        return {
            "student": self._identity,
            **self._backward.state(),
            "optimizer": self._optimizer.state_dict(),
            "counters": {
                "learner_steps": self.learner_steps,
                "env_steps": self.env_steps,
                "samples": self.samples,
                "skipped_steps": self.skipped_steps,
                "teacher_version": self.teacher_version,
                "share_of_teacher": self.share_of_teacher,
            },
            "metrics": dict(self.metrics),
            "ranks": self.ranks.gather(own),
        }

    def load_state(self, state: dict[str, Any]) -> None:
        """Go on from a checkpoint; the window starts empty.

        What was each rank's own starts anew where the number of ranks is another.

        Raises:
            ConfigError: it is of another student or optimizer, or trained more or less beside it,
                or learnt from a newer version of the teacher.
        """
        check_same_identity(self._identity, state["student"])
        counters = dict(state["counters"])
        self._newest_label = counters.pop("teacher_version")
        check_teacher_version(self.teacher_version, self._newest_label)
        self.load_weights(state)
        for name, value in counters.items():
            setattr(self, name, value)
        self._unreported = 0
        self.metrics = dict(state["metrics"])
        parts = state.get("ranks", [])
        if len(parts) != self.ranks.size:
            logger.warning(
                "the checkpoint is of %d ranks and there are %d now: weights, optimiser and "
                "counters go on, the order of samples starts anew",
                len(parts),
                self.ranks.size,
            )
            return
        own = parts[self.ranks.rank]
        self._received.load_state(own["received"])
        self._rng.bit_generator.state = own["rng"]
        torch.set_rng_state(own["torch_rng"])

    def replay_state(self) -> dict[str, Any]:
        """Return what goes on from a checkpoint only together with the window's content."""
        return {
            "budget": self._budget,
            "sampler": {
                "name": self._sampler_name,
                "window_capacity": self._window_capacity,
                "sequence_length": self._sequence_length,
                **self._sampler.state(),
            },
        }

    def window_content(self) -> WindowContent:
        """Return the chunks of the window, which must have come with their compressed form."""
        return self._window.content()

    def load_replay(
        self, state: dict[str, Any], content: WindowContent, chunks: Iterable[TrajectoryChunk]
    ) -> None:
        """Go on with a former window, after `load_state`.

        Under another sampler, size of the window or of sequences the rows count as newly come.

        Args:
            state: of `replay_state`.
            content: of `window_content`.
            chunks: its chunks, decoded.
        """
        self._budget = state["budget"]
        sampler = state["sampler"]
        own = (self._sampler_name, self._window_capacity, self._sequence_length)
        former = sampler["name"], sampler["window_capacity"], sampler.get("sequence_length", 1)
        same = own == former
        self._window.fill(content if same else content._replace(row_start=0, plane_start=0), chunks)
        if same:
            self._sampler.load_state(sampler)

    def load_weights(self, state: dict[str, Any]) -> None:
        """Go back to a checkpoint's weights and optimiser; counters and window stay."""
        self._backward.load_state(state)
        self._optimizer.load_state_dict(state["optimizer"])
        self.bad_steps_in_a_row = 0
