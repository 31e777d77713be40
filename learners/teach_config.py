"""The recipe's `[teach]` table: how `stillhouse teach` trains a teacher before the distillation.

The defaults are chosen for one small core and short episodes: RLlib's own update the network and
gather metrics after every environment step. Values were tuned on CartPole-v1. On frames other ones
hold, `learners.teach_defaults`.
"""

from typing import Annotated, Any, Literal

from pydantic import Field, PositiveInt, model_validator

from common.config import StrictModel
from common.networks.impala_cnn import ImpalaCNNSpec
from common.networks.nature_cnn import NatureCNNSpec


class DqnConfig(StrictModel):
    """The recipe's `[teach.dqn]`: double DQN (van Hasselt et al. 2016) without duelling."""

    batch_size: PositiveInt = 64
    """Transitions in one update."""
    training_intensity: float = Field(default=16.0, gt=0)
    """Transitions replayed for one that is sampled; RLlib rounds it to whole updates."""
    rollout_fragment_length: PositiveInt = 4
    """Steps of each environment copy between two rounds of updates; at least `n_step`."""
    learning_starts: int = Field(default=1_000, ge=0)
    """Env steps before the first update."""
    replay_capacity: PositiveInt = 50_000
    """Transitions that are kept; the oldest go first."""
    target_update_interval: PositiveInt = 250
    """Env steps between two copies of the network to the target network."""
    double_q: bool = True
    """Choose the next action by the network and value it by the target network."""
    n_step: PositiveInt = 3
    """Rewards summed before the target bootstraps."""
    epsilon_initial: float = Field(default=1.0, ge=0, le=1)
    """Share of random actions at the start."""
    epsilon_final: float = Field(default=0.04, ge=0, le=1)
    """Share of random actions after `epsilon_decay_env_steps`."""
    epsilon_decay_env_steps: PositiveInt = 8_000
    """Env steps over which the share falls linearly."""
    grad_clip: float | None = Field(default=10.0, gt=0)
    """Largest global norm of a gradient; None: no clipping."""

    @model_validator(mode="after")
    def _fragments_hold_n_steps(self) -> "DqnConfig":
        if self.rollout_fragment_length < self.n_step:
            raise ValueError(
                f"rollout_fragment_length = {self.rollout_fragment_length} is shorter than "
                f"n_step = {self.n_step}; make it at least as long"
            )
        return self


class PpoConfig(StrictModel):
    """The recipe's `[teach.ppo]`: proximal policy optimisation (Schulman et al. 2017)."""

    batch_size: PositiveInt = 2_048
    """Env steps sampled for one round of updates."""
    minibatch_size: PositiveInt = 256
    """Env steps in one update."""
    num_epochs: PositiveInt = 8
    """Passes over the batch."""
    clip: float = Field(default=0.2, gt=0)
    """How far the probability ratio may leave 1 (ε in the paper)."""
    gae_lambda: float = Field(default=0.95, ge=0, le=1)
    """λ of generalised advantage estimation."""
    entropy_coefficient: float = Field(default=0.0, ge=0)
    """Weight of the entropy bonus."""
    value_coefficient: float = Field(default=0.5, ge=0)
    """Weight of the value loss."""
    value_clip: float = Field(default=1_000.0, gt=0)
    """Largest squared error of a value that counts; RLlib's 10 slows large returns down."""
    share_value_layers: bool = False
    """Let the value head share the policy's hidden layers; on frames it must."""
    grad_clip: float | None = Field(default=0.5, gt=0)
    """Largest global norm of a gradient; None: no clipping."""

    @model_validator(mode="after")
    def _minibatches_fit(self) -> "PpoConfig":
        if self.minibatch_size > self.batch_size:
            raise ValueError(
                f"minibatch_size = {self.minibatch_size} is larger than batch_size = "
                f"{self.batch_size}; make it at most as large"
            )
        return self


class TeachConfig(StrictModel):
    """The recipe's `[teach]`; the environment is the recipe's `[env]`."""

    algorithm: Literal["dqn", "ppo"] = "dqn"
    """DQN gives a teacher of Q-values, PPO one of logits with state values."""
    hidden: tuple[PositiveInt, ...] = Field(default=(256, 256), min_length=1)
    """Widths of the teacher's hidden layers, where it sees vectors."""
    activation: Literal["relu", "tanh", "elu"] = "relu"
    """Activation after each of them."""
    network: Annotated[NatureCNNSpec | ImpalaCNNSpec, Field(discriminator="name")] = NatureCNNSpec()
    """The teacher's network, where it sees frames."""
    total_env_steps: PositiveInt = 100_000
    """Training ends after so many env steps at the latest."""
    stop_return: float | None = None
    """Training ends when two greedy evaluations of the same weights reach this; None: never."""
    max_duration_s: float = Field(default=600.0, gt=0)
    """Training ends after so many seconds at the latest, those before it was resumed included."""
    learning_rate: float = Field(default=1e-3, gt=0)
    """Of Adam, constant."""
    gamma: float = Field(default=0.99, gt=0, le=1)
    """Discount per env step."""
    clip_rewards: bool = False
    """Learn from the signs of the rewards (Mnih et al. 2015); returns are told of the raw ones."""
    num_envs_per_runner: PositiveInt = 8
    """Environment copies that are stepped together."""
    evaluation_interval: PositiveInt = 1_024
    """Env steps between two greedy evaluations."""
    evaluation_episodes: PositiveInt = 20
    """Episodes of a greedy evaluation."""
    evaluation_max_steps: PositiveInt = 10_000
    """An evaluation's episode that lasts longer is cut here."""
    checkpoint_interval_s: float = Field(default=60.0, gt=0)
    """Seconds between two checkpoints."""
    checkpoints_kept: PositiveInt = 2
    """The newest ones."""
    seed: int = Field(default=0, ge=0)
    """Of the weights, the exploration and the environments."""
    dqn: DqnConfig = DqnConfig()
    """Read with `algorithm = "dqn"`."""
    ppo: PpoConfig = PpoConfig()
    """Read with `algorithm = "ppo"`."""

    @model_validator(mode="after")
    def _no_idle_table(self) -> "TeachConfig":
        idle: dict[str, Any] = {"dqn": "ppo", "ppo": "dqn"}
        if (table := idle[self.algorithm]) in self.model_fields_set:
            raise ValueError(
                f"table {table} has no effect with algorithm = {self.algorithm!r}; remove it"
            )
        return self
