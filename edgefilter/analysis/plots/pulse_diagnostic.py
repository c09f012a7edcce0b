"""The arrays behind the diagnostic figure of a pulse: dedispersed dynamic spectrum, profile, spectrum, DM over time.

Each channel of a cut-out is normalised as in the search. All values here are therefore signal-to-noise ratios: the sum
of n cells of unit variance, divided by the square root of n. Lost and flagged cells are left out of both.
"""

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgefilter.core.errors import StoreError
from edgefilter.core.plan import DISPERSION_S_MHZ2, cutout_margin_rows
from edgefilter.products.cutout import Cutout
from edgefilter.products.pulses import PulseRow
from edgefilter_kernels.search.dedisperse import add_subbands
from edgefilter_kernels.search.normalise import COUNTS_PER_SIGMA, FULL_WEIGHT, NormalisedPower
from edgefilter_kernels.search.normalise import normalise as normalise_kernel

_N_TRIALS = 97
_MAX_COUNTS = 4000  # sums of eight fit into 16 bits
_TARGET_SUBBAND_SNR = 2.0  # S/N of the pulse in one sub-band, which sets the default number of sub-bands

Floats = NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class PulseDiagnostic:
    """Arrays of the diagnostic figure. Frequencies rise; times are in ms, and 0 is the middle of the pulse.

    Parameters
    ----------
    pulse
        Row of the table ``pulses``.
    dm
        Dispersion measure that was removed, pc cm⁻³.
    snr
        S/N in the cut-out: of the pulse's boxcar, at ``dm``, in the band in which the search found the pulse.
    times_ms
        float64 ``[time]``: centres of the time bins, at the top of the band.
    frequencies_mhz
        float64 ``[subband]``: centres of the sub-bands.
    band_mhz
        Lower and upper edge of the whole band.
    dynamic
        float32 ``[subband, time]``: S/N of each bin, NaN where all cells were lost or flagged.
    profile
        float32 ``[time]``: S/N of each time bin in the pulse's band, NaN where all cells were lost or flagged.
    spectrum
        float32 ``[subband]``: S/N of the pulse's boxcar, NaN where all cells were lost or flagged.
    channels_mhz
        float64 ``[channel]``: centres of the channels.
    unused
        float32 ``[channel]``: share of lost and flagged cells in the figure, 0 to 1.
    trial_dm
        float64 ``[trial]``: dispersion measures of ``bow_tie``, pc cm⁻³; empty where the frequencies are unknown.
    trial_times_ms
        float64 ``[trial_time]``: times of ``bow_tie`` at the middle of the sweep, about which the pattern of a
        dispersed pulse is symmetric.
    bow_tie
        float32 ``[trial, trial_time]``: S/N of the pulse's boxcar.
    """

    pulse: PulseRow
    dm: float
    snr: float
    times_ms: NDArray[np.float64]
    frequencies_mhz: NDArray[np.float64]
    band_mhz: tuple[float, float]
    dynamic: Floats
    profile: Floats
    spectrum: Floats
    channels_mhz: NDArray[np.float64]
    unused: Floats
    trial_dm: NDArray[np.float64]
    trial_times_ms: NDArray[np.float64]
    bow_tie: Floats


def normalise_channels(cutout: Cutout) -> tuple[Floats, Floats]:
    """Normalise each channel of the intensity of a cut-out to zero mean and unit variance.

    Level and scatter are those that were measured beside the pulse. Cut-outs that lack them, of versions up to 0.1, are
    normalised by their own rows.

    Parameters
    ----------
    cutout
        The cut-out.

    Returns
    -------
    value, weights
        float32 ``[channel, time]``: S/N of each cell, and 1 for a good cell, 0 for a lost or flagged one. All cells of
        a channel with fewer than 16 good rows beside the pulse get weight 0.
    """
    if cutout.level is not None and cutout.scatter is not None:
        known = cutout.scatter[0] > 0
        good = (cutout.mask == 0) & known
        scaled = (cutout.data[:, 0] - cutout.level[0]) / np.where(known, cutout.scatter[0], np.float32(1))
        return np.where(good, scaled, np.float32(0)).T.copy(), good.T.astype(np.float32)
    power = np.ascontiguousarray(cutout.data[:, 0])
    used = np.ascontiguousarray(1 - cutout.mask, np.uint16)
    value, weights = out = NormalisedPower(*np.empty((2, *power.shape[::-1]), np.int8))
    normalise_kernel(power, used, 1, 0, 0, power.shape[1], out)
    return np.asarray(value / COUNTS_PER_SIGMA, np.float32), np.asarray(weights / FULL_WEIGHT, np.float32)


