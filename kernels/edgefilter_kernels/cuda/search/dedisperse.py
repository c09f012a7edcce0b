"""Incoherent dedispersion in two stages, in integers.

Equal to :mod:`edgefilter_kernels.search.dedisperse`, bit for bit. Shapes, types and layout are checked. What lies in
tables of edges and delays is not, because that would make the host wait for the card: tables are checked where they are
made.
"""

from typing import Any

import numpy as np

from edgefilter_kernels.cuda.raw import array_namespace, launch

_THREADS = 256
_SUMS_PER_THREAD = 4  # sums a thread, as in dedisperse.cu


def add_channels(power: Any, edges: Any, starts: Any, out: Any) -> None:
    """As :func:`edgefilter_kernels.search.dedisperse.add_channels`: arrays on the device."""
    if power.dtype != np.int8 or out.dtype != np.int16:
        raise ValueError("power must be int8 and out int16, both C-contiguous")
    _check_shapes(power, edges, starts, out)
    sum_along_tracks("add_channels", power, edges, flat_starts(starts, power.shape[1]), out)


def add_subbands(sums: Any, parts: Any, starts: Any, out: Any) -> None:
    """As :func:`edgefilter_kernels.search.dedisperse.add_subbands`: arrays on the device."""
    if sums.dtype != np.int16 or out.dtype != np.float32:
        raise ValueError("sums must be int16 and out float32, both C-contiguous")
    _check_shapes(sums, parts, starts, out)
    sum_along_tracks("add_subbands", sums, parts, flat_starts(starts, sums.shape[1]), out)


def flat_starts(starts: Any, times: int) -> Any:
    """Return where tracks begin in all rows, one after the other, given where they begin in their own, ``[…, row]``."""
    return starts + array_namespace(starts).arange(starts.shape[-1]) * times


def sum_along_tracks(kernel: str, rows: Any, edges: Any, flat_start: Any, out: Any) -> None:
    """Run ``add_channels`` or ``add_subbands`` along tracks that begin at :func:`flat_starts`."""
    tracks, sums, length = out.shape
    if out.size:
        grid = (-(-length // (_THREADS * _SUMS_PER_THREAD)), sums, tracks)
        arguments = (rows, edges, flat_start, np.int32(flat_start.shape[1]), np.int32(length), out)
        launch("search/dedisperse.cu", kernel, grid, (_THREADS,), arguments)


def _check_shapes(rows: Any, edges: Any, starts: Any, out: Any) -> None:
    if not (rows.flags.c_contiguous and out.flags.c_contiguous):
        raise ValueError("rows and sums must be C-contiguous")
    if not (rows.ndim == 2 and starts.shape == (len(out), len(rows)) and out.shape[1:2] == (len(edges) - 1,)):
        raise ValueError(f"shapes do not agree: {rows.shape}, {edges.shape}, {starts.shape}, {out.shape}")
