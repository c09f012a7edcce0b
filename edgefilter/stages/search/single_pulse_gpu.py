"""The single-pulse search on a GPU: hundreds of trials in a few launches; only the peaks are read back.

Normalised bytes, time resolutions and sums along tracks equal those of the CPU, bit for bit. S/N and the fraction of an
event's signal outside its strongest part of the band differ by the rounding of sums in another order. So an event
within 1e-5 of the threshold may be found by one of them only, and of two boxcars of a cell whose S/N is equally close,
each may report a different one.
"""

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgefilter.compute.gpu import GpuBackend
from edgefilter.core.plan import Plan
from edgefilter.stages.search import single_pulse as cpu_search
from edgefilter.stages.search.dm_plan import delay_rows, plan_trial_groups
from edgefilter.stages.search.events import Events, StrongestEvents
from edgefilter.stages.search.single_pulse import SinglePulseSearch, boxcar_centres, noise_scale
from edgefilter.stages.search.subbands import WEIGHT_STEPS, GroupBatch, SubbandTree
from edgefilter.stages.search.window import BlockRows, Window
from edgefilter_kernels.cuda.raw import array_namespace
from edgefilter_kernels.cuda.search.band_occupancy import band_occupancy
from edgefilter_kernels.cuda.search.batch import SearchTables, WindowArrays, search_batch
from edgefilter_kernels.cuda.search.dedisperse import flat_starts, sum_along_tracks
from edgefilter_kernels.cuda.search.normalise import max_pool, tscrunch2
from edgefilter_kernels.search.band_occupancy import FoundBoxcars
from edgefilter_kernels.search.boxcar import Boxcars
from edgefilter_kernels.search.normalise import FULL_WEIGHT

SNR_TOLERANCE = 1e-5
"""Relative to the threshold: the CPU may decide differently on a S/N that is this near.

The same holds for the fraction of an event's signal outside its strongest part of the band: near its limit, it changes
by half of the relative change of the S/N.
"""

SERIES_BYTES = 1 << 28
"""Bytes of the DM-time plane that are in GPU memory at a time."""

_MAX_TRIALS_PER_LAUNCH = 65535  # CUDA's limit of a grid's third axis


