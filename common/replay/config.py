"""The recipe's `[replay]` table."""

from pydantic import Field

from common.config import StrictModel
from common.replay.rate_limiter import RateLimits


class ReplayConfig(StrictModel):
    """How much is kept, and how training is coupled to it."""

    num_shards: int = Field(default=1, ge=1)
    capacity: int = Field(default=100_000, ge=1)
    """Transitions kept, all shards together; the learner's window holds as many, decoded."""
    samples_per_insert: float = Field(default=1.0, gt=0)
    """Times that a transition is trained on, on average."""
    min_size_to_sample: int = Field(default=4_096, ge=1)
    """Transitions before the first sample, all shards together."""
    error_buffer: float | None = Field(default=None, gt=0)
    """Samples by which training may lead or lag, for each shard; by default four times the
    larger of a chunk's samples and a request."""

    def shard_capacity(self) -> int:
        """Transitions kept by each shard."""
        return -(-self.capacity // self.num_shards)

    def limits(self, *, insert_size: int, sample_size: int) -> RateLimits:
        """Return a shard's rate limits.

        Args:
            insert_size: transitions of a chunk.
            sample_size: samples of a request.

        Raises:
            ConfigError: settings that would deadlock.
        """
        default = 4.0 * max(self.samples_per_insert * insert_size, sample_size)
        limits = RateLimits(
            samples_per_insert=self.samples_per_insert,
            min_size_to_sample=-(-self.min_size_to_sample // self.num_shards),
            error_buffer=default if self.error_buffer is None else self.error_buffer,
        )
        limits.check(insert_size=insert_size, sample_size=sample_size)
        return limits
