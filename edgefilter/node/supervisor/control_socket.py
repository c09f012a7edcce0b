"""The control socket: commands to a running node, from its own user only.

A request is one line of JSON with ``command`` and its arguments. The answer is any number of progress
lines (key ``say``), then one line with ``result`` or ``error``.
"""

import asyncio
import json
import socket
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from edgefilter.core.errors import ConfigError, EdgefilterError
from edgefilter.node.ipc import Message, encode, unix_socket_address

ProgressCallback = Callable[[str], None]
"""Called with a line of text that reports progress."""

Command = Callable[..., Awaitable[Any]]
"""Takes a :data:`ProgressCallback` and the arguments of a request, and returns what is sent back as JSON."""


class ControlServer:
    """The node's end of the control socket.

    Parameters
    ----------
    path
        Path of the socket.
    commands
        The commands by name.
    log
        Logger for unexpected exceptions.
    """

    def __init__(self, path: Path, commands: Mapping[str, Command], log: Any) -> None:
        self._path = path
        self._commands = commands
        self._log = log
        self._server: asyncio.Server | None = None
        self._requests: set[asyncio.Task[None]] = set()

    async def open(self) -> None:
        """Start listening."""
        self._path.unlink(missing_ok=True)
        with unix_socket_address(self._path) as address:
            self._server = await asyncio.start_unix_server(self._serve, address)
        self._path.chmod(0o600)

    async def close(self) -> None:
        """Answer open requests and stop listening."""
        if self._server is not None:
            self._server.close()
            if self._requests:
                await asyncio.wait(self._requests, timeout=1)
            self._path.unlink(missing_ok=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._requests.add(task)
        with suppress(ConnectionError, ValueError):
            request = json.loads(await reader.readline())
            try:
                result = await self._execute(request, lambda line: writer.write(encode({"say": line})))
                answer: Message = {"result": result}
            except EdgefilterError as error:
                answer = {"error": str(error)}
            except Exception as error:
                self._log.exception("bug", request=request)
                answer = {"error": f"{type(error).__name__}: {error} (a bug: see the node's log)"}
            writer.write(encode(answer))
            await writer.drain()
        writer.close()
        self._requests.discard(task)

    async def _execute(self, request: Message, on_progress: ProgressCallback) -> Any:
        command = self._commands.get(request.pop("command", ""))
        if command is None:
            raise ConfigError(f"unknown command, expected one of: {', '.join(self._commands)}")
        return await command(on_progress, **request)


def call(path: Path, command: str, on_progress: ProgressCallback = lambda _: None, **arguments: Any) -> Any:
    """Send a command to a node and wait for its result.

    Parameters
    ----------
    path
        The node's control socket.
    command
        Name of the command.
    on_progress
        Called with each line that reports progress.
    **arguments
        Arguments of the command, JSON types only.

    Returns
    -------
    object
        The result, JSON types only.

    Raises
    ------
    ConfigError
        If no node runs there.
    EdgefilterError
        If the command fails, with the node's reason.
    """
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC) as connection:
        try:
            with unix_socket_address(path) as address:
                connection.connect(address)
        except OSError:
            raise ConfigError(f"no node runs in {path.parent}") from None
        with connection.makefile("rwb") as lines:
            lines.write(encode({"command": command} | arguments))
            lines.flush()
            for line in lines:
                answer = json.loads(line)
                if "say" in answer:
                    on_progress(answer["say"])
                elif "error" in answer:
                    raise EdgefilterError(answer["error"])
                else:
                    return answer["result"]
    raise EdgefilterError("the node ended before it answered")
