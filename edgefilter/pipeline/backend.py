"""Selection of the compute backend: threads of the processor, or a GPU."""

from collections.abc import Callable
from dataclasses import dataclass

from edgefilter.compute.gpu import GpuBackend
from edgefilter.compute.threads import ThreadBackend
from edgefilter.core.errors import ConfigError
from edgefilter.core.node_sections import Backend
from edgefilter.core.plan import Plan
from edgefilter.pipeline.gpu_memory import CUDA_CONTEXT, estimate_gpu_memory

GPU = GpuBackend.backend
CPU = ThreadBackend.backend

BackendCallback = Callable[[str, str], None]
"""Called with the backend that is used from now on, :data:`GPU` or :data:`CPU`, and a line that gives details and the
reason."""


def _ignore(_backend: str, _line: str) -> None:
    pass


@dataclass(frozen=True, slots=True)
class BackendSelector:
    """Selects and creates the compute backend of a stream.

    Parameters
    ----------
    backend
        ``cpu``, ``gpu``, or ``auto``: a GPU if there is one with enough memory for the stream, otherwise threads.
    threads
        Threads of the processor; 0 for one per core.
    on_change
        Called after the selection, and when threads replace a GPU that has failed.
    fall_back_to_threads
        Whether threads replace a GPU that fails during a reduction, with ``auto``.
    """

    backend: Backend = "cpu"
    threads: int = 0
    on_change: BackendCallback = _ignore
    fall_back_to_threads: bool = True

    def create_backend(self, plan: Plan) -> ThreadBackend:
        """Create the backend for a stream.

        Parameters
        ----------
        plan
            Plan of the stream.

        Returns
        -------
        ThreadBackend
            Threads, or a :class:`~edgefilter.compute.gpu.GpuBackend`, whose memory is limited to the estimate.

        Raises
        ------
        ConfigError
            If ``backend`` is ``gpu`` and there is no GPU, or its free memory is too small.
        """
        if self.backend == "cpu":
            return self.use_threads("as configured")
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
        """Create threads, and report the reason.

        Parameters
        ----------
        reason
            Why threads are used, for ``on_change``.

        Returns
        -------
        ThreadBackend
            The threads.
        """
        threads = ThreadBackend(self.threads)
        self.on_change(CPU, f"processor, {threads.threads} threads: {reason}")
        return threads
