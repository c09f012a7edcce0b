"""Matched boxcars over dedispersed series."""

import numpy as np
from numpy.typing import NDArray

from edgefilter_kernels.jit import kernel
from edgefilter_kernels.search.boxcar_series import Boxcars, search_series
from edgefilter_kernels.search.dedisperse import check_subbands, sum_subbands

__all__ = ["Boxcars", "boxcar_peaks", "dedispersed_peaks"]

Peaks = tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64], NDArray[np.float32]]

_TRIALS_PER_BATCH = 8  # dedispersed together: their series stay in the second-level cache


def boxcar_peaks(
    series: NDArray[np.float32],
    trials: NDArray[np.int64],
    parts: tuple[int, int],
    scale: NDArray[np.float32],
    repeat: int,
    boxcars: Boxcars,
) -> Peaks:
    """Find the best boxcar in each cell of time.

    A boxcar of width w that starts at t belongs to time ``t + w // 2``. Its S/N is its sum over its scatter, once the
    series has level 0 and scatter 1, measured over the searched times only. The scatter of a boxcar is √w, or that of
    independent boxcars of the series if it is larger (red noise).

    Parameters
    ----------
    series
        float32 ``[trial, part, time]``, C-contiguous.
    trials
        int64 ``[searched]``: rows of ``series`` that are searched.
    parts
        The sum over parts ``[parts[0], parts[1])`` is searched.
    scale
        float32 ``[ceil(time / repeat)]``: factor of the times ``[repeat i, repeat (i + 1))`` that gives white noise
        unit variance; 0 where there is no data.
    repeat
        Times that share one factor.
    boxcars
        Widths, threshold and times.

    Returns
    -------
    trial, time, width, snr
        int64, int64, int64 and float32 ``[peak]``: one for each cell and trial with a boxcar at or above the threshold,
        ordered by trial and time.

    Raises
    ------
    ValueError
        If a shape, a type or the layout differs from these, or a boxcar leaves the series.
    """
    if series.dtype != np.float32 or series.ndim != 3 or not series.flags.c_contiguous:
        raise ValueError("series must be C-contiguous float32 [trial, part, time]")
    length = series.shape[2]
    if scale.dtype != np.float32 or scale.shape != (-(-length // repeat),):
        raise ValueError(f"scale must be float32 [{-(-length // repeat)}], is {scale.dtype} {scale.shape}")
    if not 0 <= parts[0] < parts[1] <= series.shape[1]:
        raise ValueError(f"parts {parts} must lie in [0, {series.shape[1]})")
    _check_boxcars(boxcars, length)
    trial, time, width, snr = _peaks(series, trials, parts, np.repeat(scale, repeat)[:length], boxcars)
    return trials[trial], time, width, snr


def dedispersed_peaks(
    sums: NDArray[np.int16],
    parts: NDArray[np.int64],
    starts: NDArray[np.int64],
    trial_bands: NDArray[np.int64],
    bands: NDArray[np.int64],
    scale: NDArray[np.float32],
    boxcars: Boxcars,
) -> Peaks:
    """Dedisperse a group of trials and find the best boxcar in each cell of time, for several bands.

    Gives what :func:`~edgefilter_kernels.search.dedisperse.add_subbands` and then :func:`boxcar_peaks` for each band
    give, a few trials at a time: the DM-time plane is never stored.

    Parameters
    ----------
    sums, parts, starts
        See :func:`~edgefilter_kernels.search.dedisperse.add_subbands`.
    trial_bands
        int64 ``[entry, 2]``: a trial, in ascending order, and the band in which it is searched.
    bands
        int64 ``[band, 2]``: parts ``[start, stop)`` of each band.
    scale
        float32 ``[band, time]``: factor of each time of the series; see :func:`boxcar_peaks`.
    boxcars
        Widths, threshold and times.

    Returns
    -------
    entry, time, width, snr
        int64, int64, int64 and float32 ``[peak]``: row of ``trial_bands``, and the best boxcar of a cell, if it reaches
        the threshold; ordered by entry and time.

    Raises
    ------
    ValueError
        If a shape, a type or the layout differs from these, a boxcar leaves the series, or a track leaves ``sums``.
    """
    if scale.dtype != np.float32 or scale.ndim != 2 or len(scale) != len(bands):
        raise ValueError(f"scale must be float32 [{len(bands)}, time], is {scale.dtype} {scale.shape}")
    if not _are_valid_bands(bands, len(parts) - 1):
        raise ValueError(f"bands must be ranges of the parts [0, {len(parts) - 1})")
    if not _are_valid_trial_bands(trial_bands, len(starts), len(bands)):
        raise ValueError(f"trial_bands must be in ascending order and name {len(starts)} trials and {len(bands)} bands")
    check_subbands(sums, parts, starts, scale.shape[1])
    _check_boxcars(boxcars, scale.shape[1])
    peaks: Peaks = _dedispersed_peaks(sums, parts, starts, trial_bands, bands, scale, boxcars)
    return peaks


def _check_boxcars(boxcars: Boxcars, length: int) -> None:
    first, count, octaves, _, interval = boxcars
    half = (1 << octaves) // 4
    if octaves < 1 or count < 1 or interval < 1 or first < half or first + count + half > length:
        raise ValueError(f"boxcars of {octaves} octaves at [{first}, {first + count}) leave {length} times")


@kernel
def _are_valid_bands(bands: NDArray[np.int64], parts: int) -> bool:
    good = True
    for first, last in bands:
        good &= 0 <= first < last <= parts
    return good


@kernel
def _are_valid_trial_bands(trial_bands: NDArray[np.int64], trials: int, bands: int) -> bool:
    good, before = True, 0
    for trial, band in trial_bands:
        good &= before <= trial < trials and 0 <= band < bands
        before = trial
    return good


@kernel
def _peaks(
    series: NDArray[np.float32],
    trials: NDArray[np.int64],
    parts: tuple[int, int],
    scale: NDArray[np.float32],
    boxcars: Boxcars,
) -> Peaks:
    gaps, work = bool((scale == 0.0).any()), np.empty((5, scale.size), np.float32)
    found = _empty_peaks()
    for number, i in enumerate(trials):
        search_series(number, series[i, parts[0] : parts[1]], scale, gaps, boxcars, work, found)
    peaks: Peaks = _to_columns(found)
    return peaks


@kernel
def _dedispersed_peaks(
    sums: NDArray[np.int16],
    parts: NDArray[np.int64],
    starts: NDArray[np.int64],
    trial_bands: NDArray[np.int64],
    bands: NDArray[np.int64],
    scale: NDArray[np.float32],
    boxcars: Boxcars,
) -> Peaks:
    trials, length = starts.shape[0], scale.shape[1]
    work, series = np.empty((5, length), np.float32), np.empty((_TRIALS_PER_BATCH, parts.size - 1, length), np.float32)
    gaps = [bool((one == 0.0).any()) for one in scale]
    found = _empty_peaks()
    number = 0
    for first in range(0, trials, _TRIALS_PER_BATCH):
        some = starts[first : min(first + _TRIALS_PER_BATCH, trials)]
        sum_subbands(sums, parts, some, series)
        while number < len(trial_bands) and trial_bands[number, 0] < first + len(some):
            trial, band = trial_bands[number]
            line = series[trial - first, bands[band, 0] : bands[band, 1]]
            search_series(number, line, scale[band], gaps[band], boxcars, work, found)
            number += 1
    peaks: Peaks = _to_columns(found)
    return peaks


@kernel
def _empty_peaks() -> list[tuple[int, int, int, np.float32]]:
    # An empty list whose type the compiler can infer.
    return [(i, i, i, np.float32(i)) for i in range(0)]


@kernel
def _to_columns(
    found: list[tuple[int, int, int, np.float32]],
) -> Peaks:
    entry, time, width = np.empty((3, len(found)), np.int64)
    snr = np.empty(len(found), np.float32)
    for i, event in enumerate(found):
        entry[i], time[i], width[i], snr[i] = event
    return entry, time, width, snr
