"""Events of the pulse search, written down."""

import numpy as np

from edgefilter.stages.search.events import Events


def found_events(*rows):
    """Events from (row, dm, width, snr, band), in the order in which they are sifted."""
    row, dm, width, snr, band = np.array(rows, float).reshape(-1, 5).T
    return Events.join([Events.from_columns(row, dm, np.full(len(row), 0.5), width, snr, band)])
