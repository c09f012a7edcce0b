"""The child processes of the supervisor: started by it, or taken over from a supervisor that died.

The supervisor sees the end of a child through a file descriptor of the process (``pidfd``), also if another supervisor
started it. A child whose heartbeats report no progress is hung. A file lists the children for the next supervisor.
"""

import asyncio
import json
import os
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path

from edgefilter.node.ipc import (
    CHILD_NAME_VARIABLE,
    IPC_SOCKET_VARIABLE,
    PROTOCOL,
    STDERR_VARIABLE,
    Message,
    unix_socket_address,
)
from edgefilter.node.malloc import memcpy_environment
from edgefilter.node.run_file import write_atomically
from edgefilter.node.supervisor.child import Child, ChildError

_MAX_LINE_BYTES = 1 << 22


class Children:
    """All child processes of a supervisor.

    Parameters
    ----------
    directory
        Directory of the socket and of the list of children.
    on_message
        Called with every message except heartbeats.
    on_exit
        Called when a child has ended and all its messages were handled.
    environment
        Environment variables that are added for the children.
    """

    def __init__(
        self,
        directory: Path,
        on_message: Callable[[Child, Message], None],
        on_exit: Callable[[Child], None],
        environment: Mapping[str, str],
    ) -> None:
        self._directory = directory
        self._on_message = on_message
        self._on_exit = on_exit
        self._environment = environment
        self._children_file = directory / "children.json"
        self._serial = 0
        self._server: asyncio.Server | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self.all: dict[str, Child] = {}

    @property
    def socket_path(self) -> Path:
        """Path of the socket to which children connect."""
        return self._directory / "link.sock"

    async def open(self) -> list[Child]:
        """Start listening, and take over the children of a supervisor that died.

        Returns
        -------
        list of Child
            Those that are still alive.
        """
        self.socket_path.unlink(missing_ok=True)
        with unix_socket_address(self.socket_path) as address:
            self._server = await asyncio.start_unix_server(self._handle_connection, address, limit=_MAX_LINE_BYTES)
        with suppress(FileNotFoundError, ValueError):
            previous = json.loads(self._children_file.read_text())
            self._serial = previous["serial"]
            for fields in previous["children"]:
                if _start_ticks(fields["pid"]) == fields["ticks"]:
                    self._add_child(Child(**fields))
        return list(self.all.values())

    def spawn(self, role: str, settings: Message, stream: str = "", python: str = sys.executable) -> Child:
        """Start a child.

        Parameters
        ----------
        role
            ``receiver``, ``reducer`` or ``forwarder``.
        settings
            Its settings.
        stream
            Stream of a reducer.
        python
            Path of the interpreter.

        Returns
        -------
        Child
            The process.

        Raises
        ------
        ChildError
            If the interpreter cannot be started.
        """
        self._serial += 1
        name = "-".join(part for part in (role, stream, str(self._serial)) if part)
        errors = tempfile.TemporaryFile()  # noqa: SIM115 - closed when the child has ended
        settings_file = tempfile.TemporaryFile()  # noqa: SIM115 - closed below
        settings_file.write(json.dumps(settings).encode())
        settings_file.seek(0)
        stderr = os.dup(2)
        try:
            process = subprocess.Popen(  # noqa: S603 - our own program, in the interpreter that the operator named
                [python, "-P", "-m", f"edgefilter.node.{role}.process"],
                stdin=settings_file,
                stdout=errors,
                stderr=errors,
                pass_fds=(stderr,),
                start_new_session=True,  # only the supervisor receives Ctrl-C
                env={
                    **os.environ,
                    **(memcpy_environment() if role == "receiver" else {}),
                    **self._environment,
                    IPC_SOCKET_VARIABLE: str(self.socket_path),
                    CHILD_NAME_VARIABLE: name,
                    STDERR_VARIABLE: str(stderr),
                },
            )
        except OSError as error:
            raise ChildError(f"{python}: cannot be started: {error.strerror}") from None
        finally:
            os.close(stderr)
            settings_file.close()
        child = Child(name, role, stream, python, process.pid, _start_ticks(process.pid) or 0, process, errors)
        self._add_child(child)
        return child

    def hung(self, seconds: float) -> list[Child]:
        """Return the children that hang.

        Parameters
        ----------
        seconds
            Maximum time without progress, s; ten times as long while a child starts.

        Returns
        -------
        list of Child
            The children, with the reason in ``why``.
        """
        now = time.monotonic()
        found = []
        for child in self.all.values():
            silent = max(now - child.last_message_time, child.idle)
            if silent > seconds * (1 if child.ready else 10):
                child.why = child.why or f"{child.name} hung for {silent:.1f} s"
                found.append(child)
        return found

    def reset_hang_timers(self) -> None:
        """Start the timers of all children again, because this process itself did not run for a while."""
        for child in self.all.values():
            child.last_message_time = time.monotonic()

    async def close(self) -> None:
        """Kill the remaining children and stop listening."""
        for child in list(self.all.values()):
            child.stopping = True
            child.kill()
            await child.ended
        await asyncio.gather(*self._tasks)
        if self._server is not None:
            self._server.close()
        self._children_file.unlink(missing_ok=True)
        self.socket_path.unlink(missing_ok=True)

    def _add_child(self, child: Child) -> None:
        self.all[child.name] = child
        self._write_children_file()
        pidfd = os.pidfd_open(child.pid)
        loop = asyncio.get_running_loop()

        def on_process_exit() -> None:
            loop.remove_reader(pidfd)
            os.close(pidfd)
            task = loop.create_task(self._reap(child))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

        loop.add_reader(pidfd, on_process_exit)

    async def _reap(self, child: Child) -> None:
        await child.reap()
        del self.all[child.name]
        self._write_children_file()
        self._on_exit(child)

    def _write_children_file(self) -> None:
        saved_fields = ("name", "role", "stream", "python", "pid", "ticks")
        children = [{key: getattr(child, key) for key in saved_fields} for child in self.all.values()]
        write_atomically(self._children_file, json.dumps({"serial": self._serial, "children": children}))

    async def _handle_connection(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        child: Child | None = None
        with suppress(ConnectionError, ValueError):
            while line := await reader.readline():
                message: Message = json.loads(line)
                if child is None:
                    child = self._on_hello(message, writer)
                    if child is None:
                        break
                self._handle_message(child, message)
        if child is not None:
            child.disconnect(writer)
        writer.close()

    def _on_hello(self, message: Message, writer: asyncio.StreamWriter) -> Child | None:
        child = self.all.get(message.get("name", ""))
        if child is None:
            # Its supervisor died before it could list it. Killing it loses nothing: ring and spool keep its work.
            os.kill(_peer_pid(writer), signal.SIGKILL)
            return None
        if message.get("protocol") != PROTOCOL:
            child.why = f"{child.name} of version {message['version']} uses other messages than this supervisor"
            child.kill()
        child.connect(writer, message["version"])
        return child

    def _handle_message(self, child: Child, message: Message) -> None:
        child.update(message)
        if message["kind"] != "beat":
            self._on_message(child, message)


def _start_ticks(pid: int) -> int | None:
    """Return the start time of a process in clock ticks since boot; None if it is not alive."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return None
    return int(fields[19]) if fields[0] not in "ZX" else None


def _peer_pid(writer: asyncio.StreamWriter) -> int:
    """Return the process ID at the other end of a Unix socket."""
    connection: socket.socket = writer.get_extra_info("socket")
    pid, _, _ = struct.unpack("3i", connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12))
    return int(pid)
