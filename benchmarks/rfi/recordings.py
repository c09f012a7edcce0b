"""Draw pictures of recorded interference and its flags: ``python -m benchmarks.rfi.recordings FOLDER``.

``FOLDER`` holds ``transients/`` and ``rfi/`` of the sample data. The integrations of interferometers are seconds long,
so that they contain no sweeps. Where there are too few times, spectra of several antennas are used as times.
"""

import argparse
import tomllib
from dataclasses import dataclass
from pathlib import Path

import h5py
import hdf5plugin  # noqa: F401  registers the bitshuffle filter
import numpy as np
from matplotlib.colors import ListedColormap
from matplotlib.figure import Figure
from numpy.typing import NDArray
from scipy.ndimage import median_filter

import edgefilter
from edgefilter.analysis.flag_comparison import compare_flaggers
from edgefilter.core.config import NodeConfig
from edgefilter.core.validation import validate
from edgefilter.sources.files.recognise import open_files

_SMOOTH = 65  # channels of the running median: wider than any transmitter here, except all FM stations together


@dataclass(frozen=True)
class FlaggedRecording:
    """A recording, divided by its usual level, and its flags.

    Parameters
    ----------
    name, rows
        Name of the picture; quantity on its vertical axis.
    mhz
        float64 ``[channel]``.
    level
        float32 ``[row, channel]``: power over its usual level.
    flags
        uint16 ``[row, channel]`` of :func:`edgefilter.flag`.
    peer
        bool ``[row, channel]``: flags that come with the data, if there are any.
    """

    name: str
    rows: str
    mhz: NDArray[np.float64]
    level: NDArray[np.float32]
    flags: NDArray[np.uint16]
    peer: NDArray[np.bool_] | None = None

    @property
    def bad(self) -> NDArray[np.bool_]:
        """Flagged cells, without tagged ones, bool ``[row, channel]``."""
        return np.asarray(self.flags & ~edgefilter.FLAGS["tagged"] != 0)


def hera_autos(folder: Path) -> FlaggedRecording:
    """Flag 26 antennas, 2 polarisations and 2 times of HERA: each of the 104 spectra is a row.

    Parameters
    ----------
    folder
        Sample data.

    Returns
    -------
    FlaggedRecording
        The recording.
    """
    with h5py.File(folder / "rfi/hera_2459122_autos.uvh5") as file:
        values = np.moveaxis(file["Data/visdata"][:, 0].real, 2, 1)
        hertz, seconds = file["Header/freq_array"][0], float(file["Header/integration_time"][0])
    return _flag_spectra("hera_autos", values.reshape(-1, len(hertz)), hertz, seconds)


def hera(folder: Path) -> FlaggedRecording:
    """Flag two autocorrelations of HERA over 60 times, one after the other; its pipeline has flags of its own.

    Parameters
    ----------
    folder
        Sample data.

    Returns
    -------
    FlaggedRecording
        The recording.
    """
    with h5py.File(folder / "rfi/hera_2458116.uvh5") as file:
        first, second = file["Header/ant_1_array"][:], file["Header/ant_2_array"][:]
        values, peer = np.abs(file["Data/visdata"][:, 0, :, 0]), file["Data/flags"][:, 0, :, 0]
        hertz, seconds = file["Header/freq_array"][0], float(file["Header/integration_time"][0])
    blocks = [np.flatnonzero((first == antenna) & (second == antenna)) for antenna in np.unique(first)]
    return _flag_blocks("hera", values, blocks, hertz, seconds, peer)


def mwa(folder: Path) -> FlaggedRecording:
    """Flag the noise of MWA after the sky is subtracted: 27 times, mean of all baselines.

    Parameters
    ----------
    folder
        Sample data.

    Returns
    -------
    FlaggedRecording
        The recording.
    """
    with h5py.File(folder / "rfi/mwa_1061313128_ssins.h5") as file:
        values, hertz = file["Data/metric_array"][:, :, 0], file["Header/freq_array"][:]
        days = np.unique(file["Header/time_array"][:])
    return _flag_blocks("mwa", values, [np.arange(len(values))], hertz, float(np.diff(days).min()) * 86400)


def parkes_masked(folder: Path) -> FlaggedRecording:
    """Flag the recording of :func:`parkes` with the mask of the telescope's profile.

    Parameters
    ----------
    folder
        Sample data.

    Returns
    -------
    FlaggedRecording
        The recording.
    """
    profile = tomllib.loads((Path(__file__).parents[2] / "configs/parkes_uwl.toml").read_text())
    return parkes(folder, "parkes_masked", profile["flag"]["mask"])


