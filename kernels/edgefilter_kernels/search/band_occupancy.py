"""The fraction of a boxcar's signal that comes from outside its strongest part of the band."""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from edgefilter_kernels.jit import kernel
from edgefilter_kernels.search.normalise import COUNTS_PER_SIGMA, FULL_WEIGHT


class FoundBoxcars(NamedTuple):
    """Boxcars of dedispersed series, ``[boxcar]``.

    Parameters
    ----------
    trial
        int64: row of the table of delays.
    start
        int64: first time of the boxcar at delay 0.
    width
        int64: time steps.
    snr
        float32: S/N.
    """

    trial: NDArray[np.int64]
    start: NDArray[np.int64]
    width: NDArray[np.int64]
    snr: NDArray[np.float32]


@kernel
def band_occupancy(
    power: NDArray[np.int8],
    weight: NDArray[np.int8],
    repeat: int,
    delays: NDArray[np.int64],
    max_part: float,
    boxcars: FoundBoxcars,
) -> NDArray[np.float64]:
    """Return the fraction of each boxcar's signal that remains without its strongest part of the band.

    It is ``1 - max_part`` for signal that is spread evenly over the band, and about 0 for signal of a few channels:
    narrow-band interference, or another pulse whose track crosses this one. The signal is ``snr sqrt(width Σ weight)``;
    the rest of the sum is a baseline, spread evenly over the channels.

    Parameters
    ----------
    power
        int8 ``[channel, time]``, normalised: :data:`~edgefilter_kernels.search.normalise.COUNTS_PER_SIGMA` to a sigma,
        variance ``weight``.
    weight
        int8 ``[channel, ceil(time / repeat)]``, in parts of :data:`~edgefilter_kernels.search.normalise.FULL_WEIGHT`; 0
        where there is no data.
    repeat
        Times that share one weight.
    delays
        int64 ``[trial, channel]``: delays, time steps.
    max_part
        Fraction of the valid band that is left out, in one piece.
    boxcars
        The boxcars.

    Returns
    -------
    remaining_fraction
        float64 ``[boxcar]``; 0 for a boxcar without signal.
    """
    trial, start, width, snr = boxcars
    channels = delays.shape[1]
    remaining_fraction = np.empty(start.size, np.float64)
    sums = np.empty(channels, np.float64)
    valid = np.empty(channels, np.float64)
    for i in range(start.size):
        total, valid_weight = 0.0, 0.0
        for c in range(channels):
            at = start[i] + delays[trial[i], c]
            counts = 0
            for t in range(at, at + width[i]):
                counts += power[c, t]
            sums[c] = counts / COUNTS_PER_SIGMA
            valid[c] = weight[c, (at + width[i] // 2) // repeat] / FULL_WEIGHT
            total += sums[c]
            valid_weight += valid[c]
        signal = snr[i] * np.sqrt(width[i] * valid_weight)
        base = (total - signal) / valid_weight if valid_weight > 0.0 else 0.0
        strongest, piece, covered, first = 0.0, 0.0, 0.0, 0
        for c in range(channels):
            piece += sums[c] - base * valid[c]
            covered += valid[c]
            while covered > max_part * valid_weight and first < c:
                piece -= sums[first] - base * valid[first]
                covered -= valid[first]
                first += 1
            strongest = max(strongest, piece)
        remaining_fraction[i] = (signal - strongest) / signal if signal > 0.0 else 0.0
    return remaining_fraction
