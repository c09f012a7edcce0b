"""Integration of flagged cells to rows, beside NumPy."""

import numpy as np

from benchmarks.harness import OURS, Bench
from edgefilter.compute.threads import ThreadBackend
from edgefilter_kernels.filterbank.integrate import combine_parts, integrate, make_sums

GROUP = "integrate"
TIMES, CHANNELS, FLAGS = 4096, 1024, 6


def run(bench: Bench) -> None:
    random = np.random.default_rng(1)
    for products, planes, flagged in ((2, 1, 0.0), (2, 1, 0.05), (4, 4, 0.05)):
        case = f"{TIMES} x {CHANNELS} cells, {products} products, {planes} Stokes, {flagged:.0%} flagged"
        power = random.random((TIMES, CHANNELS, products), np.float32)
        flags = np.where(
            random.random((TIMES, CHANNELS)) < flagged, 1 << random.integers(1, FLAGS, (TIMES, CHANNELS)), 0
        )
        flags = flags.astype(np.uint16)
        matrix = np.ones((planes, products))

        def ours(backend: ThreadBackend, power=power, flags=flags, matrix=matrix) -> None:  # type: ignore[no-untyped-def]
            sums = make_sums(len(matrix), TIMES, CHANNELS, FLAGS)
            backend.parallel_for(
                len(sums.total), lambda start, stop: integrate(power, flags, matrix, (0, TIMES), sums, start, stop)
            )
            combine_parts(sums)

        def plain(power=power, flags=flags, matrix=matrix) -> None:  # type: ignore[no-untyped-def]
            used = flags == 0
            np.where(used, power @ matrix.T.astype(np.float32).squeeze(), 0) if len(matrix) == 1 else np.where(
                used[..., None], power @ matrix.T.astype(np.float32), 0
            )
            used.sum(axis=0)
            for bit in range(FLAGS):
                (flags >> bit & 1).sum(axis=0)

        for threads in (1, 2):
            with ThreadBackend(threads) as backend:
                bench.rate(GROUP, case, OURS, TIMES * CHANNELS / 1e6, "Mcell/s", lambda: ours(backend), threads)
        bench.rate(GROUP, case, "NumPy", TIMES * CHANNELS / 1e6, "Mcell/s", plain)
