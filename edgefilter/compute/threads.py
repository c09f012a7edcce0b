"""The compute backend on the processor: worker threads, and NumPy arrays for the kernels."""

import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from typing import Any, TypeVar

import numpy as np
from numpy.typing import DTypeLike

from edgefilter.core.closing import Closing

Function = TypeVar("Function", bound=Callable[..., Any])
Result = TypeVar("Result")


class ThreadBackend(Closing):
    """Runs kernels on threads of the processor, and is the interface through which stages use any backend.

    A stage does not know whether it runs on the processor or on a GPU. It

    1. gets each kernel from :meth:`kernel`;
    2. allocates the arrays that kernels write with :meth:`empty` and :meth:`zeros`, and copies small tables to where
       kernels run with :meth:`to_device`;
    3. gets the raw samples of a block from :meth:`upload`;
    4. calls kernels within :meth:`parallel_for`, on ranges of an axis;
    5. reads results with :meth:`to_host`, or with :meth:`start_download` while it computes on.

    Here kernels are the Numba functions, arrays are NumPy's, and nothing is copied.
    :class:`~edgefilter.compute.gpu.GpuBackend` implements the same interface on a GPU. Results must not depend on where
    ranges are cut, so they are the same for any number of threads.

    Parameters
    ----------
    threads
        Number of threads; 0 for one per core that this process may use.

    Attributes
    ----------
    backend
        Name of the backend in the ledger.
    device_errors
        Exceptions that report a failure of the device and not of the work; none for threads.
    overlaps_transfers
        Whether :meth:`start_upload` copies a window while the previous one is reduced, so that it pays to read ahead.
    threads
        Number of threads.
    """

    backend = "cpu"
    device_errors: tuple[type[Exception], ...] = ()
    overlaps_transfers = False

    def __init__(self, threads: int = 0) -> None:
        self.threads = threads or len(os.sched_getaffinity(0))
        # The calling thread does part of the work.
        self._pool = ThreadPoolExecutor(self.threads - 1, "worker") if self.threads > 1 else None

    def parallel_for(
        self, count: int, run: Callable[[int, int], None], align: int = 1, ranges_per_thread: int = 1
    ) -> None:
        """Call a function on ranges that cover ``[0, count)``, in parallel, and wait for all of them.

        Parameters
        ----------
        count
            Length of the axis.
        run
            Called as ``run(start, stop)``.
        align
            Ranges start at multiples of this.
        ranges_per_thread
            Number of ranges for each thread; more than one where some ranges take longer and a cut costs little.
        """
        if self._pool is None or count <= align:
            if count:
                run(0, count)
            return
        step = -(-count // (self.threads * ranges_per_thread))
        step = -(-step // align) * align
        starts = iter(range(0, count, step))

        def work() -> None:
            for start in starts:  # all threads share the iterator: an idle thread takes the next range
                run(start, min(start + step, count))

        helpers = [self._pool.submit(work) for _ in range(min(self.threads, -(-count // step)) - 1)]
        try:
            work()
        finally:
            # No thread may use the arrays after this function returns, also if one of them fails.
            started = [helper for helper in helpers if not helper.cancel()]
            wait(started)
        for helper in started:
            helper.result()

    def run_async(self, work: Callable[[], Result]) -> Callable[[], Result]:
        """Start work on another thread.

        Parameters
        ----------
        work
            Function without arguments.

        Returns
        -------
        Callable
            Waits for the work, and returns its result or raises its exception.
        """
        if self._pool is None:
            result = work()
            return lambda: result
        return self._pool.submit(work).result

    def kernel(self, function: Function) -> Function:
        """Return this backend's version of a kernel.

        Parameters
        ----------
        function
            A function of ``edgefilter_kernels``.

        Returns
        -------
        Callable
            Function with the same signature for the arrays of this backend.
        """
        return function

    def empty(self, shape: tuple[int, ...], dtype: DTypeLike) -> Any:
        """Return an uninitialised array for kernels.

        Parameters
        ----------
        shape, dtype
            Of the array.

        Returns
        -------
        array
            C-contiguous.
        """
        return np.empty(shape, dtype)

    def zeros(self, shape: int | tuple[int, ...], dtype: DTypeLike = np.float64) -> Any:
        """Return an array of zeros for kernels.

        Parameters
        ----------
        shape, dtype
            Of the array.

        Returns
        -------
        array
            C-contiguous.
        """
        return np.zeros(shape, dtype)

    def to_device(self, array: Any) -> Any:
        """Return an array as kernels take it.

        Parameters
        ----------
        array
            NumPy array, or array of this backend.

        Returns
        -------
        array
            The same array if kernels take it, otherwise a C-contiguous copy on the device.
        """
        return array

    def detach_view(self, array: Any) -> Any:
        """Return part of an array so that the memory of the rest can be freed.

        Parameters
        ----------
        array
            View of an array of this backend.

        Returns
        -------
        array
            A copy where memory is scarce, otherwise the view.
        """
        return array

    def fill_where(self, array: Any, where: Any, value: int) -> None:
        """Set the selected elements of an array.

        Parameters
        ----------
        array
            Array of this backend, changed in place.
        where
            bool, of the array's leading axes.
        value
            The new value.
        """
        array[where] = value

    def start_upload(self, samples: Any) -> None:
        """Start to copy a window of samples to the device; :meth:`upload` of the same array completes it.

        Parameters
        ----------
        samples
            NumPy array; it must not change until :meth:`upload` returns.
        """

    def upload(self, samples: Any) -> Any:
        """Return a window of samples as kernels take it, copied now if :meth:`start_upload` has not been called.

        Parameters
        ----------
        samples
            NumPy array; it is not read after this method returns if the device has its own memory.

        Returns
        -------
        array
            Valid until the next call.
        """
        return samples

    def start_download(self, arrays: Sequence[Any]) -> Callable[[], tuple[Any, ...]]:
        """Start to copy arrays to the host, after all computations queued so far.

        Parameters
        ----------
        arrays
            Arrays of this backend, which must not change any more.

        Returns
        -------
        Callable
            Waits, and returns the NumPy arrays.
        """
        return lambda: tuple(arrays)

    def to_host(self, array: Any) -> Any:
        """Return an array as a NumPy array, after all computations queued so far.

        Parameters
        ----------
        array
            Array of this backend.

        Returns
        -------
        numpy.ndarray
            The same array if it is NumPy's, otherwise a copy.
        """
        return array

    def close(self) -> None:
        """End the threads."""
        if self._pool is not None:
            self._pool.shutdown()
