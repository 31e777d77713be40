"""The recipe's `[actors]` and `[evaluation]` tables."""

from typing import Literal

from pydantic import Field, model_validator

from actors.placement import AtSamplingPlacement, InferenceConfig, RunnerPlacement
from common.config import StrictModel
from common.networks.inputs import Layout, Precision


class ScalingConfig(StrictModel):
    """The recipe's `[actors.scaling]`: env runners come and go with the learner's need for data.

    The run starts with `actors.num_env_runners`, and stays between these bounds.
    """

    min_env_runners: int = Field(default=1, ge=1)
    max_env_runners: int = Field(ge=1)
    interval_s: float = Field(default=15.0, gt=0)
    """Seconds over which waits are measured before each decision."""

    @model_validator(mode="after")
    def _in_order(self) -> "ScalingConfig":
        if self.min_env_runners > self.max_env_runners:
            raise ValueError(
                f"min_env_runners = {self.min_env_runners} is above max_env_runners = "
                f"{self.max_env_runners}"
            )
        return self


class ActorsConfig(StrictModel):
    """Env runners: how many, how large, and how they compute."""

    num_env_runners: int = Field(default=2, ge=1)
    num_envs_per_runner: int = Field(default=32, ge=1)
    unroll_length: int = Field(default=64, ge=1)
    """Steps of every env copy in a chunk (T)."""
    num_cpus_per_runner: float = Field(default=0.7, gt=0)
    """CPUs that Ray reserves for a runner; runner and learner take turns on a small machine."""
    precision: Precision | Literal["auto"] = "auto"
    """Of the student in the runner and of the teacher wherever it is; auto: the fastest in which
    the teacher takes the same actions as in float32."""
    layout: Layout | Literal["auto"] = "auto"
    """How frames enter teacher and student; auto: measured."""
    refine_below: float = Field(default=0.0, ge=0)
    """The teacher's outputs whose two largest lie closer than this are computed again in float32;
    `precision = "auto"` sets it."""
    max_restarts: int = Field(default=10, ge=0)
    """Restarts of env runners, all together, before the run gives up; and of each shared
    inference actor."""
    inference: InferenceConfig = RunnerPlacement()
    """Where the teacher computes."""
    scaling: ScalingConfig | None = None
    """Automatic scaling, on a Ray cluster; none where the table is not there."""

    @property
    def chunk_size(self) -> int:
        """Rows of a chunk, T × N."""
        return self.unroll_length * self.num_envs_per_runner

    @property
    def labels_chunks(self) -> bool:
        """Whether env runners label what they sample; otherwise the learner does."""
        return not isinstance(self.inference, AtSamplingPlacement)


class EvaluationConfig(StrictModel):
    """How teacher, student and a random policy are scored."""

    play: bool | Literal["auto"] = "auto"
    """Whether they play. With a [dataset], the student is scored on held-out sequences, too, and
    auto: it plays where the environment can be made."""
    num_episodes: int = Field(default=30, ge=2)
    """Full episodes of each."""
    num_random_episodes: int | None = Field(default=None, ge=2)
    """Episodes of the random policy, where it should play fewer."""
    num_workers: int = Field(default=2, ge=1)
    """Processes that share them."""
    num_observations: int = Field(default=5_000, ge=1)
    """Real observations on which exports are compared with the student."""
    video: bool = True
    """Whether a game of teacher and student is filmed in the end, for the report."""
    required_share: float | None = Field(default=None, le=2)
    """The run fails (exit code 1) when the student's share of the teacher is below this."""
