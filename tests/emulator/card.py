"""A card that is a host: NumPy arrays, and kernels run by the emulator."""

import numpy as np

from edgefilter.card import Card
from edgefilter.workers import Workers


class EmulatedCard(Card):
    """As ``Card``, without CuPy; ``raw.module`` must be the emulator's."""

    def __init__(self):
        Workers.__init__(self, 1)

    def empty(self, shape, kind):
        return np.full(shape, 99, kind)  # anything

    def put(self, array):
        return np.array(array, order="C")

    def get(self, array):
        return np.array(array)
