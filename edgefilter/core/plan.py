"""The integers that follow from a stream and the settings of a reduction; they set the size of every stage.

From the raw sample upwards::

    raw sample  → (channelise)  spectrum → (detect)  cell → (integrate)  row → block
                 samples_per_spectrum   spectra_per_cell   cells_per_row    rows_per_block

Power streams are detected already: their samples are cells.
"""

from dataclasses import dataclass
from fractions import Fraction
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from edgefilter.core.config import Reduction
from edgefilter.core.errors import ConfigError
from edgefilter.core.stream import SampleKind, Stream

DISPERSION_S_MHZ2 = 1 / 2.41e-4
"""Dispersion constant, s MHz² per pc cm⁻³: delay = constant · DM / f². The value that the field's software has agreed
on (Manchester & Taylor 1977; kept by convention, see Kulkarni 2020, arXiv:2007.02886)."""

_MARGIN_ROWS = 20
_BLOCK_BYTES = 128 << 20
_CHANNEL_HZ = 125e3
_CELL_SECONDS = 0.5e-3
_ROW_SECONDS = 0.25e-3
_DM_DEFAULT = 3000.0


def cutout_margin_rows(width_rows: float) -> float:
    """Return how many rows a cut-out keeps before and after a pulse.

    Parameters
    ----------
    width_rows
        Width of the pulse, rows.

    Returns
    -------
    float
        Rows before and after the middle of the boxcar, in each channel.
    """
    return max(_MARGIN_ROWS, 2.5 * width_rows)


def dispersion_delay(dm: float, low_mhz: float, high_mhz: float) -> float:
    """Return the dispersion delay between two frequencies, ``DISPERSION_S_MHZ2 · DM · (f_low⁻² - f_high⁻²)``.

    Parameters
    ----------
    dm
        Dispersion measure, pc cm⁻³.
    low_mhz, high_mhz
        Frequencies, MHz.

    Returns
    -------
    float
        Delay of ``low_mhz`` after ``high_mhz``, s.
    """
    return DISPERSION_S_MHZ2 * dm * (low_mhz**-2 - high_mhz**-2)


