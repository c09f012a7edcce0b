"""An open store: tables with units, pulses, waterfall, bandpass, balance."""

import subprocess
import sys

import numpy as np
import pyarrow.compute as pc
import pytest
from astropy import units
from astropy.time import Time

import edgefilter
from edgefilter.analysis.archive import Archive, Configuration
from edgefilter.batch.local import Replay
from edgefilter.core.clock import to_time
from edgefilter.core.config import Reduction
from edgefilter.core.errors import ConfigError, StoreError
from edgefilter.pipeline.backend import BackendSelector
from edgefilter.products.schemas import SCHEMAS
from edgefilter.store import reader
from tests.helpers.small_run import PULSES, make_sky


def test_replay_finds_the_pulses_and_sorts_them_by_snr(run):
    assert len(run.pulses) == 3
    for pulse, truth in zip(run.pulses, sorted(PULSES, key=lambda one: -one.snr), strict=True):
        assert abs(pulse.seconds - truth.seconds) < 0.005
        assert abs(pulse.dm - truth.dm) < 3 * pulse.row.dm_error + 2
        assert 0.7 * truth.snr < pulse.snr < 1.2 * truth.snr


def test_the_temporary_store_exists_as_long_as_the_archive(tmp_path):
    run = edgefilter.replay(make_sky(2.0, pulses=()), dm=(0, 50), threads=1)
    where = run.location
    assert edgefilter.open_store(where).tables()["ledger"] == run.tables()["ledger"] > 0
    del run
    with pytest.raises(StoreError, match="no such directory"):
        edgefilter.open_store(where)
    kept = edgefilter.replay(make_sky(2.0, pulses=()), tmp_path / "kept", dm=(0, 50), threads=1)
    del kept
    assert edgefilter.open_store(tmp_path / "kept").tables()["ledger"] > 0


def test_replay_reads_files_and_names_wrong_settings(tmp_path, data, monkeypatch):
    run = edgefilter.replay(data / "transients" / "FRB180417.fil", dm=(300, 600), threads=1)
    assert abs(run.pulses[0].dm - 474.8) < 2
    with pytest.raises(ConfigError, match=r"settings: pulse: no such setting"):
        edgefilter.replay(data / "transients" / "FRB180417.fil", pulse={"snr": 8})
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr("tempfile.tempdir", None)
    with pytest.raises(ConfigError, match="mask"):
        edgefilter.replay(data / "transients" / "FRB180417.fil", flag={"mask": [[1, 2]]})
    assert list(tmp_path.iterdir()) == []


def test_an_archive_is_a_reader_of_its_store(run):
    plain = reader.open_store(run.location)
    assert run.tables() == plain.tables()
    assert run.table("pulses", ["snr"], pc.field("snr") > 20).equals(
        plain.table("pulses", ["snr"], pc.field("snr") > 20)
    )
    assert run.cutouts() == plain.cutouts()
    assert run.streams() == plain.streams()
    assert run.configs() == plain.configs()
    assert run.account().table.equals(plain.account())
    with pytest.raises(AttributeError, match="'Archive' object has no attribute 'nothing'"):
        _ = run.nothing


def test_a_table_becomes_a_qtable_with_units_and_exact_times(run):
    table = run.pulses.to_qtable()
    assert table["dm"].unit == units.pc / units.cm**3
    assert table["width"].unit == units.s
    assert table["freq_low"].unit == units.MHz
    assert isinstance(table["time"], Time)
    exact = to_time(run.pulses.arrow["tai_ns"].to_numpy())
    assert np.all(np.abs((table["time"] - exact).to_value("ns")) < 1)
    assert table["tai_ns"].dtype == np.int64
    spectra = run.spectra.to_qtable()
    assert spectra["frequencies"].shape == (6, 96)
    assert spectra["frequencies"].unit == units.MHz


@pytest.mark.parametrize("name", SCHEMAS)
def test_every_table_converts_to_pandas_and_qtable_with_and_without_rows(run, name):
    view = getattr(run, name)
    for table in (view, view[:0] if name == "pulses" else view.filter(pc.field("block") < 0)):
        assert len(table.to_pandas()) == len(table.to_qtable()) == len(table)
        assert table.to_qtable().colnames == table.arrow.schema.names
        assert "<table>" in table._repr_html_()


