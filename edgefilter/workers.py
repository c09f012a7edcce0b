"""A few threads for kernels that release the GIL."""

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from types import TracebackType
from typing import Self


class Workers:
    """Runs a function over ranges of an axis, one thread a core.

    What is computed must not depend on where the ranges are cut: results are the same for any number of threads.

    Parameters
    ----------
    threads
        Number of threads; 0 is one a core that this process may use.
    """

    def __init__(self, threads: int = 0) -> None:
        self.threads = threads or len(os.sched_getaffinity(0))
        self._pool = ThreadPoolExecutor(self.threads, "worker") if self.threads > 1 else None

    def over(self, count: int, run: Callable[[int, int], None], align: int = 1, pieces: int = 1) -> None:
        """Call ``run(start, stop)`` for ranges that cover ``[0, count)`` and are cut at multiples of ``align``.

        There are ``pieces`` of them a thread: more than one where some take longer, and cutting costs little.
        """
        if self._pool is None or count <= align:
            if count:
                run(0, count)
            return
        step = -(-count // (self.threads * pieces))
        step = -(-step // align) * align
        futures = [self._pool.submit(run, at, min(at + step, count)) for at in range(0, count, step)]
        for future in futures:
            future.result()

    def close(self) -> None:
        """End the threads."""
        if self._pool is not None:
            self._pool.shutdown()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
