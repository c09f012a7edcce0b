"""Configuration: frozen models of a TOML file.

:class:`Reduction` holds all settings that products depend on; its digest is stored with every product. ``None`` means
that a value follows from the stream: :func:`edgefilter.core.plan.resolve` computes it, and only the digest of resolved
settings is stored. :class:`NodeConfig` adds the settings of the machine, on which no product depends.
"""

import hashlib
import json
import tomllib
from collections.abc import Mapping
from fractions import Fraction
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, model_validator

from edgefilter.core.endpoint import check_encryption, check_endpoint
from edgefilter.core.errors import ConfigError
from edgefilter.core.html import settings_html
from edgefilter.core.stream import Encoding, SampleKind, Stream
from edgefilter.core.validation import validate

Backend = Literal["auto", "cpu", "gpu"]


class Section(BaseModel):
    """A section of the configuration file: frozen; unknown keys are refused."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    def _repr_html_(self) -> str:
        return settings_html(type(self).__name__, self.model_dump(mode="json"))


class ReductionSection(Section):
    """A section of settings that products depend on: their digest is stored with every product."""


class BlockSettings(ReductionSection):
    """Length of a block. The stream is reduced block by block; the products of a block are at least one block late."""

    rows: Annotated[int | None, Field(ge=16, le=1 << 20)] = None
    """Rows in a block; a row is one time step of the search. The default makes blocks of about 128 MiB of samples."""


class ChanneliseSettings(ReductionSection):
    """Polyphase filterbank: divides the channels of the stream into finer ones. It has no effect on power streams."""

    channels: Annotated[int | None, Field(ge=1, le=65536)] = None
    """Fine channels per channel of the stream, a power of two from 2. The default makes channels of about 125 kHz."""
    taps: Annotated[int, Field(ge=1, le=32)] = 4
    """Length of the prototype filter, in taps per channel. With more taps, less power leaks between channels."""
    window: Literal["hamming", "hann", "kaiser", "boxcar"] = "hamming"
    """Window function of the prototype filter; kaiser has beta = 8."""
    oversampling: Literal["1", "4/3", "32/27"] = "1"
    """Spectra per second relative to critical sampling; above 1, the edges of channels do not alias."""

    @model_validator(mode="after")
    def _check_power_of_two(self) -> Self:
        if self.channels is not None and self.channels & (self.channels - 1):
            raise ValueError(f"channels is {self.channels}, must be a power of two")
        return self


class DetectSettings(ReductionSection):
    """Detection: power from voltages."""

    stokes: Literal["I", "IQUV"] = "I"
    """Total intensity, or all Stokes parameters; IQUV needs two polarisations and four times the memory."""
    spectra: Annotated[int | None, Field(ge=1, le=1 << 16)] = None
    """Spectra accumulated per cell (one channel at one time step of the flaggers); the default makes cells of about
    0.5 ms. It has no effect on power streams: there a cell is one sample."""


class FlagSettings(ReductionSection):
    """Flaggers of radio-frequency interference.

    A flagged cell is excluded from spectra and search; a tagged cell is counted and used.
    """

    mask: tuple[tuple[float, float], ...] = ()
    """Bands that are always flagged, each [low, high] in MHz: channels with their centre in a band."""
    protect: tuple[tuple[float, float], ...] = ()
    """Bands of spectral lines, each [low, high] in MHz: flaggers other than mask and zero_dm only tag cells there."""
    kurtosis_sigma: Annotated[float, Field(ge=0, le=100)] = 4.4
    """Runs of cells with low or high spectral kurtosis (voltages only): threshold, in sigma of Gaussian noise with the
    same rate of false flags; 0 is off."""
    power_sigma: Annotated[float, Field(ge=0, le=100)] = 4.4
    """Runs of cells with high power (SumThreshold), unless they follow a dispersion sweep: threshold, in sigma of
    Gaussian noise with the same rate of false flags; 0 is off."""
    zero_dm_sigma: Annotated[float, Field(ge=0, le=100)] = 1.0
    """Impulses at DM 0, in the whole band at once: excess needed in most channels, in sigma of a cell; 0 is off."""
    carrier_sigma: Annotated[float, Field(ge=0, le=100)] = 4.0
    """Channels with a continuous carrier: deviation of their mean kurtosis over the block, in sigma; 0 is off."""
    tone_db: Annotated[float, Field(ge=-60, le=60)] = -10.0
    """Carriers fainter than this, in dB relative to the noise of a channel, are only tagged."""
    channel_sigma: Annotated[float, Field(ge=0, le=100)] = 5.0
    """Channels whose scatter exceeds that of their neighbours (IQRM): threshold, in robust sigma; 0 is off."""
    sky_dm: tuple[float, float] = (20.0, 3000.0)
    """Range of dispersion measures, pc/cm3, whose sweeps are not flagged for high power or high kurtosis."""

    @model_validator(mode="after")
    def _check_bands(self) -> Self:
        for name, bands in (("mask", self.mask), ("protect", self.protect)):
            for low, high in bands:
                if not 0 <= low < high:
                    raise ValueError(f"{name} band [{low}, {high}] must be [low, high] in MHz with 0 <= low < high")
        if not 0 < self.sky_dm[0] < self.sky_dm[1] <= 20000:
            raise ValueError(f"sky_dm is {list(self.sky_dm)}, must be [low, high] with 0 < low < high <= 20000 pc/cm3")
        return self


class IntegrateSettings(ReductionSection):
    """Time integration after flagging."""

    cells: Annotated[int | None, Field(ge=1, le=65535)] = None
    """Cells in one row, the time step of the search; the default makes rows of about 0.25 ms."""


class PulseSettings(ReductionSection):
    """The single-pulse search."""

    dm: tuple[float, float | None] = (0.0, None)
    """Lowest and highest dispersion measure of the search, pc/cm3. The default for the highest is 3000, or less for a
    recording that is shorter than the sweep."""
    snr: Annotated[float, Field(ge=4, le=1000)] = 7.0
    """Lowest signal-to-noise ratio of a candidate."""
    widths: Annotated[int, Field(ge=1, le=12)] = 6
    """Number of boxcar widths: 1, 2, 4 … 2^(widths-1) rows."""
    tolerance: Annotated[float, Field(ge=1.01, le=2)] = 1.25
    """Largest factor by which the step between DM trials may widen the narrowest pulse."""
    bands: Annotated[int, Field(ge=1, le=16)] = 4
    """The search covers the whole band, its halves, … down to this number of sub-bands; a power of two."""
    candidates: Annotated[int, Field(ge=1, le=1_000_000)] = 1000
    """Most candidates per block, the strongest; the ledger counts those that are dropped."""
    cutouts: Annotated[int, Field(ge=0, le=10_000)] = 16
    """Most cut-outs per block, of the strongest candidates; the others are listed without a cut-out."""

    @model_validator(mode="after")
    def _check_ranges(self) -> Self:
        low, high = self.dm
        if low < 0 or low > 20000 or (high is not None and not low < high <= 20000):
            raise ValueError(f"dm is {low}:{high}, must be 0 <= low < high <= 20000 pc/cm3")
        if self.bands & (self.bands - 1):
            raise ValueError(f"bands is {self.bands}, must be a power of two")
        return self


_FIRST_SETTINGS = {
    "block": ("rows",),
    "channelise": ("channels", "taps", "window", "oversampling"),
    "detect": ("stokes", "spectra"),
    "flag": (
        "mask", "protect", "kurtosis_sigma", "power_sigma", "zero_dm_sigma", "carrier_sigma", "tone_db",
        "channel_sigma", "sky_dm",
    ),
    "integrate": ("cells",),
    "pulses": ("dm", "snr", "widths", "tolerance", "bands", "candidates", "cutouts"),
}  # fmt: skip
"""Settings of version 0.1.0, which every digest covers."""


class Reduction(Section):
    """All settings that products depend on."""

    block: BlockSettings = BlockSettings()
    channelise: ChanneliseSettings = ChanneliseSettings()
    detect: DetectSettings = DetectSettings()
    flag: FlagSettings = FlagSettings()
    integrate: IntegrateSettings = IntegrateSettings()
    pulses: PulseSettings = PulseSettings()

    def canonical(self) -> str:
        """Return the canonical JSON text of what products depend on: equal settings always give the same text.

        A section or a setting that version 0.1.0 did not have is part of the text only if it differs from its
        default, so that a new setting does not change the digest of existing configurations.
        """
        tree: dict[str, dict[str, Any]] = {}
        for name, section in self:
            if isinstance(section, ReductionSection):
                first = _FIRST_SETTINGS.get(name, ())
                values, changed = section.model_dump(mode="json"), section.model_dump(exclude_defaults=True)
                kept = {key: value for key, value in values.items() if key in first or key in changed}
                if kept:
                    tree[name] = kept
        return json.dumps(tree, sort_keys=True, separators=(",", ":"))

    def digest(self) -> str:
        """Return the first 16 hexadecimal digits of the SHA-256 of :meth:`canonical`."""
        return hashlib.sha256(self.canonical().encode()).hexdigest()[:16]


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
    """ZeroMQ endpoint that the node binds: tcp://HOST:PORT or ipc://PATH."""
    insecure: bool = False
    """Allow an endpoint that other machines can reach without encryption or authentication."""
    connect: bool = False
    """Connect to the endpoint instead of binding it; the sender binds it."""
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
    """Secret key file of the node, made by ``edgefilter keys``. With it, senders must encrypt and authenticate."""
    curve_clients: Annotated[str | None, Field(min_length=1)] = None
    """Folder with the public keys (NAME.key) of the senders that are admitted."""

    @model_validator(mode="after")
    def _check_endpoint(self) -> Self:
        if (self.curve_key is None) != (self.curve_clients is None):
            raise ValueError("curve_key and curve_clients must be given together")
        try:
            check_endpoint(self.endpoint)
            check_encryption(self.endpoint, self.curve_key is not None, self.insecure)
        except ConfigError as error:
            raise ValueError(str(error)) from None
        return self


