"""Entry point for recorded files: recognise the format of each by its content, and open it.

To add a format, write a module beside this one with a function ``open(path)`` that returns a
:class:`~edgefilter.sources.base.FiniteSource` (``sigproc.py`` is the simplest), and add a row to ``_FORMATS``.
"""

import codecs
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import NamedTuple

from edgefilter.core.errors import FormatError
from edgefilter.sources.base import FiniteSource
from edgefilter.sources.files import dada, fbh5, guppi, psrfits, sigproc, vdif
from edgefilter.sources.files.byte_file import ByteFile
from edgefilter.sources.files.sequence import FileSequence

_PROBE_BYTES = 1 << 16  # holds a GUPPI or DADA header


class _Format(NamedTuple):
    """A format: its name, the usual suffixes, whether a file and its first bytes are of it, and its reader."""

    name: str
    suffixes: tuple[str, ...]
    matches: Callable[[ByteFile, bytes], bool]
    open: Callable[[Path], FiniteSource]


# The first match counts, so weak signs come last.
_FORMATS = (
    _Format("SIGPROC filterbank", (".fil",), lambda _, head: head.startswith(sigproc.MAGIC), sigproc.open),
    _Format("PSRFITS search mode", (".fits", ".sf"), lambda _, head: head.startswith(psrfits.MAGIC), psrfits.open),
    _Format("FBH5", (".h5",), lambda _, head: head.startswith(fbh5.MAGIC), fbh5.open),
    _Format("GUPPI RAW", (".raw",), lambda _, head: guppi.matches(head), guppi.open),
    _Format("PSRDADA", (".dada",), lambda _, head: dada.matches(head), dada.open),
    _Format("VDIF", (".vdif",), lambda file, head: not _is_text(head) and vdif.matches(file), vdif.open),
)

_NAMES = ", ".join(each.name for each in _FORMATS)


def open_files(paths: Sequence[str | Path]) -> FiniteSource:
    """Open recorded files as one stream.

    Parameters
    ----------
    paths
        One file, or several of one observation in any order.

    Returns
    -------
    FiniteSource
        Their samples.

    Raises
    ------
    FormatError
        If a file is missing, empty, unreadable, of no known format, or damaged beyond use.
    SequenceError
        If several files do not belong to one stream, or none is given.
    """
    with ExitStack() as opened:
        sources = [opened.enter_context(_recognise(path)(path)) for path in map(Path, paths)]
        opened.pop_all()  # all are open: none is closed here
        return sources[0] if len(sources) == 1 else FileSequence(sources, [str(path) for path in paths])


def _recognise(path: Path) -> Callable[[Path], FiniteSource]:
    """Return the reader for a file."""
    with ByteFile(path) as file:
        head = file.read(0, _PROBE_BYTES)
        if not head:
            raise FormatError(path, f"is empty, expected one of {_NAMES}")
        for each in _FORMATS:
            if each.matches(file, head):
                return each.open
    if _is_text(head):
        raise FormatError(path, f"is a text file, expected one of {_NAMES}")
    # The content says nothing: the reader that the suffix names explains best what is wrong.
    for each in _FORMATS:
        if path.suffix.lower() in each.suffixes:
            return each.open
    raise FormatError(path, f"is not recognised, expected one of {_NAMES}")


def _is_text(head: bytes) -> bool:
    try:
        # Incremental, because the last letter of several bytes may be incomplete.
        text = codecs.getincrementaldecoder("utf-8")().decode(head)
    except UnicodeDecodeError:
        return False
    return all(letter.isprintable() or letter in "\t\n\r\f" for letter in text)
