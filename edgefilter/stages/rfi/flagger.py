"""Interference: each flagger sets a bit of its own, none takes what is lost, none keeps memory from block to block.

::

    MASK ─▶ background ─▶ ZERO_DM ─▶ evidence: runs of power and of kurtosis ─▶ guard for the sky ─┬─▶ POWER, KURTOSIS
                                          └─▶ what is left of each channel ────────────────────────┴─▶ CARRIER, CHANNEL

What is flagged before the evidence does not enter it. ``docs/flagging.md`` has the reasons.
"""

from collections.abc import Callable
from functools import cache

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtr

from edgefilter.compute.threads import ThreadBackend
from edgefilter.core.cells import Flag, median_accumulated
from edgefilter.core.config import FlagSettings
from edgefilter.stages.rfi.background import Background, BlockView
from edgefilter.stages.rfi.channel_health import ResidualStats, flag_channels
from edgefilter.stages.rfi.dispersion_guard import DispersionGuard
from edgefilter.stages.rfi.gpu_tolerance import NOMINAL, ThresholdScale
from edgefilter.stages.rfi.quantisation import is_clipped, undo_clipping
from edgefilter.stages.rfi.thresholds import kurtosis_limits, kurtosis_sigma, power_limit
from edgefilter.stages.rfi.zero_dm import ZeroDmFlagger
from edgefilter_kernels.rfi.cell_statistics import (
    DISPERSED,
    GROUP_TIMES,
    HIGH_KURTOSIS,
    LOW_KURTOSIS,
    POWER_RUN,
    cell_statistics,
)
from edgefilter_kernels.rfi.combine import combine
from edgefilter_kernels.rfi.drifting_tones import DRIFTING_TONE, find_drifting_tones, line_layout, mark_drifting_tones
from edgefilter_kernels.rfi.intensity import LANES

_MIN_KURTOSIS_SPECTRA = 16  # fewer make the kurtosis estimator too wide to tell anything
_ASSUMED_SPECTRA = (
    8  # voltages that a cell is taken to have if it is not known: a bright cell may then be chance, or a burst
)
_POWER_WINDOWS = np.array([1, 2, 4, 8, 16, 32, 64])  # cells
_KURTOSIS_WINDOWS = np.array([1, 4, 16, 64])  # cells
_CELL_EVENT_SIGMA = 2.0  # sigma of a single cell from which on it fills a track of the sky: 2 % of noise do
_GROUP_EVENT_SIGMA = 1.0  # sigma of 16 cells from which on they do: 16 % of noise do


