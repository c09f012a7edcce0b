"""Whether a boxcar's signal comes from all over the band or from a few channels."""

import numpy as np
from numpy.typing import NDArray

from edgefilter_kernels.jit import kernel
from edgefilter_kernels.search.normalise import COUNTS_PER_SIGMA, FULL_WEIGHT


@kernel
def band_occupancy(
    power: NDArray[np.int8],
    weight: NDArray[np.int8],
    repeat: int,
    delays: NDArray[np.int64],
    max_part: float,
    trial: NDArray[np.int64],
    start: NDArray[np.int64],
    width: NDArray[np.int64],
    snr: NDArray[np.float32],
) -> NDArray[np.float64]:
    """Fraction of each boxcar's sum that is left without its strongest part of the band.

    Evenly spread signal leaves ``1 - max_part``; signal of a few channels, such as the crossing of another pulse's
    track, leaves about 0. The sum is taken as ``snr sqrt(width Σ weight)``, what exceeds it is baseline and spread
    evenly.

    Parameters
    ----------
    power
        int8 ``[channel, time]``, normalised: :data:`~edgefilter_kernels.search.normalise.COUNTS_PER_SIGMA` to a sigma,
        variance ``weight``.
    weight
        int8 ``[channel, ceil(time / repeat)]`` in parts of :data:`~edgefilter_kernels.search.normalise.FULL_WEIGHT`; 0
        where there is no data.
    repeat
        Times that have one weight.
    delays
        int64 ``[trial, channel]``: delays, time steps.
    max_part
        Largest part of the (valid) band that is left out, in one piece.
    trial, start, width, snr
        ``[boxcar]``: row of ``delays``, undelayed first time, width in time steps, S/N.
    """
    channels = delays.shape[1]
    occupancy = np.empty(start.size, np.float64)
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
        occupancy[i] = (signal - strongest) / signal if signal > 0.0 else 0.0
    return occupancy
