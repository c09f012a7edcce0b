"""What an ideal search finds of a pulse.

The ideal search knows the DM of a pulse and the part of the band that it fills. It sums the good channels of that part
along the track, with delays rounded to rows and equal weights, and takes the best boxcar of any start and any number of
rows. Its noise is that of the scene without interference: Gaussian, with the scatter of the receiver. The S/N is
computed from the noise-free profile, as the digitiser records it on average, so it includes what few bits lose. Samples
that were not recorded (gaps, zeros, before the start and after the end) are in neither signal nor noise.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from benchmarks.scenes.pulses import Pulse, RenderedPulse, delays

if TYPE_CHECKING:
    from benchmarks.scenes.scene import Scene


@dataclass(frozen=True, slots=True)
class Boxcar:
    """The best boxcar of a pulse: its S/N, its first row at the top of the band, and its rows."""

    snr: float
    first: int
    rows: int


def best_boxcar(
    scene: "Scene", pulse: Pulse, rendered: RenderedPulse, recorded: NDArray[np.bool_] | None, digitised: bool = True
) -> Boxcar:
    """Return the best boxcar of the ideal search.

    Parameters
    ----------
    scene
        The scene.
    pulse, rendered
        The pulse and its power.
    recorded
        bool ``[row]``: rows that are recorded; None if all are, also before the start and after the end.
    digitised
        Whether the loss of the digitiser is included.

    Returns
    -------
    Boxcar
        S/N 0 if nothing of it is recorded.
    """
    low, high = pulse.edges(scene.band)
    used = np.flatnonzero(scene.good & (scene.band.frequencies > low) & (scene.band.frequencies < high))
    if not len(used):
        return Boxcar(0.0, 0, 0)
    shifts = np.rint(delays(scene.band, pulse.dm) / scene.row_seconds).astype(np.int64)
    starts = rendered.first[used] - shifts[used]
    begin = int(starts.min())
    rows = int(starts.max()) - begin + rendered.power.shape[1]
    signal, cells = np.zeros(rows), np.zeros(rows)
    for channel, start in zip(used, starts - begin, strict=True):
        values = rendered.power[channel] / scene.scatter
        values = scene.digitiser.response(values) if digitised else values
        if recorded is None:
            cells += 1.0
        else:
            there = _at(recorded, begin + int(shifts[channel]), rows)
            cells += there
            values = values * there[start : start + len(values)]
        signal[start : start + len(values)] += values
    return _search(signal, cells, begin)


def ideal_snrs(scene: "Scene") -> list[float]:
    """Return what the ideal search finds of each pulse of a scene.

    Parameters
    ----------
    scene
        The scene.

    Returns
    -------
    list of float
        S/N.
    """
    pairs = zip(scene.pulses, scene.rendered, strict=True)
    return [best_boxcar(scene, pulse, rendered, scene.recorded).snr for pulse, rendered in pairs]


def _at(recorded: NDArray[np.bool_], first: int, rows: int) -> NDArray[np.float64]:
    """Return whether rows from ``first`` on are recorded; those outside the scene are not."""
    index = first + np.arange(rows)
    inside = (index >= 0) & (index < len(recorded))
    return np.asarray(inside & recorded[np.clip(index, 0, len(recorded) - 1)], np.float64)


def _search(signal: NDArray[np.float64], variance: NDArray[np.float64], begin: int) -> Boxcar:
    sums, variances = (np.concatenate([[0.0], np.cumsum(values)]) for values in (signal, variance))
    best = Boxcar(0.0, 0, 0)
    for rows in range(1, len(signal) + 1):
        s, v = sums[rows:] - sums[:-rows], variances[rows:] - variances[:-rows]
        snr = np.where(v > 0.0, s / np.sqrt(np.maximum(v, 1e-300)), 0.0)
        at = int(snr.argmax())
        if snr[at] > best.snr:
            best = Boxcar(float(snr[at]), begin + at, rows)
    return best
