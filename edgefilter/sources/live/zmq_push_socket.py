"""A ZeroMQ PUSH socket that repeats what a lost receiver may not have read.

When a receiver disconnects, the messages on their way to it are lost, and a PUSH socket does not report this. So this
socket sends its last messages again to the next receiver, before any new one. The ring keeps the samples that are new
to it and drops the others; if a newer frame came first, the ring would no longer wait for the lost ones. The last
message of all is repeated in the same way until it has left the sender; what a receiver loses after that stays lost.
"""

import fcntl
import struct
import termios
import time
from collections import deque
from threading import Event

import zmq

from edgefilter.core.closing import Closing
from edgefilter.core.errors import InputError
from edgefilter.sources.live import zmq_connections
from edgefilter.sources.live.curve_keys import SenderKeys

_QUEUE_BYTES = 8 << 20  # that may wait in this process for the network
_WAIT_MS = 50  # until a request to stop is noticed while no receiver takes a message
_UNREAD_POLL_MS = 5  # between two checks of what the kernel still holds
_LINGER_MS = 60_000  # for sent messages to leave after the last one
_MAX_IN_FLIGHT_FRAMES = 24  # in the queues of both ends
_MAX_IN_FLIGHT_BYTES = 64 << 20  # in those queues and in the socket buffers of both kernels
_MESSAGE_OVERHEAD_BYTES = 256  # of memory, beside the payload of a message


