"""The conformance suite of live inputs: it passes for ZeroMQ and for UDP, and fails for an input that breaks a rule."""

import re
import socket
from collections.abc import Iterable
from fractions import Fraction

import pytest
import zmq

from edgefilter.core.endpoint import parse_host_port
from edgefilter.core.errors import WireError
from edgefilter.core.stream import Encoding, SampleKind, Stream
from edgefilter.sources.live.base import Event, Frame
from edgefilter.sources.live.zmq_input import ZmqInput
from edgefilter.sources.live.zmq_wire import pack_end, pack_frame_header, pack_stream
from edgefilter.testing.live_input import LiveInputSuite, Sender
from tests.helpers.udp_input import UdpInput

STREAM = Stream("test", SampleKind.POWER, 0, Fraction(1000), 8, 1e8, 1e6, ("I",), 8, Encoding.UNSIGNED)
UDP_STREAM = Stream("udp", SampleKind.POWER, 0, Fraction(1000), 8, 1.2e9, 1e6, ("I",), 8, Encoding.UNSIGNED)


class ZmqSender(Sender):
    def __init__(self, endpoint: str) -> None:
        self.context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
        self.socket = self.context.socket(zmq.PUSH)
        self.socket.connect(endpoint)

    def send_header(self) -> None:
        self.socket.send(pack_stream(STREAM))

    def send_frame(self, start: int, data: bytes) -> None:
        self.socket.send(pack_frame_header(STREAM, start, len(data) // STREAM.sample_bytes) + data)

    def send_malformed(self) -> None:
        self.socket.send(b"no message of ours")

    def send_end(self, sample: int) -> None:
        self.socket.send(pack_end(STREAM, sample))

    def close(self) -> None:
        self.context.destroy(0)


class UdpSender(Sender):
    def __init__(self, endpoint: str) -> None:
        self.socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.socket.connect(parse_host_port(endpoint))

    def send_frame(self, start: int, data: bytes) -> None:
        self.socket.send(start.to_bytes(8, "little") + data)

    def send_malformed(self) -> None:
        self.socket.send(b"short")

    def close(self) -> None:
        self.socket.close()


class TestZmqInput(LiveInputSuite):
    kind = ZmqInput
    endpoint = "tcp://127.0.0.1:*"
    stream = STREAM
    frame_samples = 64
    first = 1_000_000
    sender = ZmqSender
    has_end = True


class TestUdpInput(LiveInputSuite):
    kind = UdpInput
    endpoint = "udp://127.0.0.1:*"
    options = {"rate_hz": 1000.0}  # noqa: RUF012
    stream = UDP_STREAM
    frame_samples = 64
    sender = UdpSender


class Mislays(ZmqInput):
    """Drops the fourth frame."""

    frames = 0

    def receive(self, timeout: float) -> Iterable[Event]:
        for event in super().receive(timeout):
            self.frames += isinstance(event, Frame)
            if self.frames != 4 or not isinstance(event, Frame):
                yield event


class Shifts(ZmqInput):
    """Is one sample off."""

    def receive(self, timeout: float) -> Iterable[Event]:
        for event in super().receive(timeout):
            yield event._replace(start=event.start + 1) if isinstance(event, Frame) else event


class Counts(ZmqInput):
    """Numbers samples in the order of their arrival."""

    next = TestZmqInput.first

    def receive(self, timeout: float) -> Iterable[Event]:
        for event in super().receive(timeout):
            if isinstance(event, Frame):
                yield event._replace(start=self.next)
                self.next += TestZmqInput.frame_samples
            else:
                yield event


class Corrupts(ZmqInput):
    """Changes a bit of the samples."""

    def receive(self, timeout: float) -> Iterable[Event]:
        for event in super().receive(timeout):
            if isinstance(event, Frame):
                data = bytearray(event.data)
                data[-1] ^= 1
                yield event._replace(data=data)
            else:
                yield event


class Swallows(ZmqInput):
    """Ignores malformed messages."""

    def receive(self, timeout: float) -> Iterable[Event]:
        try:
            return super().receive(timeout)
        except WireError:
            return ()


class CountsTwice(ZmqInput):
    """Returns two errors for a malformed message."""

    def receive(self, timeout: float) -> Iterable[Event]:
        try:
            return super().receive(timeout)
        except WireError as error:
            return (error, error)


class Dies(ZmqInput):
    """Takes a malformed message for a bug of its own."""

    def receive(self, timeout: float) -> Iterable[Event]:
        try:
            return super().receive(timeout)
        except WireError as error:
            raise ValueError("what is that?") from error


class Repeats(ZmqInput):
    """Returns each frame twice."""

    def receive(self, timeout: float) -> Iterable[Event]:
        for event in super().receive(timeout):
            yield from [event] * (1 + isinstance(event, Frame))


class DropsTheQueue(ZmqInput):
    """Forgets what has arrived when it is told to stop."""

    def stop_listening(self) -> None:
        super().stop_listening()
        self.stopped = True

    def receive(self, timeout: float) -> Iterable[Event]:
        return () if hasattr(self, "stopped") else super().receive(timeout)


class Keeps(ZmqInput):
    """Does not give its endpoint back."""

    def close(self) -> None:
        pass


class NoEnd(ZmqInput):
    """Ignores the end of the stream."""

    def receive(self, timeout: float) -> Iterable[Event]:
        return [event for event in super().receive(timeout) if isinstance(event, Frame | Stream)]


class AcceptsAnything(ZmqInput):
    """Does not check its settings."""

    check = classmethod(lambda cls, settings: None)  # type: ignore[assignment]


@pytest.mark.parametrize(
    ("kind", "test", "sentence"),
    [
        (Mislays, "test_each_sample_arrives_at_its_number", "256 samples were sent, and 192 arrived"),
        (Shifts, "test_each_sample_arrives_at_its_number", "other bytes at samples|of them are in the ring"),
        (Counts, "test_a_frame_that_was_not_sent_is_a_gap", "were not sent, and 64 of them are in the ring"),
        (Counts, "test_frames_may_change_places", "the ring has other bytes at samples 1000064 to 1000128 than were"),
        (Corrupts, "test_each_sample_arrives_at_its_number", "the ring has other bytes at samples 1000000 to 1000064"),
        (Swallows, "test_malformed_packets_are_counted_and_stop_nothing", "3 malformed packets were sent, and 0 coun"),
        (CountsTwice, "test_malformed_packets_are_counted_and_stop_nothing", "malformed packets: 6, expected 3"),
        (Dies, "test_malformed_packets_are_counted_and_stop_nothing", "the input ended with ValueError.*what is that"),
        (Repeats, "test_a_repeated_frame_is_counted", "samples that were sent twice: .*, expected 64"),
        (DropsTheQueue, "test_what_has_arrived_is_received_before_the_next_receiver_takes_over", "0 of them are in"),
        (Keeps, "test_the_endpoint_is_free_after_close", "close does not give the endpoint tcp://127.* back"),
        (NoEnd, "test_the_end_of_the_stream", "the end of the stream was sent and not received"),
        (AcceptsAnything, "test_wrong_settings_are_refused", "check accepts .*, must raise a ConfigError"),
    ],
)
def test_an_input_that_breaks_a_rule_fails(kind: type[ZmqInput], test: str, sentence: str) -> None:
    class Suite(TestZmqInput):
        wait_seconds = 1.0

    Suite.kind = kind
    with pytest.raises(AssertionError) as caught:
        getattr(Suite(), test)()
    assert re.search(sentence, str(caught.value))
    assert "\n" not in str(caught.value)
