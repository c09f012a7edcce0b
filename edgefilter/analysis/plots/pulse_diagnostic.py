"""The numbers behind the classic pulse diagnostic: dedispersed dynamic spectrum, profile, spectrum, DM against time.

A cut-out is whitened as the search does it, channel by channel, so all values here are signal-to-noise ratios: sums of
unit-variance cells over the root of how many were summed. What was lost or flagged adds to neither.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgefilter.core.errors import StoreError
from edgefilter.core.plan import DISPERSION_S_MHZ2
from edgefilter.products.cutout import Cutout
from edgefilter.products.pulses import PulseRow
from edgefilter_kernels.search.dedisperse import add_subbands
from edgefilter_kernels.search.normalise import COUNTS_PER_SIGMA, FULL_WEIGHT
from edgefilter_kernels.search.normalise import normalise as normalise_kernel

_MARGIN_ROWS = 32  # that a cut-out holds before and after a pulse, or four widths if that is more
_N_TRIALS = 97
_TARGET_SUBBAND_SNR = 2.0  # that a sub-band of the picture should show of a pulse

Floats = NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class PulseDiagnostic:
    """What the picture of a pulse shows. Frequencies rise; times are in ms, 0 is the middle of the pulse.

    Parameters
    ----------
    pulse
        What the search found.
    dm
        Dispersion measure that was taken out, pc cm⁻³.
    snr
        Of the pulse's own boxcar at that DM, in its own band, as measured in the cut-out.
    times_ms
        float64 ``[time]``: middles of the time bins at the top of the band.
    frequencies_mhz
        float64 ``[subband]``: middles of the sub-bands.
    band_mhz
        Lower and upper edge of the whole band.
    dynamic
        float32 ``[subband, time]``: S/N of each bin, NaN where nothing was used.
    profile
        float32 ``[time]``: S/N of each time bin over the pulse's band, NaN where nothing was used.
    spectrum
        float32 ``[subband]``: S/N of the pulse's boxcar in each sub-band, NaN where nothing was used.
    channels_mhz, unused
        float64 and float32 ``[channel]``: centre of each channel, and the part of the picture's cells in it that were
        lost or flagged, 0 to 1.
    trial_dm, trial_times_ms
        float64 ``[trial]`` and ``[trial_time]``: axes of ``bow_tie``; its times are those of the middle of the sweep,
        about which the picture of a dispersed pulse is symmetric.
    bow_tie
        float32 ``[trial, trial_time]``: S/N of the pulse's boxcar. Without trials where frequencies are not known.
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
    """Bring the channels of a cut-out's intensity to zero mean and unit variance.

    Returns
    -------
    value, weights
        float32 ``[channel, time]``: S/N of each cell, and 1 where it was used, 0 elsewhere. A channel with fewer than
        16 rows that were used is not used at all.
    """
    power = np.ascontiguousarray(cutout.data[:, 0])
    used = np.ascontiguousarray(1 - cutout.mask, np.uint16)
    value, weights = (np.empty(power.shape[::-1], np.int8) for _ in range(2))
    normalise_kernel(power, used, 1, 0, 0, power.shape[1], value, weights)
    return np.asarray(value / COUNTS_PER_SIGMA, np.float32), np.asarray(weights / FULL_WEIGHT, np.float32)


def delay_rows_per_dm(cutout: Cutout) -> NDArray[np.float64]:
    """Rows that each channel lags behind the top one per pc cm⁻³, float64 ``[channel]``; 0 for unknown frequencies."""
    frequencies = cutout.frequencies_mhz
    if frequencies.min() <= 0:
        return np.zeros(len(frequencies))
    delay_per_dm = frequencies**-2.0 - frequencies.max() ** -2.0
    return np.asarray(DISPERSION_S_MHZ2 * delay_per_dm / cutout.row_seconds, np.float64)


def shift_channels(
    values: NDArray[Any], start: int, delays: NDArray[np.int64], length: int, fill: float
) -> NDArray[Any]:
    """Take ``length`` times of each channel from ``start`` plus its delay on; ``fill`` where there are none.

    Parameters
    ----------
    values
        ``[channel, time]``.
    delays
        int64 ``[channel]``, time steps.

    Returns
    -------
    NDArray
        ``[channel, length]``.
    """
    at = start + delays[:, None] + np.arange(length)
    taken = np.take_along_axis(values, np.clip(at, 0, values.shape[1] - 1), axis=1)
    return np.where((at >= 0) & (at < values.shape[1]), taken, np.asarray(fill, values.dtype))


def channels_in_band(cutout: Cutout) -> NDArray[np.bool_]:
    """Say which channels lie in the band that the pulse was found in, bool ``[channel]``."""
    frequencies = cutout.frequencies_mhz
    inside = (frequencies >= cutout.pulse.freq_low) & (frequencies <= cutout.pulse.freq_high)
    return np.asarray(inside | ~inside.any(), np.bool_)


