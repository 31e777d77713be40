"""A world of a few states, which a student plays while it learns from what it did."""

import numpy as np
import torch
from torch import nn

from common.networks.mlp import MLP, MLPSpec
from common.policies.spec import DistKind
from common.trajectory import STUDENT
from learners.batch import DistillBatch, Sequences

NUM_STATES, NUM_ACTIONS = 6, 3
TERMINATES, TRUNCATES = 0.05, 0.05
"""Chances of a step."""


class ToyWorld:
    """`copies` copies, in each of which every action leads to a state of its own.

    A teacher names one action a state; taking it gives a reward of 1.
    """

    def __init__(self, *, seed: int, copies: int = 32) -> None:
        self._rng = np.random.default_rng(seed)
        self.next_state = self._rng.integers(NUM_STATES, size=(NUM_STATES, NUM_ACTIONS))
        self.best = self._rng.integers(NUM_ACTIONS, size=NUM_STATES)
        self.rewards = np.eye(NUM_ACTIONS)[self.best]
        self.labels = 3 * self.rewards + self._rng.normal(size=(NUM_STATES, NUM_ACTIONS)) / 4
        self._state = self._rng.integers(NUM_STATES, size=copies)
        self._ended = np.zeros(copies, np.bool_)

    def observe(self) -> torch.Tensor:
        """Return every state, as a network sees it, [states, states]."""
        return torch.eye(NUM_STATES)

    @torch.no_grad()
    def play(
        self,
        network: nn.Module,
        *,
        num_steps: int = 8,
        dist: DistKind = "logits",
        target: nn.Module | None = None,
        at_random: bool = False,
    ) -> DistillBatch:
        """Let the network act by sampling, and return what it did."""
        heads = network(self.observe()).dist_inputs.double()
        log_pi = torch.zeros_like(heads).log_softmax(-1) if at_random else heads.log_softmax(-1)
        table, rows = log_pi.numpy(), []
        for _ in range(num_steps):
            copies = self._state.size
            noise = self._rng.gumbel(size=(copies, NUM_ACTIONS))
            state, reset = self._state, self._ended
            action = (table[state] + noise).argmax(-1)
            ends = self._rng.random(copies) < TERMINATES
            cut = (self._rng.random(copies) < TRUNCATES) & ~ends
            ends, cut = ends & ~reset, cut & ~reset
            rows.append((state, action, self.rewards[state, action], ends, cut, ~reset))
            anew = self._rng.integers(NUM_STATES, size=copies)
            self._state = np.where(reset, anew, self.next_state[state, action])
            self._ended = ends | cut
        states, actions, rewards, ends, cut, valid = (
            torch.from_numpy(np.concatenate(column)) for column in zip(*rows, strict=True)
        )
        observations = self.observe()[states]
        return DistillBatch(
            observations=observations,
            actions=actions,
            rewards=rewards.float(),
            teacher_dist_inputs=torch.from_numpy(self.labels).float()[states],
            teacher_dist=dist,
            teacher_value=None,
            target_dist_inputs=None if target is None else target(observations).dist_inputs,
            sequences=Sequences(
                num_steps=num_steps,
                valid=valid,
                starts=torch.zeros_like(valid),
                terminated=ends,
                truncated=cut,
                behavior_log_prob=log_pi[states, actions].float(),
                acting_policy=torch.full_like(actions, STUDENT),
            ),
        )

    def best_values(self, discount: float) -> np.ndarray:
        """Return Q* [states, actions], by value iteration; a truncated episode would go on."""
        q = np.zeros((NUM_STATES, NUM_ACTIONS))
        for _ in range(500):
            q = self.rewards + discount * (1 - TERMINATES) * q.max(-1)[self.next_state]
        return q


def student_for_toys(*, has_value: bool, seed: int = 0) -> MLP:
    """Return a small network for the toy world's observations."""
    torch.manual_seed(seed)
    return MLP(
        MLPSpec(hidden=(32,)),
        observation_shape=(NUM_STATES,),
        num_actions=NUM_ACTIONS,
        has_value=has_value,
    )