def test_an_unknown_column_is_named(run):
    with pytest.raises(StoreError, match="table flags has no column 'snr', it has stream, "):
        run.flags.column("snr")
    with pytest.raises(StoreError, match=r"table flags: .*nothing"):
        run.flags.filter(pc.field("nothing") > 1)


def test_the_balance_holds_and_has_the_sums_of_the_ledger(run):
    balance = run.account()
    ledger = run.ledger
    assert balance.holds
    assert balance["samples_expected"] == sum(balance.samples.values()) == ledger.column("samples_expected").sum()
    assert balance["cells"] == sum(balance.cells.values()) == 6000 * 96
    assert balance.cells["flagged: mask"] > 0
    assert f"cells: {6000 * 96} = " in str(balance)
    assert "Both balances hold exactly" in balance._repr_html_()
    assert balance.reduction == balance["bytes_in"] / balance["bytes_out"]


def test_the_waterfall_has_every_block_once_with_its_flags(run):
    shown = run.waterfall()
    assert shown["power"].shape == (6, 96)
    assert shown["time"].attrs["units"] == "s"
    np.testing.assert_allclose(shown["time"], (np.arange(6) + 0.5) * 1.024)
    masked = (shown["frequency"] > 1290) & (shown["frequency"] < 1300)
    assert (shown["flagged"].where(masked, drop=True) == 1).all()
    assert np.isnan(shown["power"].where(masked, drop=True)).all()
    assert float(shown["lost"].max()) == 0
    assert str(shown["utc"].values[0]).startswith("2026-01-01T00:00:00.512")


def test_a_coarser_waterfall_has_the_same_power(run):
    fine, coarse = run.waterfall(), run.waterfall(rows=2, channels=12)
    assert coarse["power"].shape == (2, 12)
    blocks = run.blocks()
    total = (blocks.power * blocks.cells)[:3, :8].sum() / blocks.cells[:3, :8].sum()
    assert float(coarse["power"][0, 0]) == pytest.approx(total, rel=1e-5)
    assert float(coarse["frequency"][0]) == pytest.approx(float(fine["frequency"][:8].mean()))


def test_blocks_that_the_store_lacks_are_nan(run):
    blocks = run.blocks()
    keep = np.array([0, 1, 4, 5])
    holes = type(blocks)(
        blocks.number[keep], blocks.tai_ns[keep], blocks.seconds[keep], blocks.duration, blocks.frequencies_mhz,
        blocks.power[keep], blocks.cells[keep], {name: count[keep] for name, count in blocks.cells_by_flagger.items()},
    )  # fmt: skip
    shown = holes.waterfall()["power"]
    assert shown.shape == (6, 96)
    assert np.isnan(shown[2:4]).all()
    np.testing.assert_array_equal(shown[4], run.waterfall()["power"][4])


def test_evenly_spaced_blocks_are_read_from_a_long_run(run):
    some = run.blocks(max_blocks=3)
    assert some.number.tolist() == [0, 2, 5]
    assert run.blocks(max_blocks=6).number.tolist() == run.blocks(max_blocks=100).number.tolist() == list(range(6))
    shown = some.waterfall()
    assert shown["power"].shape == (3, 96)
    assert shown.attrs["row_seconds"] == 2 * 1.024
    assert run.blocks(1.0, 5.0, max_blocks=2).number.tolist() == [1, 4]


def test_settings_of_another_version_are_read(run, monkeypatch):
    digest = next(iter(run.configs()))
    monkeypatch.setattr(run, "configs", lambda: {digest: {"block": {"unknown": 1}}})
    assert run.blocks(1.0, 3.0).number.tolist() == [1, 2]


def test_a_time_range_is_in_seconds_or_dates(run):
    by_seconds = run.blocks(1.0, 3.0)
    assert by_seconds.number.tolist() == [1, 2]
    dates = "2026-01-01T00:00:01", Time("2026-01-01T00:00:03", scale="utc")
    assert run.blocks(*dates).number.tolist() == [1, 2]
    with pytest.raises(StoreError, match="no spectrum of 'I' in this time range"):
        run.waterfall(start=100.0)
    with pytest.raises(StoreError, match="'noon' is not a date"):
        run.waterfall(start="noon")
    with pytest.raises(StoreError, match="has no stream 'other', it has sky-"):
        run.waterfall(stream="other")


