"""Files that appear whole or not at all."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from edgefilter.core.errors import StoreError


@contextmanager
def atomic_write(path: str | Path) -> Iterator[Path]:
    """Give a path beside ``path`` to write to; put it in the place of ``path`` when the block ends without an error.

    Raises
    ------
    StoreError
        If the operating system refuses; nothing half-written is left.
    """
    target = Path(path)
    # The ending stays, because writers choose the format by it.
    part = target.with_name(f".part-{target.name}")
    try:
        yield part
        part.replace(target)
    except OSError as error:
        raise StoreError(f"{path}: cannot be written: {error.strerror or error}") from None
    finally:
        part.unlink(missing_ok=True)
