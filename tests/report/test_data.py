"""Runs, their balances and their waterfalls agree with the tables of the store."""

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.report import SimulatedRun, write_simulated_run
from edgefilter.analysis.balance import Balance, BalanceTerm
from edgefilter.core.errors import ConfigError, StoreError
from edgefilter.report import waterfall
from edgefilter.report.data import RUNS_SHOWN, read_runs, strongest
from edgefilter.report.waterfall import TimeGrid, read_waterfalls
from edgefilter.store.reader import open_store


def test_the_balances_are_the_sums_of_the_ledger(reader):
    (run,), left_out = read_runs(reader)
    ledger = reader.table("ledger").to_pandas()
    assert left_out == 0
    samples, cells = run.balance.sample_balance, run.balance.cell_balance
    assert samples.whole == ledger.samples_expected.sum()
    assert cells.whole == ledger.cells.sum()
    assert samples.missing == cells.missing == run.bytes_balance.missing == 0
    counts = run.balance.cells
    assert counts["flagged: kurtosis"] == ledger.flagged_kurtosis.sum() > 0
    assert counts["lost"] == ledger.cells_lost.sum() > 0
    assert all(part.meaning for part in (*samples.parts, *cells.parts))
    assert counts["kept in cut-outs"] == ledger.cells_kept.sum() > 0


def test_a_balance_has_the_difference_of_total_and_terms():
    assert Balance(10, (BalanceTerm("a", 3, ""), BalanceTerm("b", 6, ""))).missing == 1


def test_candidates_are_strongest_first_and_diagnostics_need_a_cutout(reader, simulated_run):
    runs, _ = read_runs(reader)
    snrs = [pulse["snr"] for pulse in runs[0].pulses]
    assert snrs == sorted(snrs, reverse=True)
    assert runs[0].candidates == len(snrs) == 3
    best = strongest(runs, 12)
    assert len(best) == simulated_run.cutouts
    assert all(runs[at].pulses[rank]["cutout"] for at, rank in best)
    assert strongest(runs, 1) == best[:1]


def test_since_leaves_out_blocks_that_began_earlier(reader, simulated_run):
    seconds = simulated_run.plan.block_seconds
    assert len(read_runs(reader, f"{3.5 * seconds:.3f}s")[0][0].blocks) == 3
    assert len(read_runs(reader, "24h")[0][0].blocks) == simulated_run.blocks
    assert len(read_runs(reader, "2026-01-01T00:00:10")[0][0].blocks) == simulated_run.blocks - 5
    run = read_runs(reader, f"{3.5 * seconds:.3f}s")[0][0]
    assert {pulse["block"] for pulse in run.pulses} <= set(run.blocks.tolist())


@pytest.mark.parametrize("since", ["yesterday", "", "10", "5y", "2026-13-01"])
def test_since_must_be_a_date_or_a_duration(reader, since):
    with pytest.raises(ConfigError, match="--since"):
        read_runs(reader, since)


def test_a_time_without_blocks_raises_an_error(reader):
    with pytest.raises(StoreError, match="has no blocks since 2030"):
        read_runs(reader, "2030-01-01")


def test_each_configuration_of_a_stream_is_a_run_and_the_newest_are_shown(tmp_path):
    for channels in range(8, 8 + RUNS_SHOWN + 2):
        write_simulated_run(tmp_path, SimulatedRun(blocks=1, channels=channels, cutouts=0))
    runs, left_out = read_runs(open_store(tmp_path))
    assert (len(runs), left_out) == (RUNS_SHOWN, 2)
    assert len({run.key for run in runs}) == RUNS_SHOWN


def test_the_waterfall_agrees_with_the_tables(reader, simulated_run):
    runs, _ = read_runs(reader)
    (found,) = read_waterfalls(reader, runs)
    spectra, flags = reader.table("spectra").to_pylist(), reader.table("flags").to_pylist()
    order = np.argsort(simulated_run.plan.frequencies_mhz)
    assert np.all(np.diff(found.frequencies_mhz) > 0)
    power, cells = (np.array([row[name] for row in spectra], np.float64)[:, order] for name in ("power", "cells"))
    used = cells.sum(axis=0)
    with np.errstate(invalid="ignore"):
        np.testing.assert_allclose(found.spectrum, (power * cells).sum(axis=0) / used, rtol=1e-12)
    assert np.isnan(found.spectrum[used == 0]).all()
    kurtosis = np.array([row["first"] for row in flags if row["flagger"] == "kurtosis"])[:, order].sum(axis=0)
    np.testing.assert_allclose(
        found.occupancy["kurtosis"], kurtosis / (simulated_run.blocks * simulated_run.plan.cells_per_block)
    )
    assert found.blocks_read == simulated_run.blocks
    assert found.power.shape == found.fractions["lost"].shape == (64, waterfall.COLUMNS)
    # Blocks 0 and 29 lost an eighth of their samples, the others none.
    np.testing.assert_allclose(found.fractions["lost"][:, -1], 1 / 8)
    assert not found.fractions["lost"][:, waterfall.COLUMNS // 2].any()


def test_evenly_spaced_blocks_are_read_from_a_long_run(reader, monkeypatch):
    monkeypatch.setattr(waterfall, "BLOCKS_READ", 10)
    monkeypatch.setattr(waterfall, "_MAX_READ_BYTES", 4 * 64 * 64)  # four blocks at a time
    runs, _ = read_runs(reader)
    (found,) = read_waterfalls(reader, runs)
    assert found.blocks_read == 10


def test_a_run_without_spectra_has_no_waterfall(simulated_run, tmp_path):
    write_simulated_run(tmp_path, simulated_run)
    for path in tmp_path.glob("spectra/*/*/*"):
        path.unlink()
    reader = open_store(tmp_path)
    assert read_waterfalls(reader, read_runs(reader)[0]) == [None]


@given(
    lengths=st.lists(st.tuples(st.integers(1, 50), st.integers(0, 200)), min_size=1, max_size=40),
    columns=st.integers(1, 60),
)
def test_columns_have_equal_durations_and_show_gaps(lengths, columns):
    starts = np.cumsum([0] + [length + gap for length, gap in lengths[:-1]]) * 1000
    stops = starts + 1000 * np.array([length for length, _ in lengths])
    grid = TimeGrid(SimpleNamespace(blocks=np.arange(len(starts)), start_ns=starts, stop_ns=stops), columns)
    assert grid.slot_of_block.min() >= 0
    assert grid.slot_of_block.max() < grid.n_slots
    if len(starts) > columns:
        return
    slots_to_columns = grid.slots_to_columns(np.arange(len(starts), dtype=float), np.nan)
    middles = (np.arange(columns) + 0.5) * stops.max() / columns
    for middle, value in zip(middles, slots_to_columns, strict=True):
        inside = np.flatnonzero((starts + 1 <= middle) & (middle <= stops - 1))
        near = np.flatnonzero((starts - 1 <= middle) & (middle <= stops + 1))
        assert (
            np.isnan(value)
            if not len(near)
            else (value in near or np.isnan(value)) and (value in inside or not len(inside))
        )


def test_a_gap_between_blocks_counts_as_missing_blocks(reader):
    run = read_runs(reader)[0][0]
    assert run.gaps == 0
    keep = run.blocks != 7
    assert replace(run, blocks=run.blocks[keep]).gaps == 1
