"""Fourth moments of clipped voltages, as if they had not been clipped."""

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
                # Lost cells may hold anything, and of what is no number there is no index.
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
    """Raise ``ValueError`` if shapes or types of :func:`correct_clipping`'s arguments do not fit together."""
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
    r"""Multiply the kurtosis of the cells of times ``[start, stop)`` by what a table has for their power.

    Parameters
    ----------
    power
        float32 ``[time, channel, product]``: mean \|v\|², of each polarisation first.
    moment4
        float32 ``[time, channel, pol]``: mean \|v\|⁴.
    steps
        float32 ``[channel]``: steps of the table per unit of power.
    table
        float32 ``[step]``: factors; beyond the last step, it is the last.
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
