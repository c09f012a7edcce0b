"""Whitening on a card: rows as they are there, bytes that stay there."""

from typing import Any

import numpy as np

from edgefilter.compute.gpu import Card
from edgefilter.core.plan import Plan
from edgefilter.stages.search.normalise import Whiten
from edgefilter_kernels.cuda.search.normalise import whiten


class CardWhiten(Whiten):
    """As :class:`~edgefilter.stages.search.normalise.Whiten`, of rows that are on a card or are brought there.

    Parameters
    ----------
    plan
        Layout.
    card
        The card.
    """

    def __init__(self, plan: Plan, card: Card) -> None:
        super().__init__(plan, card)
        self._card = card
        self._whole = card.put(self._whole)

    def _whiten(self, power: Any, weight: Any) -> tuple[Any, Any]:
        shape = self._plan.channels, self._plan.rows_per_block
        value, share = self._card.empty(shape, np.int8), self._card.empty(shape, np.int8)
        arguments = self._card.put(power), self._card.put(weight), self._plan.cells_per_row, self.history
        whiten(*arguments, 0, shape[0], value, share)
        return value, share
