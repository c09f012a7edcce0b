"""Configuration: frozen models of a TOML file.

:class:`Reduction` holds all settings that products depend on; its digest is stored with every product. ``None`` means
that a value follows from the stream: :func:`edgefilter.core.plan.resolve` computes it, and only the digest of resolved
settings is stored. :class:`NodeConfig` adds the settings of the machine (:mod:`edgefilter.core.node_sections`), on
which no product depends.
"""

import hashlib
import json
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import BeforeValidator, Field, ValidationError, model_validator

from edgefilter.core.endpoint import is_zmq
from edgefilter.core.errors import ConfigError
from edgefilter.core.node_sections import (
    InputSection,
    NodeSection,
    Section,
    SpoolSection,
    StoreSection,
    StreamSection,
)
from edgefilter.core.stage_settings import ReductionSection, StagesSection
from edgefilter.core.validation import validate


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
    stages: StagesSection = StagesSection()

    def canonical(self) -> str:
        """Return the canonical JSON text of what products depend on: equal settings always give the same text.

        A section or a setting that version 0.1.0 did not have is part of the text only if it differs from its
        default, so that a new setting does not change the digest of existing configurations. A stage of a plug-in is
        part of it with the version of its package.
        """
        tree: dict[str, dict[str, Any]] = {}
        for name, section in self:
            if isinstance(section, ReductionSection):
                first = _FIRST_SETTINGS.get(name, ())
                values, changed = section.model_dump(mode="json"), section.model_dump(exclude_defaults=True)
                kept = {key: value for key, value in values.items() if key in first or key in changed}
                if kept:
                    tree[name] = kept
        if self.stages:
            tree["stages"] = self.stages.canonical()
        return json.dumps(tree, sort_keys=True, separators=(",", ":"))

    def digest(self) -> str:
        """Return the first 16 hexadecimal digits of the SHA-256 of :meth:`canonical`."""
        return hashlib.sha256(self.canonical().encode()).hexdigest()[:16]


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
            Section ``input``, with endpoint and options of the stream if it has an endpoint of its own.
        """
        if stream.endpoint is None:
            return self.input
        own: dict[str, Any] = {"endpoint": stream.endpoint, "options": stream.options}
        if not is_zmq(stream.endpoint):
            own |= {"connect": False, "curve_key": None, "curve_clients": None}  # those are for other streams
        return InputSection.model_validate(self.input.model_dump() | own)


def load(path: str | Path, overrides: Mapping[str, str] | None = None, stages: bool = True) -> NodeConfig:
    """Read a TOML configuration file.

    Parameters
    ----------
    path
        The file.
    overrides
        ``section.key`` to TOML value text, as ``--set`` takes them; they win over the file.
    stages
        Whether the sections of stages are read. A process that runs no stage needs none of their plug-ins.

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
    if not stages:
        tree.pop("stages", None)
        overrides = {key: value for key, value in (overrides or {}).items() if not key.startswith("stages.")}
    return validate(NodeConfig, tree, overrides, where=str(path))