def delay_rows_per_dm(cutout: Cutout) -> NDArray[np.float64]:
    """Return the dispersion delay of each channel behind the top channel, per unit of dispersion measure.

    Parameters
    ----------
    cutout
        The cut-out.

    Returns
    -------
    NDArray
        float64 ``[channel]``: rows per pc cm⁻³ (Lorimer & Kramer 2005, equation 5.1); 0 where frequencies are unknown.
    """
    frequencies = cutout.frequencies_mhz
    if frequencies.min() <= 0:
        return np.zeros(len(frequencies))
    delay_per_dm = frequencies**-2.0 - frequencies.max() ** -2.0
    return np.asarray(DISPERSION_S_MHZ2 * delay_per_dm / cutout.row_seconds, np.float64)


def shift_channels(
    values: NDArray[Any], start: int, delays: NDArray[np.int64], length: int, fill: float
) -> NDArray[Any]:
    """Return a window of each channel that starts at ``start`` plus the delay of the channel.

    Parameters
    ----------
    values
        ``[channel, time]``, any real type.
    start
        First time step of a channel without delay.
    delays
        int64 ``[channel]``: delays, time steps.
    length
        Length of the window, time steps.
    fill
        Value outside of the array.

    Returns
    -------
    NDArray
        ``[channel, length]``, of the type of ``values``.
    """
    at = start + delays[:, None] + np.arange(length)
    taken = np.take_along_axis(values, np.clip(at, 0, values.shape[1] - 1), axis=1)
    return np.where((at >= 0) & (at < values.shape[1]), taken, np.asarray(fill, values.dtype))


def channels_in_band(cutout: Cutout) -> NDArray[np.bool_]:
    """Return which channels lie in the band in which the search found the pulse.

    Parameters
    ----------
    cutout
        The cut-out.

    Returns
    -------
    NDArray
        bool ``[channel]``; all True if the band contains the centre of no channel.
    """
    frequencies = cutout.frequencies_mhz
    inside = (frequencies >= cutout.pulse.freq_low) & (frequencies <= cutout.pulse.freq_high)
    return np.asarray(inside | ~inside.any(), np.bool_)


