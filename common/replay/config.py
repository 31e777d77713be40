"""The recipe's `[replay]` table."""

from pydantic import Field

from common.config import StrictModel
from common.replay.rate_limiter import RateLimits
from common.replay.sampler_config import UNIFORM, SamplerConfig

MAX_DEFAULT_WINDOW = 100_000
"""Transitions of a window that no recipe asked for: 0.9 GB of frames of 84 x 84."""


class ReplayConfig(StrictModel):
    """How much is kept, and how training is coupled to it."""

    num_shards: int = Field(default=1, ge=1)
    capacity: int = Field(default=100_000, ge=1)
    """Transitions kept compressed, all shards together."""
    max_bytes: int | None = Field(default=None, ge=1)
    """Compressed bytes kept, all shards together; the oldest chunks leave when either limit is
    passed, but every shard keeps its newest."""
    window: int | None = Field(default=None, ge=1)
    """Transitions that the learner holds decoded, all ranks together; by default the capacity,
    but at most 100,000."""
    revisits: int = Field(default=1, ge=0)
    """Where the window is smaller than the capacity: older chunks that come into it again with
    every new one, drawn uniformly from those that it no longer holds."""
    sampler: SamplerConfig = UNIFORM
    """How rows of the window are chosen."""
    samples_per_insert: float = Field(default=1.0, gt=0)
    """Times that a transition is trained on, on average."""
    min_size_to_sample: int = Field(default=4_096, ge=1)
    """Transitions before the first sample, all shards together."""
    error_buffer: float | None = Field(default=None, ge=1)
    """Samples by which training may lead or lag, for each shard; by default those that a chunk is
    worth."""
    checkpoint: bool = False
    """Whether checkpoints hold the replay too: a resumed run then goes on with the data and the
    order of samples that it had; without, its shards start empty."""

    def window_size(self) -> int:
        """Transitions that the learner holds decoded."""
        return min(self.capacity, MAX_DEFAULT_WINDOW) if self.window is None else self.window

    @property
    def revisits_chunks(self) -> bool:
        """Whether the shards can hold what the window does not, and hand it out again."""
        return self.revisits > 0 and self.window_size() < self.capacity

    def shard_capacity(self) -> int:
        """Transitions kept by each shard."""
        return -(-self.capacity // self.num_shards)

    def shard_max_bytes(self) -> int | None:
        """Bytes kept by each shard."""
        return None if self.max_bytes is None else max(1, self.max_bytes // self.num_shards)

    def shard_window(self) -> int:
        """Transitions of each shard in the learner's window."""
        return -(-self.window_size() // self.num_shards)

    def limits(self, *, insert_size: int) -> RateLimits:
        """Return a shard's rate limits, for chunks of `insert_size` transitions."""
        default = max(self.samples_per_insert * insert_size, 1.0)
        return RateLimits(
            samples_per_insert=self.samples_per_insert,
            min_size_to_sample=-(-self.min_size_to_sample // self.num_shards),
            error_buffer=default if self.error_buffer is None else self.error_buffer,
        )