def test_the_spectrum_is_the_mean_of_good_cells_and_has_specutils_names(run):
    spectrum, blocks = run.spectrum(), run.blocks()
    expected = (blocks.power.astype(float) * blocks.cells).sum(axis=0) / np.maximum(blocks.cells.sum(axis=0), 1)
    good = ~spectrum.mask
    np.testing.assert_allclose(spectrum.power[good], expected[::-1][good])
    assert np.isnan(spectrum.power[spectrum.mask]).all()
    assert 0 < spectrum.mask.sum() < 10
    assert spectrum.spectral_axis.unit == units.MHz
    assert np.all(np.diff(spectrum.spectral_axis.value) > 0)
    assert spectrum.flux.shape == spectrum.spectral_axis.shape
    assert sum(spectrum.share.values()) == pytest.approx(np.where(spectrum.mask, 1, 0), abs=0.2)


def test_without_specutils_an_error_names_the_package(run, monkeypatch):
    monkeypatch.setitem(sys.modules, "specutils", None)
    with pytest.raises(StoreError, match="specutils is not installed"):
        run.spectrum().to_specutils()


def test_rows_of_the_same_block_from_two_nodes_count_once(tmp_path):
    for node in ("a", "b"):
        settings = Reduction.model_validate({"pulses": {"dm": (0, 100)}, "block": {"rows": 1024}})
        for _ in Replay(make_sky(), settings, tmp_path, node=node, backend_selector=BackendSelector(threads=1)).run():
            pass
    store = edgefilter.open_store(tmp_path)
    assert store.tables()["pulses"] == 2 * len(store.pulses)
    assert len({pulse.id for pulse in store.pulses}) == len(store.pulses)
    assert len(store.blocks().number) == 6


def test_ambiguous_settings_of_a_stream_raise_an_error(tmp_path):
    for rows in (1024, 2048):
        edgefilter.replay(make_sky(pulses=()), tmp_path, dm=(0, 20), block={"rows": rows}, threads=1)
    store = edgefilter.open_store(tmp_path)
    with pytest.raises(StoreError, match="has 2 configs, choose one with config="):
        store.waterfall()
    first = next(digest for digest, config in store.configs().items() if config["block"]["rows"] == 2048)
    assert store.waterfall(config=first)["power"].shape[0] == 3


def test_objects_have_html_for_a_notebook(run):
    shown = [
        run,
        run.pulses,
        run.pulses[0],
        run.ledger,
        run.account(),
        *run.streams().values(),
        *run.configs().values(),
    ]
    for each in shown:
        html = each._repr_html_()
        assert html.count("<table>") == html.count("</table>") == 1
    assert "1290" in next(iter(run.configs().values()))._repr_html_()
    assert "&lt;b&gt;" in Configuration("<b>", {"flag": {"power_sigma": None}})._repr_html_()
    assert "follows from the stream" in edgefilter.core.config.NodeConfig()._repr_html_()
    assert repr(run).startswith("<store ")


def test_an_empty_store_opens_and_has_html(tmp_path):
    store = edgefilter.open_store(tmp_path)
    assert len(store.pulses) == 0
    assert list(store.pulses) == []
    assert store.account().holds
    assert "0 rows" in store._repr_html_()
    with pytest.raises(IndexError):
        store.pulses[0]
    with pytest.raises(StoreError, match="has 0 streams"):
        store.waterfall()


def test_importing_edgefilter_or_a_node_loads_no_plotting():
    code = (
        "import sys, pkgutil, edgefilter, edgefilter.core.stream, edgefilter.core.config\n"
        "assert 'pyarrow' not in sys.modules\n"
        "import edgefilter.node as node\n"
        "for module in pkgutil.walk_packages(node.__path__, 'edgefilter.node.'): __import__(module.name)\n"
        "assert not {'matplotlib', 'xarray', 'pandas', 'edgefilter.analysis'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
    assert isinstance(edgefilter.open_store, type(lambda: None))
    assert {"open_store", "replay", "sky"} <= set(dir(edgefilter))
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = edgefilter.nothing  # type: ignore[attr-defined]
    assert Archive.__module__ == "edgefilter.analysis.archive"
