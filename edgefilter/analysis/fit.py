"""Fits to a burst: dispersion measure by S/N or by structure, width, scattering."""

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter1d
from scipy.optimize import OptimizeWarning, curve_fit
from scipy.stats import exponnorm

from edgefilter.analysis.plots.pulse_diagnostic import (
    channels_in_band,
    delay_rows_per_dm,
    dm_snr,
    normalise_channels,
    shift_channels,
)
from edgefilter.core.errors import StoreError
from edgefilter.products.cutout import Cutout

Floats = NDArray[np.float64]

_JACKKNIFE_SETS = 8  # interleaved sets of channels, each of which the jackknife leaves out once
_MIN_ROWS = 8  # twice the number of parameters of a profile
_PEAK_POINTS = 3  # points on each side of a peak to which a parabola is fitted


@dataclass(frozen=True, eq=False)
class DmFit:
    """A fitted dispersion measure.

    Parameters
    ----------
    dm, error
        Dispersion measure and its standard error, pc cm⁻³.
    dms, curve
        float64 ``[trial]``: trial dispersion measures, pc cm⁻³, and the quantity whose peak is at ``dm``.
    """

    dm: float
    error: float
    dms: Floats
    curve: Floats


@dataclass(frozen=True, eq=False)
class ProfileFit:
    """A scattered pulse profile: a Gaussian convolved with an exponential decay.

    Parameters
    ----------
    arrival_ms, sigma_ms, tau_ms
        Centre and standard deviation of the Gaussian and time constant of the decay, each with its standard error, ms.
    times_ms
        float64 ``[time]``: times of the rows, ms from the arrival time that the search found.
    profile, model
        float64 ``[time]``: S/N of each row as measured, and as fitted.
    frequency_mhz
        Mean frequency of the channels that were used.
    """

    arrival_ms: tuple[float, float]
    sigma_ms: tuple[float, float]
    tau_ms: tuple[float, float]
    times_ms: Floats
    profile: Floats
    model: Floats
    frequency_mhz: float


def fit_dm(
    cutout: Cutout,
    method: Literal["snr", "structure"] = "snr",
    reach: float | None = None,
    trials: int = 121,
    smooth_rows: float = 1.0,
) -> DmFit:
    """Fit the dispersion measure of a pulse.

    Parameters
    ----------
    cutout
        Cut-out of the pulse.
    method
        ``snr`` maximises the S/N of the pulse's boxcar; ``structure`` maximises the squared slope of the profile, and
        suits bursts with sub-bursts that drift in frequency (Hessels et al. 2019, ApJL 876, L23, section 3.1).
    reach
        Largest distance of a trial from the DM of the pulse, pc cm⁻³. If None, it is chosen by the width of the pulse.
    trials
        Number of trials.
    smooth_rows
        Standard deviation of the Gaussian with which the profile is smoothed for the method ``structure``, rows.

    Returns
    -------
    DmFit
        Peak of a parabola through the highest points of the curve; its error from a jackknife over eight sets of
        channels.

    Raises
    ------
    StoreError
        If the frequencies are unknown, or the curve has no peak within reach.
    """
    if method not in ("snr", "structure"):
        raise StoreError(f"method is {method!r}, must be snr or structure")
    delay_per_dm = delay_rows_per_dm(cutout)
    if not delay_per_dm.any():
        raise StoreError("the frequencies of the cut-out are unknown: no dispersion measure can be fitted")
    pulse = cutout.pulse
    if reach is None:
        # At this distance, the smearing over the band is eight widths of the pulse.
        reach = 8 * max(pulse.width / cutout.row_seconds, 2.0) / float(delay_per_dm.max() - delay_per_dm.min())
    dms = np.linspace(max(pulse.dm - reach, 0.0), pulse.dm + reach, trials)
    value, weights = normalise_channels(cutout)
    if not weights[channels_in_band(cutout)].any():
        raise StoreError("all of the cut-out was lost or flagged: there is nothing to fit")

    def measure(channels: NDArray[np.bool_]) -> Floats:
        if method == "snr":
            return np.asarray(dm_snr(cutout, dms, channels=channels), np.float64)
        return _structure_curve(cutout, value, weights, delay_per_dm, dms, channels, smooth_rows)

    curve = measure(np.ones(len(delay_per_dm), np.bool_))
    channel_set = np.arange(len(delay_per_dm)) % _JACKKNIFE_SETS
    jackknife_dms = [_parabola_peak(dms, measure(channel_set != left_out)) for left_out in range(_JACKKNIFE_SETS)]
    error = float(np.sqrt(_JACKKNIFE_SETS - 1) * np.std(jackknife_dms))
    return DmFit(_parabola_peak(dms, curve), error, dms, curve)


