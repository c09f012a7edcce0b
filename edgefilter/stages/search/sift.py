"""Sifting of the events of one block: its pulses, and what shows of them in other trials, widths and bands."""

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from edgefilter.core.plan import DISPERSION_S_MHZ2, Plan
from edgefilter.core.reduced_block import Rejection
from edgefilter.stages.search.dm_plan import search_bands
from edgefilter.stages.search.events import Events
from edgefilter_kernels.search.sift import SiftBands, SiftEvents, find_explanation, next_unexplained

TESTS_PER_CANDIDATE = 4
"""Events of a block that are tested for each candidate that may be kept; weaker ones are counted as overflow."""

_CORE_FRACTION = 0.5  # of the band: an event that a pulse overlaps as far is the pulse, a little aside
_MAX_DOUBLES_TESTED = 8  # for one event


class BlockSifter:
    """Finds the pulses among the events of a block.

    Events are taken in the order of falling S/N. An event is a *double* if a pulse explains it (see
    :mod:`edgefilter_kernels.search.sift`). Any other event is tested: if it does not fill its band, it is narrow-band
    interference, which explains nothing. If it does, it is still a double if another double explains it whose track
    overlaps with that of its pulse over at least half of the band, or that fills its band itself, of which the first
    few are tested. Otherwise it is a pulse. So the number of tests is a few for each pulse, and one for each event that
    fails.

    The result depends on the events of the block only; :class:`~edgefilter.stages.search.cluster.EventSifter` compares
    pulses with events of the blocks beside it.

    Parameters
    ----------
    plan
        Layout of the reduction.
    """

    def __init__(self, plan: Plan) -> None:
        self._bands = sift_bands(plan)
        self._rows = plan.rows_per_block
        self._max_tests = TESTS_PER_CANDIDATE * plan.settings.pulses.candidates

    def sift(self, events: Events, block: int, fills_band: Callable[[np.void], bool]) -> Events:
        """Sift the events of a block.

        Parameters
        ----------
        events
            All events of the block.
        block
            Number of the block.
        fills_band
            Tests one event.

        Returns
        -------
        events
            Without those that were tested and failed, which are counted; ``is_pulse`` and ``explains`` are set.
        """
        table = events.table
        sift_events = to_sift_events(table, block * self._rows)
        fraction = np.zeros(len(table))
        explaining = np.zeros(len(table), np.bool_)  # doubles that explain others
        untested = np.zeros(len(table), np.bool_)  # doubles that may
        failed = np.zeros(len(table), np.bool_)
        pulses: list[int] = []
        known, tests = 0, 0

        def is_double(event: int) -> bool:
            nonlocal tests
            for _ in range(_MAX_DOUBLES_TESTED):
                if find_explanation(explaining, sift_events, self._bands, event) >= 0:
                    return True
                double = find_explanation(untested, sift_events, self._bands, event)
                if double < 0:
                    return False
                tests += 1
                untested[double] = False
                explaining[double] = fills_band(table[double])
            return False

        while True:
            event = next_unexplained(known, np.array(pulses, np.int64), fraction, sift_events, self._bands)
            explaining[known:event] = fraction[known:event] >= _CORE_FRACTION
            untested[known:event] = ~explaining[known:event]
            known = event
            if event == len(table) or tests >= self._max_tests:
                break
            tests += 1
            if not fills_band(table[event]):
                failed[event] = True
            elif is_double(event):
                explaining[event] = True
            else:
                pulses.append(event)
            known += 1
        kept = table[:known].copy()
        kept["is_pulse"][pulses] = True
        kept["explains"] = explaining[:known] | kept["is_pulse"]
        rejected = dict.fromkeys(Rejection, 0) | {Rejection.NARROW_BAND: int(np.count_nonzero(failed))}
        return Events(kept[~failed[:known]], events.overflow + len(table) - known, events.near_threshold, rejected)


def sift_bands(plan: Plan) -> SiftBands:
    """Return the bands of a search as the kernels take them.

    Parameters
    ----------
    plan
        Layout of the reduction.

    Returns
    -------
    bands
        Events further apart than a block are unrelated.
    """
    bands = search_bands(plan)
    known = bool(plan.frequencies_mhz.min() > 0)
    # A track is a straight line over u = 1/f² - 1/f_top²: row + dm · slope · u. Unknown frequencies have only one
    # trial, for which any slope is right.
    top = float(plan.frequencies_mhz.max()) if known else 1.0
    half = abs(plan.channel_mhz) / 2 if known else 0.0
    edges = [(max(band.low_mhz, half), band.high_mhz) if known else (1.0, 2.0) for band in bands]
    return SiftBands(
        np.array(edges),
        np.array([band.stop - band.start for band in bands], np.float64),
        DISPERSION_S_MHZ2 / plan.row_seconds,
        top**-2,
        float(plan.rows_per_block),
    )


def to_sift_events(table: NDArray[np.void], start: int) -> SiftEvents:
    """Return events as the kernels take them.

    Parameters
    ----------
    table
        :data:`~edgefilter.stages.search.events.EVENT_DTYPE` ``[event]``, sorted.
    start
        First row of a block near them: rows count from there, so that differences stay exact far from the epoch.

    Returns
    -------
    events
        The events.
    """
    dm, width, snr = (table[name].astype(np.float64) for name in ("dm", "width_rows", "snr"))
    return SiftEvents(table["row"] - start, dm, width, snr, np.ascontiguousarray(table["band"]))
