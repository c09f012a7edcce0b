"""Configuration: frozen models of what a TOML file may say.

:class:`Reduction` is the science: all that products depend on beside samples and code. Its digest is stored with every
product. ``None`` stands for "follows from the stream"; :func:`edgefilter.plan.resolve` fills it in, and only resolved
reductions are digested and run. :class:`NodeConfig` adds where samples come from and products go to, which no product
depends on.
"""

import copy
import hashlib
import json
import tomllib
from collections.abc import Mapping
from fractions import Fraction
from pathlib import Path
from typing import Annotated, Any, Literal, Self, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from edgefilter.errors import ConfigError
from edgefilter.stream import Encoding, Kind, Stream


class Section(BaseModel):
    """A table of the configuration file: frozen, and no key that it does not know."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class Block(Section):
    """The unit of work."""

    rows: Annotated[int | None, Field(ge=16, le=1 << 20)] = None
    """Rows of the search (integrated spectra) in a block."""


class Channelise(Section):
    """The polyphase filterbank; not used for power."""

    channels: Annotated[int | None, Field(ge=1, le=65536)] = None
    """Channels made of each raw channel; a power of two, at least 2. Resolved to 1 for power."""
    taps: Annotated[int, Field(ge=1, le=32)] = 4
    window: Literal["hamming", "hann", "kaiser", "boxcar"] = "hamming"
    """Window of the prototype filter; kaiser is used with beta 8."""

    @model_validator(mode="after")
    def _power_of_two(self) -> Self:
        if self.channels is not None and self.channels & (self.channels - 1):
            raise ValueError(f"channels is {self.channels}, must be a power of two")
        return self


class Detect(Section):
    """From voltages to power."""

    stokes: Literal["I", "IQUV"] = "I"
    spectra: Annotated[int | None, Field(ge=1, le=1 << 16)] = None
    """Spectra whose power is accumulated in one time-channel cell; not used for power."""


class FlagSettings(Section):
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
    def _bands(self) -> Self:
        for name, bands in (("mask", self.mask), ("protect", self.protect)):
            for low, high in bands:
                if not 0 <= low < high:
                    raise ValueError(f"{name} band [{low}, {high}] must be [low, high] in MHz with 0 <= low < high")
        if not 0 < self.sky_dm[0] < self.sky_dm[1] <= 20000:
            raise ValueError(f"sky_dm is {list(self.sky_dm)}, must be [low, high] with 0 < low < high <= 20000 pc/cm3")
        return self


class Integrate(Section):
    """Time integration after flagging."""

    cells: Annotated[int | None, Field(ge=1, le=65535)] = None
    """Cells in one row of the search."""


class Pulses(Section):
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
    def _ranges(self) -> Self:
        low, high = self.dm
        if low < 0 or low > 20000 or (high is not None and not low < high <= 20000):
            raise ValueError(f"dm is {low}:{high}, must be 0 <= low < high <= 20000 pc/cm3")
        if self.bands & (self.bands - 1):
            raise ValueError(f"bands is {self.bands}, must be a power of two")
        return self


class Reduction(Section):
    """All that products depend on beside the samples and the code."""

    block: Block = Block()
    channelise: Channelise = Channelise()
    detect: Detect = Detect()
    flag: FlagSettings = FlagSettings()
    integrate: Integrate = Integrate()
    pulses: Pulses = Pulses()

    def canonical(self) -> str:
        """Canonical JSON text of the science alone: the same settings always give the same text."""
        science = self.model_dump(mode="json", include=set(Reduction.model_fields))
        return json.dumps(science, sort_keys=True, separators=(",", ":"))

    def digest(self) -> str:
        """Head of the SHA-256 of :meth:`canonical`, 16 hexadecimal digits."""
        return hashlib.sha256(self.canonical().encode()).hexdigest()[:16]


class NodeSection(Section):
    """The machine."""

    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9+._-]{0,63}$")] = "node"
    """Part of the path of every product."""
    threads: Annotated[int, Field(ge=0, le=1024)] = 0
    """Worker threads; 0 is one a core."""


class InputSection(Section):
    """Where samples come from."""

    endpoint: str = "tcp://127.0.0.1:7214"
    """ZeroMQ endpoint that the node binds."""
    insecure: bool = False
    """Allow an endpoint that other machines can reach, without encryption or authentication."""
    buffer_seconds: Annotated[float | None, Field(gt=0)] = None
    """Depth of the receive buffer, s of signal; the least that works if not given."""
    late_seconds: Annotated[float, Field(ge=0)] = 0.5
    """How much newer samples must have come, s of signal, before missing ones are given up as lost."""

    @model_validator(mode="after")
    def _reachable(self) -> Self:
        scheme, _, rest = self.endpoint.partition("://")
        if scheme not in ("tcp", "ipc", "inproc") or not rest:
            raise ValueError(f"endpoint is {self.endpoint!r}, must be tcp://…, ipc://… or inproc://…")
        local = scheme != "tcp" or rest.rsplit(":", 1)[0] in ("127.0.0.1", "localhost", "[::1]")
        if not local and not self.insecure:
            raise ValueError(
                f"endpoint {self.endpoint!r} can be reached from other machines: "
                "use a loopback or ipc endpoint, or say insecure = true"
            )
        return self


class StoreSection(Section):
    """Where products go to."""

    path: str = "store"


class StreamSection(Section):
    """The stream that is expected: what ``edgefilter check`` reckons with. The live one brings its own header."""

    kind: Kind = Kind.VOLTAGE
    rate_hz: Annotated[float, Field(gt=0, le=1e12)]
    """Samples a second; real voltages of bandwidth B have rate 2 B, complex ones B."""
    centre_mhz: Annotated[float, Field(gt=0)]
    """Middle of the band."""
    bandwidth_mhz: float
    """Width of the band; negative if the first channel is the highest."""
    channels: Annotated[int, Field(ge=1, le=1 << 20)] = 1
    products: tuple[str, ...] = ("X", "Y")
    bits: Annotated[int, Field(ge=1, le=32)] = 8
    encoding: Encoding = Encoding.SIGNED
    complex_samples: bool = True

    def stream(self) -> Stream:
        """Return the header that such a stream would have.

        Raises
        ------
        InputError
            If the values do not describe a stream.
        """
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


class NodeConfig(Reduction):
    """A whole configuration file."""

    stream: StreamSection | None = None

    node: NodeSection = NodeSection()
    input: InputSection = InputSection()
    store: StoreSection = StoreSection()


Model = TypeVar("Model", bound=Reduction)


def load(path: str | Path, overrides: Mapping[str, str] | None = None) -> NodeConfig:
    """Read a TOML configuration file.

    Parameters
    ----------
    path
        The file.
    overrides
        ``section.key`` to TOML value text, as ``--set`` takes them.

    Raises
    ------
    ConfigError
        If it cannot be read, is not TOML, or holds a value that cannot be. All mistakes are told, a line each.
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


