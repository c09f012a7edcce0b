"""With what a reduction is done: threads of the processor, or a card."""

from collections.abc import Callable
from dataclasses import dataclass

from edgefilter.compute.gpu import GpuBackend
from edgefilter.compute.threads import ThreadBackend
from edgefilter.core.config import Backend
from edgefilter.core.errors import ConfigError
from edgefilter.core.plan import Plan
from edgefilter.pipeline.gpu_memory import CUDA_CONTEXT, estimate_gpu_memory

GPU = GpuBackend.backend
CPU = ThreadBackend.backend

BackendCallback = Callable[[str, str], None]
"""Told what reduces from now on, :data:`GPU` or :data:`CPU`, and in a line which one that is and why."""


def _ignore(_backend: str, _line: str) -> None:
    pass


@dataclass(frozen=True, slots=True)
class BackendSelector:
    """What is to reduce.

    Parameters
    ----------
    backend
        ``cpu``, ``gpu``, or ``auto``: a card if there is one that can hold the stream.
    threads
        Of the processor, 0 for one a core.
    on_change
        Told of the choice, and where the processor takes over from a card.
    fall_back_to_threads
        Whether ``auto`` goes on with the processor where a card fails at work.
    """

    backend: Backend = "cpu"
    threads: int = 0
    on_change: BackendCallback = _ignore
    fall_back_to_threads: bool = True

    def create_backend(self, plan: Plan) -> ThreadBackend:
        """Choose.

        Raises
        ------
        ConfigError
            If a card is wanted and cannot be had.
        """
        if self.backend == "cpu":
            return self.use_threads("as asked for")
        try:
            gpu = GpuBackend()
            parts = estimate_gpu_memory(plan)
            needed = sum(parts.values())
            if needed > gpu.free_bytes:
                gpu.close()
                raise ConfigError(
                    f"{gpu.name} has {gpu.free_bytes / 1e9:.3g} GB of free memory, "
                    f"stream {plan.stream.name} takes {needed / 1e9:.3g} GB"
                )
        except ConfigError as error:
            if self.backend == "gpu":
                raise ConfigError(f"backend gpu: {error}") from None
            return self.use_threads(str(error))
        gpu.limit_memory(needed - parts[CUDA_CONTEXT])
        self.on_change(GPU, f"{gpu.name}, {needed / 1e9:.3g} of {gpu.free_bytes / 1e9:.3g} GB of its memory")
        return gpu

    def use_threads(self, reason: str) -> ThreadBackend:
        """Take the processor, and say why."""
        compute = ThreadBackend(self.threads)
        self.on_change(CPU, f"processor, {compute.threads} threads: {reason}")
        return compute
