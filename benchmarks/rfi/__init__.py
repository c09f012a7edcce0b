"""Score flaggers on simulated interference and signals from the sky: ``python -m benchmarks.rfi``.

``python -m benchmarks rfi`` times the parts of the chain, see :mod:`benchmarks.rfi.speed`.
"""

from benchmarks.harness import Bench


def run(bench: Bench) -> None:
    """Measure the speed of the parts of the chain.

    Parameters
    ----------
    bench
        Records the rates.
    """
    from benchmarks.rfi.speed import run as run_speed

    run_speed(bench)