class GpuSinglePulseSearch(SinglePulseSearch):
    """CUDA version of :class:`~edgefilter.stages.search.single_pulse.SinglePulseSearch`, for blocks on a GPU.

    Parameters
    ----------
    plan
        Layout of the reduction.
    gpu
        The GPU.
    """

    def __init__(self, plan: Plan, gpu: GpuBackend) -> None:
        super().__init__(plan, gpu)
        self._gpu = gpu
        self._gpu_batches: list[GpuGroupBatch] = []

    def _make_batches(self) -> list[GroupBatch]:
        # As many groups at a time as fit into memory.
        groups = plan_trial_groups(self._plan, self._tree.bands)
        trial_bytes = 4 * self._plan.rows_per_block * (len(self._tree.parts) - 1)
        trials_per_group = max(len(group.dm) for group in groups)
        trials_per_batch = min(SERIES_BYTES // trial_bytes, _MAX_TRIALS_PER_LAUNCH)
        return self._tree.batches(groups, delay_rows(self._plan), max(trials_per_batch // trials_per_group, 1))

    def _search(self, rows: BlockRows, length: int, block: int, strongest_events: StrongestEvents) -> Window:
        pulses, block_rows = self._plan.settings.pulses, self._plan.rows_per_block
        tscrunched = self._window(rows, length)
        if not self._gpu_batches:
            self._gpu_batches = [
                self._make_gpu_batch(batch, tscrunched[batch.rows][0].shape[1]) for batch in self._batches
            ]
        for batch, gpu_batch in zip(self._batches, self._gpu_batches, strict=True):
            tscrunch = batch.rows
            first = self._margin // tscrunch
            least = pulses.snr * (1 - SNR_TOLERANCE)
            boxcars = Boxcars(first, -(-block_rows // tscrunch), pulses.widths, least, cpu_search._PEAK_CELL_STEPS)
            peaks = gpu_batch.search(*tscrunched[tscrunch], rows.complete, boxcars)
            row = boxcar_centres(peaks.time - first, peaks.width) * tscrunch
            in_block = row < block_rows
            near_threshold = int(np.count_nonzero(in_block & (abs(peaks.snr / pulses.snr - 1) <= SNR_TOLERANCE)))
            in_block &= peaks.snr >= pulses.snr
            item = peaks.item[in_block]
            strongest_events.add(
                Events.from_columns(
                    np.float64(block * block_rows) + row[in_block],
                    gpu_batch.dm[item],
                    gpu_batch.step[item],
                    peaks.width[in_block] * tscrunch,
                    peaks.snr[in_block],
                    gpu_batch.band[item],
                    near_threshold=near_threshold,
                )
            )
        return tscrunched

    _tolerance = SNR_TOLERANCE

    def _band_occupancy(self, *arguments: Any) -> NDArray[np.float64]:
        power, weight, repeat, delays, max_part, boxcars = arguments
        boxcars = FoundBoxcars(*map(self._gpu.to_device, boxcars))
        fraction = band_occupancy(power, weight, repeat, self._gpu.to_device(delays), max_part, boxcars)
        return np.asarray(self._gpu.to_host(fraction))

    def _make_gpu_batch(self, batch: GroupBatch, times: int) -> "GpuGroupBatch":
        length = cpu_search._series_length(self._plan.rows_per_block, self._margin, batch.rows)
        return GpuGroupBatch(batch, self._tree, times, length, self._gpu)

    def _window(self, rows: BlockRows, length: int) -> dict[int, tuple[Any, Any]]:
        # Power and weights at each time resolution, as in SearchWindow.
        value = self._gpu.empty((self._plan.channels, length), np.int8)
        valid = self._gpu.empty((self._plan.channels, length // WEIGHT_STEPS), np.int8)
        rows.copy_value(value)
        if rows.complete:
            valid[:] = FULL_WEIGHT
        else:
            weight = self._gpu.empty(value.shape, np.int8)
            rows.copy_weight(weight)
            max_pool(weight, WEIGHT_STEPS, valid)
        tscrunched = {1: (value, valid)}
        for tscrunch in range(1, self._tscrunch_factors[-1]):
            if tscrunch in tscrunched:
                value, valid = tscrunched[tscrunch]
                coarse = self._gpu.empty((len(value), value.shape[1] // 2), np.int8)
                tscrunch2(value, coarse)
                tscrunched[2 * tscrunch] = coarse, np.maximum(valid[:, ::2], valid[:, 1::2])
        return tscrunched


@dataclass(frozen=True, slots=True)
class Peaks:
    """Peaks in the series of a batch, ``[peak]``, in no order.

    Parameters
    ----------
    item
        int32: index of a trial in a band, see :class:`GpuGroupBatch`.
    time, width
        int32: time steps.
    snr
        float32: S/N.
    """

    item: NDArray[np.int32]
    time: NDArray[np.int32]
    width: NDArray[np.int32]
    snr: NDArray[np.float32]


class GpuGroupBatch:
    """A batch whose tables are on a GPU.

    Parameters
    ----------
    batch, tree
        Groups of trials, and their sub-bands. The larger the batch, the fewer launches.
    times
        Time steps of the window.
    length
        Time steps of the dedispersed series.
    gpu
        The GPU.

    Attributes
    ----------
    dm, step, band
        float64, float64 and int32 ``[item]``: a trial and the distance to the next one, pc cm⁻³, and the band in which
        it is searched.

    Raises
    ------
    ValueError
        If a track leaves the window.
    """

    def __init__(self, batch: GroupBatch, tree: SubbandTree, times: int, length: int, gpu: GpuBackend) -> None:
        self._gpu, self._tree = gpu, tree
        self._size = length, batch.spread
        subbands, steps = len(tree.edges) - 1, -(-length // WEIGHT_STEPS)
        all_delays = [group_delays for _, group_delays in batch.groups]
        coarse, weight_delays = (
            np.stack([getattr(group_delays, name) for group_delays in all_delays])
            for name in ("coarse", "weight_delays")
        )
        latest = int(coarse.max()) + sum(self._size), int(weight_delays.max()) + steps
        if latest[0] > times or latest[1] > times // WEIGHT_STEPS or min(coarse.min(), weight_delays.min()) < 0:
            raise ValueError(f"tracks reach time steps {latest} of power and weights, the window has {times}")
        fine = [
            group_delays.fine + number * subbands * sum(self._size) for number, group_delays in enumerate(all_delays)
        ]
        rows, self.dm, self.step, self.band = _items(batch, tree)
        begin = flat_starts(coarse, times), flat_starts(np.concatenate(fine), sum(self._size))
        tables = tree.edges, tree.parts, *begin, rows
        self._tables = SearchTables(*(gpu.to_device(table) for table in tables))
        # Of the weights: one track for each group, in steps of the weights; sub-bands have no further delay.
        self._weight_delays = gpu.to_device(flat_starts(weight_delays, times // WEIGHT_STEPS))
        self._flat = gpu.to_device(np.arange(len(all_delays) * subbands).reshape(len(all_delays), subbands) * steps)
        # The delays of a trial differ from those of the middle one by up to half a spread.
        dilations = [1 + math.ceil(int(group_delays.fine.max()) / 2 / WEIGHT_STEPS) for group_delays in all_delays]
        self._dilations, self._max_dilations = gpu.to_device(np.array(dilations)[:, None, None]), max(dilations)
        self._full_scales: Any = None

    def search(self, value: Any, valid: Any, complete: bool, boxcars: Boxcars) -> Peaks:
        """Return the peaks of a window.

        Parameters
        ----------
        value, valid
            int8 ``[channel, time]`` and ``[channel, time // WEIGHT_STEPS]`` on the GPU: normalised power, its weight.
        complete
            Whether all weights are full.
        boxcars
            As for :func:`~edgefilter_kernels.cuda.search.batch.search_batch`.

        Returns
        -------
        peaks
            On the host.
        """
        scales = self._full_scales if complete and self._full_scales is not None else self._scales(valid)
        if complete:
            self._full_scales = scales
        window = WindowArrays(value, scales, WEIGHT_STEPS)
        found = search_batch(window, self._tables, self._size, boxcars)
        count = int(found.n_peaks[0])
        item, time, width, bits = self._gpu.to_host(found.table[:, :count])
        return Peaks(item, time, width, bits.view(np.float32))

    def _scales(self, valid: Any) -> Any:
        # Factors [group and band, step].
        xp, tree, tables = array_namespace(valid), self._tree, self._tables
        groups, subbands = self._flat.shape
        steps = -(-self._size[0] // WEIGHT_STEPS)
        sums = xp.empty((groups, subbands, steps), np.int16)
        sum_along_tracks("add_channels", valid, tables.edges, self._weight_delays, sums)
        total = xp.empty((groups, len(tree.channels), steps), np.float32)
        sum_along_tracks("add_subbands", sums, tables.parts, self._flat, total)
        total /= FULL_WEIGHT
        for dilation in range(self._max_dilations):
            inner = total[..., 1:-1]
            most = xp.maximum(xp.maximum(total[..., :-2], total[..., 2:]), inner)
            inner[:] = xp.where(dilation < self._dilations, most, inner)
        scales = [
            noise_scale(total[:, slice(*parts)].sum(axis=1), band.stop - band.start)
            for band, parts in zip(tree.bands, tree.band_parts, strict=True)
        ]
        return xp.stack(scales, axis=1).reshape(-1, steps)


def _items(
    batch: GroupBatch, tree: SubbandTree
) -> tuple[NDArray[np.int32], NDArray[np.float64], NDArray[np.float64], NDArray[np.int32]]:
    # Items of all trials in all bands, as the kernels take them; dispersion measure, step and band of each item.
    rows, columns, first = [], [], 0
    for number, (group, _) in enumerate(batch.groups):
        for b, (band, parts, chosen) in enumerate(zip(tree.bands, tree.band_parts, group.chosen, strict=True)):
            same = (*parts, number * len(tree.bands) + b, band.start, band.stop)
            rows.append(np.column_stack([first + chosen, np.tile(same, (len(chosen), 1))]))
            columns.append(np.stack([group.dm[chosen], group.step[b], np.full(len(chosen), float(b))]))
        first += len(group.dm)
    dm, step, band_index = np.concatenate(columns, axis=1)
    return np.concatenate(rows).astype(np.int32), dm, step, band_index.astype(np.int32)
