"""The run directory of a node: its sockets, the list of its processes, and its rings."""

import os
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

from edgefilter.core.config import NodeConfig
from edgefilter.core.errors import ConfigError
from edgefilter.core.locks import acquire_lock, try_lock

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


def make_run_directory(config: NodeConfig) -> Path:
    """Make the run directory, for this user alone, if it does not exist.

    Parameters
    ----------
    config
        Configuration of the node.

    Returns
    -------
    Path
        The directory.

    Raises
    ------
    ConfigError
        If it cannot be made, or belongs to another user.
    """
    directory = run_directory(config)
    try:
        directory.mkdir(parents=True, exist_ok=True, mode=0o700)
        if directory.stat().st_uid != os.getuid():
            raise ConfigError(f"node.run_directory {directory}: belongs to another user")
        if not os.access(directory, os.W_OK):
            raise ConfigError(f"node.run_directory {directory}: cannot be written")
    except OSError as error:
        raise ConfigError(f"node.run_directory {directory}: cannot be used: {error.strerror}") from None
    return directory


def lone_processes(directory: Path) -> list[str]:
    """List the processes of a node that run without a supervisor, by the locks that they hold.

    Parameters
    ----------
    directory
        Run directory of the node.

    Returns
    -------
    list of str
        ``forwarder``, ``receiver-STREAM``, ``reducer-STREAM``; sorted.
    """
    found = []
    for lock in (*directory.glob("*-*.lock"), *directory.glob("forwarder.lock")):
        with suppress(OSError), try_lock(lock) as is_free:
            if not is_free:
                found.append(lock.stem)
    return sorted(found)


@contextmanager
def locked_run_directory(config: NodeConfig) -> Iterator[None]:
    """Make the run directory and lock it against other nodes within the ``with`` block.

    Parameters
    ----------
    config
        Configuration of the node.

    Yields
    ------
    None

    Raises
    ------
    ConfigError
        If the directory cannot be used, or another node uses it.
    """
    directory = make_run_directory(config)
    error = ConfigError(
        f"node {config.node.name!r} runs already in {directory}: set another node.name or node.run_directory "
        "for this node"
    )
    with ExitStack() as stack:
        acquire_lock(stack, directory / "lock", 0.0, error)
        yield
