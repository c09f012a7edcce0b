"""Correct the fourth moments of clipped voltages."""

import numpy as np
from numpy.typing import NDArray

from edgefilter_kernels.jit import kernel


@kernel
def _correct_clipping(
    power: NDArray[np.float32], moment4: NDArray[np.float32], steps: NDArray[np.float32], table: NDArray[np.float32],
    out: NDArray[np.float32], start: int, stop: int,
) -> None:  # fmt: skip
    _, channels, n_pols = moment4.shape
    last = np.float32(len(table) - 1)
    for t in range(start, stop):
        for c in range(channels):
            for pol in range(n_pols):
                level = power[t, c, pol]
                at = level * steps[c]
                # Lost cells may hold NaN, which is no index.
                step = int(min(at, last)) if at > 0 else 0
                square = level * level
                out[t, c, pol] = square + (moment4[t, c, pol] - square) * table[step]


def check_clipping(
    power: NDArray[np.float32],
    moment4: NDArray[np.float32],
    steps: NDArray[np.float32],
    table: NDArray[np.float32],
    out: NDArray[np.float32],
) -> None:
    """Check that the arguments of :func:`correct_clipping` fit together.

    Parameters
    ----------
    power, moment4, steps, table, out
        As of :func:`correct_clipping`, on the host or on a GPU.

    Raises
    ------
    ValueError
        If shapes or types do not fit together.
    """
    times, channels, n_pols = moment4.shape
    fits = power.shape[:2] == (times, channels) and power.shape[2] >= n_pols and out.shape == moment4.shape
    if not fits or steps.shape != (channels,) or table.ndim != 1 or not len(table):
        raise ValueError(f"fourth moments {moment4.shape} do not go with powers {power.shape} and steps {steps.shape}")
    if any(array.dtype != np.float32 for array in (power, moment4, steps, table, out)):
        raise ValueError("powers, fourth moments and tables must be float32")


def correct_clipping(
    power: NDArray[np.float32],
    moment4: NDArray[np.float32],
    steps: NDArray[np.float32],
    table: NDArray[np.float32],
    out: NDArray[np.float32],
    start: int,
    stop: int,
) -> None:
    r"""Multiply the kurtosis of the cells of times ``[start, stop)`` by a factor that depends on their power.

    Parameters
    ----------
    power
        float32 ``[time, channel, product]``: mean \|v\|², of each polarisation first.
    moment4
        float32 ``[time, channel, pol]``: mean \|v\|⁴.
    steps
        float32 ``[channel]``: steps of the table per unit of power.
    table
        float32 ``[step]``: factors; the last one holds for all higher powers.
    out
        Output, as ``moment4``: P² + (F - P²) table[P steps] of power P and fourth moment F.
    start, stop
        Times to work on.

    Raises
    ------
    ValueError
        If shapes or types do not fit together.
    """
    check_clipping(power, moment4, steps, table, out)
    _correct_clipping(power, moment4, steps, table, out, start, stop)
