"""The chain of flaggers: each sets its own bit, none flags lost cells, none keeps memory from block to block.

::

    MASK ─▶ background ─▶ ZERO_DM ─▶ cell statistics ─┬─▶ dispersion guard ─▶ drifting tones ─▶ POWER, KURTOSIS
                                                      └─▶ residual statistics of channels ────▶ CARRIER, CHANNEL

Cells that are flagged by MASK or ZERO_DM do not enter the cell statistics. ``docs/flagging.md`` has the reasons.
"""

from functools import cache

import numpy as np
from numpy.typing import NDArray

from edgefilter.compute.threads import ThreadBackend
from edgefilter.core.cells import Flag, median_accumulated
from edgefilter.core.config import FlagSettings
from edgefilter.stages.rfi.background import Background
from edgefilter.stages.rfi.block import BlockView, tuple_to_device
from edgefilter.stages.rfi.channel_health import ResidualStats, flag_channels
from edgefilter.stages.rfi.dispersion_guard import DispersionGuard
from edgefilter.stages.rfi.gpu_tolerance import NOMINAL, ThresholdScale
from edgefilter.stages.rfi.quantisation import is_clipped, undo_clipping
from edgefilter.stages.rfi.sumthreshold import kurtosis_windows, power_windows
from edgefilter.stages.rfi.thresholds import kurtosis_sigma
from edgefilter.stages.rfi.zero_dm import ZeroDmFlagger
from edgefilter_kernels.rfi.cell_statistics import (
    DISPERSED,
    GROUP_TIMES,
    HIGH_KURTOSIS,
    LOW_KURTOSIS,
    POWER_RUN,
    CellScales,
    CellStatistics,
    CellThresholds,
    cell_statistics,
)
from edgefilter_kernels.rfi.combine import FlagRules, combine
from edgefilter_kernels.rfi.drifting_tones import DRIFTING_TONE, find_drifting_tones, line_layout, mark_drifting_tones
from edgefilter_kernels.rfi.intensity import LANES

_MIN_KURTOSIS_SPECTRA = 16  # voltages in a cell; with fewer, the kurtosis estimator scatters too much
_CELL_EVENT_SIGMA = 2.0  # power of a single cell that is an event of a dispersion track; 2 % of noise cells are events
_GROUP_EVENT_SIGMA = 1.0  # the same for the sum of 16 cells; 16 % of noise groups are events


