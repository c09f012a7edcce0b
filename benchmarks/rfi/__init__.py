"""Interference and sky of known truth, and how flaggers do on them: ``python -m benchmarks.rfi``.

``python -m benchmarks rfi`` times the parts of the chain, see :mod:`benchmarks.rfi.speed`.
"""

from benchmarks.harness import Bench


def run(bench: Bench) -> None:
    """Time the parts of the chain; what they need is imported when they run."""
    from benchmarks.rfi.speed import run as run_speed

    run_speed(bench)
