"""The receiver process: the inputs of a node.

The supervisor starts it as ``python -m edgefilter.node.receiver.process``, a process manager as ``edgefilter receive``.
It is small and starts fast, so an upgrade rarely changes it and a restart is short: it imports neither numba, scipy,
astropy nor pyarrow.

Settings: :func:`~edgefilter.node.process_settings.receiver_settings`. Commands (see :mod:`edgefilter.node.ipc`):
``drain`` ends the runs, ``retire`` leaves them to the next receiver. Events: ``listening`` (input, endpoint),
``stream`` (input), ``ended`` (input), ``drained``, ``retired``.
"""

import sys
import threading
import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import replace
from functools import partial
from pathlib import Path

from edgefilter.core.closing import Closing
from edgefilter.core.endpoint import find_input
from edgefilter.core.errors import InputError
from edgefilter.core.locks import acquire_lock
from edgefilter.core.stream import Stream
from edgefilter.node.child_process import run_child
from edgefilter.node.ipc import Link, Message
from edgefilter.node.malloc import keep_freed_memory
from edgefilter.node.receiver.input import Input, InputSettings
from edgefilter.node.run_file import RunFile, write_atomically
from edgefilter.sources.live.base import LiveInput

_POLL_SECONDS = 0.1
_BIND_SECONDS = 10.0
_HUNG_SECONDS = 5.0  # an input whose loop takes longer makes no progress


class Receiver(Closing):
    """The inputs of a node, each in a thread of its own, under commands.

    Parameters
    ----------
    link
        Where the commands come from.
    settings
        Settings of the process.

    Raises
    ------
    EdgefilterError
        If an input cannot be opened, or another process receives its stream.
    """

    def __init__(self, link: Link, settings: Message) -> None:
        self._link = link
        self._directory = Path(settings["directory"])
        self.inputs: dict[str, Input] = {}
        self._threads: list[threading.Thread] = []
        self._errors: list[BaseException] = []
        self._ended: set[str] = set()
        self._final_message = ""
        with ExitStack() as stack:
            for fields in settings["inputs"]:
                error = InputError(f"stream {fields['name']}: another receiver runs in {self._directory}")
                lock = self._directory / f"receiver-{fields['name']}.lock"
                acquire_lock(stack, lock, settings["wait_seconds"], error)
            for fields in settings["inputs"]:
                self._open(fields["name"], InputSettings.from_message(fields))
                stack.callback(self.inputs[fields["name"]].retire)
            self._stack = stack.pop_all()
        link.set_state_callback(self.state)

    def state(self) -> Message:
        """Return the state of all inputs, for the heartbeat."""
        return {"inputs": {name: node_input.status() for name, node_input in list(self.inputs.items())}}

    def serve(self) -> None:
        """Execute commands until one of them ends the process.

        Raises
        ------
        EdgefilterError
            If an input fails.
        """
        endpoints = ", ".join(node_input.endpoint for node_input in self.inputs.values())
        self._link.send("status", line=f"listening on {endpoints}")
        while any(thread.is_alive() for thread in self._threads) or not self._final_message:
            if message := self._link.receive(_POLL_SECONDS):
                self._handle_message(message)
            self._check_inputs()
        self._link.send(self._final_message)

    def _handle_message(self, message: Message) -> None:
        match message["kind"]:
            case "drain":
                self._stop_inputs("drained", Input.drain)
            case "retire" | "orphaned":  # the next receiver continues the run
                self._stop_inputs("retired", Input.retire)

    def _open(self, name: str, settings: InputSettings) -> None:
        run_file = RunFile(self._directory, name)
        endpoint_file = self._directory / f"endpoint-{name}"
        run = run_file.read()
        # The endpoint of an earlier receiver may still be in use for a while.
        bind_seconds = _BIND_SECONDS if endpoint_file.exists() else 0.0
        settings = replace(settings, ring=str(run.ring) if run is not None else None, bind_seconds=bind_seconds)
        if settings.endpoint.endswith(":*") and endpoint_file.exists():
            settings = replace(settings, endpoint=endpoint_file.read_text())

        def on_stream(stream: Stream) -> None:
            node_input.set_ring(run_file.begin(stream).ring)
            self._link.send("stream", input=name, id=stream.id)

        plugin = find_input(settings.endpoint)
        kind = plugin.load_class(LiveInput)  # type: ignore[type-abstract]
        node_input = self.inputs[name] = Input(settings, kind, on_stream, plugin)
        write_atomically(endpoint_file, node_input.endpoint)
        self._link.send("listening", input=name, endpoint=node_input.endpoint)
        thread = threading.Thread(
            target=partial(self._run, node_input, run_file, endpoint_file), name=name, daemon=True
        )
        self._threads.append(thread)
        thread.start()

    def _run(self, node_input: Input, run_file: RunFile, endpoint_file: Path) -> None:
        try:
            node_input.run()
            if node_input.draining:
                endpoint_file.unlink(missing_ok=True)
                if node_input.ring is None and (run := run_file.read()) is not None:
                    run_file.remove(run)  # it has no samples
        except BaseException as error:  # _check_inputs raises it in the main thread
            self._errors.append(error)

    def _stop_inputs(self, final_message: str, stop: Callable[[Input], None]) -> None:
        self._final_message = final_message
        for node_input in self.inputs.values():
            stop(node_input)

    def _check_inputs(self) -> None:
        if self._errors:
            raise self._errors[0]
        for name, node_input in self.inputs.items():
            if node_input.counters.ended and name not in self._ended:
                self._link.send("ended", input=name)
            (self._ended.add if node_input.counters.ended else self._ended.discard)(name)
        oldest = min((node_input.last_loop_time for node_input in self.inputs.values()), default=time.monotonic())
        if self._final_message or time.monotonic() - oldest < _HUNG_SECONDS:
            self._link.mark_progress()

    def close(self) -> None:
        """Stop the inputs and unlock the streams."""
        self._stack.close()


def serve(link: Link, settings: Message) -> None:
    """Receive until a command ends it.

    Parameters
    ----------
    link
        Where the commands come from.
    settings
        Settings of the process.

    Raises
    ------
    EdgefilterError
        If an input fails.
    """
    keep_freed_memory()
    with Receiver(link, settings) as receiver:
        receiver.serve()


if __name__ == "__main__":
    sys.exit(run_child(serve))
