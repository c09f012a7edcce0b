"""Results of scenes: what is stored, the table, and the bars that edgefilter must pass."""

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from rich.table import Table

from benchmarks.scenes.score import Score
from benchmarks.scenes.searchers import OURS, Usage

LEAST_RECALL = 0.9
MOST_FALSE = {True: 0, False: 2}
LEAST_SNR_OVER_IDEAL = {True: 0.93, False: 0.88}
"""The last two by whether a scene is quiet."""


@dataclass
class Result:
    """A searcher's result in a scene, summed over seeds; CPU time is without start-up."""

    scene: str
    searcher: str
    quiet: bool
    seconds: float = 0.0
    scores: list[Score] = field(default_factory=list)
    usages: list[Usage] = field(default_factory=list)

    def add(self, seconds: float, score: Score, usage: Usage, startup: float) -> None:
        """Add a seed.

        Parameters
        ----------
        seconds
            Length of the scene, s.
        score, usage
            What was found, and what it took.
        startup
            CPU time of the start-up, s.
        """
        self.seconds += seconds
        self.scores.append(score)
        self.usages.append(Usage(usage.cpu_seconds - startup, usage.peak_bytes, usage.bytes_out))

    @property
    def found(self) -> int:
        """Pulses found of those that count."""
        return sum(score.recall[0] for score in self.scores)

    @property
    def pulses(self) -> int:
        """Pulses that count."""
        return sum(score.recall[1] for score in self.scores)

    @property
    def recall(self) -> float:
        """Fraction found; NaN if there are no pulses."""
        return self.found / self.pulses if self.pulses else math.nan

    @property
    def false(self) -> int:
        """False candidates."""
        return sum(len(score.false) for score in self.scores)

    @property
    def snr_over_ideal(self) -> float:
        """Mean over the pulses found."""
        ratios = [snr / ideal for score in self.scores for ideal, snr in score.counted if snr > 0.0]
        return sum(ratios) / len(ratios) if ratios else math.nan

    @property
    def cpu_seconds(self) -> float:
        """CPU time without start-up, s; on a busy machine it can be below 0 for a short scene."""
        return sum(usage.cpu_seconds for usage in self.usages)

    @property
    def peak_bytes(self) -> int:
        """Peak memory."""
        return max(usage.peak_bytes for usage in self.usages)

    @property
    def bytes_out(self) -> int:
        """Size of what was written."""
        return sum(usage.bytes_out for usage in self.usages)

    def as_dict(self) -> dict[str, Any]:
        """Return what is stored: figures, missed pulses and false candidates."""
        numbers = {
            "snr_over_ideal": round(self.snr_over_ideal, 3),
            "cpu_seconds": round(self.cpu_seconds, 2),
            "peak_bytes": self.peak_bytes,
            "bytes_out": self.bytes_out,
        }
        return {
            "scene": self.scene,
            "searcher": self.searcher,
            "quiet": self.quiet,
            "sky_seconds": round(self.seconds, 3),
            "pulses": self.pulses,
            "found": self.found,
            "false": self.false,
            "duplicates": sum(score.duplicates for score in self.scores),
            **{name: None if value != value else value for name, value in numbers.items()},
            "missed_ideal_snr": [round(i, 1) for score in self.scores for i, snr in score.counted if not snr],
            "false_candidates": [
                {name: float(f"{value:.5g}") for name, value in asdict(one.candidate).items()} | {"origin": one.origin}
                for score in self.scores
                for one in sorted(score.false, key=lambda one: -one.candidate.snr)[:20]
            ],
        }


def failed_bars(result: Result, peers: Sequence[Result]) -> list[str]:
    """Return the bars that edgefilter misses in a scene.

    Parameters
    ----------
    result
        Its result.
    peers
        Results of peers in the same scene.

    Returns
    -------
    list of str
        One sentence for each.
    """
    failed = []
    if result.recall < LEAST_RECALL:
        failed.append(f"recall {result.recall:.2f} is below {LEAST_RECALL}")
    if result.false > MOST_FALSE[result.quiet] * len(result.scores):
        failed.append(f"{result.false} false candidates are more than {MOST_FALSE[result.quiet] * len(result.scores)}")
    if result.snr_over_ideal < LEAST_SNR_OVER_IDEAL[result.quiet]:
        failed.append(f"S/N over ideal {result.snr_over_ideal:.3f} is below {LEAST_SNR_OVER_IDEAL[result.quiet]}")
    if peers:
        best = max(peers, key=lambda peer: (peer.found, -peer.false))
        if result.found < best.found:
            failed.append(f"{result.found} pulses found are fewer than the {best.found} of {best.searcher}")
        if result.false > best.false:
            failed.append(f"{result.false} false candidates are more than the {best.false} of {best.searcher}")
        if result.cpu_seconds >= best.cpu_seconds:
            failed.append(
                f"{result.cpu_seconds:.1f} CPU s are not less than the {best.cpu_seconds:.1f} of {best.searcher}"
            )
    return failed


def table(results: Sequence[Result]) -> Table:
    """Return a table with a row for each scene and searcher.

    Parameters
    ----------
    results
        The results.

    Returns
    -------
    Table
        With units.
    """
    shown = Table(title="scenes: pulses with an ideal S/N of 8.5 or more")
    shown.add_column("scene", no_wrap=True)
    shown.add_column("searcher", no_wrap=True)
    for name in ("sky (s)", "found", "false", "S/N over ideal", "CPU (s)", "peak (MB)", "out (MB)"):
        shown.add_column(name, justify="right")
    for result in results:
        shown.add_row(
            result.scene, result.searcher, f"{result.seconds:.1f}", f"{result.found} of {result.pulses}",
            str(result.false), f"{result.snr_over_ideal:.3f}", f"{result.cpu_seconds:.1f}",
            f"{result.peak_bytes / 1e6:.0f}", f"{result.bytes_out / 1e6:.2f}",
        )  # fmt: skip
    return shown


def bars(results: Sequence[Result]) -> dict[str, list[str]]:
    """Return the bars that edgefilter misses, by scene; scenes that pass have an empty list.

    Parameters
    ----------
    results
        The results of all searchers.

    Returns
    -------
    dict
        Sentences by scene.
    """
    return {
        result.scene: failed_bars(
            result, [peer for peer in results if peer.scene == result.scene and peer.searcher != OURS]
        )
        for result in results
        if result.searcher == OURS
    }
