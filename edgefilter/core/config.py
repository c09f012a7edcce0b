"""Configuration: frozen models of what a TOML file may say.

:class:`Reduction` holds all settings that products depend on; its digest is stored with every product. ``None`` stands
for "follows from the stream": :func:`edgefilter.core.plan.resolve` fills it in, and only resolved settings are digested
and run. :class:`NodeConfig` adds where samples come from and where products go to; no product depends on that.
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
    """A table of the configuration file: frozen; a key that it does not know is refused."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    def _repr_html_(self) -> str:
        return settings_html(type(self).__name__, self.model_dump(mode="json"))


class ReductionSection(Section):
    """A table of settings that products depend on: their digest is stored with every product."""


class BlockSettings(ReductionSection):
    """The unit of work."""

    rows: Annotated[int | None, Field(ge=16, le=1 << 20)] = None
    """Rows of the search (integrated spectra) in a block."""


class ChanneliseSettings(ReductionSection):
    """The polyphase filterbank; not used for power."""

    channels: Annotated[int | None, Field(ge=1, le=65536)] = None
    """Channels made of each raw channel; a power of two, at least 2. Resolved to 1 for power."""
    taps: Annotated[int, Field(ge=1, le=32)] = 4
    """Length of the filter, in channels' worth of samples."""
    window: Literal["hamming", "hann", "kaiser", "boxcar"] = "hamming"
    """Window of the prototype filter; kaiser is used with beta 8."""
    oversampling: Literal["1", "4/3", "32/27"] = "1"
    """Spectra a second over the least that lose nothing: channels overlap in time rather than alias at their edges."""

    @model_validator(mode="after")
    def _check_power_of_two(self) -> Self:
        if self.channels is not None and self.channels & (self.channels - 1):
            raise ValueError(f"channels is {self.channels}, must be a power of two")
        return self


class DetectSettings(ReductionSection):
    """From voltages to power."""

    stokes: Literal["I", "IQUV"] = "I"
    """Total intensity, or all four Stokes parameters, which need two polarisations and four times the memory."""
    spectra: Annotated[int | None, Field(ge=1, le=1 << 16)] = None
    """Spectra whose power is accumulated in one time-channel cell; not used for power."""


class FlagSettings(ReductionSection):
    """Interference."""

    mask: tuple[tuple[float, float], ...] = ()
    """Bands never to be used, [low, high] in MHz."""
    protect: tuple[tuple[float, float], ...] = ()
    """Bands of spectral lines, [low, high] in MHz: there, cells are tagged at most (but for mask and zero_dm)."""
    kurtosis_sigma: Annotated[float, Field(ge=0, le=100)] = 4.4
    """Runs of low or high spectral kurtosis: threshold as the Gaussian sigma of equal false-flag rate; 0 is off."""
    power_sigma: Annotated[float, Field(ge=0, le=100)] = 4.4
    """Runs of power (SumThreshold): threshold as the Gaussian sigma of equal false-flag rate; 0 is off."""
    zero_dm_sigma: Annotated[float, Field(ge=0, le=100)] = 1.0
    """Times at which the whole band moves: by how much, in sigma of a cell, channels must; 0 is off."""
    carrier_sigma: Annotated[float, Field(ge=0, le=100)] = 4.0
    """Channels with a tone throughout the block, in sigma of the block's mean kurtosis; 0 is off."""
    tone_db: Annotated[float, Field(ge=-60, le=60)] = -10.0
    """Tones fainter than this, in dB over the noise of a channel, are tagged and not flagged."""
    channel_sigma: Annotated[float, Field(ge=0, le=100)] = 5.0
    """Channels whose scatter stands out of their neighbours (IQRM), in robust sigma; 0 is off."""
    sky_dm: tuple[float, float] = (20.0, 3000.0)
    """Dispersion measures, pc/cm3, whose sweeps are never flagged for their power or high kurtosis."""

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
    """Cells in one row of the search."""


