"""When samples arrived, for the latency from arrival to product."""

from bisect import bisect_left
from collections import deque

_REMEMBERED = 4096  # instants, a quarter of a second apart


class Arrivals:
    """Instants of arrival, interpolated between those at which the newest sample was noted."""

    def __init__(self) -> None:
        self._noted: deque[tuple[int, float]] = deque(maxlen=_REMEMBERED)

    def note(self, head: int, now: float) -> None:
        """Note the newest sample; ``now`` is in s of the monotonic clock."""
        if not self._noted or head > self._noted[-1][0]:
            self._noted.append((head, now))

    def since(self, sample: int, now: float) -> float | None:
        """Seconds since all samples before one had come, None if nobody looked then."""
        noted = list(self._noted)
        at = bisect_left(noted, (sample, 0.0))
        if not 0 < at < len(noted):
            return None
        (low, early), (high, late) = noted[at - 1], noted[at]
        return now - (early + (late - early) * (sample - low) / (high - low))
