"""Entry point for recorded files: recognise the format of each by its content, and open it.

Formats are plug-ins (:mod:`edgefilter.plugins`). edgefilter's own are asked first; those of other packages are looked
for and imported only for a file that none of them recognises.
"""

import codecs
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import NamedTuple

from edgefilter.core.errors import EdgefilterError, FormatError, PluginError
from edgefilter.plugins import Group, Plugin, find_plugins, own_plugins
from edgefilter.sources.base import FileFormat, FiniteSource
from edgefilter.sources.files.byte_file import ByteFile
from edgefilter.sources.files.sequence import FileSequence

_PROBE_BYTES = 1 << 16  # holds a GUPPI or DADA header


class _Other(NamedTuple):
    """A format of another package, and whether it recognises the file in question."""

    plugin: Plugin
    format: FileFormat
    matches: bool


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
    PluginError
        If another package's reader of a file fails.
    SequenceError
        If several files do not belong to one stream, or none is given.
    """
    with ExitStack() as opened:
        sources = [opened.enter_context(_open(path)) for path in map(Path, paths)]
        opened.pop_all()  # all are open: none is closed here
        return sources[0] if len(sources) == 1 else FileSequence(sources, [str(path) for path in paths])


def _open(path: Path) -> FiniteSource:
    own: list[FileFormat] = [plugin.load_as(FileFormat) for plugin in own_plugins(Group.SOURCES).values()]
    with ByteFile(path) as file:
        head = file.read(0, _PROBE_BYTES)
        for each in sorted(own, key=lambda each: each.weak):
            if _matches(each, file, head):
                return each.open(path)
        others: list[_Other] = []
        problems: list[str] = []
        for plugin in find_plugins(Group.SOURCES).values():
            try:
                others += [] if plugin.own else [_ask(plugin, file, head)]
            except EdgefilterError as error:
                problems.append(str(error))
    claims = [other for other in others if other.matches]
    claims = [other for other in claims if not other.format.weak] or claims
    if len(claims) > 1:
        raise FormatError(path, f"is claimed by {' and '.join(other.plugin.title for other in claims)}: uninstall one")
    if claims:
        return _open_other(path, claims[0], tuple(problems))
    try:
        return _open_by_suffix(path, head, own, [other.format for other in others])
    except FormatError as error:
        raise FormatError(path, "; ".join((error.problem, *problems))) from None


def _matches(candidate: FileFormat, file: ByteFile, head: bytes) -> bool:
    return bool(head) and not (candidate.weak and _is_text(head)) and candidate.matches(file, head)


def _ask(plugin: Plugin, file: ByteFile, head: bytes) -> _Other:
    found = plugin.load_as(FileFormat)
    with plugin.errors_in_one_line():
        return _Other(plugin, found, _matches(found, file, head))


def _open_other(path: Path, other: _Other, problems: tuple[str, ...]) -> FiniteSource:
    with other.plugin.errors_in_one_line():
        source = other.format.open(path)
    if not isinstance(source, FiniteSource):
        raise PluginError(f"{other.plugin.title} opens {path} as a {type(source).__name__}, must be a FiniteSource")
    source.packages = (other.plugin.provenance,)
    source.errors_in_one_line = other.plugin.errors_in_one_line
    source.warnings += problems
    return source


def _open_by_suffix(path: Path, head: bytes, own: Sequence[FileFormat], others: Sequence[FileFormat]) -> FiniteSource:
    """Try a file of which the content says nothing: the reader that its suffix names explains best what is wrong."""
    expected = f"expected one of {', '.join(sorted(each.name for each in (*own, *others)))}"
    if not head:
        raise FormatError(path, f"is empty, {expected}")
    if _is_text(head):
        raise FormatError(path, f"is a text file, {expected}")
    for each in own:
        if path.suffix.lower() in each.suffixes:
            return each.open(path)
    raise FormatError(path, f"is not recognised, {expected}")


def _is_text(head: bytes) -> bool:
    try:
        # Incremental, because the last letter of several bytes may be incomplete.
        text = codecs.getincrementaldecoder("utf-8")().decode(head)
    except UnicodeDecodeError:
        return False
    return all(letter.isprintable() or letter in "\t\n\r\f" for letter in text)