def diagnose(cutout: Cutout, dm: float | None = None, subbands: int | None = None) -> PulseDiagnostic:
    """Work out the picture of a pulse.

    Parameters
    ----------
    cutout
        Its cut-out.
    dm
        Dispersion measure to take out, pc cm⁻³; that of the pulse if None.
    subbands
        Rows of the dynamic spectrum; so many that each shows something of the pulse if None.

    Raises
    ------
    StoreError
        If the dispersion measure or the number of sub-bands cannot be.
    """
    dm = cutout.pulse.dm if dm is None else dm
    channels = cutout.data.shape[2]
    if not 0 <= dm < np.inf:
        raise StoreError(f"dm is {dm}, must be 0 or more pc/cm3")
    if subbands is not None and not 1 <= subbands <= channels:
        raise StoreError(f"subbands is {subbands}, must be 1 to {channels}")
    ascending = slice(None, None, -1 if cutout.channel_mhz < 0 else 1)  # frequencies rise from here on
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
    """Best S/N of one boxcar near the pulse for each of several dispersion measures.

    Parameters
    ----------
    cutout
        The cut-out.
    dms
        float64 ``[trial]``, pc cm⁻³.
    width_rows
        Width of the boxcar; that of the pulse if None.
    channels
        bool ``[channel]``: which to use of those that the pulse was found in; all if None.

    Returns
    -------
    NDArray
        float32 ``[trial]``, NaN where nothing was used.
    """
    value, weights = normalise_channels(cutout)
    delay_per_dm = delay_rows_per_dm(cutout)
    in_band = channels_in_band(cutout) if channels is None else channels_in_band(cutout) & channels
    window = _Window.for_pulse(cutout, width_rows)
    trials = _dm_time_snr(window, value[in_band], weights[in_band], delay_per_dm[in_band], cutout.pulse.dm, dms)
    return np.asarray(np.fmax.reduce(trials, axis=1), np.float32)  # fmax passes over NaN


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
        before = -(-max(_MARGIN_ROWS, 4 * width) // factor)
        return cls(
            first - before * factor,
            (2 * before + -(-width // factor)) * factor,
            factor,
            width,
            cutout.row_seconds * 1e3,
        )

    @property
    def boxcar(self) -> slice:
        """Rows of the window that the pulse's boxcar covers."""
        first = (self.length - -(-self.width // self.factor) * self.factor) // 2
        return slice(first, first + self.width)

    @property
    def times_ms(self) -> NDArray[np.float64]:
        """Middles of the bins, 0 at the middle of the boxcar."""
        middle = self.boxcar.start + self.width / 2
        bins = np.arange(self.length // self.factor) + 0.5
        return np.asarray((bins * self.factor - middle) * self.row_ms, np.float64)

    def dedispersed(self, values: Floats, delays: NDArray[np.int64]) -> Floats:
        """Return ``[channel, length]`` along the delays."""
        return shift_channels(values, self.start, delays, self.length, 0)

    def binned(self, values: Floats) -> Floats:
        """Return the sums ``[…, bin]`` of the rows of each bin."""
        return np.asarray(values.reshape(*values.shape[:-1], -1, self.factor).sum(axis=-1), np.float32)


def _bow_tie(
    window: _Window, value: Floats, weights: Floats, delay_per_dm: NDArray[np.float64], dm: float
) -> tuple[NDArray[np.float64], Floats]:
    sweep = float(delay_per_dm.max() - delay_per_dm.min())
    if sweep == 0:
        return np.zeros(0), np.zeros((0, window.length // window.factor), np.float32)
    # At the ends of the axis, the edges of the band are half the window away from its middle.
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
    """S/N of the boxcar, ``[trial, bin]``, for tracks that cross in the middle of the sweep at ``dm``."""
    middle = (delay_per_dm.min() + delay_per_dm.max()) / 2
    tracks = np.rint(dm * middle + np.outer(dms, delay_per_dm - middle)).astype(np.int64)
    # Half a boxcar more on both sides, so that it is centred on the middle of each bin.
    centre = window.factor // 2 - window.width // 2
    length = window.length + window.width
    first = window.start + centre
    before = max(0, -(first + int(tracks.min())))
    after = max(0, first + int(tracks.max()) + length - value.shape[1])
    whole, begin = np.array([0, len(value)]), first + before + tracks
    sums = []
    for part in (value, weights):
        out = np.empty((len(dms), 1, length), np.float32)
        add_subbands(
            np.pad(np.rint(part * COUNTS_PER_SIGMA).astype(np.int16), ((0, 0), (before, after))), whole, begin, out
        )
        running = np.cumsum(np.pad(out[:, 0] / COUNTS_PER_SIGMA, ((0, 0), (1, 0))), axis=1, dtype=np.float64)
        sums.append((running[:, window.width :] - running[:, : -window.width])[:, : window.length : window.factor])
    return _sum_snr(*sums)


def _sum_snr(total: NDArray[Any], count: NDArray[Any]) -> Floats:
    """Return S/N of sums of so many unit-variance numbers, NaN where there is none."""
    good = np.asarray(count) > 0.5
    return np.where(good, total / np.sqrt(np.where(good, count, 1)), np.nan).astype(np.float32)


def _subband_edges(cutout: Cutout, in_band: NDArray[np.bool_], subbands: int | None) -> NDArray[np.int64]:
    """Return channels at which the sub-bands of the picture begin, and the end."""
    channels = len(in_band)
    if subbands is None:
        band_fraction = in_band.sum() / channels
        subbands = int(np.clip((cutout.pulse.snr / _TARGET_SUBBAND_SNR) ** 2 / band_fraction, 16, 128))
    return np.linspace(0, channels, min(subbands, channels) + 1).astype(np.int64)
