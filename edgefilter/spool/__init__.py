"""The durable local queue between the reducer and the forwarder.

A spool is a folder: ``payload/`` holds the bytes of products, and ``manifest.sqlite`` lists the products that are in
the spool, how far each stream has been reduced, and what was dropped. When :meth:`Spool.commit` returns, the products
survive a loss of power.

Where to look when a product did not reach the store:

=============== ================================================================================================
``priorities``  which products matter more, and which may be dropped
``eviction``    products dropped because the budget or the disk is full
``batches``     table pieces waiting to be merged before they are uploaded
``uploads``     the order of upload, and quarantine after the store refused a product for good
``recovery``    products dropped when the spool is opened, because their files are missing or damaged
=============== ================================================================================================

``queue`` has the commit of a block. Below these are ``manifest`` (rows), ``database`` (SQLite), ``payloads`` (files),
``removal`` (rows and files together), ``locks``, and ``disk_space`` (the reserve for a full disk). Retries and pauses
are in :mod:`edgefilter.node.forwarder`.
"""

from edgefilter.products.base import Priority
from edgefilter.spool.manifest import Cursor, Dropped, Entry, PayloadTotals
from edgefilter.spool.queue import Spool
from edgefilter.spool.recovery import Recovered

__all__ = ["Cursor", "Dropped", "Entry", "PayloadTotals", "Priority", "Recovered", "Spool"]
