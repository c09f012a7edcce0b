"""The control socket: commands to a running node, for its own user alone.

A request is one line of JSON with ``command`` and its arguments. The answer is lines with ``say``, as things happen,
and a last one with ``result`` or ``error``.
"""

import asyncio
import json
import socket
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgefilter.core.errors import ConfigError, EdgefilterError
from edgefilter.node.ipc import Message, encode, unix_socket_address

if TYPE_CHECKING:
    from edgefilter.node.supervisor.supervisor import Supervisor

ProgressCallback = Callable[[str], None]


class ControlServer:
    """The node's end of the control socket.

    Parameters
    ----------
    path
        Where the socket is to be.
    supervisor
        What does the work.
    """

    def __init__(self, path: Path, supervisor: "Supervisor") -> None:
        self._path = path
        self._supervisor = supervisor
        self._server: asyncio.Server | None = None
        self._requests: set[asyncio.Task[None]] = set()

    async def open(self) -> None:
        """Listen."""
        self._path.unlink(missing_ok=True)
        with unix_socket_address(self._path) as address:
            self._server = await asyncio.start_unix_server(self._serve, address)
        self._path.chmod(0o600)

    async def close(self) -> None:
        """Answer what is open and stop listening."""
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
                self._supervisor.log.exception("bug", request=request)
                answer = {"error": f"{type(error).__name__}: {error} (a bug: see the node's log)"}
            writer.write(encode(answer))
            await writer.drain()
        writer.close()
        self._requests.discard(task)

    async def _execute(self, request: Message, on_progress: ProgressCallback) -> Any:
        node = self._supervisor
        match request.pop("command", None):
            case "status":
                return node.status()
            case "drain":
                return await asyncio.shield(node.start_task(node.drain()))
            case "reload":
                return await node.upgrader.reload(on_progress)
            case "upgrade":
                return await node.upgrader.upgrade(on_progress, **request)
        raise ConfigError("no such command: status, drain, reload and upgrade are known")


def call(path: Path, command: str, on_progress: ProgressCallback = lambda _: None, **arguments: Any) -> Any:
    """Have a node do something; blocks until it is done.

    Parameters
    ----------
    path
        Its control socket.
    command, arguments
        What to do.
    on_progress
        Called with each line that it says meanwhile.

    Raises
    ------
    ConfigError
        If no node runs there.
    EdgefilterError
        If it did not do it, with its reason.
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
