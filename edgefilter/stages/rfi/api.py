"""Flagging of plain arrays, for notebooks and comparisons, with the code that a node runs.

>>> import numpy as np
>>> import edgefilter
>>> power = np.random.default_rng(1).gamma(96, 1 / 96, (1024, 256)).astype(np.float32)
>>> frequencies = np.linspace(1200e6, 1600e6, 256)
>>> flags = edgefilter.flag(power, accumulated=96, sample_time=0.25e-3, frequencies=frequencies)
>>> bool((flags & edgefilter.FLAGS["power"]).mean() < 1e-3)
True
"""

from collections.abc import Sequence
from types import MappingProxyType
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from edgefilter.compute.threads import ThreadBackend
from edgefilter.core.cells import Flag, flag_name
from edgefilter.core.config import FlagSettings, Reduction
from edgefilter.core.errors import InputError
from edgefilter.core.validation import validate
from edgefilter.stages.rfi.flagger import Flagger
from edgefilter_kernels.filterbank.unpack import flag_nonfinite

FLAGS = MappingProxyType({flag_name(flag): np.uint16(flag) for flag in Flag})
"""The bit of each flag. ``tagged`` does not blank: a cell is good where ``flags & ~FLAGS["tagged"]`` is 0."""


def flag(  # noqa: PLR0913 - what a user passes by keyword, each of its own meaning
    power: ArrayLike,
    moment4: ArrayLike | None = None,
    *,
    accumulated: int | ArrayLike,
    sample_time: float,
    frequencies: ArrayLike,
    protect: Sequence[tuple[float, float]] = (),
    valid: ArrayLike | None = None,
    threads: int = 0,
    **settings: Any,
) -> NDArray[np.uint16]:
    r"""Find interference in one block of detected power.

    Parameters
    ----------
    power
        ``[time, channel]`` or ``[time, channel, pol]``: mean \|v\|² of one or two polarisations, which add up.
    moment4
        The same shape: mean \|v\|⁴. Without it there is no spectral kurtosis.
    accumulated
        Voltages of a polarisation in each mean, one number or ``[time]``; 0 if not known.
    sample_time
        Time from one sample to the next, s.
    frequencies
        ``[channel]``: centres of the channels, Hz.
    protect
        Bands, [low, high] in Hz, of spectral lines: their cells are tagged and not flagged.
    valid
        bool ``[time, channel]``: False for missing cells, which are flagged ``lost``; so are cells that are not finite.
    threads
        Worker threads, 0 for one a core. The flags do not depend on it.
    **settings
        Settings of :class:`edgefilter.core.config.FlagSettings`, such as ``power_sigma=0``, which switches a flagger
        off. Bands are in MHz there.

    Returns
    -------
    ndarray
        uint16 ``[time, channel]``, one bit for each flagger, see :data:`FLAGS`; 0 is clean.

    Raises
    ------
    InputError
        If shapes or values of the arrays do not fit.
    ConfigError
        If a setting is not valid.
    """
    cells = np.ascontiguousarray(power, np.float32)
    cells = cells[:, :, None] if cells.ndim == 2 else cells
    mhz = np.asarray(frequencies, np.float64) / 1e6
    if cells.ndim != 3 or cells.shape[2] not in (1, 2) or not cells.size:
        raise InputError(
            f"power is {cells.shape}, must be [time, channel] or [time, channel, pol] with 1 or 2 polarisations"
        )
    if mhz.shape != cells.shape[1:2] or not np.isfinite(mhz).all():
        raise InputError(f"frequencies are {mhz.shape}, must be finite, one for each of {cells.shape[1]} channels")
    if not (np.isfinite(sample_time) and sample_time > 0):
        raise InputError(f"sample_time is {sample_time}, must be above 0 s")
    fourth_moment = _match_shape("moment4", moment4, cells)
    valid_mask = None if valid is None else np.asarray(valid, np.bool_)
    if valid_mask is not None and valid_mask.shape != cells.shape[:2]:
        raise InputError(f"valid is {valid_mask.shape}, must be {cells.shape[:2]}")
    numbers = np.asarray(accumulated)
    if numbers.shape not in ((), cells.shape[:1]) or (numbers < 0).any():
        raise InputError(f"accumulated is {numbers.shape}, must be one number or one for each of {len(cells)} times")
    counts = np.ascontiguousarray(np.broadcast_to(numbers, cells.shape[:1]), np.int32)
    flag_settings = _flag_settings(protect, settings)
    flags = np.empty(cells.shape[:2], np.uint16)

    def find_lost(start: int, stop: int) -> None:
        rows = slice(start, stop)
        flags[rows] = 0 if valid_mask is None else np.where(valid_mask[rows], np.uint16(0), np.uint16(Flag.LOST))
        for values in (cells, fourth_moment):
            if values is not None:
                flag_nonfinite(values[rows], flags[rows], int(Flag.LOST))

    with ThreadBackend(threads) as backend:
        backend.parallel_for(len(flags), find_lost, ranges_per_thread=4)
        Flagger(mhz, sample_time, flag_settings, backend).flag(cells, fourth_moment, counts, cells.shape[2], flags)
    return flags


def _match_shape(name: str, values: ArrayLike | None, like: NDArray[np.float32]) -> NDArray[np.float32] | None:
    if values is None:
        return None
    array = np.ascontiguousarray(values, np.float32)
    array = array[:, :, None] if array.ndim == 2 else array
    if array.shape != like.shape:
        raise InputError(f"{name} is {array.shape}, must be {like.shape} as power is")
    return array


def _flag_settings(protect: Sequence[tuple[float, float]], settings: dict[str, Any]) -> FlagSettings:
    bands = [[low / 1e6, high / 1e6] for low, high in protect]
    return validate(Reduction, {"flag": {"protect": bands, **settings}}, where="flag").flag