class PulseSettings(ReductionSection):
    """The single-pulse search."""

    dm: tuple[float, float | None] = (0.0, None)
    """Lowest and highest dispersion measure, pc/cm3."""
    snr: Annotated[float, Field(ge=4, le=1000)] = 7.0
    """Threshold."""
    widths: Annotated[int, Field(ge=1, le=12)] = 6
    """Matched boxcars of 1, 2, 4 … 2^(widths-1) rows."""
    tolerance: Annotated[float, Field(ge=1.01, le=2)] = 1.25
    """Widening of the narrowest pulse that the step between DM trials may cause."""
    bands: Annotated[int, Field(ge=1, le=16)] = 4
    """The band is searched whole, in halves, … down to this many parts; a power of two."""
    candidates: Annotated[int, Field(ge=1, le=1_000_000)] = 1000
    """Most candidates kept of one block; what is above is counted in the ledger."""
    cutouts: Annotated[int, Field(ge=0, le=10_000)] = 16
    """Most cut-outs kept of one block, strongest first; further candidates are listed without."""

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
"""The settings of version 0.1.0, which every digest covers."""


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

        A section or a setting that version 0.1.0 did not have is part of the text only where it differs from its
        default, so that a new one leaves the digest of every configuration as it was.
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
    """The machine."""

    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9+._-]{0,63}$")] = "node"
    """Part of the path of every product."""
    threads: Annotated[int, Field(ge=0, le=1024)] = 0
    """Worker threads; 0 is one a core."""
    backend: Backend = "cpu"
    """What reduces: the processor, or an NVIDIA GPU, which rounds differently; auto uses a GPU if there is one."""
    run_directory: str | None = None
    """Sockets, state and rings, best in memory (tmpfs); if not given the service manager's, or a folder of the node's
    name below /dev/shm."""
    health_port: Annotated[int | None, Field(ge=0, le=65535)] = None
    """Port on 127.0.0.1 of /healthz, /readyz, /status and /metrics; 0 lets the system choose, None has none."""
    hang_seconds: Annotated[float, Field(ge=1)] = 30.0
    """How long a process may show no progress before it is killed and started again, s; ten times that at its start."""
    drain_seconds: Annotated[float, Field(ge=0)] = 60.0
    """How long the end of the node waits for products to leave the spool, s; what remains leaves at the next start."""


class InputSection(Section):
    """Where samples come from."""

    endpoint: str = "tcp://127.0.0.1:7214"
    """ZeroMQ endpoint that the node binds."""
    insecure: bool = False
    """Allow an endpoint that other machines can reach, without encryption or authentication."""
    connect: bool = False
    """Connect to the endpoint, which the sender binds, instead of binding it."""
    buffer_seconds: Annotated[float | None, Field(gt=0)] = None
    """Depth of the ring, s of signal; if not given, what a restart without loss needs and a block more."""
    shallow: bool = False
    """Allow a ring too shallow for a restart without loss."""
    policy: Literal["hold", "drop-oldest"] = "hold"
    """When the reducer cannot keep up: hold the sender back, or overwrite the oldest samples and book them as lost."""
    late_seconds: Annotated[float, Field(ge=0)] = 0.5
    """How much newer samples must have come, s of signal, before missing ones are given up as lost."""

    max_gap_seconds: Annotated[float, Field(gt=0)] = 3600.0
    """How far ahead of the newest sample a frame may lie, s of signal; what lies farther is refused as malformed."""
    curve_key: Annotated[str | None, Field(min_length=1)] = None
    """The node's NAME.key_secret, as ``edgefilter keys`` makes it: senders must encrypt and prove who they are."""
    curve_clients: Annotated[str | None, Field(min_length=1)] = None
    """Folder of the NAME.key files of those who may send."""

    @model_validator(mode="after")
    def _check_endpoint(self) -> Self:
        if (self.curve_key is None) != (self.curve_clients is None):
            raise ValueError("curve_key and curve_clients go together")
        try:
            check_endpoint(self.endpoint)
            check_encryption(self.endpoint, self.curve_key is not None, self.insecure)
        except ConfigError as error:
            raise ValueError(str(error)) from None
        return self


