"""The ring: raw samples in shared memory, between the receiver, which writes, and the reducers, which read.

``layout`` defines the file format, ``writer`` and ``reader`` are the two sides, ``interval_table`` is the writer's
table of received samples, ``memory`` wraps the system calls. docs/ring.md describes the ring for other programs too.
"""

from edgefilter.node.ring.layout import Policy, make_ring
from edgefilter.node.ring.reader import RingReader
from edgefilter.node.ring.writer import RingWriter, WriteResult

__all__ = ["Policy", "RingReader", "RingWriter", "WriteResult", "make_ring"]
