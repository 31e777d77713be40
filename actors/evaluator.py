"""Plays full episodes of a policy and compares it, state by state, with another one.

Every env copy plays the same number of episodes and all of them count, so that short episodes
are not favoured. Returns are sums of raw rewards over full games.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from actors.environments import VectorEnvironment
from common.policies.actions import draw_actions, mean_actions, random_actions
from common.policies.inference import InferencePolicy, PolicyOutputs
from common.policies.remembering import RememberingPolicy
from common.policies.spec import ActingSpec, PolicySpec


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class EvaluationResult:
    """What a policy did in its episodes."""

    returns: tuple[float, ...]
    lengths: tuple[int, ...]
    num_compared: int
    """States in which the two policies were compared."""
    greedy_agreement: float | None
    """Share of these states in which both have the same greedy action, where it is discrete."""
    value_error: float | None
    """Mean absolute difference of the state values, where both policies have them."""
    value_scale: float | None
    """Standard deviation of the reference's values over these states."""
    observations: npt.NDArray[np.uint8 | np.float32]
    """Some of the states, for checks of exports and precisions."""
    action_error: float | None = None
    """Mean absolute difference of their mean actions within a Box, in halves of its range."""


def evaluate(
    env: VectorEnvironment,
    policy: InferencePolicy | None,
    *,
    acting: ActingSpec,
    num_episodes: int,
    seed: int,
    reference: InferencePolicy | None = None,
    num_observations: int = 0,
    should_stop: Callable[[], bool] = lambda: False,
) -> EvaluationResult:
    """Play `num_episodes` full episodes.

    Args:
        env: env copies; a multiple of their number is played if the numbers do not divide.
        policy: who acts; None for a uniformly random policy.
        acting: greedy or sampled, and its share of random actions.
        num_episodes: episodes to play, at least.
        seed: of environments and draws.
        reference: policy to compare with in every state that is visited; it sees what the teacher
            sees.
        num_observations: states to keep, drawn uniformly from all.
        should_stop: asked at every step; what was finished by then is returned.
    """
    rng = np.random.default_rng(seed)
    space = env.spec
    quota = -(-num_episodes // env.num_envs)
    observations = env.reset(int(rng.integers(2**30)))
    count = np.zeros(env.num_envs, np.int64)
    totals, steps = np.zeros(env.num_envs), np.zeros(env.num_envs, np.int64)
    ended = np.zeros(env.num_envs, np.bool_)
    returns: list[float] = []
    lengths: list[int] = []
    comparison = _Comparison()
    player = None if policy is None else RememberingPolicy(policy, env.num_envs)
    other = None if reference is None else RememberingPolicy(reference, env.num_envs)
    reservoir = _Reservoir(num_observations, rng.spawn(1)[0])
    while (count < quota).any() and not should_stop():
        live = (count < quota) & ~ended
        if player is None:
            actions = random_actions(
                num_actions=space.num_actions, box=space.action_box, count=env.num_envs, rng=rng
            )
        else:
            outputs = player(observations)
            actions = draw_actions(
                player.spec,
                outputs.dist_inputs,
                mode=acting.mode,
                epsilon=acting.epsilon,
                rng=rng,
            ).actions
            if other is not None and live.any():
                shown = env.teacher_observations
                shown = observations if shown is None else shown
                comparison.add(player.spec, outputs, other, shown, live)
        reservoir.add(observations[live])
        result = env.step(actions)
        totals += result.rewards
        steps += ~ended
        for remembering in (player, other):
            if remembering is not None:
                remembering.forget(ended)  # whose next episode has just started
        ended = result.terminated | result.truncated
        for index in np.flatnonzero(ended):
            if count[index] < quota:
                returns.append(float(totals[index]))
                lengths.append(int(steps[index]))
                count[index] += 1
            totals[index], steps[index] = 0.0, 0
        observations = result.observations
    return EvaluationResult(
        returns=tuple(returns),
        lengths=tuple(lengths),
        num_compared=comparison.states,
        greedy_agreement=comparison.agreement,
        action_error=comparison.action_error,
        value_error=comparison.value_error,
        value_scale=comparison.value_scale,
        observations=np.array(reservoir.kept),
    )


def state_values(spec: PolicySpec, outputs: PolicyOutputs) -> npt.NDArray[np.float32] | None:
    """Return the values [B] that a policy gives its states: its value head's, or its best Q."""
    if spec.dist == "q_values":
        best: npt.NDArray[np.float32] = outputs.dist_inputs.max(-1)
        return best
    return outputs.value


class _Reservoir:
    """A uniform sample of a stream of unknown length (Vitter 1985, algorithm R)."""

    def __init__(self, capacity: int, rng: np.random.Generator) -> None:
        self.kept: list[npt.NDArray[np.uint8 | np.float32]] = []
        self._capacity = capacity
        self._rng = rng
        self._seen = 0

    def add(self, rows: npt.NDArray[np.uint8 | np.float32]) -> None:
        """Offer rows."""
        for row in rows if self._capacity else ():
            self._seen += 1
            if len(self.kept) < self._capacity:
                self.kept.append(row.copy())
            elif (place := int(self._rng.integers(self._seen))) < self._capacity:
                self.kept[place] = row.copy()


class _Comparison:
    """Running sums over the states in which two policies are compared."""

    def __init__(self) -> None:
        self.states = 0
        self._agreed: int | None = None
        self._action_errors: list[npt.NDArray[np.float32]] = []
        self._absolute_errors: list[npt.NDArray[np.float32]] = []
        self._reference_values: list[npt.NDArray[np.float32]] = []

    def add(
        self,
        spec: PolicySpec,
        outputs: PolicyOutputs,
        reference: RememberingPolicy,
        observations: npt.NDArray[np.uint8 | np.float32],
        live: npt.NDArray[np.bool_],
    ) -> None:
        """Compare the rows that are `live`; `observations` are the reference's."""
        other = reference(observations[live], np.flatnonzero(live))
        mine = outputs.dist_inputs[live]
        self.states += len(mine)
        if spec.action_box is None:
            agreed = mine.argmax(-1) == other.dist_inputs.argmax(-1)
            self._agreed = (self._agreed or 0) + int(agreed.sum())
        else:
            theirs_taken = mean_actions(reference.spec.dist, other.dist_inputs)
            error = np.abs(mean_actions(spec.dist, mine) - theirs_taken)
            self._action_errors.append(error.mean(-1))
        own, theirs = state_values(spec, outputs), state_values(reference.spec, other)
        if own is not None and theirs is not None:
            self._absolute_errors.append(np.abs(own[live] - theirs))
            self._reference_values.append(theirs)

    @property
    def agreement(self) -> float | None:
        return None if self._agreed is None else self._agreed / self.states

    @property
    def action_error(self) -> float | None:
        errors = self._action_errors
        return float(np.concatenate(errors).mean()) if errors else None

    @property
    def value_error(self) -> float | None:
        errors = self._absolute_errors
        return float(np.concatenate(errors).mean()) if errors else None

    @property
    def value_scale(self) -> float | None:
        values = self._reference_values
        return float(np.concatenate(values).std()) if values else None
