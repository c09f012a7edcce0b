"""Files that are written completely or not at all."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from edgefilter.core.errors import StoreError


@contextmanager
def atomic_write(path: str | Path) -> Iterator[Path]:
    """Yield a temporary path beside ``path``, and rename it to ``path`` when the block ends without an error.

    Parameters
    ----------
    path
        The file; an existing one is replaced.

    Yields
    ------
    Path
        File to write to. It has the same ending, by which writers choose the format.

    Raises
    ------
    StoreError
        If the operating system refuses to write; the temporary file is removed.
    """
    target = Path(path)
    part = target.with_name(f".part-{target.name}")
    try:
        yield part
        part.replace(target)
    except OSError as error:
        raise StoreError(f"{path}: cannot be written: {error.strerror or error}") from None
    finally:
        part.unlink(missing_ok=True)
