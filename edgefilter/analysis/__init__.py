"""Analysis of a store in a notebook: tables, pulses, figures, exports.

:func:`edgefilter.open_store` and :func:`edgefilter.replay` return an :class:`~edgefilter.analysis.archive.Archive`,
where everything else starts. A node imports nothing of this package.
"""
