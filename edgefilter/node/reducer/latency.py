"""When samples arrived, for the latency from arrival to product."""

from bisect import bisect_left
from collections import deque

_MAX_INSTANTS = 4096  # instants, a quarter of a second apart


class ArrivalTimes:
    """Instants of arrival, interpolated between those at which the newest sample was noted."""

    def __init__(self) -> None:
        self._instants: deque[tuple[int, float]] = deque(maxlen=_MAX_INSTANTS)

    def record(self, head: int, now: float) -> None:
        """Note the newest sample; ``now`` is in s of the monotonic clock."""
        if not self._instants or head > self._instants[-1][0]:
            self._instants.append((head, now))

    def latency(self, sample: int, now: float) -> float | None:
        """Seconds since all samples before one had come, None if nobody looked then."""
        instants = list(self._instants)
        at = bisect_left(instants, (sample, 0.0))
        if not 0 < at < len(instants):
            return None
        (low_sample, low_time), (high_sample, high_time) = instants[at - 1], instants[at]
        return now - (low_time + (high_time - low_time) * (sample - low_sample) / (high_sample - low_sample))
