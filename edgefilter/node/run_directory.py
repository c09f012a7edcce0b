"""Where a node keeps what lives as long as it does: sockets, the list of its processes, rings."""

import fcntl
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from edgefilter.core.config import NodeConfig
from edgefilter.core.errors import ConfigError

_SHARED_MEMORY = Path("/dev/shm")  # noqa: S108 - below it a folder of this user alone
_MIN_BYTES = 1 << 30


def run_directory(config: NodeConfig) -> Path:
    """Return the folder of a node: the configured one, the service manager's, or one of its name in memory."""
    if config.node.run_directory is not None:
        return Path(config.node.run_directory).absolute()
    service = os.environ.get("RUNTIME_DIRECTORY")
    if service:
        return Path(service.split(":")[0])
    return memory_directory() / f"edgefilter-{os.getuid()}" / config.node.name


def memory_directory() -> Path:
    """Return a folder in memory that has room for rings, or the one for temporary files where there is none.

    Containers often have a memory file system of 64 MB only. What counts is its size, which does not change, not the
    room in it: a node is found again by where it lies.
    """
    if _SHARED_MEMORY.is_dir():
        filesystem = os.statvfs(_SHARED_MEMORY)
        if filesystem.f_blocks * filesystem.f_frsize >= _MIN_BYTES:
            return _SHARED_MEMORY
    return Path(tempfile.gettempdir())


@contextmanager
def locked_run_directory(directory: Path, name: str) -> Iterator[None]:
    """Make a node's folder, for this user alone, and keep other nodes out of it.

    Raises
    ------
    ConfigError
        If it cannot be made, is another user's, or another node is in it.
    """
    try:
        directory.mkdir(parents=True, exist_ok=True, mode=0o700)
        if directory.stat().st_uid != os.getuid():
            raise ConfigError(f"node.run_directory {directory}: belongs to another user")
        lock = os.open(directory / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise ConfigError(f"node.run_directory {directory}: cannot be used: {error.strerror}") from None
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(lock)
        raise ConfigError(
            f"node {name!r} runs already in {directory}: give this one another node.name or node.run_directory"
        ) from None
    try:
        yield
    finally:
        os.close(lock)
