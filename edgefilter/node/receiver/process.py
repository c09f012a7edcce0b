"""The receiver process: all inputs of a node.

The supervisor starts it as ``python -m edgefilter.node.receiver.process``. It is small and starts fast, so that it
rarely needs to be replaced and is soon back when it was: nothing here imports numba, scipy, astropy or pyarrow.

What it hears (see :mod:`edgefilter.node.ipc`): ``settings`` (inputs:
:class:`~edgefilter.node.receiver.zmq_input.ZmqInputSettings`),
``ring`` (input, path), ``drain``, ``retire``. What it tells: ``listening`` (input, endpoint), ``stream`` (input,
header), ``ended`` (input), ``drained``, ``retired``, ``failed`` (why, error).
"""

import signal
import sys
import threading
import time
from functools import partial
from typing import Any

from edgefilter.core.errors import EdgefilterError
from edgefilter.node.ipc import IpcClient, Message
from edgefilter.node.malloc import keep_freed_memory
from edgefilter.node.receiver.zmq_input import ZmqInput, ZmqInputSettings

_POLL_SECONDS = 0.1
_HUNG_SECONDS = 5.0  # an inlet that has not come round for so long is not marked as alive


class Receiver:
    """The inlets of a node, each in a thread of its own, and what the supervisor wishes of them."""

    def __init__(self) -> None:
        self.inputs: dict[str, ZmqInput] = {}
        self._threads: list[threading.Thread] = []
        self._errors: list[BaseException] = []
        self._ended: set[str] = set()
        self._final_message = ""

    def state(self) -> Message:
        """Return all that is to be known from outside."""
        return {"inputs": {name: zmq_input.status() for name, zmq_input in list(self.inputs.items())}}

    def serve(self, ipc: IpcClient) -> None:
        """Do what the supervisor says until it says that this is the end.

        Raises
        ------
        EdgefilterError
            What stops an inlet.
        """
        try:
            while any(thread.is_alive() for thread in self._threads) or not self._final_message:
                if message := ipc.receive(_POLL_SECONDS):
                    self._handle_message(message, ipc)
                self._check_inputs(ipc)
            ipc.send(self._final_message)
        finally:
            for zmq_input in self.inputs.values():
                zmq_input.retire()

    def _handle_message(self, message: Message, ipc: IpcClient) -> None:
        match message["kind"]:
            case "settings" if not self.inputs:
                for fields in message["inputs"]:
                    self._open(ZmqInputSettings.from_message(fields), ipc)
            case "ring":
                self.inputs[message["input"]].set_ring(message["path"])
            case "drain":
                self._stop_inputs("drained", ZmqInput.drain)
            case "retire":
                self._stop_inputs("retired", ZmqInput.retire)
            case "orphaned":  # whoever comes next goes on with the run
                self._stop_inputs("left", ZmqInput.retire)

    def _open(self, settings: ZmqInputSettings, ipc: IpcClient) -> None:
        zmq_input = ZmqInput(settings, lambda stream: ipc.send("stream", input=settings.name, header=stream.to_json()))
        self.inputs[settings.name] = zmq_input
        ipc.send("listening", input=settings.name, endpoint=zmq_input.endpoint)
        thread = threading.Thread(target=partial(self._run, zmq_input), name=settings.name, daemon=True)
        self._threads.append(thread)
        thread.start()

    def _run(self, zmq_input: ZmqInput) -> None:
        try:
            zmq_input.run()
        except BaseException as error:  # raised again where the process can end by it
            self._errors.append(error)

    def _stop_inputs(self, final_message: str, stop: Any) -> None:
        self._final_message = final_message
        for zmq_input in self.inputs.values():
            stop(zmq_input)

    def _check_inputs(self, ipc: IpcClient) -> None:
        if self._errors:
            raise self._errors[0]
        for name, zmq_input in self.inputs.items():
            if zmq_input.counters.ended and name not in self._ended:
                self._ended.add(name)
                ipc.send("ended", input=name)
        oldest = min((zmq_input.last_loop_time for zmq_input in self.inputs.values()), default=time.monotonic())
        if self._final_message or time.monotonic() - oldest < _HUNG_SECONDS:
            ipc.mark_progress()


def main() -> None:
    """Run the process: exit status 0 when told to end, 1 with a ``failed`` before."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)  # the supervisor says over the link when to stop
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
