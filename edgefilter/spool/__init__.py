"""The durable local queue between reducer and store.

A spool is a folder: ``payload/`` holds the bytes of products, ``manifest.sqlite`` says which of them count, how far
each stream has been reduced, and what was dropped. What :meth:`Spool.commit` returned from survives a loss of power.
"""

from edgefilter.products.base import Priority
from edgefilter.spool.manifest import Cursor, Dropped, Entry, PayloadTotals
from edgefilter.spool.queue import Spool
from edgefilter.spool.recovery import Recovered

__all__ = ["Cursor", "Dropped", "Entry", "PayloadTotals", "Priority", "Recovered", "Spool"]
