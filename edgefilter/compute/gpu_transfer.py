"""Copies between host and GPU: windows of samples to the GPU, and rows back, while the GPU computes.

::

    host threads       into pinned memory:   window n+1               window n+2
    staging stream          to the GPU:       window n+1               window n+2
    current stream            computes:   block n ── rows ── search   block n+1 ── rows ── search
    download stream         to the host:                 rows n                       rows n+1

Work on one CUDA stream is executed in order. Two streams, or a stream and the host, are synchronised only by events. So
before any memory is used again, the code waits for an event or a thread, at the place of use.
"""

from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

STAGING_BUFFERS = 2
"""Windows on the GPU at a time: one is reduced, the next one is copied."""
COPY_BYTES = 4 << 20
"""Bytes of a window that are copied at a time: one piece crosses the bus while the host copies the next one into pinned
memory."""
_THREADS = 6
"""A thread copies about 10 GB/s, and the bus transfers several times as much. Each thread waits until its piece is on
the GPU, so that a small table that a block sends meanwhile waits for at most this many pieces."""


class HostToDevice:
    """Copies windows of samples to the GPU, through staging buffers of pinned memory.

    Parameters
    ----------
    cupy
        The module ``cupy``.
    empty_pinned
        Function ``cupyx.empty_pinned``.
    """

    def __init__(self, cupy: Any, empty_pinned: Callable[..., Any]) -> None:
        self._pool = ThreadPoolExecutor(_THREADS, "upload")
        self._buffers = deque(_StagingBuffer(cupy, empty_pinned, self._pool) for _ in range(STAGING_BUFFERS))

    def start_upload(self, samples: Any) -> None:
        """Start to copy a window. A window that is never taken is dropped when two others have been started.

        Parameters
        ----------
        samples
            NumPy array, which identifies the window. It must not change before :meth:`take` returns.
        """
        if not any(buffer.samples is samples for buffer in self._buffers):
            buffer = self._buffers.popleft()
            self._buffers.append(buffer)
            buffer.start_copy(samples)

    def take(self, samples: Any) -> Any:
        """Wait for a window, and return its copy on the GPU.

        Parameters
        ----------
        samples
            The array that was given to :meth:`start_upload`, or a new one. It is not read after this method returns.

        Returns
        -------
        cupy.ndarray
            Valid until the next but one window is started.
        """
        self.start_upload(samples)
        return next(buffer for buffer in self._buffers if buffer.samples is samples).take()

    def close(self) -> None:
        """Wait for running copies, and free the buffers."""
        self._pool.shutdown()
        self._buffers.clear()


class _StagingBuffer:
    """Pinned memory for one window, as much memory of the GPU, and the stream that copies from one to the other."""

    samples: Any = None  # host array of the window that has been started and not yet taken

    def __init__(self, cupy: Any, empty_pinned: Callable[..., Any], pool: ThreadPoolExecutor) -> None:
        self._cupy, self._empty_pinned, self._pool = cupy, empty_pinned, pool
        # A blocking stream and CuPy's default stream would wait for each other.
        self._stream = cupy.cuda.Stream(non_blocking=True)
        self._device = cupy.cuda.Device()  # the current device
        self._pinned: Any = None
        self._on_device: Any = None
        self._copies: list[Future[None]] = []

    def start_copy(self, samples: Any) -> None:
        self.samples = None
        self._wait_for_copies()  # after this, the pinned memory is no longer read
        if self._pinned is None or self._pinned.shape != samples.shape:
            self._pinned = self._empty_pinned(samples.shape, samples.dtype)
            self._on_device = self._cupy.empty(samples.shape, samples.dtype)
        # Queued computations may still read this GPU memory, or an earlier array at the same address.
        self._stream.wait_event(_record_event(self._cupy, self._cupy.cuda.get_current_stream()))
        self.samples = samples
        rows = max(COPY_BYTES // max(samples[:1].nbytes, 1), 1)
        parts = [slice(at, at + rows) for at in range(0, len(samples), rows)]
        self._copies = [self._pool.submit(self._copy, samples, part) for part in parts]

    def _copy(self, samples: Any, part: slice) -> None:
        self._device.use()  # the current device of a new thread is device 0
        self._pinned[part] = samples[part]
        self._on_device[part].set(self._pinned[part], stream=self._stream)
        _record_event(self._cupy, self._stream).synchronize()

    def take(self) -> Any:
        self._wait_for_copies()  # after this, all computations that are queued see the samples
        self.samples = None
        return self._on_device

    def _wait_for_copies(self) -> None:
        for copy in self._copies:
            copy.result()


class DeviceToHost:
    """Copies arrays to the host, on its own stream.

    Parameters
    ----------
    cupy, empty_pinned
        As for :class:`HostToDevice`.
    """

    def __init__(self, cupy: Any, empty_pinned: Callable[..., Any]) -> None:
        self._cupy, self._empty_pinned = cupy, empty_pinned
        self._stream = cupy.cuda.Stream(non_blocking=True)
        self._in_flight: tuple[Any, ...] = ()

    def start_download(self, arrays: Sequence[Any]) -> Callable[[], tuple[Any, ...]]:
        """Start to copy arrays to the host, after all computations queued so far.

        Parameters
        ----------
        arrays
            CuPy arrays, which must not change any more.

        Returns
        -------
        Callable
            Waits, and returns the NumPy arrays.
        """
        self._stream.wait_event(_record_event(self._cupy, self._cupy.cuda.get_current_stream()))
        found = tuple(self._empty_pinned(array.shape, array.dtype) for array in arrays)
        for array, pinned in zip(arrays, found, strict=True):
            array.get(stream=self._stream, out=pinned, blocking=False)
        done = _record_event(self._cupy, self._stream)
        # CuPy reuses memory as soon as its array is deleted, so arrays must live until they have been copied. The
        # previous download is still in flight only if nobody waited for it.
        self._wait_for_previous()
        self._in_flight = done, tuple(arrays), found

        def wait() -> tuple[Any, ...]:
            done.synchronize()
            if self._in_flight and self._in_flight[0] is done:
                self._in_flight = ()
            return found

        return wait

    def _wait_for_previous(self) -> None:
        if self._in_flight:
            self._in_flight[0].synchronize()

    def close(self) -> None:
        """Release the arrays of the last download."""
        self._in_flight = ()


def _record_event(cupy: Any, stream: Any) -> Any:
    """Return an event after all work queued on a stream so far; the host sleeps while it waits for it."""
    return stream.record(cupy.cuda.Event(block=True, disable_timing=True))
