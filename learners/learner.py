"""The learner: takes gradient steps on a window of transitions.

On the main road it is the sink of data and the source of weights. It is plain Python: it knows
neither Ray nor threads; `learners.trainer` feeds it.
"""

import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import torch

from common.networks import NetworkOutput
from common.networks.inputs import Layout, cast_frames
from common.policies.inference import hardware_has_bfloat16
from common.policies.policy import Policy
from common.policies.spec import DistKind
from common.replay.sampler_config import UNIFORM, SamplerConfig
from common.weights import PolicyWeights, weights_of
from learners.batch import DistillBatch
from learners.config import LearnerConfig
from learners.feed import FeedItem
from learners.objectives import ObjectiveConfig
from learners.optimizers import OPTIMIZERS
from learners.samplers import Draw, make_sampler
from learners.window import TransitionWindow

METRIC_DECAY = 0.98
"""Of the running means of loss and agreement, a step."""


class Learner:
    """A student, its optimiser and its window.

    Args:
        student: the policy to train; its network is trained in place.
        teacher_dist: what the teacher's outputs are.
        objective: what to minimise.
        config: how.
        window_capacity: transitions to sample from.
        total_env_steps: length of the run, for the learning rate's schedule.
        seed: of the draws from the window.
        device: where to compute.
        sampler: how to choose transitions.
    """

    def __init__(
        self,
        *,
        student: Policy,
        teacher_dist: DistKind,
        objective: ObjectiveConfig,
        config: LearnerConfig,
        window_capacity: int,
        total_env_steps: int,
        seed: int,
        device: torch.device,
        sampler: SamplerConfig = UNIFORM,
    ) -> None:
        self.student = student
        self._objective = objective
        self._config = config
        self._total_env_steps = total_env_steps
        self._device = device
        self._network = student.network.to(device).train()
        self._layout: Layout = "contiguous" if config.layout == "auto" else config.layout
        self._network.set_layout(self._layout)
        self._forward = self._compiled() if config.compile else self._network
        self._scale = student.spec.observation.scale
        self._bfloat16 = _computes_in_bfloat16(config, student, device)
        self._optimizer = OPTIMIZERS[config.optimizer](
            self._network.parameters(), config.learning_rate, config.weight_decay
        )
        self._sampler = make_sampler(sampler, capacity=window_capacity, device=device)
        self._window = TransitionWindow(
            window_capacity,
            teacher_dist=teacher_dist,
            device=device,
            sampler=self._sampler,
            block=self._network.block if self._layout == "blocks" else None,
        )
        self._rng = np.random.default_rng((seed, 1))
        self._budget = 0
        self._counted: dict[str, int] = {}  # shard life → number of its first uncounted chunk
        self.learner_steps = 0
        self.env_steps = 0
        """Transitions received, each counted once."""
        self.samples = 0
        self.skipped_steps = 0
        self.bad_steps_in_a_row = 0
        self.metrics: dict[str, float] = {}
        """Running means: loss, one entry a term, greedy agreement on the training batches."""

    def receive(self, item: FeedItem) -> None:
        """Take chunks into the window and the granted samples into the budget.

        Chunks that come again because the window had lost them are no new env steps.
        """
        for chunk in item.revisited:
            self._window.insert(chunk, revisited=True)
        counted = self._counted.get(item.epoch, 0)
        for number, chunk in enumerate(item.chunks, start=item.first_chunk):
            self._window.insert(chunk)
            if number >= counted:
                self.env_steps += chunk.num_transitions
        self._counted[item.epoch] = max(counted, item.first_chunk + len(item.chunks))
        self._budget += item.granted

    @property
    def can_step(self) -> bool:
        """Whether a whole batch of samples is granted and there is data to draw it from."""
        return self._budget >= self._config.batch_size and len(self._window) > 0

    def step(self) -> None:
        """Take one gradient step; a step whose gradient is not finite is skipped and counted."""
        config = self._config
        self._budget -= config.batch_size
        self.samples += config.batch_size
        self._optimizer.zero_grad(set_to_none=True)
        found = self._accumulate(self.draw(config.batch_size))
        norm = torch.nn.utils.clip_grad_norm_(
            self._network.parameters(), config.max_grad_norm or math.inf
        )
        values = dict(zip([*found, "grad_norm"], _to_floats([*found.values(), norm]), strict=True))
        self.learner_steps += 1
        if not math.isfinite(values["grad_norm"] + values["loss"]):
            self.skipped_steps += 1
            self.bad_steps_in_a_row += 1
            return
        self.bad_steps_in_a_row = 0
        for group in self._optimizer.param_groups:
            group["lr"] = self.learning_rate
        self._optimizer.step()
        for name, value in values.items():
            former = self.metrics.get(name, value)
            self.metrics[name] = METRIC_DECAY * former + (1 - METRIC_DECAY) * value

    def draw(self, num_samples: int) -> Draw:
        """Draw rows of the window."""
        return self._sampler.draw(self._rng, num_samples)

    def gather(self, rows: torch.Tensor) -> DistillBatch:
        """Return rows of the window as a batch."""
        return self._window.gather(rows)

    @property
    def learning_rate(self) -> float:
        """The rate at this point of the run."""
        progress = min(1.0, self.env_steps / self._total_env_steps)
        return self._config.rate(step=self.learner_steps, progress=progress)

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
        """Return everything that a checkpoint must hold, in types that load without unpickling."""
        return {
            "network": self._network.state_dict(),
            "optimizer": self._optimizer.state_dict(),
            "counters": {
                "learner_steps": self.learner_steps,
                "env_steps": self.env_steps,
                "samples": self.samples,
                "skipped_steps": self.skipped_steps,
            },
            "counted": dict(self._counted),
            "rng": self._rng.bit_generator.state,
            "metrics": dict(self.metrics),
        }

    def load_state(self, state: dict[str, Any]) -> None:
        """Go on from a checkpoint; the window starts empty."""
        self.load_weights(state)
        for name, value in state["counters"].items():
            setattr(self, name, value)
        self._counted = dict(state["counted"])
        self._rng.bit_generator.state = state["rng"]
        self.metrics = dict(state["metrics"])

    def load_weights(self, state: dict[str, Any]) -> None:
        """Go back to a checkpoint's weights and optimiser; counters and window stay."""
        self._network.load_state_dict(state["network"])
        self._optimizer.load_state_dict(state["optimizer"])
        self.bad_steps_in_a_row = 0

    def _accumulate(self, draw: Draw) -> dict[str, torch.Tensor]:
        """Add up the gradients of a batch in micro-batches; return means over the batch.

        Only a micro-batch is gathered at a time, so a batch may be larger than memory. The
        sampler hears of the samples' losses.
        """
        size = self._config.micro_batch_size
        means: dict[str, torch.Tensor] = {}
        losses: list[torch.Tensor] = []
        num_rows = len(draw.rows)
        for part in draw.split(num_rows if size == "auto" else size):
            batch = replace(self._window.gather(part.rows), weights=part.weights)
            share = batch.size / num_rows
            with torch.autocast(self._device.type, torch.bfloat16, enabled=self._bfloat16):
                output = self._forward(self._inputs(batch.observations), input_scale=self._scale)
            output = output._replace(
                dist_inputs=output.dist_inputs.float(),
                value=None if output.value is None else output.value.float(),
            )
            loss, terms, each = self._objective(batch, output)
            losses.append(each)
            (loss * share).backward()  # type: ignore[no-untyped-call]
            agreed = output.dist_inputs.argmax(-1) == batch.teacher_dist_inputs.argmax(-1)
            found = {"loss": loss.detach(), "agreement": agreed.float().mean(), **terms}
            for name, value in found.items():
                means[name] = value * share + means[name] if name in means else value * share
        self._sampler.update(draw.rows, torch.cat(losses))
        return means

    def _inputs(self, observations: torch.Tensor) -> torch.Tensor:
        """Return observations as the network takes them; the window's own memory is never given."""
        dtype = torch.bfloat16 if self._bfloat16 else torch.float32
        if observations.dtype is not torch.uint8:
            return observations.to(dtype)
        return cast_frames(observations, dtype, self._layout)

    def _compiled(self) -> Callable[..., NetworkOutput]:
        mode = "reduce-overhead" if self._device.type == "cuda" else None
        compiled: Callable[..., NetworkOutput] = torch.compile(self._network, mode=mode)
        return compiled


def _to_floats(scalars: list[torch.Tensor]) -> list[float]:
    """Fetch scalars from the device, all at once."""
    values: list[float] = torch.stack([scalar.float() for scalar in scalars]).tolist()
    return values


def _computes_in_bfloat16(config: LearnerConfig, student: Policy, device: torch.device) -> bool:
    if config.precision != "auto":
        return config.precision == "bfloat16"
    if student.spec.observation.dtype != "uint8":
        return False
    return torch.cuda.is_bf16_supported() if device.type == "cuda" else hardware_has_bfloat16()
