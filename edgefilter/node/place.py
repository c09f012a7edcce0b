"""Where a node keeps what lives as long as it does: sockets, the list of its processes, rings."""

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from edgefilter.config import NodeConfig
from edgefilter.errors import ConfigError

_MEMORY = Path("/dev/shm")  # noqa: S108 - below it a folder of this user alone


def run_directory(config: NodeConfig) -> Path:
    """Return the folder of a node: the configured one, the service manager's, or one of its name in memory."""
    if config.node.run_directory is not None:
        return Path(config.node.run_directory).absolute()
    service = os.environ.get("RUNTIME_DIRECTORY")
    if service:
        return Path(service.split(":")[0])
    home = _MEMORY if _MEMORY.is_dir() else Path("/tmp")  # noqa: S108
    return home / f"edgefilter-{os.getuid()}" / config.node.name


@contextmanager
def occupied(directory: Path, name: str) -> Iterator[None]:
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