def diagnose(cutout: Cutout, dm: float | None = None, subbands: int | None = None) -> PulseDiagnostic:
    """Compute the arrays of the diagnostic figure of a pulse.

    Parameters
    ----------
    cutout
        Cut-out of the pulse.
    dm
        Dispersion measure to remove, pc cm⁻³; that of the pulse if None.
    subbands
        Number of sub-bands. If None, it is chosen so that the pulse has an S/N of about 2 in each, within 16 to 128.

    Returns
    -------
    PulseDiagnostic
        The arrays.

    Raises
    ------
    StoreError
        If the dispersion measure is negative or not finite, or there are fewer channels than sub-bands.
    """
    dm = cutout.pulse.dm if dm is None else dm
    channels = cutout.data.shape[2]
    if not 0 <= dm < np.inf:
        raise StoreError(f"dm is {dm}, must be 0 or more pc/cm3")
    if subbands is not None and not 1 <= subbands <= channels:
        raise StoreError(f"subbands is {subbands}, must be 1 to {channels}")
    ascending = slice(None, None, -1 if cutout.channel_mhz < 0 else 1)  # below, frequencies rise
    value, weights = (part[ascending] for part in normalise_channels(cutout))
    frequencies, delay_per_dm = cutout.frequencies_mhz[ascending], delay_rows_per_dm(cutout)[ascending]
    in_band = channels_in_band(cutout)[ascending]
    window = _Window.for_pulse(cutout)
    delays = np.rint(dm * delay_per_dm).astype(np.int64)
    here = window.dedispersed(value, delays)
    used = window.dedispersed(weights, delays)
    edges = _subband_edges(cutout, in_band, subbands)
    total, count = (np.add.reduceat(window.binned(part), edges[:-1], axis=0) for part in (here, used))
    inside = window.boxcar
    trial_dm, bow_tie = _bow_tie(window, value[in_band], weights[in_band], delay_per_dm[in_band], dm)
    half = abs(cutout.channel_mhz) / 2
    return PulseDiagnostic(
        pulse=cutout.pulse,
        dm=dm,
        snr=float(_sum_snr(here[in_band, inside].sum(), used[in_band, inside].sum())),
        times_ms=window.times_ms,
        frequencies_mhz=np.add.reduceat(frequencies, edges[:-1]) / np.diff(edges),
        band_mhz=(float(frequencies[0] - half), float(frequencies[-1] + half)),
        dynamic=_sum_snr(total, count),
        profile=_sum_snr(window.binned(here[in_band]).sum(axis=0), window.binned(used[in_band]).sum(axis=0)),
        spectrum=_sum_snr(
            np.add.reduceat(here[:, inside].sum(axis=1), edges[:-1]),
            np.add.reduceat(used[:, inside].sum(axis=1), edges[:-1]),
        ),
        channels_mhz=frequencies,
        unused=1 - used.mean(axis=1),
        trial_dm=trial_dm,
        trial_times_ms=window.times_ms,
        bow_tie=bow_tie,
    )


def dm_snr(
    cutout: Cutout,
    dms: NDArray[np.float64],
    width_rows: int | None = None,
    channels: NDArray[np.bool_] | None = None,
) -> Floats:
    """Return the highest S/N of a boxcar near the pulse for each of several dispersion measures.

    Parameters
    ----------
    cutout
        The cut-out.
    dms
        float64 ``[trial]``: dispersion measures, pc cm⁻³.
    width_rows
        Width of the boxcar, rows; that of the pulse if None.
    channels
        bool ``[channel]``: channels to use of those in the pulse's band; all if None.

    Returns
    -------
    NDArray
        float32 ``[trial]``, NaN where all cells were lost or flagged.
    """
    value, weights = normalise_channels(cutout)
    delay_per_dm = delay_rows_per_dm(cutout)
    in_band = channels_in_band(cutout) if channels is None else channels_in_band(cutout) & channels
    window = _Window.for_pulse(cutout, width_rows)
    trials = _dm_time_snr(window, value[in_band], weights[in_band], delay_per_dm[in_band], cutout.pulse.dm, dms)
    return np.asarray(np.fmax.reduce(trials, axis=1), np.float32)  # fmax ignores NaN


