"""Shared by all benchmarks: time measurement, tables, and the file of results.

A benchmark is a module with a function ``run(bench: Bench) -> None``, listed in :mod:`benchmarks.__main__`. It measures
with :meth:`Bench.rate`, reports what it cannot measure with :meth:`Bench.skip`, and reads earlier results with
:meth:`Bench.value`. Documents quote only ratios of rates within one run.
"""

import json
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path

from rich.console import Console
from rich.table import Table

from benchmarks.machine import describe

OURS = "edgefilter"


@dataclass(frozen=True)
class Result:
    """Rate of ``who`` in a case; ``against`` is the rate of edgefilter divided by this one, if known."""

    group: str
    case: str
    who: str
    rate: float
    unit: str
    threads: int = 1
    against: float | None = None


@dataclass
class Bench:
    """A run of benchmarks.

    Parameters
    ----------
    seconds
        Least time for which a measurement is repeated, s; the shortest repetition counts.
    """

    seconds: float = 1.0
    results: list[Result] = field(default_factory=list)
    skipped: dict[str, str] = field(default_factory=dict)
    console: Console = field(default_factory=Console)

    def best(self, work: Callable[[], object], threads: int = 1) -> float:
        """Return the shortest duration of several calls, s; the first call is not measured.

        One thread is measured in processor time, which other load disturbs less; several threads in wall-clock time.
        """
        clock = time.thread_time if threads == 1 else time.perf_counter
        work()
        best, spent, calls = float("inf"), 0.0, 0
        while spent < self.seconds or calls < 3:
            began = clock()
            work()
            took = clock() - began
            best, spent, calls = min(best, took), spent + took, calls + 1
        return best

    def rate(
        self, group: str, case: str, who: str, amount: float, unit: str, work: Callable[[], object], threads: int = 1
    ) -> float:
        """Measure, record and return the rate of ``work``, which does ``amount`` (``unit`` × seconds) in a call."""
        return self.record(group, case, who, amount / self.best(work, threads), unit, threads)

    def record(self, group: str, case: str, who: str, rate: float, unit: str, threads: int = 1) -> float:
        """Record and return a rate that was measured elsewhere, or computed from other rates."""
        ours = self.value(group, case, OURS)
        against = ours / rate if ours and rate and who != OURS else None
        self.results.append(Result(group, case, who, rate, unit, threads, against))
        ratio = f"  ({against:.3g} x)" if against else ""
        self._print(f"{group}: {case}: {who}, {threads} threads: {rate:.4g} {unit}{ratio}")
        return rate

    def value(self, group: str, case: str, who: str, threads: int = 1) -> float | None:
        """Return a recorded rate, or None."""
        for result in self.results:
            if (result.group, result.case, result.who, result.threads) == (group, case, who, threads):
                return result.rate
        return None

    def skip(self, who: str, why: str) -> None:
        """Report that a peer is not available."""
        if who not in self.skipped:
            self.skipped[who] = why
            self._print(f"without {who}: {why}")

    @contextmanager
    def peer(self, who: str, get: str) -> Iterator[None]:
        """Skip a peer that cannot be imported or loaded; ``get`` is the command that installs it."""
        try:
            yield
        except (ImportError, OSError) as error:
            self.skip(who, f"{error}; {get}")

    def _print(self, line: str) -> None:
        self.console.print(line, highlight=False, markup=False, soft_wrap=True)

    def tables(self) -> Iterator[Table]:
        """Yield a table for each group."""
        for group in dict.fromkeys(result.group for result in self.results):
            table = Table(title=group, title_justify="left")
            for name in ("case", "who", "threads", "rate", "unit", "ours / this"):
                table.add_column(name, justify="right" if name in ("threads", "rate", "ours / this") else "left")
            last = ""
            for result in self.results:
                if result.group == group:
                    ratio = f"{result.against:.3g}" if result.against else ""
                    case = "" if result.case == last else result.case
                    last = result.case
                    table.add_row(case, result.who, str(result.threads), f"{result.rate:.4g}", result.unit, ratio)
            yield table

    def write(self, path: Path, extra_machine: Mapping[str, str] | None = None) -> None:
        """Write all results as JSON; ``extra_machine`` describes hardware besides the processor."""
        results = [asdict(item) for item in self.results]
        content = {"machine": describe() | dict(extra_machine or {}), "skipped": self.skipped, "results": results}
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(content, indent=1) + "\n")
