"""When to try again, and how fast to go. Pure: the clock and the dice are given."""

import random
from dataclasses import dataclass, field


@dataclass(slots=True)
class Patience:
    """Waits after failures: exponential with jitter, and as long as the server asks.

    Parameters
    ----------
    longest
        Longest wait that is not asked for by the server, s.
    dice
        Where the jitter comes from.
    first
        Longest first wait, s.
    """

    longest: float
    dice: random.Random
    first: float = 0.5
    _failures: dict[str, int] = field(default_factory=dict)
    _until: dict[str, float] = field(default_factory=dict)
    _everyone: float = 0.0
    _in_a_row: int = 0

    def failed(self, name: str, now: float, asked: float | None) -> None:
        """Note that a delivery failed; ``asked`` are the seconds that the server wants to be left alone."""
        self._in_a_row += 1
        self._failures[name] = self._failures.get(name, 0) + 1
        self._until[name] = now + self._wait(self._failures[name])
        # What fails for one may fail for all: none is tried before the store has had time.
        self._everyone = max(self._everyone, now + (self._wait(self._in_a_row) if asked is None else asked))

    def succeeded(self, name: str) -> None:
        """Note that a delivery succeeded."""
        self._in_a_row = 0
        self._everyone = 0.0
        self._failures.pop(name, None)
        self._until.pop(name, None)

    def resting(self, now: float) -> set[str]:
        """Names that are not to be tried yet."""
        return {name for name, until in self._until.items() if until > now}

    def pause(self, now: float) -> float:
        """Seconds for which nothing is to be tried, 0 if there is no reason to wait."""
        return max(0.0, self._everyone - now)

    def _wait(self, failures: int) -> float:
        return min(self.longest, self.first * 2.0 ** min(failures - 1, 30)) * self.dice.uniform(0.5, 1.0)


@dataclass(slots=True)
class Pace:
    """Keeps the mean rate below a limit.

    Parameters
    ----------
    rate
        Bytes a second; None for no limit.
    """

    rate: float | None
    _paid_until: float = 0.0

    def pause(self, now: float) -> float:
        """Seconds until the next object may start."""
        return max(0.0, self._paid_until - now) if self.rate else 0.0

    def spend(self, size: int, now: float) -> None:
        """Note that an object of so many bytes starts."""
        if self.rate:
            self._paid_until = max(now, self._paid_until) + size / self.rate