class StoreSection(Section):
    """Store that receives the products."""

    path: str = "store"
    """Directory, file:// URL, or s3://BUCKET/PREFIX (with ?endpoint=URL&region=NAME), never with credentials."""


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

    Only ``edgefilter check`` uses the header, ``kind`` to ``complex_samples``: a live stream sends its own.
    """

    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_-]{0,31}$")] = "main"
    """Name of the stream in this node, in file names and metrics: letters, digits, _ and -."""
    endpoint: str | None = None
    """ZeroMQ endpoint of this stream. The default is ``input.endpoint``."""
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
    def _check_header(self) -> Self:
        given = [value is not None for value in (self.rate_hz, self.centre_mhz, self.bandwidth_mhz)]
        if any(given) and not all(given):
            raise ValueError("rate_hz, centre_mhz and bandwidth_mhz must be given together")
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


def _as_list(tree: Any) -> Any:
    """Turn a single ``[stream]`` into a list."""
    return [tree] if isinstance(tree, dict) else tree


class NodeConfig(Reduction):
    """A whole configuration file."""

    stream: Annotated[tuple[StreamSection, ...], BeforeValidator(_as_list), Field(min_length=1)] = (StreamSection(),)

    node: NodeSection = NodeSection()
    input: InputSection = InputSection()
    store: StoreSection = StoreSection()
    spool: SpoolSection = SpoolSection()

    @model_validator(mode="after")
    def _check_streams(self) -> Self:
        try:
            endpoints = [self.input_of(stream).endpoint for stream in self.stream]
        except ValidationError as error:
            raise ValueError(error.errors()[0]["msg"].removeprefix("Value error, ")) from None
        names = [stream.name for stream in self.stream]
        for what, values in (("name", names), ("endpoint", endpoints)):
            for value in values:
                if values.count(value) > 1 and not value.endswith(":*"):
                    raise ValueError(f"two streams have the same {what} {value!r}")
        return self

    @property
    def spool_directory(self) -> str:
        """Directory of the spool."""
        if self.spool.path is not None:
            return self.spool.path
        return "spool" if "://" in self.store.path else self.store.path.rstrip("/") + ".spool"

    def input_of(self, stream: StreamSection) -> InputSection:
        """Return the input of a stream.

        Parameters
        ----------
        stream
            Section of the stream.

        Returns
        -------
        InputSection
            Section ``input``, with the endpoint of the stream if it has one of its own.
        """
        if stream.endpoint is None:
            return self.input
        return InputSection.model_validate(self.input.model_dump() | {"endpoint": stream.endpoint})


def load(path: str | Path, overrides: Mapping[str, str] | None = None) -> NodeConfig:
    """Read a TOML configuration file.

    Parameters
    ----------
    path
        The file.
    overrides
        ``section.key`` to TOML value text, as ``--set`` takes them; they win over the file.

    Returns
    -------
    NodeConfig
        The configuration.

    Raises
    ------
    ConfigError
        If the file cannot be read, is not TOML, or holds an invalid value; one line for each error.
    """
    try:
        text = Path(path).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "not UTF-8 text"
        raise ConfigError(f"{path}: cannot be read: {reason}") from None
    try:
        tree = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"{path}: not TOML: {error}") from None
    return validate(NodeConfig, tree, overrides, where=str(path))
