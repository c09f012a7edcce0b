"""A live input over UDP, as a package of others brings it: 8 bytes of sample number, then whole samples."""

import socket
from collections.abc import Iterator
from fractions import Fraction
from typing import Annotated

from pydantic import Field

from edgefilter.core.endpoint import parse_host_port
from edgefilter.core.errors import WireError
from edgefilter.core.node_sections import Section
from edgefilter.core.stream import Encoding, SampleKind, Stream
from edgefilter.sources.live.base import Event, Frame, LiveInput


class Options(Section):
    """The stream, which packets do not describe."""

    rate_hz: Annotated[float, Field(gt=0)]
    """Samples per second."""
    channels: Annotated[int, Field(ge=1)] = 8
    """Number of channels."""


class UdpInput(LiveInput):
    """Receives power spectra of 8 bits."""

    Options = Options

    def open(self) -> None:
        host, port = parse_host_port(self.settings.endpoint)
        self.socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.socket.bind((host, port))
        self.endpoint = f"udp://{host}:{self.socket.getsockname()[1]}"
        self.header = Stream(
            name="udp",
            kind=SampleKind.POWER,
            epoch_tai_ns=0,
            rate=Fraction(self.options.rate_hz),
            channels=self.options.channels,
            first_channel_hz=1.2e9,
            channel_step_hz=1e6,
            products=("I",),
            bits=8,
            encoding=Encoding.UNSIGNED,
        )
        self.described = False

    def receive(self, timeout: float) -> Iterator[Event]:
        self.socket.settimeout(timeout)
        try:
            packet = self.socket.recv(65536)
        except TimeoutError:
            return
        if len(packet) <= 8:
            raise WireError("short", f"{len(packet)} bytes, must be more than 8")
        if not self.described:
            self.described = True
            yield self.header
        yield Frame(int.from_bytes(packet[:8], "little"), packet[8:])

    def close(self) -> None:
        self.socket.close()
