"""Scratch memory of a filterbank on the GPU: CUDA version of :mod:`edgefilter_kernels.filterbank.workspace`.

The filterbank itself is made by :func:`edgefilter_kernels.filterbank.workspace.make_filterbank`; its coefficients are
then copied to the GPU (``bank._replace(coefficients=…)``).
"""

from typing import Any, NamedTuple

import numpy as np

from edgefilter_kernels.cuda.raw import array_namespace
from edgefilter_kernels.filterbank.workspace import FLUSH_SPECTRA, Filterbank

BATCH_BYTES = 32 << 20
"""Filtered spectra of a batch. They are written once, transformed in place and read once; while they fit the L2 cache
(50 MB of an H100), they do not pass through memory. Measure before changing it."""


class Workspace(NamedTuple):
    """Scratch memory of the filterbank; made by :func:`make_workspace`.

    Parameters
    ----------
    batch_cells, batch_spectra
        Cells, and spectra of each of them, that are processed at a time: several whole cells, or a piece of one.
    voltage
        complex64 ``[batch_cells batch_spectra, group, pol, N]``: filtered rows, transformed in place.
    partial
        float32 ``[batch_cells, sums of up to FLUSH_SPECTRA spectra, sum, group N]``.
    rfft_twiddle
        complex64 ``[N]``: exp(-pi i k / N), for transforms of real input.
    phase
        complex64 ``[N]``: exp(-2 pi i k / N).
    plan
        cuFFT plan for all of ``voltage``; None on the host. It does not use CuPy's cache of plans, so that no other
        plans take memory.
    """

    batch_cells: int
    batch_spectra: int
    voltage: Any
    partial: Any
    rfft_twiddle: Any
    phase: Any
    plan: Any


def make_workspace(bank: Filterbank, spectra: int, channels: int, products: int) -> Workspace:
    """CUDA version of :func:`edgefilter_kernels.filterbank.workspace.make_workspace`."""
    xp = array_namespace(bank.coefficients)
    n, n_pols = bank.channels, bank.n_pols
    batch_cells, batch_spectra, group = batch_size(bank, spectra, channels)
    voltage = xp.empty((batch_cells * batch_spectra, group, n_pols, n), np.complex64)
    partial = xp.empty((batch_cells, -(-spectra // FLUSH_SPECTRA), products + n_pols, group * n), np.float32)
    rfft_twiddle, phase = (xp.asarray(np.exp(-1j * np.pi * f * np.arange(n) / n), np.complex64) for f in (1, 2))
    plan = None
    if xp.__name__ == "cupy":
        from cupy.cuda import cufft

        plan = cufft.Plan1d(n, cufft.CUFFT_C2C, voltage.size // n)
    return Workspace(batch_cells, batch_spectra, voltage, partial, rfft_twiddle, phase, plan)


def batch_size(bank: Filterbank, spectra: int, channels: int) -> tuple[int, int, int]:
    """Return how much a filterbank processes at a time.

    Parameters
    ----------
    bank
        The filterbank.
    spectra
        Spectra of a cell.
    channels
        Raw channels.

    Returns
    -------
    cells, spectra, channels
        Cells, spectra of each cell, and raw channels.
    """
    row = 8 * bank.channels * bank.n_pols
    group = min(channels, max(1, BATCH_BYTES // (row * min(spectra, FLUSH_SPECTRA))))
    fit = max(BATCH_BYTES // (row * group), 1)
    if fit >= spectra:
        return fit // spectra, spectra, group
    return 1, min(max(fit // FLUSH_SPECTRA, 1) * FLUSH_SPECTRA, spectra), group
