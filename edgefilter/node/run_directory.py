"""The run directory of a node: its sockets, the list of its processes, and its rings."""

import fcntl
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from edgefilter.core.config import NodeConfig
from edgefilter.core.errors import ConfigError

_SHARED_MEMORY = Path("/dev/shm")  # noqa: S108 - the folder below it belongs to this user alone
_MIN_BYTES = 1 << 30


def run_directory(config: NodeConfig) -> Path:
    """Return the run directory: the configured one, the service manager's, or one of the node's name in memory.

    Parameters
    ----------
    config
        Configuration of the node.

    Returns
    -------
    Path
        The directory, which may not exist yet.
    """
    if config.node.run_directory is not None:
        return Path(config.node.run_directory).absolute()
    service = os.environ.get("RUNTIME_DIRECTORY")
    if service:
        return Path(service.split(":")[0])
    return memory_directory() / f"edgefilter-{os.getuid()}" / config.node.name


def memory_directory() -> Path:
    """Return a directory in memory that is large enough for rings, or else the one for temporary files.

    Containers often have a memory file system of only 64 MB. The size decides, not the free space, because the commands
    find a node by its directory and the result must not change.
    """
    if _SHARED_MEMORY.is_dir():
        filesystem = os.statvfs(_SHARED_MEMORY)
        if filesystem.f_blocks * filesystem.f_frsize >= _MIN_BYTES:
            return _SHARED_MEMORY
    return Path(tempfile.gettempdir())


@contextmanager
def locked_run_directory(directory: Path, name: str) -> Iterator[None]:
    """Make the run directory, for this user alone, and lock it against other nodes within the ``with`` block.

    Parameters
    ----------
    directory
        The run directory.
    name
        Name of the node, for the error message.

    Yields
    ------
    None

    Raises
    ------
    ConfigError
        If the directory cannot be made, belongs to another user, or another node uses it.
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
            f"node {name!r} runs already in {directory}: set another node.name or node.run_directory for this node"
        ) from None
    try:
        yield
    finally:
        os.close(lock)
