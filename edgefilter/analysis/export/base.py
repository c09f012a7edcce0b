"""Formats in which the products of a store leave it."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from edgefilter.analysis.archive import Archive
    from edgefilter.analysis.pulse import Pulse


@dataclass(frozen=True)
class Export:
    """A format: an :class:`ArchiveExport` or a :class:`PulseExport`.

    An entry point of the group ``edgefilter.exports`` names one. ``edgefilter export --help`` imports it, so it should
    import slow packages only in its function.

    Parameters
    ----------
    summary
        What it writes, in one line.
    suffix
        Ending of the file's name, without the dot.
    """

    summary: str
    suffix: str


@dataclass(frozen=True)
class ArchiveExport(Export):
    """A format for the tables of a store.

    Parameters
    ----------
    write
        Writes a file from the store, the path of the file, and the id of the stream or None if the user gave none. It
        uses :func:`~edgefilter.analysis.export.atomic_file.atomic_write`, so that no half-written file remains.
    """

    write: Callable[["Archive", Path, str | None], object]


@dataclass(frozen=True)
class PulseExport(Export):
    """A format for one pulse.

    Parameters
    ----------
    write
        Writes a file from the pulse and the path of the file, as in :class:`ArchiveExport`.
    """

    write: Callable[["Pulse", Path], object]