@dataclass(frozen=True)
class Plan:
    """Layout of a reduction.

    Parameters
    ----------
    stream
        Header of the stream.
    settings
        Settings without any ``None``: see :func:`resolve`.
    packages
        Packages and versions of the plug-ins that read the stream: provenance, without effect on the layout.
    """

    stream: Stream
    settings: Reduction
    packages: tuple[str, ...] = ()

    @property
    def voltage(self) -> bool:
        """Whether the stream is voltages, to be channelised."""
        return self.stream.kind is SampleKind.VOLTAGE

    @property
    def fine_channels(self) -> int:
        """Channels made of each raw channel."""
        return _resolved(self.settings.channelise.channels) if self.voltage else 1

    @property
    def channels(self) -> int:
        """Channels of cells and rows."""
        return self.stream.channels * self.fine_channels

    @property
    def samples_per_tap(self) -> int:
        """Raw samples that a tap of the filter spans: N channels take N complex or 2 N real samples."""
        return self.fine_channels * (1 if self.stream.complex_samples or not self.voltage else 2)

    @property
    def samples_per_spectrum(self) -> int:
        """Raw samples from one spectrum to the next: those of a tap, fewer if the channels are oversampled."""
        return _hop(self.samples_per_tap, self.settings) if self.voltage else 1

    @property
    def spectra_per_cell(self) -> int:
        """Spectra accumulated in a cell."""
        return _resolved(self.settings.detect.spectra) if self.voltage else 1

    @property
    def cells_per_row(self) -> int:
        """Cells integrated in a row."""
        return _resolved(self.settings.integrate.cells)

    @property
    def rows_per_block(self) -> int:
        """Rows in a block."""
        return _resolved(self.settings.block.rows)

    @property
    def samples_per_cell(self) -> int:
        """Raw samples in a cell."""
        return self.samples_per_spectrum * self.spectra_per_cell

    @property
    def samples_per_row(self) -> int:
        """Raw samples in a row."""
        return self.samples_per_cell * self.cells_per_row

    @property
    def samples_per_block(self) -> int:
        """Raw samples in a block."""
        return self.samples_per_row * self.rows_per_block

    @property
    def cells_per_block(self) -> int:
        """Cells of one channel in a block."""
        return self.cells_per_row * self.rows_per_block

    @property
    def filter_samples(self) -> int:
        """Raw samples before a block that the channeliser's first spectrum reaches back to."""
        if not self.voltage:
            return 0
        return self.settings.channelise.taps * self.samples_per_tap - self.samples_per_spectrum

    @property
    def row_seconds(self) -> float:
        """Duration of a row, s."""
        return self.stream.seconds(self.samples_per_row)

    @property
    def block_seconds(self) -> float:
        """Duration of a block, s."""
        return self.stream.seconds(self.samples_per_block)

    @property
    def channel_mhz(self) -> float:
        """Signed step between neighbouring channels, MHz."""
        return self.stream.channel_step_hz / self.fine_channels / 1e6

    @cached_property
    def frequencies_mhz(self) -> NDArray[np.float64]:
        """Centre frequencies of the channels of cells and rows, MHz, shape ``[channel]``.

        A complex channel of centre f has its fine channel N/2 at f; a real one has fine channel 0 at its lower edge.
        """
        fine = np.arange(self.fine_channels, dtype=np.float64)
        if self.voltage:
            fine -= self.fine_channels / 2
        coarse = self.stream.frequencies_hz / 1e6
        return (coarse[:, None] + fine * self.channel_mhz).ravel()

    @property
    def band_mhz(self) -> tuple[float, float]:
        """Lower and upper edge of the whole band, MHz."""
        half = abs(self.channel_mhz) / 2
        return float(self.frequencies_mhz.min() - half), float(self.frequencies_mhz.max() + half)

    @property
    def dm_range(self) -> tuple[float, float]:
        """Dispersion measures that are searched, pc cm⁻³."""
        low, high = self.settings.pulses.dm
        return low, _resolved(high)

    def sweep_rows(self, dm: float) -> int:
        """Return how long a pulse takes to cross the band.

        Parameters
        ----------
        dm
            Dispersion measure, pc cm⁻³.

        Returns
        -------
        int
            Rows from its arrival in the highest channel to that in the lowest, rounded up.
        """
        low, high = float(self.frequencies_mhz.min()), float(self.frequencies_mhz.max())
        return int(np.ceil(dispersion_delay(dm, low, high) / self.row_seconds)) if low > 0 else 0

    def sample_of_row(self, row: Fraction | float) -> int:
        """Return the raw sample at an instant, corrected for the delay of the channeliser's filter.

        Spectrum r is made of samples ``[(r+1) S - T P, (r+1) S)``, T taps of P samples each, whose centre lies
        ``(T P - S) / 2`` before the centre of the spectrum's own S samples.

        Parameters
        ----------
        row
            The instant, rows since the epoch.

        Returns
        -------
        int
            Sample number, at least 0.
        """
        return max(0, round(Fraction(row) * self.samples_per_row) - self.filter_samples // 2)

    def block_of_sample(self, sample: int) -> int:
        """Return the block that holds a raw sample.

        Parameters
        ----------
        sample
            Sample number.

        Returns
        -------
        int
            Number of the block.
        """
        return sample // self.samples_per_block


def resolve(settings: Reduction, stream: Stream, samples: int | None = None) -> Reduction:
    """Fill in every setting that follows from the stream.

    Parameters
    ----------
    settings
        Settings of the user; ``None`` where a value follows from the stream.
    stream
        The stream's header.
    samples
        Length of the stream in raw samples if it is known. A short recording gets shorter cells and blocks, and no DM
        whose sweep over the upper half of the band is longer than the recording.

    Returns
    -------
    Reduction
        The same settings without any ``None``.

    Raises
    ------
    ConfigError
        If a setting does not fit this stream.
    """
    channelise, detect = settings.channelise, settings.detect
    if stream.kind is SampleKind.VOLTAGE:
        complex_rate = float(stream.rate) / (1 if stream.complex_samples else 2)
        per_channel = 1 if stream.complex_samples else 2
        channels = channelise.channels or _power_of_two(complex_rate / _CHANNEL_HZ, 16, 4096)
        step = _hop(channels * per_channel, settings)
        spectra_seconds = float(step / stream.rate)
        spectra = detect.spectra or _power_of_two(_CELL_SECONDS / spectra_seconds, 32, 1024)
        if samples is not None and detect.spectra is None:
            while spectra > 1 and samples < 64 * spectra * step:
                spectra //= 2
    else:
        channels, spectra, step = 1, 1, 1
    cell_seconds = float(step * spectra / stream.rate)
    cells = settings.integrate.cells or _power_of_two(_ROW_SECONDS / cell_seconds, 1, 4096)
    row_bytes = step * spectra * cells * stream.sample_bytes
    rows = settings.block.rows or _power_of_two(_BLOCK_BYTES / row_bytes, 1024, 4096)
    lowest_dm, highest_dm = settings.pulses.dm
    # Copied, not built anew: a section that is not named here stays as it is.
    resolved = settings.model_copy(
        update={
            "block": settings.block.model_copy(update={"rows": rows}),
            "channelise": channelise.model_copy(update={"channels": channels}),
            "detect": detect.model_copy(update={"spectra": spectra}),
            "integrate": settings.integrate.model_copy(update={"cells": cells}),
            "pulses": settings.pulses.model_copy(update={"dm": (lowest_dm, highest_dm or _DM_DEFAULT)}),
        }
    )
    if highest_dm is None:
        high = _highest_dm(Plan(stream, resolved), samples)
        pulses = resolved.pulses.model_copy(update={"dm": (lowest_dm, high)})
        resolved = resolved.model_copy(update={"pulses": pulses})
    _check(Plan(stream, resolved))
    return resolved


def _highest_dm(plan: Plan, samples: int | None) -> float:
    lowest = plan.settings.pulses.dm[0]
    highest = _DM_DEFAULT
    if samples is not None:
        top = float(plan.frequencies_mhz.max())
        middle = (max(float(plan.frequencies_mhz.min()), 0.0) + top) / 2
        per_dm = dispersion_delay(1.0, middle, top) if middle > 0 else 0.0
        if per_dm > 0:
            highest = min(highest, plan.stream.seconds(samples) / per_dm)
    return round(max(highest, lowest + 1.0), 3)


def _check(plan: Plan) -> None:
    detect = plan.settings.detect
    if plan.voltage and plan.fine_channels < 2:
        raise ConfigError("channelise.channels is 1, must be at least 2 for voltages")
    if detect.stokes == "IQUV" and len(plan.stream.products) not in ((2,) if plan.voltage else (4,)):
        raise ConfigError(
            f"detect.stokes is IQUV: stream {plan.stream.name} has products {', '.join(plan.stream.products)}, "
            "full Stokes needs two voltages or four power products"
        )
    low, high = plan.band_mhz
    for start, stop in plan.settings.flag.mask:
        if stop <= low or start >= high:
            raise ConfigError(f"flag.mask [{start}, {stop}] MHz lies outside the band, {low:.3f} to {high:.3f} MHz")


def _hop(tap: int, settings: Reduction) -> int:
    """Return the samples from one spectrum to the next, given those of a tap."""
    oversampling = Fraction(settings.channelise.oversampling)
    hop = tap / oversampling
    if hop.denominator != 1:
        least = oversampling.numerator
        raise ConfigError(
            f"channelise.oversampling is {oversampling}: it takes at least {least} channels of complex samples, "
            f"half as many of real ones"
        )
    return int(hop)


def _power_of_two(wanted: float, least: int, most: int) -> int:
    """Return the power of two nearest to ``wanted`` in ratio, within bounds that are powers of two."""
    exponent = round(float(np.log2(max(wanted, 1e-9))))
    return int(min(max(2 ** max(exponent, 0), least), most))


def _resolved(value: float | None) -> int:
    if value is None:
        raise ConfigError("the settings are not resolved: call edgefilter.core.plan.resolve first")
    return value  # type: ignore[return-value]
