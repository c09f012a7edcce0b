"""The ring: raw samples in shared memory, between the receiver, which writes, and the reducers, which read.

``layout`` says what lies where in the file, ``writer`` and ``reader`` are the two sides, ``memory`` is what the
operating system gives. docs/ring.md explains the whole, for programs that are not this one too.
"""

from edgefilter.node.ring.layout import Policy, make_ring
from edgefilter.node.ring.reader import RingReader
from edgefilter.node.ring.writer import RingWriter, WriteResult

__all__ = ["Policy", "RingReader", "RingWriter", "WriteResult", "make_ring"]
