"""A few threads for kernels that release the GIL, and memory for the arrays that they work on."""

import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from types import TracebackType
from typing import Any, Self, TypeVar

import numpy as np
from numpy.typing import DTypeLike

Function = TypeVar("Function", bound=Callable[..., Any])
Result = TypeVar("Result")


class ThreadBackend:
    """Runs a function over ranges of an axis, one thread a core.

    What is computed must not depend on where the ranges are cut: results are the same for any number of threads.

    A :class:`~edgefilter.compute.gpu.GpuBackend` may take its place. So a stage asks here for kernels, and for arrays
    that they take; with threads, these are the kernel and the array themselves.

    Parameters
    ----------
    threads
        Number of threads; 0 is one a core that this process may use.

    Attributes
    ----------
    backend
        What reduces, as the ledger calls it.
    device_errors
        Exceptions that say that the device has failed, and not the work; none for threads.
    overlaps_transfers
        Whether :meth:`start_upload` takes a window while the one before is reduced, so that it pays to read it early.
    """

    backend = "cpu"
    device_errors: tuple[type[Exception], ...] = ()
    overlaps_transfers = False

    def __init__(self, threads: int = 0) -> None:
        self.threads = threads or len(os.sched_getaffinity(0))
        # Who asks for work is one of them.
        self._pool = ThreadPoolExecutor(self.threads - 1, "worker") if self.threads > 1 else None

    def parallel_for(
        self, count: int, run: Callable[[int, int], None], align: int = 1, ranges_per_thread: int = 1
    ) -> None:
        """Call ``run(start, stop)`` for ranges that cover ``[0, count)`` and are cut at multiples of ``align``.

        There are ``ranges_per_thread`` of them a thread: more than one where some take longer and cutting costs little.
        """
        if self._pool is None or count <= align:
            if count:
                run(0, count)
            return
        step = -(-count // (self.threads * ranges_per_thread))
        step = -(-step // align) * align
        starts = iter(range(0, count, step))

        def work() -> None:
            for at in starts:  # one iterator for all threads: whoever is free takes what is next
                run(at, min(at + step, count))

        helpers = [self._pool.submit(work) for _ in range(min(self.threads, -(-count // step)) - 1)]
        try:
            work()
        finally:
            # Those who have begun are waited for, also if one fails: none works on the arrays when this returns.
            started = [other for other in helpers if not other.cancel()]
            wait(started)
        for other in started:
            other.result()

    def run_async(self, work: Callable[[], Result]) -> Callable[[], Result]:
        """Start work of another kind beside what follows; return what waits for its result."""
        if self._pool is None:
            result = work()
            return lambda: result
        return self._pool.submit(work).result

    def kernel(self, function: Function) -> Function:
        """Return what does the work of a kernel here."""
        return function

    def empty(self, shape: tuple[int, ...], dtype: DTypeLike) -> Any:
        """Return an array for kernels that holds anything."""
        return np.empty(shape, dtype)

    def zeros(self, shape: int | tuple[int, ...], dtype: DTypeLike = np.float64) -> Any:
        """Return an array for kernels that holds zeros."""
        return np.zeros(shape, dtype)

    def to_device(self, array: Any) -> Any:
        """Return an array as kernels take it; itself, if they take it."""
        return array

    def detach_view(self, array: Any) -> Any:
        """Return a part of an array of kernels that is to outlive the rest."""
        return array

    def fill_where(self, array: Any, where: Any, value: int) -> None:
        """Set elements of an array of kernels; ``where`` is boolean, of its leading axes."""
        array[where] = value

    def start_upload(self, samples: Any) -> None:
        """Begin what :meth:`upload` of these samples is to do, which must stay as they are until then."""

    def upload(self, samples: Any) -> Any:
        """As :meth:`to_device`, of a block's samples: what is returned is good until the next call."""
        return samples

    def start_download(self, arrays: Sequence[Any]) -> Callable[[], tuple[Any, ...]]:
        """As :meth:`to_host`, of arrays that nothing changes any more; what is returned waits for them."""
        return lambda: tuple(arrays)

    def to_host(self, array: Any) -> Any:
        """Return an array of kernels as a NumPy one, when all that it comes from has been computed."""
        return array

    def close(self) -> None:
        """End the threads."""
        if self._pool is not None:
            self._pool.shutdown()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, exc_type: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