def parkes(folder: Path, name: str = "parkes", mask: list[list[float]] | None = None) -> FlaggedRecording:
    """Flag 2 s of the Crab pulsar's field in 8 bits; a peer has a mask of whole channels.

    Parameters
    ----------
    folder
        Sample data.
    name
        Name of the picture.
    mask
        Bands to mask, MHz.

    Returns
    -------
    FlaggedRecording
        The recording.
    """
    with h5py.File(folder / "rfi/parkes_uwl_crab_8bit_mask.h5") as file:
        bad = file["chan_mask"][:].astype(np.bool_)
    source = open_files([folder / "transients/parkes_uwl_crab_8bit.fil"])
    try:
        case = compare_flaggers(source, validate(NodeConfig, {"flag": {"mask": mask or []}}), (), 0, 1)[0]
    finally:
        source.close()
    middle = np.median(case.intensity, axis=0)
    level = case.intensity / np.where(middle > 0, middle, 1)
    return FlaggedRecording(
        name, "cell", case.plan.frequencies_mhz, level, case.flags, np.broadcast_to(bad, level.shape)
    )


def _flag_spectra(
    name: str, values: NDArray[np.float64], hertz: NDArray[np.float64], seconds: float
) -> FlaggedRecording:
    """Flag spectra that are no time series: each is divided by the running median of its channels."""
    there = np.isfinite(values) & (values > 0)
    usual = median_filter(np.where(there, values, 0), (1, _SMOOTH))
    level = np.where(there & (usual > 0), values / np.where(usual > 0, usual, 1), np.nan).astype(np.float32)
    flags = edgefilter.flag(level, accumulated=0, sample_time=seconds, frequencies=hertz, threads=1)
    return FlaggedRecording(name, "spectrum", hertz / 1e6, level, flags)


def _flag_blocks(
    name: str, values: NDArray[np.float64], blocks: list[NDArray[np.int64]], hertz: NDArray[np.float64],
    seconds: float, peer: NDArray[np.bool_] | None = None,
) -> FlaggedRecording:  # fmt: skip
    """Flag blocks of times, each on its own."""
    levels, flags = [], []
    for block in blocks:
        power = np.where(values[block] > 0, values[block], np.nan).astype(np.float32)
        levels.append(power / np.nanmedian(power, axis=0))
        flags.append(edgefilter.flag(power, accumulated=0, sample_time=seconds, frequencies=hertz, threads=1))
    peer_flags = None if peer is None else peer[np.concatenate(blocks)]
    return FlaggedRecording(name, "time", hertz / 1e6, np.concatenate(levels), np.concatenate(flags), peer_flags)


def plot_recording(recording: FlaggedRecording, path: Path) -> None:
    """Draw levels, flags, and flags that come with the data, side by side.

    Parameters
    ----------
    recording
        The recording.
    path
        Output, a PNG file.
    """
    masks = {"edgefilter": recording.bad}
    if recording.peer is not None:
        masks["came with the data"] = recording.peer
    figure = Figure(figsize=(3.6 * (1 + len(masks)), 3.4), layout="constrained")
    axes = figure.subplots(1, 1 + len(masks), sharex=True, sharey=True)
    extent = (float(recording.mhz[0]), float(recording.mhz[-1]), float(len(recording.level)), 0.0)
    spread = np.nanquantile(recording.level, (0.05, 0.98))
    axes[0].imshow(recording.level, aspect="auto", extent=extent, vmin=spread[0], vmax=spread[1], cmap="Greys")
    axes[0].set(title="power over its usual level", xlabel="MHz", ylabel=recording.rows)
    for axis, (name, mask) in zip(axes[1:], masks.items(), strict=True):
        axis.imshow(mask, aspect="auto", extent=extent, cmap=ListedColormap(["#ffffff", "#d55e00"]), vmin=0, vmax=1)
        axis.set(title=f"{name}: {100 * mask.mean():.1f} %", xlabel="MHz")
    figure.savefig(path, dpi=72, pil_kwargs={"optimize": True})


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path, help="sample data")
    parser.add_argument("--out", type=Path, default=Path("docs/img"), help="folder of the pictures")
    arguments = parser.parse_args()
    for load in (parkes, parkes_masked, mwa, hera, hera_autos):
        recording = load(arguments.folder)
        path = arguments.out / f"flags_{recording.name}.png"
        plot_recording(recording, path)
        each = {
            name: f"{100 * (recording.flags & bit != 0).mean():.2f}"
            for name, bit in edgefilter.FLAGS.items()
            if (recording.flags & bit).any()
        }
        print(f"{path}: {100 * recording.bad.mean():.2f} % flagged; by flagger, %: {each}")
        if recording.peer is not None:
            ours, theirs = recording.bad, recording.peer
            print(
                f"  came with the data {100 * theirs.mean():.2f} %, of which {100 * ours[theirs].mean():.1f} % flagged"
            )
            whole = ours.mean(axis=0) > 0.5
            common = np.count_nonzero(whole & theirs.all(axis=0))
            print(
                f"  {np.count_nonzero(whole)} channels flagged for more than half, {common} of them came with the data"
            )


if __name__ == "__main__":
    main()