@dataclass(frozen=True)
class _Window:
    """Rows ``[start, start + length)`` of a cut-out at the top of the band, in bins of ``factor`` rows."""

    start: int
    length: int
    factor: int
    width: int
    row_ms: float

    @classmethod
    def for_pulse(cls, cutout: Cutout, width_rows: int | None = None) -> "_Window":
        pulse = cutout.pulse
        width = max(round(pulse.width / cutout.row_seconds), 1) if width_rows is None else width_rows
        factor = max(width // 4, 1)
        first = round((pulse.seconds - cutout.first_sample / cutout.rate) / cutout.row_seconds - width / 2)
        before = -(-(math.ceil(cutout_margin_rows(width)) - width // 2) // factor)
        return cls(
            first - before * factor,
            (2 * before + -(-width // factor)) * factor,
            factor,
            width,
            cutout.row_seconds * 1e3,
        )

    @property
    def boxcar(self) -> slice:
        """Rows of the window that lie in the boxcar of the pulse."""
        first = (self.length - -(-self.width // self.factor) * self.factor) // 2
        return slice(first, first + self.width)

    @property
    def times_ms(self) -> NDArray[np.float64]:
        """Centres of the bins, ms from the middle of the boxcar."""
        middle = self.boxcar.start + self.width / 2
        bins = np.arange(self.length // self.factor) + 0.5
        return np.asarray((bins * self.factor - middle) * self.row_ms, np.float64)

    def dedispersed(self, values: Floats, delays: NDArray[np.int64]) -> Floats:
        """Return the rows of the window, ``[channel, length]``, shifted by the delays."""
        return shift_channels(values, self.start, delays, self.length, 0)

    def binned(self, values: Floats) -> Floats:
        """Return the sum of the rows of each bin, ``[…, bin]``."""
        return np.asarray(values.reshape(*values.shape[:-1], -1, self.factor).sum(axis=-1), np.float32)


def _bow_tie(
    window: _Window, value: Floats, weights: Floats, delay_per_dm: NDArray[np.float64], dm: float
) -> tuple[NDArray[np.float64], Floats]:
    sweep = float(delay_per_dm.max() - delay_per_dm.min())
    if sweep == 0:
        return np.zeros(0), np.zeros((0, window.length // window.factor), np.float32)
    # At the ends of the DM axis, the sweep across the band is longer by the length of the window.
    dm_half_range = window.length / sweep
    dms = np.linspace(max(dm - dm_half_range, 0.0), dm + dm_half_range, _N_TRIALS)
    return dms, _dm_time_snr(window, value, weights, delay_per_dm, dm, dms)


def _dm_time_snr(
    window: _Window,
    value: Floats,
    weights: Floats,
    delay_per_dm: NDArray[np.float64],
    dm: float,
    dms: NDArray[np.float64],
) -> Floats:
    """Return the S/N of the boxcar, ``[trial, bin]``; all trials have the same delay at the middle of the sweep."""
    middle = (delay_per_dm.min() + delay_per_dm.max()) / 2
    delays = np.rint(dm * middle + np.outer(dms, delay_per_dm - middle)).astype(np.int64)
    # Half a boxcar is added at both sides, so that the boxcar is centred on each bin.
    centre = window.factor // 2 - window.width // 2
    length = window.length + window.width
    first = window.start + centre
    before = max(0, -(first + int(delays.min())))
    after = max(0, first + int(delays.max()) + length - value.shape[1])
    whole, begin = np.array([0, len(value)]), first + before + delays
    sums = []
    for part in (value, weights):
        out = np.empty((len(dms), 1, length), np.float32)
        add_subbands(
            np.pad(
                np.clip(np.rint(part * COUNTS_PER_SIGMA), -_MAX_COUNTS, _MAX_COUNTS).astype(np.int16),
                ((0, 0), (before, after)),
            ),
            whole,
            begin,
            out,
        )
        running = np.cumsum(np.pad(out[:, 0] / COUNTS_PER_SIGMA, ((0, 0), (1, 0))), axis=1, dtype=np.float64)
        sums.append((running[:, window.width :] - running[:, : -window.width])[:, : window.length : window.factor])
    return _sum_snr(*sums)


def _sum_snr(total: NDArray[Any], count: NDArray[Any]) -> Floats:
    """Return the S/N of sums of ``count`` values of unit variance, NaN where the count is 0."""
    good = np.asarray(count) > 0.5
    return np.where(good, total / np.sqrt(np.where(good, count, 1)), np.nan).astype(np.float32)


def _subband_edges(cutout: Cutout, in_band: NDArray[np.bool_], subbands: int | None) -> NDArray[np.int64]:
    """Return the first channel of each sub-band, and the number of channels."""
    channels = len(in_band)
    if subbands is None:
        band_fraction = in_band.sum() / channels
        subbands = int(np.clip((cutout.pulse.snr / _TARGET_SUBBAND_SNR) ** 2 / band_fraction, 16, 128))
    return np.linspace(0, channels, min(subbands, channels) + 1).astype(np.int64)
