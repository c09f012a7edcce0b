"""Figures: what they show, that they are reproducible, and how they are saved."""

import sys
from dataclasses import replace

import numpy as np
import pytest

from edgefilter.analysis.plots.figures import candidates_figure
from edgefilter.analysis.plots.pulse import pulse_figure
from edgefilter.analysis.plots.pulse_diagnostic import diagnose
from edgefilter.analysis.plots.style import figure_png, save_figure
from edgefilter.core.errors import StoreError
from tests.helpers.pulse_cutout import make_cutout

PNG = b"\x89PNG\r\n\x1a\n"


def labels(figure):
    return [text for axes in figure.axes for text in (axes.get_xlabel(), axes.get_ylabel()) if text]


def test_the_figure_of_a_pulse_shows_units_and_values():
    figure = pulse_figure(diagnose(make_cutout(mask=slice(10, 20))), "a title")
    assert "frequency (MHz)" in labels(figure)
    assert "DM (pc cm$^{-3}$)" in labels(figure)
    assert any("(ms)" in label for label in labels(figure))
    words = " ".join(text.get_text() for axes in figure.axes for text in axes.texts)
    assert "50.00 ± 1.00" in words
    assert "mostly lost or flagged" in words
    assert "shown at" not in words
    other = pulse_figure(diagnose(make_cutout(), dm=60.0))
    assert "DM 60.00" in " ".join(text.get_text() for axes in other.axes for text in axes.texts)


def test_flagged_channels_are_grey_and_marked():
    figure = pulse_figure(diagnose(make_cutout(mask=slice(10, 20)), subbands=64))
    image = next(image for axes in figure.axes for image in axes.images)
    shown = image.get_array()
    assert np.ma.getmaskarray(shown).all(axis=1).sum() == 10
    ticks = [line for axes in figure.axes for line in axes.lines if line.get_marker() == "_"]
    assert all(len(line.get_ydata()) == 10 for line in ticks)
    assert len(ticks) == 2


@pytest.mark.parametrize("what", ["waterfall", "bandpass", "flags", "candidates"])
def test_figures_of_a_store_are_reproducible(run, what):
    figure = run.plot(what)
    first, second = (figure_png(drawn, dpi=50) for drawn in (figure, run.plot(what)))
    assert first.startswith(PNG)
    assert first == second
    assert all("(" in label for label in labels(figure) if label not in ("S/N",))


def test_a_time_range_can_be_drawn(run):
    figure = run.plot("waterfall", start=1.0, stop=3.0)
    low, high = figure.axes[0].get_xlim()
    assert (low, high) == pytest.approx((1.024, 3.072))
    assert "1 pulse candidate" in figure.axes[0].get_title("right")


def test_the_waterfall_marks_pulses_and_flagged_cells(run):
    figure = run.plot("waterfall")
    above, middle = figure.axes[:2]
    marks = next(line for line in above.lines if line.get_marker() == "v")
    np.testing.assert_allclose(sorted(marks.get_xdata()), sorted(pulse.seconds for pulse in run.pulses))
    flagged = middle.images[0].get_array()
    assert flagged.max() == 100
    assert np.ma.getmaskarray(above.images[0].get_array()).any()


def test_errors_name_what_cannot_be_drawn(run, tmp_path):
    with pytest.raises(StoreError, match="'pulsar' is none of waterfall, bandpass, flags, candidates"):
        run.plot("pulsar")
    with pytest.raises(StoreError, match="no pulse candidates to draw"):
        candidates_figure(run.pulses[:0])
    figure = run.plot("bandpass")
    with pytest.raises(StoreError, match=r"x\.doc: a picture's name must end in one of .*\.png"):
        save_figure(figure, tmp_path / "x.doc")
    with pytest.raises(StoreError, match="cannot be written"):
        save_figure(figure, tmp_path / "absent" / "x.png")
    assert list(tmp_path.iterdir()) == []
    save_figure(figure, tmp_path / "x.png")
    assert (tmp_path / "x.png").read_bytes().startswith(PNG)


def test_a_figure_shows_itself_in_a_notebook_without_pyplot(run):
    assert run.pulses[0].plot()._repr_png_().startswith(PNG)
    assert "matplotlib.pyplot" not in sys.modules


def four_stokes_cutout():
    """Return a cut-out with four Stokes parameters, of which a tenth of the cells is flagged."""
    cutout = make_cutout(stokes="IQUV")
    mask = np.random.default_rng(1).random(cutout.mask.shape) < 0.1
    return replace(cutout, mask=mask.astype(np.uint8))


@pytest.mark.parametrize("cutout", [make_cutout(mask=slice(None)), make_cutout(channels=1), four_stokes_cutout()])
def test_unusual_cutouts_are_drawn(cutout):
    assert figure_png(pulse_figure(diagnose(cutout)), dpi=40).startswith(PNG)


def test_no_bow_tie_is_drawn_for_unknown_frequencies():
    figure = pulse_figure(diagnose(replace(make_cutout(), first_channel_mhz=0.0, channel_mhz=1.0)))
    assert any("frequencies unknown" in text.get_text() for axes in figure.axes for text in axes.texts)
