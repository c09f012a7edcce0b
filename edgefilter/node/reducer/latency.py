"""Arrival times of samples, for the latency from the arrival of a block to its products."""

from bisect import bisect_left
from collections import deque

_MAX_INSTANTS = 4096  # a quarter of a second apart


class ArrivalTimes:
    """Arrival times, interpolated between the instants at which the newest sample was recorded."""

    def __init__(self) -> None:
        self._instants: deque[tuple[int, float]] = deque(maxlen=_MAX_INSTANTS)

    def record(self, head: int, now: float) -> None:
        """Record the newest sample.

        Parameters
        ----------
        head
            One past the newest sample.
        now
            Time, s of the monotonic clock.
        """
        if not self._instants or head > self._instants[-1][0]:
            self._instants.append((head, now))

    def latency(self, sample: int, now: float) -> float | None:
        """Return the time since all samples before a sample had arrived.

        Parameters
        ----------
        sample
            Sample number.
        now
            Time, s of the monotonic clock.

        Returns
        -------
        float or None
            Latency, s; None if the sample lies outside the recorded instants.
        """
        instants = list(self._instants)
        at = bisect_left(instants, (sample, 0.0))
        if not 0 < at < len(instants):
            return None
        (low_sample, low_time), (high_sample, high_time) = instants[at - 1], instants[at]
        return now - (low_time + (high_time - low_time) * (sample - low_sample) / (high_sample - low_sample))