class StoreSection(Section):
    """Where products go to."""

    path: str = "store"
    """Directory, its file:// URL, or s3://BUCKET/PREFIX (with ?endpoint=URL&region=NAME); never with keys in it."""


class SpoolSection(Section):
    """The local queue, and how it is emptied into the store."""

    path: Annotated[str | None, Field(min_length=1)] = None
    """Directory of the queue; beside the store, with ``.spool`` behind its name, if that is a directory."""
    budget_bytes: Annotated[int | None, Field(ge=1 << 20)] = None
    """Most bytes of products that wait; what the disk takes if not given. Beyond it, spectra and flags are dropped."""
    batch_blocks: Annotated[int, Field(ge=1, le=1 << 20)] = 60
    """Blocks whose table rows make one object of the store; 1 makes an object of each block."""
    batch_seconds: Annotated[float, Field(ge=0, le=86400)] = 300.0
    """Longest that rows wait for the rest of their batch, s."""
    uploads: Annotated[int, Field(ge=1, le=64)] = 4
    """Objects that are uploaded at once."""
    bytes_per_second: Annotated[float | None, Field(gt=0)] = None
    """Most that goes to the store, B/s, on average over an object."""
    request_seconds: Annotated[float, Field(ge=1, le=3600)] = 60.0
    """Longest that one request to the store may take, s."""
    retry_seconds: Annotated[float, Field(gt=0, le=3600)] = 60.0
    """Longest wait between two attempts, s, unless the store asks for more."""


class StreamSection(Section):
    """A stream of the node. Only ``edgefilter check`` uses the header given here: a live stream brings its own."""

    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_-]{0,31}$")] = "main"
    """What the node calls it; it names the ring and the metrics."""
    endpoint: str | None = None
    """Its own ZeroMQ endpoint, instead of ``input.endpoint``."""

    kind: SampleKind = SampleKind.VOLTAGE
    """Voltages, or power that is already detected."""
    rate_hz: Annotated[float | None, Field(gt=0, le=1e12)] = None
    """Samples a second; real voltages of bandwidth B have rate 2 B, complex ones B."""
    centre_mhz: Annotated[float | None, Field(gt=0)] = None
    """Middle of the band."""
    bandwidth_mhz: float | None = None
    """Width of the band; negative if the first channel is the highest."""
    channels: Annotated[int, Field(ge=1, le=1 << 20)] = 1
    """Raw channels; 1 is baseband."""
    products: tuple[str, ...] = ("X", "Y")
    """Polarisations of voltages; of power I, I Q U V, AA BB, or AA BB CR CI."""
    bits: Annotated[int, Field(ge=1, le=32)] = 8
    """Bits of one number."""
    encoding: Encoding = Encoding.SIGNED
    """How a number is written in its bits."""
    complex_samples: bool = True
    """Whether voltages are complex."""

    @model_validator(mode="after")
    def _check_header(self) -> Self:
        given = [value is not None for value in (self.rate_hz, self.centre_mhz, self.bandwidth_mhz)]
        if any(given) and not all(given):
            raise ValueError("rate_hz, centre_mhz and bandwidth_mhz go together")
        return self

    def stream(self) -> Stream:
        """Return the header that such a stream would have.

        Raises
        ------
        ConfigError
            If no header is given.
        InputError
            If the values do not describe a stream.
        """
        if self.rate_hz is None or self.centre_mhz is None or self.bandwidth_mhz is None:
            raise ConfigError(f"stream {self.name}: no header is given: set rate_hz, centre_mhz, bandwidth_mhz")
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
    """Make a list of one of a single ``[stream]``."""
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
        """Directory of the queue."""
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
            The file's, at the stream's own endpoint if it has one.
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
        If the file cannot be read, is not TOML, or holds a value that is not possible; one line for each mistake.
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
