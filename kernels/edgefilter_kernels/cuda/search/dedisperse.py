"""Incoherent dedispersion in two stages, in integers.

Equal to :mod:`edgefilter_kernels.search.dedisperse`, bit for bit. Shapes, types and layout are checked. What lies in
tables of edges and delays is not, because that would make the host wait for the card: tables are checked where they are
made.
"""

from typing import Any

import numpy as np

from edgefilter_kernels.cuda.raw import launch, namespace

_THREADS = 256
_EACH = 4  # sums a thread, as in dedisperse.cu


def add_channels(power: Any, edges: Any, begin: Any, out: Any) -> None:
    """As :func:`edgefilter_kernels.search.dedisperse.add_channels`: arrays on the device."""
    if power.dtype != np.int8 or out.dtype != np.int16:
        raise ValueError("power must be int8 and out int16, both C-contiguous")
    _fits(power, edges, begin, out)
    add_along("add_channels", power, edges, places(begin, power.shape[1]), out)


def add_subbands(sums: Any, parts: Any, begin: Any, out: Any) -> None:
    """As :func:`edgefilter_kernels.search.dedisperse.add_subbands`: arrays on the device."""
    if sums.dtype != np.int16 or out.dtype != np.float32:
        raise ValueError("sums must be int16 and out float32, both C-contiguous")
    _fits(sums, parts, begin, out)
    add_along("add_subbands", sums, parts, places(begin, sums.shape[1]), out)


def places(begin: Any, times: int) -> Any:
    """Return where tracks begin in all rows, one after the other, given where they begin in their own, ``[…, row]``."""
    return begin + namespace(begin).arange(begin.shape[-1]) * times


def add_along(kernel: str, rows: Any, edges: Any, place: Any, out: Any) -> None:
    """Run ``add_channels`` or ``add_subbands`` along tracks that begin at :func:`places`."""
    tracks, sums, length = out.shape
    if out.size:
        grid = (-(-length // (_THREADS * _EACH)), sums, tracks)
        arguments = (rows, edges, place, np.int32(place.shape[1]), np.int32(length), out)
        launch("search/dedisperse.cu", kernel, grid, (_THREADS,), arguments)


def _fits(rows: Any, edges: Any, begin: Any, out: Any) -> None:
    if not (rows.flags.c_contiguous and out.flags.c_contiguous):
        raise ValueError("rows and sums must be C-contiguous")
    if not (rows.ndim == 2 and begin.shape == (len(out), len(rows)) and out.shape[1:2] == (len(edges) - 1,)):
        raise ValueError(f"shapes do not agree: {rows.shape}, {edges.shape}, {begin.shape}, {out.shape}")
