"""The receiver process: all inputs of a node.

The supervisor starts it as ``python -m edgefilter.node.receiver.process``. It is small and starts fast, so an upgrade
rarely changes it and a restart is short: it imports neither numba, scipy, astropy nor pyarrow.

Messages that it receives (see :mod:`edgefilter.node.ipc`): ``settings`` (inputs:
:class:`~edgefilter.node.receiver.input.InputSettings`), ``ring`` (input, path), ``drain``, ``retire``.
Messages that it sends: ``listening`` (input, endpoint), ``stream`` (input, header), ``ended`` (input), ``drained``,
``retired``, ``failed`` (why, error).
"""

import signal
import sys
import threading
import time
from collections.abc import Callable
from functools import partial

from edgefilter.core.endpoint import find_input
from edgefilter.core.errors import EdgefilterError
from edgefilter.node.ipc import IpcClient, Message
from edgefilter.node.malloc import keep_freed_memory
from edgefilter.node.receiver.input import Input, InputSettings
from edgefilter.sources.live.base import LiveInput

_POLL_SECONDS = 0.1
_HUNG_SECONDS = 5.0  # an input whose loop takes longer makes no progress


class Receiver:
    """The inputs of a node, each in a thread of its own, under the commands of the supervisor."""

    def __init__(self) -> None:
        self.inputs: dict[str, Input] = {}
        self._threads: list[threading.Thread] = []
        self._errors: list[BaseException] = []
        self._ended: set[str] = set()
        self._final_message = ""

    def state(self) -> Message:
        """Return the state of all inputs, for the heartbeat."""
        return {"inputs": {name: node_input.status() for name, node_input in list(self.inputs.items())}}

    def serve(self, ipc: IpcClient) -> None:
        """Execute the commands of the supervisor until one of them ends the process.

        Parameters
        ----------
        ipc
            Connection to the supervisor.

        Raises
        ------
        EdgefilterError
            If an input fails.
        """
        try:
            while any(thread.is_alive() for thread in self._threads) or not self._final_message:
                if message := ipc.receive(_POLL_SECONDS):
                    self._handle_message(message, ipc)
                self._check_inputs(ipc)
            ipc.send(self._final_message)
        finally:
            for node_input in self.inputs.values():
                node_input.retire()

    def _handle_message(self, message: Message, ipc: IpcClient) -> None:
        match message["kind"]:
            case "settings" if not self.inputs:
                for fields in message["inputs"]:
                    self._open(InputSettings.from_message(fields), ipc)
            case "ring":
                self.inputs[message["input"]].set_ring(message["path"])
            case "drain":
                self._stop_inputs("drained", Input.drain)
            case "retire":
                self._stop_inputs("retired", Input.retire)
            case "orphaned":  # the next receiver continues the run
                self._stop_inputs("left", Input.retire)

    def _open(self, settings: InputSettings, ipc: IpcClient) -> None:
        plugin = find_input(settings.endpoint)
        node_input = Input(
            settings,
            plugin.load_class(LiveInput),  # type: ignore[type-abstract]
            lambda stream: ipc.send("stream", input=settings.name, header=stream.to_json()),
            plugin,
        )
        self.inputs[settings.name] = node_input
        ipc.send("listening", input=settings.name, endpoint=node_input.endpoint)
        thread = threading.Thread(target=partial(self._run, node_input), name=settings.name, daemon=True)
        self._threads.append(thread)
        thread.start()

    def _run(self, node_input: Input) -> None:
        try:
            node_input.run()
        except BaseException as error:  # _check_inputs raises it in the main thread
            self._errors.append(error)

    def _stop_inputs(self, final_message: str, stop: Callable[[Input], None]) -> None:
        self._final_message = final_message
        for node_input in self.inputs.values():
            stop(node_input)

    def _check_inputs(self, ipc: IpcClient) -> None:
        if self._errors:
            raise self._errors[0]
        for name, node_input in self.inputs.items():
            if node_input.counters.ended and name not in self._ended:
                self._ended.add(name)
                ipc.send("ended", input=name)
        oldest = min((node_input.last_loop_time for node_input in self.inputs.values()), default=time.monotonic())
        if self._final_message or time.monotonic() - oldest < _HUNG_SECONDS:
            ipc.mark_progress()


def main() -> None:
    """Run the process: exit status 0 after a command to end, 1 after an error, reported as ``failed``."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)  # only the supervisor stops this process
    keep_freed_memory()
    receiver = Receiver()
    with IpcClient.from_environment(receiver.state) as ipc:
        try:
            receiver.serve(ipc)
        except EdgefilterError as error:
            ipc.send("failed", why=str(error), error=type(error).__name__)
            status = 1
        else:
            status = 0
    sys.exit(status)


if __name__ == "__main__":
    main()