def validate(
    model: type[Model],
    tree: dict[str, Any],
    overrides: Mapping[str, str] | None = None,
    where: str = "settings",
) -> Model:
    """Build a model from a tree of values and ``section.key`` overrides.

    Raises
    ------
    ConfigError
        One line a mistake: where, key, what is wrong.
    """
    tree = copy.deepcopy(tree)
    for key, value in (overrides or {}).items():
        _set(tree, key, value)
    try:
        return model.model_validate(tree)
    except ValidationError as error:
        raise ConfigError("\n".join(_lines(error, where))) from None


def _set(tree: dict[str, Any], key: str, text: str) -> None:
    section, _, name = key.partition(".")
    if not name or "." in name:
        raise ConfigError(f"--set {key}={text}: the key must be SECTION.KEY, such as pulses.snr")
    try:
        parsed = tomllib.loads(f"value = {text}")
    except tomllib.TOMLDecodeError:
        parsed = {}
    value = parsed["value"] if len(parsed) == 1 else text  # a bare word is a string
    table = tree.setdefault(section, {})
    if not isinstance(table, dict):
        raise ConfigError(f"--set {key}={text}: {section} is not a section")
    table[name] = value


def _lines(error: ValidationError, where: str) -> list[str]:
    lines = []
    for item in error.errors(include_url=False):
        key = ".".join(str(part) for part in item["loc"])
        message = item["msg"].removeprefix("Value error, ")
        if item["type"] == "extra_forbidden":
            message = "no such setting"
        value = "" if item["type"] in ("value_error", "missing", "extra_forbidden") else f" is {item['input']!r}:"
        lines.append(f"{where}: {key}{value} {message}" if value else f"{where}: {key}: {message}")
    return lines
