"""What a notebook imports: open a store, tables, pulses, pictures, exports.

:func:`edgefilter.open_store` and :func:`edgefilter.replay` give an :class:`~edgefilter.analysis.archive.Archive`;
everything else hangs on that. Nothing here is imported by a node.
"""

from edgefilter.analysis.archive import Archive, open_store

__all__ = ["Archive", "open_store"]
