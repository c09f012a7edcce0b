"""Readers of recorded files: one module per format, found by :mod:`~.recognise`."""
