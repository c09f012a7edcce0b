"""Windows of SumThreshold, and the limits that follow from false-flag rates.

:mod:`edgefilter_kernels.rfi.sumthreshold` finds the runs.
"""

import numpy as np
from scipy.special import ndtr

from edgefilter.stages.rfi.thresholds import kurtosis_limits, kurtosis_sigma, power_limit
from edgefilter_kernels.rfi.sumthreshold import RunWindows

POWER_WINDOWS = (1, 2, 4, 8, 16, 32, 64)
"""Lengths of the windows for power, cells, ascending."""
KURTOSIS_WINDOWS = (1, 4, 16, 64)
"""Lengths of the windows for kurtosis, cells, ascending."""

_ASSUMED_SPECTRA = 8  # where the number of voltages in a cell is not known: a bright cell may be chance, or a burst


def power_windows(spectra: int, sigma: float) -> RunWindows:
    """Return the windows for runs of high power.

    Parameters
    ----------
    spectra
        Powers in a cell, of all polarisations together; 0 if not known.
    sigma
        Threshold, as the false-flag rate of a Gaussian.

    Returns
    -------
    RunWindows
        Lengths and limits; there is no limit for low power.
    """
    limits = np.full((2, len(POWER_WINDOWS)), np.inf, np.float32)
    limits[0] = [power_limit(spectra or _ASSUMED_SPECTRA, window, sigma) for window in POWER_WINDOWS]
    return RunWindows(np.array(POWER_WINDOWS), limits)


def kurtosis_windows(spectra: int, n_pols: int, sigma: float) -> RunWindows:
    """Return the windows for runs of high and of low kurtosis.

    Parameters
    ----------
    spectra
        Voltages of a polarisation in a cell.
    n_pols
        Polarisations with a fourth moment; 0 for infinite limits.
    sigma
        Threshold, as the false-flag rate of a Gaussian on either side.

    Returns
    -------
    RunWindows
        Lengths and limits, in standard deviations of a cell.
    """
    limits = np.full((2, len(KURTOSIS_WINDOWS)), np.inf, np.float32)
    if n_pols:
        tail = float(ndtr(-sigma))
        for at, window in enumerate(KURTOSIS_WINDOWS):
            low, high = kurtosis_limits(spectra, tail, window * n_pols)
            unit = window * np.sqrt(n_pols) / kurtosis_sigma(spectra)
            limits[:, at] = (high - 1) * unit, (1 - low) * unit
    return RunWindows(np.array(KURTOSIS_WINDOWS), limits)
