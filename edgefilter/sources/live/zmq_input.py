"""The live input over ZeroMQ: PUSH sockets send to its PULL socket, one message a frame.

If nothing is received, ZeroMQ's queues fill and block the senders; PUSH and PULL sockets lose nothing. A frame is not
copied here. (``recv_into`` could write it to the ring without this process, but its place is known only from the
header, and a malformed frame would already be in the ring.)
"""

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING

import zmq

from edgefilter.core.endpoint import LiveInputSettings, check_zmq_input
from edgefilter.sources.live import zmq_connections
from edgefilter.sources.live.base import End, Event, Frame, LiveInput
from edgefilter.sources.live.curve_keys import AllowList, KeyPair, load_key_pair
from edgefilter.sources.live.zmq_wire import (
    HEADER_BYTES,
    MAX_PAYLOAD,
    MessageKind,
    check_frame,
    parse_message,
    parse_stream,
    stream_key,
)

if TYPE_CHECKING:
    from zmq.auth.thread import ThreadAuthenticator

_DOMAIN = "edgefilter"
_QUEUE_MESSAGES = 16  # in ZeroMQ's queue for one sender; 256 MiB of the largest frames


class ZmqInput(LiveInput):
    """Receives one stream over ZeroMQ.

    The format of the messages is that of :mod:`~edgefilter.sources.live.zmq_wire`.

    Parameters
    ----------
    settings
        The settings.

    Raises
    ------
    ConfigError
        If the endpoint is not valid, other machines can reach it without encryption, or the keys cannot be used.
    """

    def __init__(self, settings: LiveInputSettings) -> None:
        super().__init__(settings)
        self._peers: set[int] = set()
        self._context: zmq.Context[zmq.Socket[bytes]] | None = None
        self._authenticator: ThreadAuthenticator | None = None
        self._keys: KeyPair | None = None
        self._allowed: AllowList | None = None
        if settings.curve_key is not None and settings.curve_clients is not None:
            self._keys, self._allowed = load_key_pair(settings.curve_key), AllowList(settings.curve_clients)

    @classmethod
    def check(cls, settings: LiveInputSettings) -> None:
        check_zmq_input(settings)

    def open(self) -> None:
        context = self._context = zmq.Context()
        self._socket = context.socket(zmq.PULL)
        self._socket.setsockopt(zmq.LINGER, 0)
        self._socket.setsockopt(zmq.RCVHWM, _QUEUE_MESSAGES)
        self._socket.setsockopt(zmq.MAXMSGSIZE, 2 * (HEADER_BYTES + MAX_PAYLOAD))  # ZeroMQ disconnects larger ones
        self._timeout = -1.0
        self._enable_curve(context)
        self._monitor = zmq_connections.open_monitor(self._socket)
        try:
            (self._socket.connect if self.settings.connect else self._socket.bind)(self.settings.endpoint)
        except zmq.ZMQError as error:
            raise OSError(error.errno, error.strerror) from None
        self.endpoint = self._socket.getsockopt_string(zmq.LAST_ENDPOINT)

    def _enable_curve(self, context: "zmq.Context[zmq.Socket[bytes]]") -> None:
        if self._keys is None or self._allowed is None:
            return
        # Imported here because it imports asyncio.
        from zmq.auth.thread import ThreadAuthenticator

        self._authenticator = ThreadAuthenticator(context)
        self._authenticator.start()
        self._authenticator.configure_curve_callback(_DOMAIN, self._allowed)
        self._socket.curve_publickey, self._socket.curve_secretkey = self._keys.public, self._keys.secret
        self._socket.curve_server = True
        # The socket and the authenticator must have the same domain; otherwise every sender is refused.
        self._socket.setsockopt_string(zmq.ZAP_DOMAIN, _DOMAIN)

    def receive(self, timeout: float) -> Iterable[Event]:
        if timeout != self._timeout:
            self._socket.setsockopt(zmq.RCVTIMEO, round(timeout * 1000))
            self._timeout = timeout
        try:
            message = self._socket.recv(copy=False)
        except zmq.Again:
            return ()
        return (self.parse(message.buffer),)

    def parse(self, message: bytes | memoryview) -> Event:
        """Parse a message.

        Parameters
        ----------
        message
            The message.

        Returns
        -------
        Stream, Frame or End
            What it holds; the data of a frame are a view of the message.

        Raises
        ------
        WireError
            If it violates the wire format.
        """
        header, payload = parse_message(message)
        if header.kind is MessageKind.STREAM:
            return parse_stream(header, payload)
        if header.kind is MessageKind.END:
            return End(header.start, header.digest)
        if self.stream is not None and stream_key(self.stream) == header.digest:
            check_frame(header, self.stream)
        return Frame(header.start, payload, header.digest)

    def stop_listening(self) -> None:
        """Unbind the endpoint, so that the next receiver can bind it."""
        if not self.settings.connect:
            self._socket.unbind(self.endpoint)

    def close(self) -> None:
        if self._authenticator is not None:
            self._authenticator.stop()
            self._authenticator = None
        if self._context is not None:
            self._context.destroy(0)

    def connections(self) -> int:
        """Return the number of connected senders."""
        for event, connection in zmq_connections.read_events(self._monitor):
            if event & zmq_connections.CONNECTED:
                self._peers.add(connection)
            elif event == zmq_connections.DISCONNECTED:
                self._peers.discard(connection)
        return len(self._peers)

    def counters(self) -> Mapping[str, int]:
        """Return the number of handshakes with keys that are not admitted."""
        return {} if self._allowed is None else {"refused_keys": self._allowed.refused}
