"""The settings with which each process of a node starts: JSON types only.

The supervisor gives them to a process at its standard input, and the commands ``receive``, ``reduce`` and ``forward``
make the same ones from a configuration file.
"""

from collections.abc import Iterable
from pathlib import Path

from edgefilter.core.config import NodeConfig
from edgefilter.core.errors import ConfigError
from edgefilter.core.node_sections import StreamSection
from edgefilter.node.ipc import Message

_RING_SETTINGS = {"buffer_seconds", "shallow", "policy"}  # settings of [input] that the receiver does not need


def find_stream(config: NodeConfig, name: str | None) -> StreamSection:
    """Return a stream of a node.

    Parameters
    ----------
    config
        Configuration of the node.
    name
        Name of the stream; None is the only one.

    Returns
    -------
    StreamSection
        Its section.

    Raises
    ------
    ConfigError
        If there is no such stream, or there are several and no name is given.
    """
    found = [section for section in config.stream if name in (None, section.name)]
    if len(found) == 1:
        return found[0]
    names = ", ".join(section.name for section in config.stream)
    raise ConfigError(
        f"the configuration has several streams: --stream must be one of: {names}"
        if name is None
        else f"--stream {name}: no such stream, expected one of: {names}"
    )


def receiver_settings(
    config: NodeConfig, directory: Path, streams: Iterable[StreamSection], wait_seconds: float
) -> Message:
    """Make the settings of a receiver.

    Parameters
    ----------
    config
        Configuration of the node.
    directory
        Run directory of the node.
    streams
        The streams that it receives.
    wait_seconds
        How long to wait for another receiver of a stream to end, s.

    Returns
    -------
    Message
        The settings.
    """
    inputs = [
        config.input_of(section).model_dump(mode="json", exclude=_RING_SETTINGS) | {"name": section.name}
        for section in streams
    ]
    return {"directory": str(directory), "inputs": inputs, "wait_seconds": wait_seconds}


def reducer_settings(
    config: NodeConfig, directory: Path, stream: str, wait_seconds: float, shadow: bool = False
) -> Message:
    """Make the settings of a reducer.

    Parameters
    ----------
    config
        Configuration of the node.
    directory
        Run directory of the node.
    stream
        Name of the stream in the node.
    wait_seconds
        How long to wait for another reducer of the stream to end, s.
    shadow
        Whether it only compares its products with those of another reducer.

    Returns
    -------
    Message
        The settings.
    """
    return {
        "config": config.model_dump(mode="json"),
        "directory": str(directory),
        "stream": stream,
        "spool": str(Path(config.spool_directory).absolute()),
        "wait_seconds": wait_seconds,
        "shadow": shadow,
    }


def forwarder_settings(config: NodeConfig, spool: str, wait_seconds: float) -> Message:
    """Make the settings of a forwarder.

    Parameters
    ----------
    config
        Configuration of the node.
    spool
        Directory of the spool.
    wait_seconds
        How long to wait for another forwarder of the spool to end, s.

    Returns
    -------
    Message
        The settings.
    """
    return {
        "spool": spool,
        "store": config.store.path,
        "section": config.spool.model_dump(mode="json"),
        "node": config.node.name,
        "wait_seconds": wait_seconds,
    }
