"""The bus between a host and its card: windows of samples go there, and rows come back, while the card computes.

::

    host's threads     into pinned memory:   window n+1               window n+2
    stream of a room       to the card:       window n+1               window n+2
    current stream            computes:   block n ── rows ── search   block n+1 ── rows ── search
    stream back            to the host:                  rows n                       rows n+1

What one stream does is in order; two streams, and the host, know of each other only what an event tells them. So each
memory is guarded where it is used again, and the guard stands beside the use.
"""

from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

STAGING_BUFFERS = 2
"""Windows that are on the card at a time: one is computed, the next one comes."""
COPY_BYTES = 4 << 20
"""Of a window that are copied at a time: the bus takes one while the host copies the next into pinned memory."""
_THREADS = 6
"""One copies about 10 GB/s, the bus takes several times as much. Each waits until the bus has taken its piece, so that
what a block sends meanwhile, tables of a few kilobytes, has no more than so many pieces before it."""


class HostToDevice:
    """Takes windows of samples to the card, through memory that is pinned once.

    Parameters
    ----------
    cupy
        The module.
    empty_pinned
        Of ``cupyx``.
    """

    def __init__(self, cupy: Any, empty_pinned: Callable[..., Any]) -> None:
        self._pool = ThreadPoolExecutor(_THREADS, "bus")
        self._buffers = deque(_StagingBuffer(cupy, empty_pinned, self._pool) for _ in range(STAGING_BUFFERS))

    def start_upload(self, samples: Any) -> None:
        """Begin to copy a window; which one it is, is told by the array itself and not by what it holds.

        It must not change before :meth:`take` has returned it. A window that was staged and never taken is given up
        when two others have come.
        """
        if not any(buffer.samples is samples for buffer in self._buffers):
            buffer = self._buffers.popleft()
            self._buffers.append(buffer)
            buffer.start_copy(samples)

    def take(self, samples: Any) -> Any:
        """Return a window on the card, when it is there. Good until the next but one comes.

        The host's samples have been read when this returns.
        """
        self.start_upload(samples)
        return next(buffer for buffer in self._buffers if buffer.samples is samples).take()

    def close(self) -> None:
        """Wait for what is being copied, and give the memory back."""
        self._pool.shutdown()
        self._buffers.clear()


class _StagingBuffer:
    """For one window: pinned memory, as much of the card's, and a stream from the one to the other."""

    samples: Any = None  # that are here and were not taken yet

    def __init__(self, cupy: Any, empty_pinned: Callable[..., Any], pool: ThreadPoolExecutor) -> None:
        self._cupy, self._empty_pinned, self._pool = cupy, empty_pinned, pool
        # One that blocks would wait for all that the current stream computes, and be waited for.
        self._stream = cupy.cuda.Stream(non_blocking=True)
        self._device = cupy.cuda.Device()  # the current one
        self._pinned: Any = None
        self._on_device: Any = None
        self._copies: list[Future[None]] = []

    def start_copy(self, samples: Any) -> None:
        self.samples = None
        self._wait_for_copies()  # the bus reads nothing of the pinned memory any more
        if self._pinned is None or self._pinned.shape != samples.shape:
            self._pinned = self._empty_pinned(samples.shape, samples.dtype)
            self._on_device = self._cupy.empty(samples.shape, samples.dtype)
        # What has been queued may read the memory on the card, or what was there before it.
        self._stream.wait_event(_record_event(self._cupy, self._cupy.cuda.get_current_stream()))
        self.samples = samples
        rows = max(COPY_BYTES // max(samples[:1].nbytes, 1), 1)
        parts = [slice(at, at + rows) for at in range(0, len(samples), rows)]
        self._copies = [self._pool.submit(self._copy, samples, part) for part in parts]

    def _copy(self, samples: Any, part: slice) -> None:
        self._device.use()  # a thread begins with the first device
        self._pinned[part] = samples[part]
        self._on_device[part].set(self._pinned[part], stream=self._stream)
        _record_event(self._cupy, self._stream).synchronize()

    def take(self) -> Any:
        self._wait_for_copies()  # they are on the card then, for all that is queued from now on
        self.samples = None
        return self._on_device

    def _wait_for_copies(self) -> None:
        for copy in self._copies:
            copy.result()


class DeviceToHost:
    """Brings arrays back to the host, on a stream of its own.

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
        """Begin to bring arrays back as they are after all that has been queued; nothing may change them any more.

        Returns
        -------
        Callable
            Waits, and returns them as NumPy arrays.
        """
        self._stream.wait_event(_record_event(self._cupy, self._cupy.cuda.get_current_stream()))
        found = tuple(self._empty_pinned(array.shape, array.dtype) for array in arrays)
        for array, pinned in zip(arrays, found, strict=True):
            array.get(stream=self._stream, out=pinned, blocking=False)
        done = _record_event(self._cupy, self._stream)
        # Memory that is let go of is handed out again, of the card's and pinned: not before it is read or written.
        # One fetch is under way at a time, unless the one before was given up.
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
        """Let go of what came last."""
        self._in_flight = ()


def _record_event(cupy: Any, stream: Any) -> Any:
    """Return an event of what has been queued on a stream so far; who waits for it sleeps."""
    return stream.record(cupy.cuda.Event(block=True, disable_timing=True))