class Flagger:
    """The chain of flaggers for one band, from arrays to arrays.

    Parameters
    ----------
    frequencies_mhz
        float64 ``[channel]``: centres.
    cell_seconds
        Duration of a cell, s.
    settings
        Which flaggers, how eager.
    backend
        Threads, or the card that the arrays are on.
    """

    def __init__(
        self, frequencies_mhz: NDArray[np.float64], cell_seconds: float, settings: FlagSettings, backend: ThreadBackend
    ) -> None:
        self._settings = settings
        self.backend = backend
        self._masked = backend.to_device(np.flatnonzero(channels_in_bands(frequencies_mhz, settings.mask)))
        self._protected = channels_in_bands(frequencies_mhz, settings.protect)
        self._dispersion_guard = DispersionGuard(frequencies_mhz, cell_seconds, settings.sky_dm, backend)
        self._zero_dm = ZeroDmFlagger(frequencies_mhz, cell_seconds, settings, backend)

    def flag(
        self,
        power: NDArray[np.float32],
        moment4: NDArray[np.float32] | None,
        accumulated: NDArray[np.int32],
        n_pols: int,
        flags: NDArray[np.uint16],
        threshold_scale: ThresholdScale = NOMINAL,
    ) -> None:
        r"""Set bits of ``flags``.

        Parameters
        ----------
        power
            float32 ``[time, channel, product]``: the first ``n_pols`` products are mean \|v\|² and add up.
        moment4
            float32 ``[time, channel, hand]``: mean \|v\|⁴, or None.
        accumulated
            int32 ``[time]``: voltages in a cell, 0 if not known.
        n_pols
            Products that add up to the intensity.
        flags
            uint16 ``[time, channel]``, changed in place. LOST cells stay LOST and nothing else.
        threshold_scale
            Which way decisions lean; see :mod:`edgefilter.stages.rfi.gpu_tolerance`.
        """
        accumulated = self.backend.to_host(accumulated)
        spectra = median_accumulated(accumulated)
        if moment4 is None or spectra < _MIN_KURTOSIS_SPECTRA or not self._settings.kurtosis_sigma:
            moment4 = self.backend.empty((*flags.shape, 0), np.float32)
        view = BlockView(power, moment4, accumulated, n_pols, flags, spectra)
        self._apply_mask(flags)
        background = Background.estimate(view, self.backend, threshold_scale)
        clipped = self.backend.run_async(lambda: is_clipped(view, background, self.backend))
        broadband_steps = self._zero_dm.find(view, background, threshold_scale.power)
        needs_correction = clipped()  # before flags change
        self._zero_dm.mark(flags, broadband_steps)
        kurtosis_uncertainty = np.zeros(flags.shape[1])
        if needs_correction:
            view, kurtosis_uncertainty = undo_clipping(view, background, self.backend)
        marks, groups, moments = self._cell_statistics(view, background, broadband_steps.gain_drift, threshold_scale)

        def find_bad_channels() -> NDArray[np.uint16]:
            moments[1, 1] += kurtosis_uncertainty * np.sqrt(n_pols) / kurtosis_sigma(max(spectra, 2)) * moments[1, 0]
            stats = ResidualStats.from_moments(moments, background.centre, background.sigma, spectra)
            found = flag_channels(stats, self._settings, threshold_scale.channel)
            found[self._protected & (found != 0)] = Flag.TAGGED
            return found

        channel = self.backend.run_async(find_bad_channels)
        self._dispersion_guard.mark(marks, groups, background.live, background.times)
        self._mark_drifting_tones(marks, groups, background.live)
        self._set_flags(marks, channel(), flags)

    def _apply_mask(self, flags: NDArray[np.uint16]) -> None:
        if self._masked.size:
            lost = flags[:, self._masked] & np.uint16(Flag.LOST) != 0
            flags[:, self._masked] |= np.where(lost, np.uint16(0), np.uint16(Flag.MASK))

    def _mark_drifting_tones(
        self, marks: NDArray[np.uint8], groups: NDArray[np.uint8], live: NDArray[np.bool_]
    ) -> None:
        """Set DRIFTING_TONE in ``marks`` on the lines of drifting tones."""
        max_drift, _, lines = line_layout(*groups.shape)
        hits = self.backend.empty((1 + 2 * max_drift, lines), np.uint8)
        if not hits.size:
            return
        live_channels, find, mark = (
            self.backend.to_device(live),
            self.backend.kernel(find_drifting_tones),
            self.backend.kernel(mark_drifting_tones),
        )
        self.backend.parallel_for(len(hits), lambda start, stop: find(groups, live_channels, hits, start, stop))
        # Lines cross each other: only ranges of times share no cell.
        self.backend.parallel_for(len(marks), lambda start, stop: mark(hits, marks, start, stop))

    def _set_flags(self, marks: NDArray[np.uint8], channel: NDArray[np.uint16], flags: NDArray[np.uint16]) -> None:
        """Set the flags of marks and of whole channels."""
        table = _mark_flag_table(bool(self._settings.power_sigma))
        to_device, kernel = self.backend.to_device, self.backend.kernel(combine)
        tables = to_device(np.stack([table, np.where(table != 0, Flag.TAGGED, 0).astype(np.uint16)]))
        protected, whole = to_device(self._protected), to_device(channel)

        def run(start: int, stop: int) -> None:
            kernel(marks, tables, protected, whole, int(Flag.LOST), flags, start, stop)

        self.backend.parallel_for(len(flags), run, ranges_per_thread=4)

    def _cell_statistics(
        self, view: BlockView, background: Background, gain_drift: NDArray[np.float64], threshold_scale: ThresholdScale
    ) -> tuple[NDArray[np.uint8], NDArray[np.uint8], NDArray[np.float64]]:
        """Return marks, groups and moments of :func:`edgefilter_kernels.rfi.cell_statistics.cell_statistics`."""
        times, channels = view.flags.shape
        spectra, live = view.spectra, background.live
        per_unit = np.where(live, threshold_scale.power / np.where(live, background.sigma, 1), 0)
        weight = np.sqrt(view.accumulated / spectra if spectra else np.ones(times))
        gain, per_sigma = np.zeros((2, times))
        if view.moment4.shape[2]:
            for number in np.unique(view.accumulated[view.accumulated >= _MIN_KURTOSIS_SPECTRA]).tolist():
                here = view.accumulated == number
                gain[here] = (number + 1) / (number - 1)
                per_sigma[here] = threshold_scale.kurtosis / kurtosis_sigma(number)
        tables = (
            np.stack([background.centre, per_unit]).astype(np.float32),
            np.stack([weight, threshold_scale.power * weight * gain_drift, gain, per_sigma]).astype(np.float32),
            _POWER_WINDOWS,
            self._power_limits(spectra * view.n_pols),
            _KURTOSIS_WINDOWS,
            self._kurtosis_limits(spectra, view.moment4.shape[2]),
        )
        marks = self.backend.empty((times, channels), np.uint8)
        groups = self.backend.empty((-(-times // GROUP_TIMES), channels), np.uint8)
        moments = self.backend.zeros((2, 4, channels), np.float64)
        kernel: Callable[..., None] = self.backend.kernel(cell_statistics)
        given = view.power, view.moment4, view.n_pols, view.flags, *map(self.backend.to_device, tables)
        out = marks, groups, moments

        def run(start: int, stop: int) -> None:
            kernel(*given, _CELL_EVENT_SIGMA, _GROUP_EVENT_SIGMA, *out, start, stop)

        self.backend.parallel_for(channels, run, align=LANES, ranges_per_thread=8)
        return marks, groups, np.asarray(self.backend.to_host(moments))

    def _power_limits(self, spectra: int) -> NDArray[np.float32]:
        limits = np.full((2, len(_POWER_WINDOWS)), np.inf, np.float32)
        # Without the flagger, runs are still looked for: they are what the guard and the channels' health go by.
        sigma = self._settings.power_sigma or FlagSettings().power_sigma
        limits[0] = [power_limit(spectra or _ASSUMED_SPECTRA, window, sigma) for window in _POWER_WINDOWS.tolist()]
        return limits

    def _kurtosis_limits(self, spectra: int, n_pols: int) -> NDArray[np.float32]:
        limits = np.full((2, len(_KURTOSIS_WINDOWS)), np.inf, np.float32)
        if n_pols:
            tail = float(ndtr(-self._settings.kurtosis_sigma))
            for at, window in enumerate(_KURTOSIS_WINDOWS.tolist()):
                low, high = kurtosis_limits(spectra, tail, window * n_pols)
                unit = window * np.sqrt(n_pols) / kurtosis_sigma(spectra)
                limits[:, at] = (high - 1) * unit, (1 - low) * unit
        return limits


def channels_in_bands(
    frequencies_mhz: NDArray[np.float64], bands: tuple[tuple[float, float], ...]
) -> NDArray[np.bool_]:
    """Channels whose centre lies in one of the bands, [low, high] in MHz."""
    found = np.zeros(len(frequencies_mhz), np.bool_)
    for low, high in bands:
        found |= (frequencies_mhz >= low) & (frequencies_mhz <= high)
    return found


@cache
def _mark_flag_table(power: bool) -> NDArray[np.uint16]:
    """Return the flags of every combination of marks.

    A tone's low kurtosis is nothing that a pulse can have; the rest it can. What is a drifting tone's is merely tagged.
    """
    table = np.zeros(256, np.uint16)
    for mark in range(256):
        if mark & LOW_KURTOSIS or (mark & HIGH_KURTOSIS and not mark & DISPERSED):
            table[mark] |= np.uint16(Flag.KURTOSIS)
        if power and mark & POWER_RUN and not mark & DISPERSED:
            table[mark] |= np.uint16(Flag.POWER)
        if mark & DRIFTING_TONE:  # in the place of the others
            table[mark] = 0 if mark & (POWER_RUN | HIGH_KURTOSIS | LOW_KURTOSIS) else np.uint16(Flag.TAGGED)
    return table
