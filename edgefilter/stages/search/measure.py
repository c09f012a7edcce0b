"""S/N, DM, width and arrival of a pulse, measured again in rows that are neither clipped nor rounded.

The search sums channels of equal weight, clipped and rounded, at the trials of its plan. Here the power of each channel
is compared with the rows around the pulse, in units of its scatter there; channels that scatter more than those around
is compared with the rows around the pulse, in units of its scatter there; channels that scatter more than those around
them weigh less. They are summed at dispersion measures, widths and arrivals close to those of the search. The noise of
a boxcar is the largest of three: what the scatter of the channels predicts, what boxcars beside the pulse have, and,
for a faint pulse, what the search measured in the series of the whole block: the S/N of the search is only refined.
"""

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import median_filter

from edgefilter.core.plan import Plan
from edgefilter.core.reduced_block import PulseCandidate
from edgefilter.stages.search.dm_plan import delay_rows
from edgefilter.stages.search.track import Region, boxcar_region
from edgefilter_kernels.search.normalise import CLIP_SIGMA

_HALF_WINDOW_ROWS = 128
_HALF_WINDOW_WIDTHS = 8
_MAX_HALF_WINDOW = 4096
_MAX_CELLS = 1 << 24  # of the windows of a block's pulses
_CLIP_SIGMA = 3.5
_CLIPPED_STD = 0.9969  # of a unit Gaussian without what lies beyond ±3.5
_CLIP_PASSES = 2
_MIN_ROWS = 16
_MIN_GROUPS = 8
_SIGNIFICANT = 4.0  # standard errors by which noise must exceed its theory
_FAINT_SNR = 20.0  # a fainter pulse is not clipped, and does not add to the scatter that the search measures
_SUBBANDS = 64
_DM_STEPS = 8
_FINE_STEPS = 6
_FINER = 3
_NEIGHBOURS = 33  # channels
_WIDTH_STEPS = 17

Floats = NDArray[np.float32]


