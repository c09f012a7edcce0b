"""Settings of the machine: how samples reach a node, where products go; no product depends on them."""

from fractions import Fraction
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from edgefilter.core.endpoint import LiveInputSettings, check_input
from edgefilter.core.errors import ConfigError, EdgefilterError
from edgefilter.core.html import settings_html
from edgefilter.core.stream import Encoding, SampleKind, Stream

Backend = Literal["auto", "cpu", "gpu"]


class Section(BaseModel):
    """A section of the configuration file: frozen; unknown keys are refused."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    def _repr_html_(self) -> str:
        return settings_html(type(self).__name__, self.model_dump(mode="json"))


class NodeSection(Section):
    """The node: name, processes, monitoring."""

    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9+._-]{0,63}$")] = "node"
    """Name of the node: letters, digits and + . _ - . It is part of the path of every product."""
    threads: Annotated[int, Field(ge=0, le=1024)] = 0
    """Worker threads of a reducer; 0 is one per core."""
    backend: Backend = "cpu"
    """Processor (cpu) or NVIDIA GPU (gpu), which rounds differently; auto uses a GPU if there is one."""
    run_directory: str | None = None
    """Folder for sockets, state and rings, best in memory (tmpfs). The default is the runtime directory of systemd, or
    a folder with the name of the node in /dev/shm."""
    health_port: Annotated[int | None, Field(ge=0, le=65535)] = None
    """HTTP port on 127.0.0.1 for /healthz, /readyz, /status, /metrics; 0 is any free port. The default is no port."""
    hang_seconds: Annotated[float, Field(ge=1)] = 30.0
    """Time without progress after which a process is killed and started again, s; ten times that while it starts."""
    drain_seconds: Annotated[float, Field(ge=0)] = 60.0
    """Time that a node which ends gives the spool to empty, s; the next start forwards what remains."""


class InputSection(Section):
    """Input: how samples reach the node, and the ring that buffers them."""

    endpoint: str = "tcp://127.0.0.1:7214"
    """Where the node listens: tcp://HOST:PORT or ipc://PATH for ZeroMQ, or the endpoint of a plug-in: its scheme says
    which one."""
    options: dict[str, Any] = {}
    """Settings of the plug-in that serves the endpoint; ZeroMQ has none."""
    insecure: bool = False
    """Allow an endpoint that other machines can reach without encryption or authentication."""
    connect: bool = False
    """Connect to the endpoint instead of binding it (ZeroMQ only); the sender binds it."""
    buffer_seconds: Annotated[float | None, Field(gt=0)] = None
    """Depth of the ring, s of signal. The default is what a restart without loss needs."""
    shallow: bool = False
    """Allow a ring that is too shallow for a restart without loss."""
    policy: Literal["hold", "drop-oldest"] = "hold"
    """If the reducer cannot keep up: hold makes the sender wait; drop-oldest overwrites the oldest samples, which the
    ledger counts as lost (overrun)."""
    late_seconds: Annotated[float, Field(ge=0)] = 0.5
    """Time to wait for missing samples, s of signal: they are lost when samples that much newer have arrived."""
    max_gap_seconds: Annotated[float, Field(gt=0)] = 3600.0
    """Longest gap before a frame, s of signal; a frame farther ahead of the newest sample is refused as malformed."""
    curve_key: Annotated[str | None, Field(min_length=1)] = None
    """Secret key file of the node, made by ``edgefilter keys`` (ZeroMQ only). With it, senders must encrypt and
    authenticate."""
    curve_clients: Annotated[str | None, Field(min_length=1)] = None
    """Folder with the public keys (NAME.key) of the senders that are admitted."""

    @model_validator(mode="after")
    def _check_endpoint(self) -> Self:
        try:
            check_input(
                LiveInputSettings(
                    self.endpoint,
                    insecure=self.insecure,
                    options=self.options,
                    connect=self.connect,
                    curve_key=self.curve_key,
                    curve_clients=self.curve_clients,
                )
            )
        except EdgefilterError as error:
            raise ValueError(str(error)) from None
        return self


class StoreSection(Section):
    """Store that receives the products."""

    path: str = "store"
    """Directory, file:// URL, s3://BUCKET/PREFIX (with ?endpoint=URL&region=NAME), or a URL of a scheme that another
    package brings; never with credentials."""


class SpoolSection(Section):
    """Local queue of products, and how they are forwarded to the store."""

    path: Annotated[str | None, Field(min_length=1)] = None
    """Directory of the spool. The default is STORE.spool if the store is a directory, else spool."""
    budget_bytes: Annotated[int | None, Field(ge=1 << 20)] = None
    """Most bytes in the spool; the default is the space on the disk. In a full spool, spectra and flags are dropped."""
    batch_blocks: Annotated[int, Field(ge=1, le=1 << 20)] = 60
    """Blocks whose table rows are merged to one object of the store."""
    batch_seconds: Annotated[float, Field(ge=0, le=86400)] = 300.0
    """Longest time that rows wait for the other blocks of their object, s."""
    uploads: Annotated[int, Field(ge=1, le=64)] = 4
    """Number of parallel uploads."""
    bytes_per_second: Annotated[float | None, Field(gt=0)] = None
    """Limit of the upload rate, B/s, averaged over an object. The default is no limit."""
    request_seconds: Annotated[float, Field(ge=1, le=3600)] = 60.0
    """Timeout of a request to the store, s."""
    retry_seconds: Annotated[float, Field(gt=0, le=3600)] = 60.0
    """Longest pause between two attempts, s, unless the store demands a longer one."""


class StreamSection(Section):
    """A stream of the node; if there are several, a section ``[[stream]]`` for each.

    The header, ``kind`` to ``complex_samples``, is what ``edgefilter check`` and, at its start, ``edgefilter reduce``
    expect: a live stream sends its own.
    """

    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_-]{0,31}$")] = "main"
    """Name of the stream in this node, in file names and metrics: letters, digits, _ and -."""
    endpoint: str | None = None
    """Endpoint of this stream. The default is ``input.endpoint``."""
    options: dict[str, Any] = {}
    """Settings of the plug-in that serves the endpoint of this stream; without ``endpoint``, see ``input.options``."""
    kind: SampleKind = SampleKind.VOLTAGE
    """Kind of the samples: voltages, or detected power."""
    rate_hz: Annotated[float | None, Field(gt=0, le=1e12)] = None
    """Samples per second and channel, Hz: the channel width for complex voltages, twice that for real ones."""
    centre_mhz: Annotated[float | None, Field(gt=0)] = None
    """Centre of the band, MHz."""
    bandwidth_mhz: float | None = None
    """Width of the band, MHz; negative if the first channel is the highest."""
    channels: Annotated[int, Field(ge=1, le=1 << 20)] = 1
    """Number of channels; 1 is baseband."""
    products: tuple[str, ...] = ("X", "Y")
    """Polarisations of voltages, such as X and Y. For power: I; I Q U V; AA BB; or AA BB CR CI."""
    bits: Annotated[int, Field(ge=1, le=32)] = 8
    """Bits per number; a complex voltage has two numbers."""
    encoding: Encoding = Encoding.SIGNED
    """Binary encoding of a number: offset is unsigned with zero at half the range."""
    complex_samples: bool = True
    """Whether voltages are complex (else real)."""

    @model_validator(mode="after")
    def _check_pairs(self) -> Self:
        given = [value is not None for value in (self.rate_hz, self.centre_mhz, self.bandwidth_mhz)]
        if any(given) and not all(given):
            raise ValueError("rate_hz, centre_mhz and bandwidth_mhz must be given together")
        if self.options and self.endpoint is None:
            raise ValueError("options needs an endpoint of the stream; those of input.endpoint are input.options")
        return self

    def stream(self) -> Stream:
        """Return the header that the section describes.

        Raises
        ------
        ConfigError
            If no header is given.
        InputError
            If the values do not describe a stream.
        """
        if self.rate_hz is None or self.centre_mhz is None or self.bandwidth_mhz is None:
            raise ConfigError(f"stream {self.name}: no header is given: set rate_hz, centre_mhz and bandwidth_mhz")
        step = self.bandwidth_mhz * 1e6 / self.channels
        return Stream(
            name="expected",
            kind=self.kind,
            epoch_tai_ns=0,
            rate=Fraction(str(self.rate_hz)),
            channels=self.channels,
            first_channel_hz=self.centre_mhz * 1e6 - step * (self.channels - 1) / 2,
            channel_step_hz=step,
            products=self.products,
            bits=self.bits,
            encoding=self.encoding,
            complex_samples=self.complex_samples,
        )
