"""With what a reduction is done: threads of the processor, or a card."""

from collections.abc import Callable
from dataclasses import dataclass

from edgefilter.compute.gpu import Card
from edgefilter.compute.threads import Workers
from edgefilter.core.config import Backend
from edgefilter.core.errors import ConfigError
from edgefilter.core.plan import Plan
from edgefilter.pipeline.gpu_memory import CONTEXT, card_memory

CARD = Card.backend
PROCESSOR = Workers.backend

Tell = Callable[[str, str], None]
"""Told what reduces from now on, :data:`CARD` or :data:`PROCESSOR`, and in a line which one that is and why."""


def _to_nobody(_backend: str, _line: str) -> None:
    pass


@dataclass(frozen=True, slots=True)
class Compute:
    """What is to reduce.

    Parameters
    ----------
    backend
        ``cpu``, ``gpu``, or ``auto``: a card if there is one that can hold the stream.
    threads
        Of the processor, 0 for one a core.
    tell
        Told of the choice, and where the processor takes over from a card.
    falls_back
        Whether ``auto`` goes on with the processor where a card fails at work.
    """

    backend: Backend = "cpu"
    threads: int = 0
    tell: Tell = _to_nobody
    falls_back: bool = True

    def workers(self, plan: Plan) -> Workers:
        """Choose.

        Raises
        ------
        ConfigError
            If a card is wanted and cannot be had.
        """
        if self.backend == "cpu":
            return self.processor("as asked for")
        try:
            card = Card()
            parts = card_memory(plan)
            needed = sum(parts.values())
            if needed > card.memory:
                card.close()
                raise ConfigError(
                    f"{card.name} has {card.memory / 1e9:.3g} GB of free memory, "
                    f"stream {plan.stream.name} takes {needed / 1e9:.3g} GB"
                )
        except ConfigError as error:
            if self.backend == "gpu":
                raise ConfigError(f"backend gpu: {error}") from None
            return self.processor(str(error))
        card.limit(needed - parts[CONTEXT])
        self.tell(CARD, f"{card.name}, {needed / 1e9:.3g} of {card.memory / 1e9:.3g} GB of its memory")
        return card

    def processor(self, why: str) -> Workers:
        """Take the processor, and say why."""
        workers = Workers(self.threads)
        self.tell(PROCESSOR, f"processor, {workers.threads} threads: {why}")
        return workers