class Flagger:
    """The chain of flaggers for one band, from arrays to arrays.

    Parameters
    ----------
    frequencies_mhz
        float64 ``[channel]``: centres.
    cell_seconds
        Duration of a cell, s.
    settings
        Thresholds; a threshold of 0 switches a flagger off.
    backend
        Threads, or the GPU that the arrays are on.
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
        r"""Flag one block.

        Parameters
        ----------
        power
            float32 ``[time, channel, product]``: the first ``n_pols`` products are mean \|v\|² and add up.
        moment4
            float32 ``[time, channel, pol]``: mean \|v\|⁴; None if it is not known.
        accumulated
            int32 ``[time]``: voltages of a polarisation in a cell, 0 if not known.
        n_pols
            Products that add up to the intensity.
        flags
            uint16 ``[time, channel]``, changed in place. LOST cells stay LOST and nothing else.
        threshold_scale
            Factors on values that are compared with thresholds; see :mod:`edgefilter.stages.rfi.gpu_tolerance`.
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
        needs_correction = clipped()  # reads the flags, which change next
        self._zero_dm.mark(flags, broadband_steps)
        kurtosis_uncertainty = np.zeros(flags.shape[1])
        if needs_correction:
            view, kurtosis_uncertainty = undo_clipping(view, background, self.backend)
        statistics = self._cell_statistics(view, background, broadband_steps.gain_drift, threshold_scale)
        marks, groups = statistics.marks, statistics.groups

        def find_bad_channels() -> NDArray[np.uint16]:
            moments = np.asarray(self.backend.to_host(statistics.moments))
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
        hits = self.backend.empty(line_layout(*groups.shape).shape, np.uint8)
        if not hits.size:
            return
        live_channels = self.backend.to_device(live)
        find, mark = self.backend.kernel(find_drifting_tones), self.backend.kernel(mark_drifting_tones)
        self.backend.parallel_for(len(hits), lambda start, stop: find(groups, live_channels, hits, start, stop))
        # Lines cross each other, but ranges of times share no cell.
        self.backend.parallel_for(len(marks), lambda start, stop: mark(hits, marks, start, stop))

    def _set_flags(self, marks: NDArray[np.uint8], channel: NDArray[np.uint16], flags: NDArray[np.uint16]) -> None:
        """Set the flags of marks and of whole channels."""
        table = _mark_flag_table(bool(self._settings.power_sigma))
        tagged = np.where(table != 0, Flag.TAGGED, 0).astype(np.uint16)
        rules = FlagRules(np.stack([table, tagged]), self._protected, channel, int(Flag.LOST))
        rules, kernel = tuple_to_device(rules, self.backend), self.backend.kernel(combine)
        self.backend.parallel_for(
            len(flags), lambda start, stop: kernel(marks, rules, flags, start, stop), ranges_per_thread=4
        )

    def _cell_statistics(
        self, view: BlockView, background: Background, gain_drift: NDArray[np.float64], threshold_scale: ThresholdScale
    ) -> CellStatistics:
        """Return marks, groups and moments of all channels, on the device."""
        backend, (times, channels) = self.backend, view.flags.shape
        kurtosis_pols = view.moment4.shape[2]
        # Runs are needed without the POWER flagger too, by the dispersion guard and for the residual statistics.
        power_sigma = self._settings.power_sigma or FlagSettings().power_sigma
        thresholds = CellThresholds(
            tuple_to_device(power_windows(view.spectra * view.n_pols, power_sigma), backend),
            tuple_to_device(kurtosis_windows(view.spectra, kurtosis_pols, self._settings.kurtosis_sigma), backend),
            _CELL_EVENT_SIGMA,
            _GROUP_EVENT_SIGMA,
        )
        out = CellStatistics(
            backend.empty((times, channels), np.uint8),
            backend.empty((-(-times // GROUP_TIMES), channels), np.uint8),
            backend.zeros((2, 4, channels), np.float64),
        )
        scales = tuple_to_device(_cell_scales(view, background, gain_drift, threshold_scale), backend)
        kernel, given = backend.kernel(cell_statistics), (view.cells, view.moment4, scales, thresholds, out)
        backend.parallel_for(
            channels, lambda start, stop: kernel(*given, start, stop), align=LANES, ranges_per_thread=8
        )
        return out


def _cell_scales(
    view: BlockView, background: Background, gain_drift: NDArray[np.float64], threshold_scale: ThresholdScale
) -> CellScales:
    times, live = len(view.accumulated), background.live
    per_unit = np.where(live, threshold_scale.power / np.where(live, background.sigma, 1), 0)
    weight = np.sqrt(view.accumulated / view.spectra if view.spectra else np.ones(times))
    gain, per_sigma = np.zeros((2, times))
    if view.moment4.shape[2]:
        for number in np.unique(view.accumulated[view.accumulated >= _MIN_KURTOSIS_SPECTRA]).tolist():
            here = view.accumulated == number
            gain[here] = (number + 1) / (number - 1)
            per_sigma[here] = threshold_scale.kurtosis / kurtosis_sigma(number)
    drift = threshold_scale.power * weight * gain_drift
    return CellScales(
        *(scale.astype(np.float32) for scale in (background.centre, per_unit, weight, drift, gain, per_sigma))
    )


def channels_in_bands(
    frequencies_mhz: NDArray[np.float64], bands: tuple[tuple[float, float], ...]
) -> NDArray[np.bool_]:
    """Find the channels whose centre lies in one of several bands.

    Parameters
    ----------
    frequencies_mhz
        float64 ``[channel]``: centres, MHz.
    bands
        [low, high] of each band, MHz.

    Returns
    -------
    ndarray
        bool ``[channel]``.
    """
    found = np.zeros(len(frequencies_mhz), np.bool_)
    for low, high in bands:
        found |= (frequencies_mhz >= low) & (frequencies_mhz <= high)
    return found


@cache
def _mark_flag_table(power: bool) -> NDArray[np.uint16]:
    """Return the flags of each combination of marks, uint16 ``[256]``.

    Pulses may have high power and high kurtosis, but never a tone's low kurtosis. Cells on the line of a drifting tone
    are tagged only.
    """
    table = np.zeros(256, np.uint16)
    for mark in range(256):
        if mark & LOW_KURTOSIS or (mark & HIGH_KURTOSIS and not mark & DISPERSED):
            table[mark] |= np.uint16(Flag.KURTOSIS)
        if power and mark & POWER_RUN and not mark & DISPERSED:
            table[mark] |= np.uint16(Flag.POWER)
        if mark & DRIFTING_TONE:
            table[mark] = 0 if mark & (POWER_RUN | HIGH_KURTOSIS | LOW_KURTOSIS) else np.uint16(Flag.TAGGED)
    return table