class PushSocket(Closing):
    """A PUSH socket that notices whether a receiver is connected, and repeats messages that may have been lost.

    Parameters
    ----------
    endpoint
        ZeroMQ endpoint of the receiver.
    frame_bytes
        Typical size of a message.
    receiver_timeout
        Longest time without a receiver, s.
    stop
        Ends waiting when set.
    bind
        Bind the endpoint instead of connecting to it.
    keys
        For a receiver with CURVE.

    Raises
    ------
    InputError
        If the endpoint is invalid or in use.
    """

    def __init__(
        self, endpoint: str, frame_bytes: int, receiver_timeout: float, stop: Event, bind: bool, keys: SenderKeys | None
    ) -> None:
        self._endpoint = endpoint
        self._receiver_timeout = receiver_timeout
        self._stop = stop
        self._peers: set[int] = set()
        self._had_receiver = self._refused = False
        self._connected = False  # a receiver has completed the handshake and has not disconnected
        self._waiting_since = 0.0
        self._tracking = False
        self._last_tracker: zmq.MessageTracker | None = None
        self._recent: deque[bytes] = deque(
            maxlen=max(_MAX_IN_FLIGHT_FRAMES, _MAX_IN_FLIGHT_BYTES // (frame_bytes + _MESSAGE_OVERHEAD_BYTES))
        )
        self._to_repeat: deque[bytes] = deque()
        self._description = b""
        self._linger_ms = 0
        self._context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
        self._socket = self._context.socket(zmq.PUSH)
        self._socket.setsockopt(zmq.SNDHWM, max(2, _QUEUE_BYTES // frame_bytes))
        self._socket.setsockopt(zmq.LINGER, _LINGER_MS)
        # Queue messages only for a connected receiver: the loss of others would not be noticed.
        self._socket.setsockopt(zmq.IMMEDIATE, 1)
        if keys is not None:
            self._socket.curve_publickey, self._socket.curve_secretkey = keys.own.public, keys.own.secret
            self._socket.curve_serverkey = keys.node
        self._monitor = zmq_connections.open_monitor(self._socket)
        try:
            (self._socket.bind if bind else self._socket.connect)(endpoint)
        except zmq.ZMQError as error:
            self.close()
            raise InputError(f"cannot send to {endpoint}: {error.strerror}") from None

    def send(self, message: bytes) -> bool:
        """Send one message; wait as long as the receiver is slow, and for ``receiver_timeout`` if there is none.

        Parameters
        ----------
        message
            The first one must be the description of the stream.

        Returns
        -------
        bool
            False if ``stop`` was set before the message could be sent.

        Raises
        ------
        InputError
            If there is no receiver, or it refuses the keys.
        """
        self._description = self._description or message
        self._waiting_since = time.monotonic()
        while not (self._send_repeats() and self._try_send(message)):
            if self._stop.is_set():
                return False
            self._wait()
        self._recent.append(message)
        return True

    def finish(self, message: bytes) -> None:
        """Send the last message, and wait until it has left and the kernel holds no byte of it.

        A receiver that disconnects after that, without a successor, may have read everything: this is no error. If
        ``stop`` is set the message is sent too, or a slow receiver would wait for more, but for ``receiver_timeout`` at
        most.

        Parameters
        ----------
        message
            The last message.

        Raises
        ------
        InputError
            If there is no receiver.
        """
        self._tracking, self._last_tracker = True, None
        self._socket.copy_threshold = 0  # messages that are copied cannot be tracked
        self._recent.append(message)
        self._to_repeat.append(message)
        self._waiting_since = start_time = time.monotonic()
        while not (self._send_repeats() and self._is_sent() and self._is_read()):
            if self._stop.is_set() and time.monotonic() - start_time >= self._receiver_timeout:
                break
            try:
                self._wait()
            except InputError:
                if self._last_tracker is None:
                    raise
                break
        self._linger_ms = _LINGER_MS

    def _send_repeats(self) -> bool:
        """Send repeated messages as far as the receiver takes them; True if none remains."""
        self._update_peers()
        while self._to_repeat and self._try_send(self._to_repeat[0]):
            self._to_repeat.popleft()
        return not self._to_repeat

    def _try_send(self, message: bytes) -> bool:
        # Never waits: a receiver that connects meanwhile would get this message before the repeated ones. libzmq takes
        # at least 100 ms from a loss to the next connection, so one of the two is always noticed in time.
        try:
            if self._connected:
                self._last_tracker = self._socket.send(message, zmq.NOBLOCK, copy=False, track=self._tracking)
        except zmq.Again:
            return False
        return self._connected

    def _is_sent(self) -> bool:
        """Say whether the last message has gone to a receiver that is connected."""
        if self._last_tracker is not None:
            try:
                self._last_tracker.wait(_WAIT_MS / 1000)
            except zmq.NotDone:
                return False
        # libzmq reports that a receiver has disconnected before it discards the messages to it.
        self._update_peers()
        return self._connected

    def _is_read(self) -> bool:
        """Say whether receivers have read all bytes that the kernel held for them.

        Closing earlier would lose them: if the queue of the receiver is full, libzmq handles the hang-up of an ipc
        connection before its data.
        """
        if not any(_unread_bytes(connection) for connection in self._peers):
            return True
        self._monitor.poll(_UNREAD_POLL_MS)
        return False

    def _wait(self) -> None:
        """Wait for an event, but not longer than ``_WAIT_MS``; raise InputError if there is no receiver."""
        poller = zmq.Poller()
        poller.register(self._monitor, zmq.POLLIN)
        if self._connected:
            poller.register(self._socket, zmq.POLLOUT)
        poller.poll(_WAIT_MS)
        self._update_peers()
        if self._peers and not self._refused:
            self._waiting_since = time.monotonic()
        elif time.monotonic() - self._waiting_since >= self._receiver_timeout:
            why = "the receiver refuses the keys" if self._refused else "no receiver"
            raise InputError(f"{why} at {self._endpoint}: waited {self._receiver_timeout:g} s")

    def _update_peers(self) -> None:
        """Handle the connection events since the last call."""
        for event, connection in zmq_connections.read_events(self._monitor):
            if event & zmq_connections.CONNECTED:
                self._peers.add(connection)
            elif event == zmq_connections.DISCONNECTED:
                self._peers.discard(connection)
                self._connected = self._connected and bool(self._peers)
            elif event & zmq_connections.HANDSHAKE_FAILED:
                self._refused = True
            elif event == zmq_connections.HANDSHAKE_SUCCEEDED:
                if self._had_receiver:
                    self._to_repeat = deque([self._description, *self._recent])
                self._had_receiver = self._connected = True
                self._refused = False

    def close(self) -> None:
        """Close the socket; only after :meth:`finish` are messages that are still queued sent first."""
        self._socket.disable_monitor()
        self._monitor.close()
        self._socket.close(self._linger_ms)
        self._context.term()


def _unread_bytes(connection: int) -> int:
    """Return the bytes that the kernel holds for the other end of a connection; 0 if it is closed."""
    try:
        return int(struct.unpack("i", fcntl.ioctl(connection, termios.TIOCOUTQ, bytes(4)))[0])
    except OSError:
        return 0
