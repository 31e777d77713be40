"""The backward pass: from a draw of rows to the gradient of the student's weights.

The learner draws and steps; here a batch is gathered in micro-batches, goes through the student in
the precision and layout that the recipe asks for, and the objective's gradient is added up.
"""

import copy
import math
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import replace
from typing import Any, NamedTuple

import torch
from torch import nn

from common.networks import NetworkOutput, PolicyNetwork
from common.networks.base import Steps
from common.networks.inputs import Layout, cast_frames
from common.policies.inference import hardware_has_bfloat16
from common.policies.policy import Policy
from learners.batch import DistillBatch
from learners.config import LearnerConfig
from learners.features import TeacherFeatures, WithProjection
from learners.likeness import likeness
from learners.objectives import ObjectiveConfig
from learners.ranks import Ranks
from learners.samplers import Draw
from learners.window import TransitionWindow

Figures = dict[str, torch.Tensor]
"""Means over a batch, [] each: loss, one entry a term, likeness to the teacher."""


class Gradient(NamedTuple):
    """What is known of a gradient that was added up."""

    figures: Figures
    losses: torch.Tensor
    """Of every row drawn, or the mean of every sequence drawn."""
    num_samples: torch.Tensor | int
    """Rows that it was learnt from."""


class BackwardPass:
    """Computes a student's gradients.

    Args:
        student: the policy to train; its network is moved to the device, in place.
        objective: what to minimise.
        config: micro-batches, precision, layout.
        device: where to compute.
        ranks: who else computes a share of each gradient.
        teacher: the teacher, where the objective needs its features.
        seed: of the features' projection.

    With sequences, whole ones make a micro-batch, and all means are over their valid rows.
    """

    def __init__(
        self,
        student: Policy,
        objective: ObjectiveConfig,
        config: LearnerConfig,
        *,
        device: torch.device,
        ranks: Ranks,
        teacher: Policy | None,
        seed: int,
    ) -> None:
        self._micro_batch_size = config.micro_batch_size
        self._sequence_length = config.sequence_length
        self._max_grad_norm = config.max_grad_norm or math.inf
        self._device = device
        self._ranks = ranks
        self.network = student.network.to(device).train()
        self._layout: Layout = "contiguous" if config.layout == "auto" else config.layout
        self.network.set_layout(self._layout)
        self.trained: nn.Module = self.network
        """What the optimiser trains: the network, and what is trained beside it."""
        self._projection: nn.Linear | None = None
        self._teacher_features: TeacherFeatures | None = None
        if objective.needs_features:
            assert teacher is not None
            self._teacher_features = TeacherFeatures(
                teacher, layout=self._layout, block=self.network.block, device=device
            )
            num_features = teacher.network.num_features
            wrapped = WithProjection(self.network, num_features, seed=seed).to(device)
            self.trained, self._projection = wrapped, wrapped.projection
        self._replica = ranks.replicate(
            self.trained, may_leave_unused=student.spec.has_value or objective.needs_features
        )
        self._forward = self._compiled() if config.compile else self._replica
        self._target: PolicyNetwork | None = None
        self._target_interval = objective.target_interval or 1
        if objective.target_interval is not None:
            self._target = copy.deepcopy(self.network).requires_grad_(False)
        self._scale = student.spec.observation.scale
        self._bfloat16 = _computes_in_bfloat16(config, student, device)

    @property
    def block(self) -> int | None:
        """Side of the squares in which frames are taken, or None where they come whole."""
        return self.network.block if self._layout == "blocks" else None

    def state(self) -> dict[str, Any]:
        """Return the weights, for a checkpoint."""
        return {
            "network": self.network.state_dict(),
            "projection": _state_of(self._projection),
            "target": _state_of(self._target),
        }

    def load_state(self, state: dict[str, Any]) -> None:
        """Go on from such weights."""
        self.network.load_state_dict(state["network"])
        if self._projection is not None:
            self._projection.load_state_dict(state["projection"])
        if self._target is not None:
            self._target.load_state_dict(state.get("target") or state["network"])

    def stepped(self, learner_steps: int) -> None:
        """Make the target network, where there is one, equal to the student when it is time."""
        if self._target is not None and learner_steps % self._target_interval == 0:
            self._target.load_state_dict(self.network.state_dict())

    def __call__(
        self, draw: Draw, window: TransitionWindow, objective: ObjectiveConfig
    ) -> Gradient:
        """Add up the gradients of a batch in micro-batches.

        Only a micro-batch is gathered at a time, so a batch may be larger than memory.

        Args:
            draw: rows or sequences of the window.
            window: where they lie.
            objective: as it is at this moment.
        """
        length, num_draws = self._sequence_length, len(draw.rows)
        size = self._micro_batch_size
        parts = draw.split(num_draws if size == "auto" else size // length)
        num_samples = num_draws if length == 1 else window.num_valid(draw.rows)
        num_learnt = num_samples if isinstance(num_samples, int) else num_samples.clamp(min=1)
        figures: Figures = {}
        losses: list[torch.Tensor] = []
        for number, part in enumerate(parts, start=1):
            batch = window.gather(part.rows)
            if part.weights is not None:
                batch = replace(batch, weights=part.weights.repeat(length))
            last = number == len(parts)
            with nullcontext() if last else self._ranks.accumulate(self._replica):
                share = batch.num_valid / num_learnt
                found, each = self._add(batch, objective, share=share)
            losses.append(each)
            for name, value in found.items():
                figures[name] = value + figures[name] if name in figures else value
        return Gradient(figures, torch.cat(losses), num_samples)

    def averaged(self, gradient: Gradient) -> dict[str, float]:
        """Return the figures' means over all ranks, after the gradient's norm was clipped.

        With `grad_norm`, the norm before; and for sequences `num_samples`. There is one transfer
        from the device. What is not finite on one rank is so on all.
        """
        norm = nn.utils.clip_grad_norm_(self.trained.parameters(), self._max_grad_norm)
        found = gradient.figures | {"grad_norm": norm}
        if isinstance(gradient.num_samples, torch.Tensor):
            found["num_samples"] = gradient.num_samples
        scalars = torch.stack([value.float() for value in found.values()])
        return dict(zip(found, self._ranks.mean(scalars).tolist(), strict=True))

    def _add(
        self, batch: DistillBatch, objective: ObjectiveConfig, *, share: torch.Tensor | float
    ) -> tuple[Figures, torch.Tensor]:
        """Add a micro-batch's gradient times its share.

        Returns:
            Its figures, times its share, and the loss of everything drawn.
        """
        inputs = self._inputs(batch.observations)
        with torch.autocast(self._device.type, torch.bfloat16, enabled=self._bfloat16):
            remembered = self._remembered(batch)
            output = self._forward(inputs, input_scale=self._scale, **remembered)
            if self._teacher_features is not None:
                batch = replace(batch, teacher_features=self._teacher_features(inputs))
            if self._target is not None:
                with torch.no_grad():
                    target = self._target(inputs, input_scale=self._scale, **remembered)
                batch = replace(batch, target_dist_inputs=target.dist_inputs.float())
        output = output.float32()
        loss, terms, each = objective(batch, output)
        (loss * share).backward()  # type: ignore[no-untyped-call]
        found = {"loss": loss.detach(), **likeness(batch, output), **terms}
        figures = {name: value * share for name, value in found.items()}
        return figures, batch.mean_of_draws(each)

    def _remembered(self, batch: DistillBatch) -> dict[str, Steps]:
        """Return what a network with a memory takes beside the observations."""
        told = batch.sequences
        if self.network.memory_shape is None:
            return {}
        assert told is not None
        return {"steps": Steps(told.num_steps, told.over_time(told.starts), told.burn_in)}

    def _inputs(self, observations: torch.Tensor) -> torch.Tensor:
        """Return observations as the network takes them; the window's own memory is never given."""
        dtype = torch.bfloat16 if self._bfloat16 else torch.float32
        if observations.dtype is not torch.uint8:
            return observations.to(dtype)
        return cast_frames(observations, dtype, self._layout)

    def _compiled(self) -> Callable[..., NetworkOutput]:
        mode = "reduce-overhead" if self._device.type == "cuda" else None
        compiled: Callable[..., NetworkOutput] = torch.compile(self._replica, mode=mode)
        return compiled


def _state_of(module: nn.Module | None) -> dict[str, torch.Tensor] | None:
    return None if module is None else module.state_dict()


def _computes_in_bfloat16(config: LearnerConfig, student: Policy, device: torch.device) -> bool:
    if config.precision != "auto":
        return config.precision == "bfloat16"
    if student.spec.observation.dtype != "uint8":
        return False
    return torch.cuda.is_bf16_supported() if device.type == "cuda" else hardware_has_bfloat16()
