"""The door to recorded files: recognises each by what it holds and opens it."""

import codecs
import struct
from collections.abc import Callable, Sequence
from pathlib import Path

from edgefilter.core.errors import FormatError, InputError
from edgefilter.sources.base import Source
from edgefilter.sources.files import fbh5, psrfits, sigproc, voltages
from edgefilter.sources.files.byte_file import ByteFile
from edgefilter.sources.files.sequence import FileSequence

FORMATS = "SIGPROC filterbank, PSRFITS search mode, FBH5, GUPPI RAW, PSRDADA, VDIF"

_PROBE_BYTES = 1 << 16  # a GUPPI or DADA header fits

_Opener = Callable[[Path], Source]


def open_files(paths: Sequence[str | Path]) -> Source:
    """Open recorded files as one stream.

    Parameters
    ----------
    paths
        One file, or several of one observation in any order.

    Raises
    ------
    FormatError
        If a file is missing, empty, unreadable, of no known format, or damaged beyond use.
    SequenceError
        If several files do not belong to one stream, or none is given.
    """
    files = [Path(path) for path in paths]
    if len(files) == 1:
        return open_file(files[0])
    sources: list[Source] = []
    try:
        for file in files:
            sources.append(open_file(file))
    except InputError:
        for source in sources:
            source.close()
        raise
    return FileSequence(sources, [str(file) for file in files])


def open_file(path: Path) -> Source:
    """Open one recorded file, whatever its format.

    Raises
    ------
    FormatError
        If the file is missing, empty, unreadable, of no known format, or damaged beyond use.
    """
    return _recognise(path)(path)


def _recognise(path: Path) -> _Opener:
    file = ByteFile(path)
    try:
        head = file.read(0, _PROBE_BYTES)
        if not head:
            raise FormatError(path, f"is empty, expected one of {FORMATS}")
        for matches, opener in _DETECTORS:
            if matches(head):
                return opener
        if _is_text(head):
            raise FormatError(path, f"is a text file, expected one of {FORMATS}")
        if _is_vdif(file, head):
            return voltages.open_vdif
    finally:
        file.close()
    # Content says nothing, so the name decides which format's complaint helps most.
    suffix_opener = _OPENERS_BY_SUFFIX.get(path.suffix.lower())
    if suffix_opener is None:
        raise FormatError(path, f"is not recognised, expected one of {FORMATS}")
    return suffix_opener


def _is_guppi(head: bytes) -> bool:
    """Whether 80-character cards begin the file, with BLOCSIZE among them."""
    cards = [head[at : at + 80] for at in range(0, len(head), 80)]
    if cards[0][8:9] != b"=":
        return False
    for card in cards:
        if card.startswith(b"BLOCSIZE="):
            return True
        if card.startswith(b"END ") or not card.isascii():
            return False
    return False


def _is_dada(head: bytes) -> bool:
    text = head[:4096].split(b"\0")[0]
    return text.isascii() and any(line.split()[:1] == [b"HDR_SIZE"] for line in text.splitlines())


def _is_text(head: bytes) -> bool:
    try:
        # Incremental, because a letter of several bytes may be cut at the end of what was read.
        text = codecs.getincrementaldecoder("utf-8")().decode(head)
    except UnicodeDecodeError:
        return False
    return all(letter.isprintable() or letter in "\t\n\r\f" for letter in text)


def _is_vdif(file: ByteFile, head: bytes) -> bool:
    """Whether a plausible VDIF header (VDIF 1.1.1) begins the file and another stands where its frame ends."""
    first = _vdif_words(head[:16])
    if first is None:
        return False
    length = first[0]
    if length >= file.size:
        return length == file.size
    second = _vdif_words(file.read(length, 16))
    # Same length, version and channels; seconds that go on.
    return second is not None and first[:2] == second[:2] and 0 <= second[2] - first[2] <= 1


def _vdif_words(raw: bytes) -> tuple[int, int, int] | None:
    """Frame length in bytes, version and channels as one number, seconds; None if they cannot be VDIF's."""
    if len(raw) < 16:
        return None
    seconds, epoch, size, coding = struct.unpack("<4I", raw)
    legacy, length = seconds >> 30 & 1, (size & 0xFFFFFF) * 8
    bits = (coding >> 26 & 31) + 1
    # Reserved bits of word 1 are 0; payloads are whole 8-byte words.
    if epoch >> 30 or not 16 * (2 - legacy) < length <= 1 << 27 or bits > 32:
        return None
    return length, size >> 24, seconds & 0x3FFFFFFF


_DETECTORS: tuple[tuple[Callable[[bytes], bool], _Opener], ...] = (
    (lambda head: head.startswith(sigproc.MAGIC), sigproc.open),
    (lambda head: head.startswith(psrfits.MAGIC), psrfits.open),
    (lambda head: head.startswith(fbh5.MAGIC), fbh5.open),
    (_is_guppi, voltages.open_guppi),
    (_is_dada, voltages.open_dada),
)

_OPENERS_BY_SUFFIX: dict[str, _Opener] = {
    ".fil": sigproc.open,
    ".fits": psrfits.open,
    ".sf": psrfits.open,
    ".h5": fbh5.open,
    ".raw": voltages.open_guppi,
    ".dada": voltages.open_dada,
    ".vdif": voltages.open_vdif,
}
