"""Compare candidates with the pulses of a scene.

A candidate is a track: it arrives at frequency f at its time at the top of the band plus the delay of its DM. It
matches a pulse if

- its track comes within 2 W + 3 rows of the pulse's track at some frequency in the pulse's part of the band, and
- its DM differs by less than what sweeps 3 W + 4 rows across that part,

where W is the pulse's full width at half maximum, its smear in a channel and its scattering time at the low end of its
part of the band, in quadrature. Each candidate is given to the one pulse whose track it comes nearest to, and each
pulse is found by the strongest of its candidates. The others of a pulse are *duplicates*: neither found pulses nor
false. Candidates that match no pulse are *false*.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from benchmarks.scenes.ideal import ideal_snrs
from benchmarks.scenes.pulses import Pulse
from benchmarks.scenes.scene import Scene
from edgefilter.core.plan import dispersion_delay

IDEAL_SNR = 8.5
"""Recall counts pulses with at least this ideal S/N."""


LEAST_MET = 0.05
"""Fraction of the band in which a candidate must meet what made it."""


@dataclass(frozen=True, slots=True)
class Candidate:
    """What a search reports: arrival at the centre of the highest channel (s), DM (pc cm⁻³), width (s) and S/N."""

    seconds: float
    dm: float
    width: float
    snr: float


@dataclass(frozen=True, slots=True)
class FalseCandidate:
    """A candidate that matches no pulse, and what may have made it; empty if that cannot be told."""

    candidate: Candidate
    origin: str


@dataclass(frozen=True)
class Score:
    """The result of a search of a scene.

    Parameters
    ----------
    ideal
        The ideal S/N of each pulse.
    found
        The S/N found of each pulse, 0 if it was missed.
    false
        Candidates that match no pulse.
    duplicates
        Further candidates of pulses.
    """

    ideal: list[float]
    found: list[float]
    false: list[FalseCandidate] = field(default_factory=list)
    duplicates: int = 0

    @property
    def counted(self) -> list[tuple[float, float]]:
        """Ideal S/N and S/N found of the pulses that count for recall."""
        return [(ideal, snr) for ideal, snr in zip(self.ideal, self.found, strict=True) if ideal >= IDEAL_SNR]

    @property
    def recall(self) -> tuple[int, int]:
        """Pulses found, and pulses that count."""
        return sum(snr > 0.0 for _, snr in self.counted), len(self.counted)

    @property
    def snr_over_ideal(self) -> float:
        """Mean over the pulses found that count; NaN if there are none."""
        ratios = [snr / ideal for ideal, snr in self.counted if snr > 0.0]
        return float(np.mean(ratios)) if ratios else float("nan")


def score(scene: Scene, candidates: Sequence[Candidate]) -> Score:
    """Match candidates with pulses.

    Parameters
    ----------
    scene
        The scene.
    candidates
        What a search of it found.

    Returns
    -------
    Score
        The result.
    """
    found = [0.0] * len(scene.pulses)
    false, matched = [], 0
    for candidate in candidates:
        numbers = [number for number, pulse in enumerate(scene.pulses) if matches(scene, pulse, candidate)]
        if not numbers:
            false.append(FalseCandidate(candidate, origin(scene, candidate)))
            continue
        nearest = min(numbers, key=lambda number: _distance(scene, scene.pulses[number], candidate, middle=True))
        matched += 1
        found[nearest] = max(found[nearest], candidate.snr)
    return Score(ideal_snrs(scene), found, false, matched - sum(snr > 0.0 for snr in found))


def matches(scene: Scene, pulse: Pulse, candidate: Candidate) -> bool:
    """Return whether a candidate is a pulse.

    Parameters
    ----------
    scene
        The scene.
    pulse
        One of its pulses.
    candidate
        The candidate.

    Returns
    -------
    bool
        See the description of this module.
    """
    low, high = pulse.edges(scene.band)
    width, row = pulse.effective_width(scene.band), scene.row_seconds
    sweep = dispersion_delay(abs(candidate.dm - pulse.dm), low, high)
    return sweep <= 3 * width + 4 * row and _distance(scene, pulse, candidate) <= 2 * width + 3 * row


def origin(scene: Scene, candidate: Candidate) -> str:
    """Return what may have made a false candidate.

    That is the event, or the pulse, which its track meets in the largest fraction of the band, if that is a twentieth
    or more; otherwise all that acts throughout the scene.

    Parameters
    ----------
    scene
        The scene.
    candidate
        The candidate.

    Returns
    -------
    str
        Names of pulses or effects; empty if there are none.
    """
    f = np.linspace(scene.band.low, scene.band.high, 100)
    delay = dispersion_delay(1.0, 1.0, np.inf) * (f**-2 - scene.band.frequencies.max() ** -2)
    times = candidate.seconds + candidate.dm * delay
    width = candidate.width + 2 * scene.row_seconds
    met: dict[str, float] = {}
    for pulse in scene.pulses:
        near = np.abs(times - pulse.seconds - pulse.dm * delay) <= width + pulse.effective_width(scene.band)
        met[f"{pulse.name} of DM {pulse.dm:.0f}"] = float((near & (f > pulse.low) & (f < pulse.high)).mean())
    always = set()
    for one in scene.intervals():
        if one.stop - one.start > scene.seconds:
            always.add(one.name)
            continue
        near = (times >= one.start - width) & (times <= one.stop + width) & (f >= one.low) & (f <= one.high)
        met[one.name] = max(met.get(one.name, 0.0), float(near.mean()))
    best = max(met, key=lambda name: met[name], default="")
    return best if met.get(best, 0.0) >= LEAST_MET else " or ".join(sorted(always))


def _distance(scene: Scene, pulse: Pulse, candidate: Candidate, middle: bool = False) -> float:
    """Return the least time between two tracks in the pulse's part of the band, or that at its middle."""
    low, high = pulse.edges(scene.band)
    top = float(scene.band.frequencies.max())
    apart = [candidate.seconds - pulse.seconds + dispersion_delay(candidate.dm - pulse.dm, f, top) for f in (low, high)]
    if middle:
        return abs(sum(apart)) / 2
    return 0.0 if apart[0] * apart[1] < 0 else min(map(abs, apart))
