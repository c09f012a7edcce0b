"""How blocks divide cells; as in ``cells.h``."""

LANES, PARTS = 8, 32
BLOCK = LANES, PARTS
"""Threads of a block that takes a few channels: a channel each, and a part of the times."""

THREADS = 256
"""Threads of a block that takes as many cells."""


def channel_blocks(channels: int) -> tuple[int]:
    """Blocks that take so many channels."""
    return (-(-channels // LANES),)


def cell_blocks(cells: int) -> tuple[int]:
    """Blocks that take so many cells, one a thread."""
    return (-(-cells // THREADS),)