def fit_profile(
    cutout: Cutout, dm: float | None = None, band: tuple[float, float] | None = None, scattered: bool = True
) -> ProfileFit:
    """Fit a Gaussian, convolved with an exponential decay, to the profile of a pulse.

    Parameters
    ----------
    cutout
        Cut-out of the pulse.
    dm
        Dispersion measure to remove, pc cm⁻³; that of the pulse if None.
    band
        Lower and upper edge of the band to use, MHz; that in which the search found the pulse if None.
    scattered
        Whether to fit a decay; ``tau_ms`` is 0 if not.

    Returns
    -------
    ProfileFit
        The fit.

    Raises
    ------
    StoreError
        If no channel lies in the band, or the fit fails.
    """
    pulse = cutout.pulse
    dm = pulse.dm if dm is None else dm
    low, high = band or (pulse.freq_low, pulse.freq_high)
    frequencies = cutout.frequencies_mhz
    in_band = (frequencies >= low) & (frequencies <= high)
    if not in_band.any():
        raise StoreError(f"no channel lies in {low} to {high} MHz")
    times, profile = _profile(cutout, dm, in_band)
    row_ms, width_ms = cutout.row_seconds * 1e3, pulse.width * 1e3

    def shape(t: Floats, area: float, arrival: float, sigma: float, tau: float = 0.0) -> Floats:
        if tau <= 0:
            gauss = np.exp(-0.5 * ((t - arrival) / sigma) ** 2) / (sigma * np.sqrt(2 * np.pi))
            return np.asarray(area * gauss, np.float64)
        return np.asarray(area * exponnorm.pdf(t, tau / sigma, arrival, sigma), np.float64)

    span = float(np.ptp(times))
    # Start value, lower and upper bound of area, arrival, sigma and tau.
    parameters = [
        (max(float(profile.max()), 1.0) * width_ms, 0.0, np.inf),
        (float(times[np.argmax(profile)]), times[0], times[-1]),
        (max(width_ms / 3, row_ms / 2), row_ms / 4, span),
        (width_ms / 2, row_ms / 50, span),
    ]
    start, low_bounds, high_bounds = zip(*parameters[: 4 if scattered else 3], strict=True)
    try:
        best, covariance = curve_fit(
            shape, times, profile, start, np.ones(len(times)), True, bounds=(low_bounds, high_bounds)
        )
    except (RuntimeError, ValueError, OptimizeWarning) as error:
        raise StoreError(f"no pulse profile could be fitted: {error}") from None
    pairs = [
        (float(value), float(np.sqrt(variance))) for value, variance in zip(best, np.diag(covariance), strict=True)
    ]
    tau = pairs[3] if scattered else (0.0, 0.0)
    return ProfileFit(pairs[1], pairs[2], tau, times, profile, shape(times, *best), float(frequencies[in_band].mean()))


def _profile(cutout: Cutout, dm: float, in_band: NDArray[np.bool_]) -> tuple[Floats, Floats]:
    """Return the times, ms from the pulse, and the S/N of the rows in which more than half of the channels are good."""
    value, weights = normalise_channels(cutout)
    delays = np.rint(dm * delay_rows_per_dm(cutout)[in_band]).astype(np.int64)
    rows = value.shape[1]
    total, count = (shift_channels(part[in_band], 0, delays, rows, 0).sum(axis=0) for part in (value, weights))
    known = count > 0.5 * weights[in_band].any(axis=1).sum()
    if known.sum() < _MIN_ROWS:
        raise StoreError(f"the cut-out has {known.sum()} rows with enough good channels, a profile needs {_MIN_ROWS}")
    times = (cutout.seconds + cutout.row_seconds / 2 - cutout.pulse.seconds) * 1e3
    return times[known], np.asarray(total[known] / np.sqrt(count[known]), np.float64)


def _structure_curve(
    cutout: Cutout,
    value: NDArray[np.float32],
    weights: NDArray[np.float32],
    delay_per_dm: Floats,
    dms: Floats,
    channels: NDArray[np.bool_],
    smooth_rows: float,
) -> Floats:
    """Return the sum of the squared slope of the smoothed profile, ``[trial]``."""
    in_band = channels & channels_in_band(cutout)
    curve = []
    middle = (delay_per_dm[in_band].min() + delay_per_dm[in_band].max()) / 2
    start = round((cutout.pulse.seconds - cutout.seconds[0]) / cutout.row_seconds)
    half = max(32, 4 * round(cutout.pulse.width / cutout.row_seconds))
    for dm in dms:
        delays = np.rint(cutout.pulse.dm * middle + dm * (delay_per_dm[in_band] - middle)).astype(np.int64)
        total, count = (
            shift_channels(part[in_band], start - half, delays, 2 * half, 0).sum(axis=0) for part in (value, weights)
        )
        profile = total / np.sqrt(np.maximum(count, 1))
        curve.append(float(np.sum(np.diff(gaussian_filter1d(profile, smooth_rows)) ** 2)))
    return np.array(curve)


def _parabola_peak(dms: Floats, curve: Floats) -> float:
    """Return the peak of a parabola through the highest points."""
    # Delays are whole rows, which makes steps in the curve; more points smooth them.
    points = max(_PEAK_POINTS, len(dms) // 20)
    at = int(np.argmax(curve))
    near = slice(max(at - points, 0), at + points + 1)
    a, b, _ = np.polyfit(dms[near] - dms[at], curve[near], 2)
    if a >= 0 or at in (0, len(dms) - 1):
        raise StoreError(f"the curve has no peak between DM {dms[0]:.3f} and {dms[-1]:.3f} pc/cm3")
    return float(dms[at] + np.clip(-b / (2 * a), dms[near][0] - dms[at], dms[near][-1] - dms[at]))
