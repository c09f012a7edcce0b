"""Delays of uploads: after failures, and to limit the rate. Callers provide the clock and the random numbers."""

import random
from dataclasses import dataclass, field


@dataclass(slots=True)
class Backoff:
    """Delays after failures: exponential with jitter, or as long as the server asks for.

    Parameters
    ----------
    max_delay
        Maximum delay, s; the server may ask for longer ones.
    rng
        Random numbers for the jitter.
    initial_delay
        Maximum delay after the first failure, s.
    """

    max_delay: float
    rng: random.Random
    initial_delay: float = 0.5
    _failures: dict[str, int] = field(default_factory=dict)
    _retry_times: dict[str, float] = field(default_factory=dict)
    _global_retry_time: float = 0.0
    _consecutive_failures: int = 0

    def record_failure(self, name: str, now: float, retry_after: float | None) -> None:
        """Record a failed upload.

        Parameters
        ----------
        name
            Name of the product.
        now
            Time, s of the monotonic clock.
        retry_after
            Delay that the server asks for, s; None if it does not ask for any.
        """
        self._consecutive_failures += 1
        self._failures[name] = self._failures.get(name, 0) + 1
        self._retry_times[name] = now + self._delay(self._failures[name])
        # A failure may concern all products, so none is uploaded during the delay.
        self._global_retry_time = max(
            self._global_retry_time,
            now + (self._delay(self._consecutive_failures) if retry_after is None else retry_after),
        )

    def record_success(self, name: str) -> None:
        """Record a successful upload.

        Parameters
        ----------
        name
            Name of the product.
        """
        self._consecutive_failures = 0
        self._global_retry_time = 0.0
        self._failures.pop(name, None)
        self._retry_times.pop(name, None)

    def names_in_backoff(self, now: float) -> set[str]:
        """Return the products whose own delay has not passed.

        Parameters
        ----------
        now
            Time, s of the monotonic clock.

        Returns
        -------
        set of str
            Their names.
        """
        return {name for name, retry_time in self._retry_times.items() if retry_time > now}

    def delay(self, now: float) -> float:
        """Return the remaining delay of all uploads.

        Parameters
        ----------
        now
            Time, s of the monotonic clock.

        Returns
        -------
        float
            Delay, s; 0 if uploads may start.
        """
        return max(0.0, self._global_retry_time - now)

    def _delay(self, failures: int) -> float:
        return min(self.max_delay, self.initial_delay * 2.0 ** min(failures - 1, 30)) * self.rng.uniform(0.5, 1.0)


@dataclass(slots=True)
class RateLimiter:
    """Keeps the mean rate of uploads below a limit.

    Parameters
    ----------
    rate
        Maximum rate, bytes/s; None is no limit.
    """

    rate: float | None
    _next_start_time: float = 0.0

    def delay(self, now: float) -> float:
        """Return the time until the next upload may start.

        Parameters
        ----------
        now
            Time, s of the monotonic clock.

        Returns
        -------
        float
            Delay, s.
        """
        return max(0.0, self._next_start_time - now) if self.rate else 0.0

    def consume(self, size: int, now: float) -> None:
        """Record the start of an upload.

        Parameters
        ----------
        size
            Size of the product, bytes.
        now
            Time, s of the monotonic clock.
        """
        if self.rate:
            self._next_start_time = max(now, self._next_start_time) + size / self.rate
