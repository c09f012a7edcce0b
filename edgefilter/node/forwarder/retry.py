"""When to try again, and how fast to go. Pure: the clock and the dice are given."""

import random
from dataclasses import dataclass, field


@dataclass(slots=True)
class Backoff:
    """Waits after failures: exponential with jitter, and as long as the server asks.

    Parameters
    ----------
    max_delay
        Longest wait that is not asked for by the server, s.
    rng
        Where the jitter comes from.
    initial_delay
        Longest first wait, s.
    """

    max_delay: float
    rng: random.Random
    initial_delay: float = 0.5
    _failures: dict[str, int] = field(default_factory=dict)
    _retry_times: dict[str, float] = field(default_factory=dict)
    _global_retry_time: float = 0.0
    _consecutive_failures: int = 0

    def failed(self, name: str, now: float, retry_after: float | None) -> None:
        """Note that a delivery failed; ``retry_after`` are the seconds that the server wants to be left alone."""
        self._consecutive_failures += 1
        self._failures[name] = self._failures.get(name, 0) + 1
        self._retry_times[name] = now + self._delay(self._failures[name])
        # What fails for one may fail for all: none is tried before the store has had time.
        self._global_retry_time = max(
            self._global_retry_time,
            now + (self._delay(self._consecutive_failures) if retry_after is None else retry_after),
        )

    def succeeded(self, name: str) -> None:
        """Note that a delivery succeeded."""
        self._consecutive_failures = 0
        self._global_retry_time = 0.0
        self._failures.pop(name, None)
        self._retry_times.pop(name, None)

    def names_in_backoff(self, now: float) -> set[str]:
        """Names that are not to be tried yet."""
        return {name for name, retry_time in self._retry_times.items() if retry_time > now}

    def delay(self, now: float) -> float:
        """Seconds for which nothing is to be tried, 0 if there is no reason to wait."""
        return max(0.0, self._global_retry_time - now)

    def _delay(self, failures: int) -> float:
        return min(self.max_delay, self.initial_delay * 2.0 ** min(failures - 1, 30)) * self.rng.uniform(0.5, 1.0)


@dataclass(slots=True)
class RateLimiter:
    """Keeps the mean rate below a limit.

    Parameters
    ----------
    rate
        Bytes a second; None for no limit.
    """

    rate: float | None
    _next_start_time: float = 0.0

    def delay(self, now: float) -> float:
        """Seconds until the next object may start."""
        return max(0.0, self._next_start_time - now) if self.rate else 0.0

    def consume(self, size: int, now: float) -> None:
        """Note that an object of so many bytes starts."""
        if self.rate:
            self._next_start_time = max(now, self._next_start_time) + size / self.rate
