"""Division of cells among CUDA blocks, as in ``cells.h``."""

LANES, PARTS = 8, 32
BLOCK = LANES, PARTS
"""Shape of a block that works on a few channels: each thread on one channel and a part of the times."""

THREADS = 256
"""Threads of a block that works on individual cells."""


def channel_blocks(channels: int) -> tuple[int]:
    """Return the grid for kernels with blocks of :data:`BLOCK`.

    Parameters
    ----------
    channels
        Number of channels.

    Returns
    -------
    tuple
        Number of blocks.
    """
    return (-(-channels // LANES),)


def cell_blocks(cells: int) -> tuple[int]:
    """Return the grid for kernels with one thread a cell, in blocks of :data:`THREADS`.

    Parameters
    ----------
    cells
        Number of cells.

    Returns
    -------
    tuple
        Number of blocks.
    """
    return (-(-cells // THREADS),)
