"""The coupling between data and training, after Reverb's SampleToInsertRatio.

With I transitions inserted, S samples granted, ratio r (samples per insert), minimum size M and
error buffer E, both counted in samples, let D = I·r − S. Then

    an insert is allowed while          D <= r·M + E        (before it)
    n samples are allowed as long as    D − n >= r·M − E    and I >= M.

So training never runs ahead of the data by more than E samples, nor behind it by more than E and
one chunk; in the long run S / (I − M) is r. Where fewer samples are allowed than a request asks
for, it gets these, so the coupling is as close as E says however large a request is, and inserts
and samples never wait for each other where E is a sample or more.
"""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class RateLimits:
    """Settings of a rate limiter."""

    samples_per_insert: float
    min_size_to_sample: int
    error_buffer: float


class RateLimiter:
    """Counts inserts and samples and says which may go on."""

    def __init__(self, limits: RateLimits) -> None:
        self._limits = limits
        self._offset = limits.samples_per_insert * limits.min_size_to_sample
        self.inserted = 0
        """Transitions inserted."""
        self.sampled = 0
        """Samples granted."""

    @property
    def _surplus(self) -> float:
        return self.inserted * self._limits.samples_per_insert - self.sampled

    def can_insert(self) -> bool:
        """Whether an insert is allowed now."""
        return self._surplus <= self._offset + self._limits.error_buffer

    def allowed(self, num_samples: int) -> int:
        """Return how many of `num_samples` more samples are allowed now."""
        if self.inserted < self._limits.min_size_to_sample:
            return 0
        left = self._surplus - self._offset + self._limits.error_buffer
        return min(num_samples, max(0, int(left)))

    def did_insert(self, num_transitions: int) -> None:
        """Count an insert."""
        self.inserted += num_transitions

    def did_sample(self, num_samples: int) -> None:
        """Count samples."""
        self.sampled += num_samples

    def go_on_from(self, *, inserted: int, sampled: int, limits: RateLimits) -> None:
        """Take over the counters of a former life.

        Under other limits than these `sampled` is set anew, so that training leads or lags by as
        many samples as it did.

        Args:
            inserted: transitions inserted then.
            sampled: samples granted then.
            limits: of then.
        """
        balance = limits.samples_per_insert * (inserted - limits.min_size_to_sample)
        own = self._limits.samples_per_insert * inserted - self._offset
        self.inserted = inserted
        self.sampled = max(0, sampled + round(own - balance))
