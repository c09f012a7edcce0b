"""Incoherent dedispersion in two stages, in integers.

CUDA version of :mod:`edgefilter_kernels.search.dedisperse`, equal bit for bit. Shapes, types and layout are checked.
The contents of the tables of edges and delays are not, because the host would have to wait for the GPU: they are
checked where the tables are made.
"""

from typing import Any

import numpy as np

from edgefilter_kernels.cuda.raw import array_namespace, launch

_THREADS = 256
_SUMS_PER_THREAD = 4  # as in dedisperse.cu


def add_channels(power: Any, edges: Any, starts: Any, out: Any) -> None:
    """Do the same as :func:`edgefilter_kernels.search.dedisperse.add_channels` for arrays on the device."""
    if power.dtype != np.int8 or out.dtype != np.int16:
        raise ValueError("power must be int8 and out int16, both C-contiguous")
    _check_shapes(power, edges, starts, out)
    sum_along_tracks("add_channels", power, edges, flat_starts(starts, power.shape[1]), out)


def add_subbands(sums: Any, parts: Any, starts: Any, out: Any) -> None:
    """Do the same as :func:`edgefilter_kernels.search.dedisperse.add_subbands` for arrays on the device."""
    if sums.dtype != np.int16 or out.dtype != np.float32:
        raise ValueError("sums must be int16 and out float32, both C-contiguous")
    _check_shapes(sums, parts, starts, out)
    sum_along_tracks("add_subbands", sums, parts, flat_starts(starts, sums.shape[1]), out)


def flat_starts(starts: Any, times: int) -> Any:
    """Return the starts of tracks as indices into all rows, flattened.

    Parameters
    ----------
    starts
        Integers ``[…, row]``: start of each track in its own row.
    times
        Length of a row.

    Returns
    -------
    flat_starts
        Integers ``[…, row]``.
    """
    return starts + array_namespace(starts).arange(starts.shape[-1]) * times


def sum_along_tracks(kernel: str, rows: Any, edges: Any, flat_start: Any, out: Any) -> None:
    """Launch one of the two stages of dedispersion.

    Parameters
    ----------
    kernel
        ``add_channels`` or ``add_subbands``.
    rows, edges, out
        As for :func:`add_channels` or :func:`add_subbands`.
    flat_start
        Starts of the tracks as :func:`flat_starts` gives them.
    """
    tracks, sums, length = out.shape
    if out.size:
        grid = (-(-length // (_THREADS * _SUMS_PER_THREAD)), sums, tracks)
        arguments = (rows, edges, flat_start, np.int32(flat_start.shape[1]), np.int32(length), out)
        launch("search/dedisperse.cu", kernel, grid, (_THREADS,), arguments)


def _check_shapes(rows: Any, edges: Any, starts: Any, out: Any) -> None:
    if not (rows.flags.c_contiguous and out.flags.c_contiguous):
        raise ValueError("rows and sums must be C-contiguous")
    if not (rows.ndim == 2 and starts.shape == (len(out), len(rows)) and out.shape[1:2] == (len(edges) - 1,)):
        raise ValueError(
            f"shapes do not agree: rows {rows.shape}, edges {edges.shape}, starts {starts.shape}, out {out.shape}"
        )
