"""The receiver process: all inputs of a node.

The supervisor starts it as ``python -m edgefilter.node.receiver.process``. It is small and starts fast, so that it
rarely needs to be replaced and is soon back when it was: nothing here imports numba, scipy, astropy or pyarrow.

What it hears (see :mod:`edgefilter.node.ipc`): ``settings`` (inputs:
:class:`~edgefilter.node.receiver.zmq_input.InletSettings`),
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
from edgefilter.node.ipc import Link, Message
from edgefilter.node.malloc import keep_freed_memory
from edgefilter.node.receiver.zmq_input import Inlet, InletSettings

_POLL_SECONDS = 0.1
_HUNG_SECONDS = 5.0  # an inlet that has not come round for so long is not marked as alive


class Receiver:
    """The inlets of a node, each in a thread of its own, and what the supervisor wishes of them."""

    def __init__(self) -> None:
        self.inlets: dict[str, Inlet] = {}
        self._threads: list[threading.Thread] = []
        self._errors: list[BaseException] = []
        self._ended: set[str] = set()
        self._last_word = ""

    def state(self) -> Message:
        """Return all that is to be known from outside."""
        return {"inputs": {name: inlet.facts() for name, inlet in list(self.inlets.items())}}

    def serve(self, link: Link) -> None:
        """Do what the supervisor says until it says that this is the end.

        Raises
        ------
        EdgefilterError
            What stops an inlet.
        """
        try:
            while any(thread.is_alive() for thread in self._threads) or not self._last_word:
                if message := link.receive(_POLL_SECONDS):
                    self._heed(message, link)
                self._look_after(link)
            link.tell(self._last_word)
        finally:
            for inlet in self.inlets.values():
                inlet.leave()

    def _heed(self, message: Message, link: Link) -> None:
        match message["kind"]:
            case "settings" if not self.inlets:
                for facts in message["inputs"]:
                    self._open(InletSettings.of(facts), link)
            case "ring":
                self.inlets[message["input"]].use(message["path"])
            case "drain":
                self._finish("drained", Inlet.drain)
            case "retire":
                self._finish("retired", Inlet.leave)
            case "orphaned":  # whoever comes next goes on with the run
                self._finish("left", Inlet.leave)

    def _open(self, settings: InletSettings, link: Link) -> None:
        inlet = Inlet(settings, lambda stream: link.tell("stream", input=settings.name, header=stream.to_json()))
        self.inlets[settings.name] = inlet
        link.tell("listening", input=settings.name, endpoint=inlet.endpoint)
        thread = threading.Thread(target=partial(self._run, inlet), name=settings.name, daemon=True)
        self._threads.append(thread)
        thread.start()

    def _run(self, inlet: Inlet) -> None:
        try:
            inlet.run()
        except BaseException as error:  # raised again where the process can end by it
            self._errors.append(error)

    def _finish(self, last_word: str, ask: Any) -> None:
        self._last_word = last_word
        for inlet in self.inlets.values():
            ask(inlet)

    def _look_after(self, link: Link) -> None:
        if self._errors:
            raise self._errors[0]
        for name, inlet in self.inlets.items():
            if inlet.counters.ended and name not in self._ended:
                self._ended.add(name)
                link.tell("ended", input=name)
        oldest = min((inlet.marked for inlet in self.inlets.values()), default=time.monotonic())
        if self._last_word or time.monotonic() - oldest < _HUNG_SECONDS:
            link.mark()


def main() -> None:
    """Run the process: exit status 0 when told to end, 1 with a ``failed`` before."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)  # the supervisor says over the link when to stop
    keep_freed_memory()
    receiver = Receiver()
    with Link.from_environment(receiver.state) as link:
        try:
            receiver.serve(link)
        except EdgefilterError as error:
            link.tell("failed", why=str(error), error=type(error).__name__)
            status = 1
        else:
            status = 0
    sys.exit(status)


if __name__ == "__main__":
    main()
