"""The room that a filterbank works in on a card: :mod:`edgefilter_kernels.filterbank.workspace`.

A bank is made by :func:`edgefilter_kernels.filterbank.workspace.make_bank`, with its coefficients taken to the card
(``bank._replace(coefficients=…)``).
"""

from typing import Any, NamedTuple

import numpy as np

from edgefilter_kernels.cuda.raw import namespace
from edgefilter_kernels.filterbank.workspace import FLUSH, Bank

BATCH_BYTES = 32 << 20
"""Filtered spectra of a batch: they are written once, transformed in place and read once, and what is in the second
level of cache in between (50 MB of an H100) does not go through the memory. Measure before changing it."""


class Scratch(NamedTuple):
    """What the filterbank works in; made by :func:`make_scratch`.

    Parameters
    ----------
    cells, piece
        Cells, and spectra of each of them, that go through it at a time: many whole cells, or a piece of one.
    voltage
        complex64 ``[cells piece, group, hand, N]``: filtered rows, transformed in place.
    partial
        float32 ``[cells, sums of up to FLUSH spectra, sum, group N]``.
    turn
        complex64 ``[N]``: exp(-pi i k / N), which untangles real input.
    phase
        complex64 ``[N]``: exp(-2 pi i k / N).
    plan
        cuFFT's, of all of ``voltage``; None on the host. It is made here once, past CuPy's cache of plans, so that
        there is never more memory in plans than this.
    """

    cells: int
    piece: int
    voltage: Any
    partial: Any
    turn: Any
    phase: Any
    plan: Any


def make_scratch(bank: Bank, spectra: int, channels: int, products: int) -> Scratch:
    """As :func:`edgefilter_kernels.filterbank.workspace.make_scratch`: on the device of the bank's coefficients."""
    xp = namespace(bank.coefficients)
    n, hands = bank.channels, bank.hands
    cells, piece, group = batch(bank, spectra, channels)
    voltage = xp.empty((cells * piece, group, hands, n), np.complex64)
    partial = xp.empty((cells, -(-spectra // FLUSH), products + hands, group * n), np.float32)
    turn, phase = (xp.asarray(np.exp(-1j * np.pi * f * np.arange(n) / n), np.complex64) for f in (1, 2))
    plan = None
    if xp.__name__ == "cupy":
        from cupy.cuda import cufft

        plan = cufft.Plan1d(n, cufft.CUFFT_C2C, voltage.size // n)
    return Scratch(cells, piece, voltage, partial, turn, phase, plan)


def batch(bank: Bank, spectra: int, channels: int) -> tuple[int, int, int]:
    """Return cells, spectra of each, and raw channels that go through a filterbank at a time."""
    row = 8 * bank.channels * bank.hands
    group = min(channels, max(1, BATCH_BYTES // (row * min(spectra, FLUSH))))
    fit = max(BATCH_BYTES // (row * group), 1)
    if fit >= spectra:
        return fit // spectra, spectra, group
    return 1, min(max(fit // FLUSH, 1) * FLUSH, spectra), group