@dataclass(frozen=True, slots=True, eq=False)
class PulseWindow:
    """The rows of a pulse's boxcar and ``margin`` rows before and after it, along its track.

    Parameters
    ----------
    boxcar
        Rows in which the search found the pulse.
    margin
        Rows before and after.
    stokes, weight
        From :func:`~edgefilter.stages.search.track.gather`.
    """

    boxcar: Region
    margin: int
    stokes: Floats
    weight: NDArray[np.uint16]

    @property
    def first(self) -> NDArray[np.int64]:
        """First row of each channel, since the epoch, int64 ``[channel]``."""
        return self.boxcar.first - self.margin

    @property
    def off_pulse(self) -> NDArray[np.bool_]:
        """Rows that are farther from the boxcar than its width and 4 rows, bool ``[row]``."""
        guard = min(self.boxcar.length + 4, self.margin // 2)
        off = np.ones(len(self.weight), np.bool_)
        off[self.margin - guard : self.margin + self.boxcar.length + guard] = False
        return off

    def statistics(self) -> tuple[Floats, Floats]:
        """Return level and scatter of each channel off the pulse.

        Returns
        -------
        level, scatter
            float32 ``[stokes, channel]``: mean and standard deviation of rows that lie within 3.5 standard deviations;
            0 where there are fewer than 16 rows.
        """
        off = self.off_pulse
        used = self.weight[off] > 0
        level = np.zeros((len(self.stokes), used.shape[1]), np.float32)
        scatter = np.zeros_like(level)
        for plane, mean, std in zip(self.stokes[:, off], level, scatter, strict=True):
            _clipped_statistics(plane, used, mean, std)
        return level, scatter


def _clipped_statistics(values: Floats, used: NDArray[np.bool_], mean: Floats, std: Floats) -> None:
    # Sums in double precision of values about the first mean; the clipping is corrected for.
    kept = used
    count = kept.sum(axis=0)
    enough = count >= _MIN_ROWS
    centre = np.sum(values, axis=0, where=kept, dtype=np.float64) / np.maximum(count, 1)
    offset = np.where(used, values - centre.astype(np.float32), np.float32(0))
    shift, variance = np.zeros(len(mean)), np.zeros(len(mean))
    for passes in range(_CLIP_PASSES + 1):
        if passes:
            reach = (_CLIP_SIGMA * np.sqrt(variance)).astype(np.float32)
            kept = used & (np.abs(offset - shift.astype(np.float32)) <= reach)
            count = np.maximum(kept.sum(axis=0), 1)
        else:
            count = np.maximum(count, 1)
        inside = offset * kept
        shift = inside.sum(axis=0, dtype=np.float64) / count
        square = np.einsum("ij,ij->j", inside, inside, dtype=np.float64) / count
        variance = np.maximum(square - shift * shift, 0.0)
        if passes:
            variance /= _CLIPPED_STD**2
    mean[enough] = (centre + shift)[enough]
    std[enough] = np.sqrt(variance)[enough]


class PulseMeasurer:
    """Measures pulses in the windows around them.

    Parameters
    ----------
    plan
        Layout of the reduction.
    """

    def __init__(self, plan: Plan) -> None:
        self._plan = plan
        self._delay_per_dm = delay_rows(plan)

    def half_window(self, width_rows: int) -> int:
        """Return how many rows before and after its boxcar a pulse is measured in.

        Parameters
        ----------
        width_rows
            Width of the boxcar.

        Returns
        -------
        int
            128 rows or 8 widths, whichever is longer; at most 4096.
        """
        return min(max(_HALF_WINDOW_ROWS, _HALF_WINDOW_WIDTHS * width_rows), _MAX_HALF_WINDOW)

    def max_measured(self, widths: list[int]) -> int:
        """Return how many pulses of a block are measured: as many as have 16 million cells in their windows.

        Parameters
        ----------
        widths
            Widths of the boxcars, strongest pulse first.

        Returns
        -------
        int
            Number of pulses.
        """
        cells = np.cumsum([(2 * self.half_window(width) + width) * self._plan.channels for width in widths])
        return int(np.searchsorted(cells, _MAX_CELLS, "right"))

    def unused_fraction(self, pulse: PulseCandidate, window: PulseWindow) -> float:
        """Return the fraction of the cells in the boxcar of a pulse, in its band, that were lost or flagged.

        Parameters
        ----------
        pulse
            The pulse.
        window
            Rows around it.

        Returns
        -------
        fraction
            0 to 1.
        """
        inside = slice(window.margin, window.margin + window.boxcar.length)
        weight = window.weight[inside, self._band(pulse)]
        return float(1 - weight.sum(dtype=np.int64) / (weight.size * self._plan.cells_per_row))

    def measure(self, pulse: PulseCandidate, window: PulseWindow, level: Floats, scatter: Floats) -> PulseCandidate:
        """Measure a pulse in the part of the band in which the search found it, and a bright one in the whole band too.

        The search clips, so a bright pulse that fills the band may look strongest in a part of it.

        Parameters
        ----------
        pulse
            The pulse, as the search found it.
        window
            Rows around it.
        level, scatter
            From :meth:`PulseWindow.statistics`.

        Returns
        -------
        PulseCandidate
            With new arrival, DM and its uncertainty, width and S/N, in the whole band if S/N is higher there; the same
            if too little around it is known.
        """
        part = self._measure(pulse, pulse, window, level, scatter)
        low, high = self._plan.band_mhz
        whole = replace(pulse, freq_low=low, freq_high=high)
        if part is None or pulse.snr < _FAINT_SNR or np.array_equal(self._band(pulse), self._band(whole)):
            return part or pulse
        other = self._measure(pulse, whole, window, level, scatter)
        return other if other is not None and other.snr > part.snr else part

    def _measure(
        self, found: PulseCandidate, pulse: PulseCandidate, window: PulseWindow, level: Floats, scatter: Floats
    ) -> PulseCandidate | None:
        # In the band of pulse; the search knew the DM as well as the band of found tells it.
        band = self._band(pulse)
        channels = np.flatnonzero(band & (scatter[0] > 0) & (scatter[0] > 1e-6 * np.abs(level[0])))
        delay = self._delay_per_dm[channels]
        if not len(channels) or not window.off_pulse.any():
            return None
        # A channel that scatters more than those around it counts less; over the band, scatter follows the gain.
        std = scatter[0, channels].astype(np.float64)
        quality = np.minimum(median_filter(std, _NEIGHBOURS, mode="nearest") / std, 1.0)
        weight = window.weight[:, channels] * (quality**2 / self._plan.cells_per_row)
        value = weight * ((window.stokes[0][:, channels] - level[0, channels]) / (std * quality))
        band_value, band_weight, off = value.sum(axis=1), weight.sum(axis=1), window.off_pulse
        trend = _trend(band_value, band_weight, off)
        value -= weight * trend[:, None]
        if pulse.snr < _FAINT_SNR:  # single cells of interference, as in the search
            np.clip(value, -CLIP_SIGMA * weight, CLIP_SIGMA * weight, out=value)
        edges = np.unique(np.arange(_SUBBANDS) * len(channels) // _SUBBANDS)
        subband_value, subband_weight = (np.add.reduceat(part, edges, axis=1) for part in (value, weight))
        subband_delay = np.add.reduceat(delay, edges) / np.diff(np.append(edges, len(channels)))
        middle = (delay.min() + delay.max()) / 2
        known = np.ptp(self._delay_per_dm[self._band(found)])
        dms = self._trial_dms(pulse, float(np.ptp(delay)), float(known))
        length, margin = window.boxcar.length, window.margin
        widths = np.unique(np.rint(np.geomspace(max(length / 2, 1), 2 * length + 1, _WIDTH_STEPS)).astype(np.int64))
        reach = int(min(length + 4 + widths[-1], margin))
        rows = np.arange(margin - reach, margin + length + reach)
        shifts = np.rint(np.outer(dms, subband_delay - middle)).astype(np.int64)
        coarse = _best_boxcar(*_series(subband_value, subband_weight, shifts, rows), widths)
        if coarse is None:
            return None
        # Once more, at full resolution and finer steps: delays within sub-bands were those of the search's DM.
        step = float(dms[1] - dms[0]) if len(dms) > 1 else 0.0
        fine_dms = dms[coarse.trial] + step * np.arange(-_FINE_STEPS, _FINE_STEPS + 1) / _FINER
        fine_dms = np.unique(np.maximum(fine_dms, -pulse.dm))
        boxcar = boxcar_region(pulse, self._delay_per_dm)
        start = boxcar.first[channels] - int(np.floor(pulse.row - length / 2 + 0.5))
        at_top = np.rint(fine_dms * middle).astype(np.int64)
        shifts = np.rint(np.outer(pulse.dm + fine_dms, delay)).astype(np.int64) - at_top[:, None] - start
        more = 3 + coarse.width // 4
        first = int(rows[coarse.first])
        rows = np.arange(max(first - more, 0), min(first + coarse.width + more, len(value)))
        widths = np.arange(max(coarse.width * 3 // 4 - 1, 1), coarse.width + 3)
        fine = _best_boxcar(*_series(value, weight, shifts, rows), widths)
        if fine is None:
            return None
        excess = _noise_excess(band_value - band_weight * trend, band_weight, off, fine.width)
        if pulse.snr < _FAINT_SNR:
            inside = slice(margin, margin + length)
            white = value[inside].sum() / np.sqrt(max(weight[inside].sum(), 1e-30))
            excess = max(excess, white / pulse.snr)
        error = _dm_error(dms, coarse.by_trial / excess, coarse.trial)
        shift = int(rows[fine.first]) - margin - int(at_top[fine.trial]) + (fine.width - length) / 2
        return replace(
            pulse,
            row=max(np.floor(pulse.row - length / 2 + 0.5) + length / 2 + shift, 0.0),
            dm=float(pulse.dm + fine_dms[fine.trial]),
            dm_error=float(np.hypot(error, step / 2)) if error > 0 else pulse.dm_error,
            width_rows=fine.width,
            snr=fine.snr / excess,
        )

    def _trial_dms(self, pulse: PulseCandidate, sweep: float, known: float) -> NDArray[np.float64]:
        # Differences from the DM of the search, by which the sweep across the band that it knew changes by up to a
        # width and 2 rows; in steps that suit the sweep across the band that is measured.
        if sweep == 0.0 or known == 0.0:
            return np.zeros(1)
        steps = int(np.ceil(_DM_STEPS * max(sweep / known, 1.0)))
        dms = np.arange(-steps, steps + 1) / _DM_STEPS * (pulse.width_rows + 2) / sweep
        return np.asarray(dms[pulse.dm + dms >= 0.0])

    def _band(self, pulse: PulseCandidate) -> NDArray[np.bool_]:
        frequencies = self._plan.frequencies_mhz
        return np.asarray((frequencies >= pulse.freq_low) & (frequencies <= pulse.freq_high))


def _trend(value: NDArray[np.float64], weight: NDArray[np.float64], off: NDArray[np.bool_]) -> NDArray[np.float64]:
    # Straight line through the means of the band off the pulse.
    w = weight * off
    total = w.sum()
    if total == 0.0:
        return np.zeros(len(value))
    time = np.arange(len(value)) - np.arange(len(value)).mean()
    mean_time, mean = (w * time).sum() / total, (value * off).sum() / total
    spread = (w * (time - mean_time) ** 2).sum()
    slope = ((time - mean_time) * value * off).sum() / spread if spread > 0 else 0.0
    return np.asarray(mean + slope * (time - mean_time))


@dataclass(frozen=True, slots=True)
class _Boxcar:
    snr: float
    trial: int
    first: int
    width: int
    by_trial: NDArray[np.float64]


def _series(
    value: NDArray[np.float64], weight: NDArray[np.float64], shifts: NDArray[np.int64], rows: NDArray[np.int64]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    # Sums over columns that are shifted by shifts [trial, column], and sums of their weights, [trial, row].
    out = np.zeros((2, len(shifts), len(rows)))
    columns = np.arange(value.shape[1])
    complete = bool((weight == weight[0]).all())
    for shift, here, known in zip(shifts, *out, strict=True):
        at = rows[:, None] + shift
        inside = (at >= 0) & (at < len(value))
        all_inside = inside.all()
        flat = (at if all_inside else np.clip(at, 0, len(value) - 1)) * len(columns) + columns
        taken = np.take(value, flat)
        here[:] = taken.sum(axis=1) if all_inside else np.sum(taken, axis=1, where=inside)
        if complete and all_inside:
            known[:] = weight[0].sum()
        else:
            known[:] = np.sum(np.take(weight, flat), axis=1, where=inside)
    return out[0], out[1]


def _best_boxcar(value: NDArray[np.float64], weight: NDArray[np.float64], widths: NDArray[np.int64]) -> _Boxcar | None:
    # The best boxcar of some widths in the series [trial, row].
    sums = [np.pad(np.cumsum(part, axis=1), ((0, 0), (1, 0))) for part in (value, weight)]
    by_trial = np.full(len(value), -np.inf)
    choice = np.zeros((len(value), 2), np.int64)
    for width in widths[widths <= value.shape[1]]:
        s, v = (part[:, width:] - part[:, :-width] for part in sums)
        snr = np.where(v > 0, s / np.sqrt(np.where(v > 0, v, 1.0)), -np.inf)
        first = snr.argmax(axis=1)
        highest = snr[np.arange(len(snr)), first]
        better = highest > by_trial
        by_trial[better] = highest[better]
        choice[better] = np.stack([first[better], np.full(better.sum(), width)], axis=1)
    trial = int(by_trial.argmax())
    if not by_trial[trial] > 0:
        return None
    return _Boxcar(float(by_trial[trial]), trial, int(choice[trial, 0]), int(choice[trial, 1]), by_trial)


def _noise_excess(value: NDArray[np.float64], weight: NDArray[np.float64], off: NDArray[np.bool_], width: int) -> float:
    # Scatter of boxcars of 1, 2, 4 … rows off the pulse over that of white noise, at least 1. The longest boxcars are
    # few: what they cannot tell, shorter ones do.
    excess, rows = 1.0, 1
    sides = np.split(np.arange(len(value)), [int(np.argmin(off)), len(off) - int(np.argmin(off[::-1]))])
    before, after = sides[0], sides[2]
    while rows <= width:
        z = []
        for side in (before, after):
            groups = side[: len(side) // rows * rows].reshape(-1, rows)
            s, v = value[groups].sum(axis=1), weight[groups].sum(axis=1)
            z.append(s[v > 0] / np.sqrt(v[v > 0]))
        values = np.concatenate(z)
        if len(values) < _MIN_GROUPS:
            break
        spread = 1.4826 * float(np.median(np.abs(values)))
        bulk = values[np.abs(values) <= _CLIP_SIGMA * max(spread, 1.0)]
        scatter = float(np.sqrt(np.mean(bulk**2)))
        if scatter > 1 + _SIGNIFICANT / np.sqrt(2 * len(bulk)):
            excess = max(excess, scatter)
        rows *= 2
    return excess


def _dm_error(dms: NDArray[np.float64], snr: NDArray[np.float64], best: int) -> float:
    # Where S/N² falls by 1 (Δχ² = 1), by a parabola through the points around the peak; 0 if there is no peak.
    near = slice(max(best - 2, 0), best + 3)
    x, y = dms[near] - dms[best], snr[near]
    if len(x) < 3 or not np.isfinite(y).all():
        return 0.0
    scale = float(np.abs(x).max())
    curvature = float(np.polyfit(x / scale, y, 2)[0])
    return scale / float(np.sqrt(-2 * curvature * snr[best])) if curvature < 0 else 0.0
