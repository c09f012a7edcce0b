"""Interference and sky of known truth, and how flaggers do on them: ``python -m benchmarks.rfi``."""
