"""The tables: schemas that every reader accepts, balances that hold, bytes that repeat."""

import hashlib
import subprocess
import sys

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgefilter.core.cells import Flag, flag_name
from edgefilter.core.clock import tai_ns_from_iso
from edgefilter.core.errors import StoreError
from edgefilter.products.base import BlockInfo, Provenance, make_table, to_parquet
from edgefilter.products.ledger import FLAGGED_COLUMNS, LOST_COLUMNS, check_balance, ledger_table
from edgefilter.products.pulses import PulseRow, pulses_table
from edgefilter.products.schemas import PATH_COLUMNS, SCHEMAS

PROVENANCE = Provenance("sky-01234567", "0123456789abcdef", "0.1.0")
BLOCK = BlockInfo(3, tai_ns_from_iso("2026-11-23T12:00:00.25"), 1.5)
PULSE = PulseRow(2**63 + 1, 2.029, 1.9, BLOCK.tai_ns + 1_001, 474.8, 0.4, 0.002, 13.5, 1100.0, 1500.0, 7, 0.25, "")
FREQUENCIES = np.array([1500.0, 1499.5, 1499.0])


def ledger_row(**changes: int) -> dict[str, int]:
    return {
        "sample_start": 3000,
        "samples_expected": 1000,
        "samples_received": 900,
        "lost_missing": 60,
        "lost_overrun": 40,
        "cells": 600,
        "cells_lost": 60,
        "flagged_mask": 10,
        "flagged_power": 5,
        "cells_discarded": 500,
        "cells_kept": 25,
        "bytes_in": 900,
        "bytes_out": 80,
        "candidates": 1,
        "candidates_overflow": 0,
    } | changes


def all_tables() -> dict[str, pa.Table]:
    numbers = np.arange(3)
    columns = {
        "spectra": {
            "stokes": list("IQ"),
            "frequencies": [FREQUENCIES] * 2,
            "power": [numbers.astype(np.float32)] * 2,
            "cells": [numbers] * 2,
        },
        "flags": {
            "flagger": [flag_name(flag) for flag in Flag],
            "frequencies": [FREQUENCIES] * len(Flag),
            "first": [numbers] * len(Flag),
            "raised": [numbers * 2] * len(Flag),
        },
        "flag_cost": {"flagger": ["power"], "signal": ["pulse"], "sigma": [3.0], "lost": [0.001], "cells": [50]},
    }
    return {
        "pulses": pulses_table(PROVENANCE, BLOCK, [PULSE]),
        **{name: make_table(SCHEMAS[name], PROVENANCE, BLOCK, of_one) for name, of_one in columns.items()},
        "ledger": ledger_table(PROVENANCE, BLOCK, ledger_row()),
    }


def leaf_types(kind: pa.DataType) -> list[pa.DataType]:
    return leaf_types(kind.value_type) if pa.types.is_list(kind) else [kind]


@pytest.mark.parametrize("name", SCHEMAS)
def test_schemas_keep_to_types_that_every_reader_accepts_and_state_their_units(name: str) -> None:
    schema = SCHEMAS[name]
    assert schema.metadata == {b"edgefilter.schema": b"1"}
    assert schema.names[:2] == ["stream", "block"]
    assert schema.names[2:4] == ["config", "code"] or name == "dropped"
    assert len({n.lower() for n in schema.names}) == len(schema.names)
    for field in [*schema, *PATH_COLUMNS]:
        assert set(field.metadata) == {b"unit", b"description"}
        assert field.metadata[b"description"]
        for kind in leaf_types(field.type):
            assert not pa.types.is_float16(kind)
            assert not pa.types.is_timestamp(kind) or (kind.unit == "us" and kind.tz == "UTC")


def test_pulses_has_the_columns_that_others_rely_on() -> None:
    asked = "sample seconds seconds_inf time dm dm_error width snr freq_low freq_high members flagged cutout"
    assert set(asked.split()) <= set(SCHEMAS["pulses"].names)
    assert SCHEMAS["pulses"].field("sample").type == pa.uint64()


@pytest.mark.parametrize("name", [name for name in SCHEMAS if name != "dropped"])
def test_parquet_gives_the_table_back_with_schema_units_and_provenance(name: str) -> None:
    table = all_tables()[name]
    back = pq.read_table(pa.BufferReader(to_parquet(table)), page_checksum_verification=True)
    assert back.equals(table)
    assert back.schema.metadata == table.schema.metadata
    assert [field.metadata for field in back.schema] == [field.metadata for field in table.schema]
    assert back.column("stream").unique().to_pylist() == [PROVENANCE.stream]
    assert back.schema.metadata[b"edgefilter.config"] == PROVENANCE.config.encode()


def test_values_and_times_arrive_where_they_belong() -> None:
    tables = all_tables()
    pulse = tables["pulses"].to_pylist()[0]
    assert pulse["sample"] == 2**63 + 1
    assert pulse["time"].isoformat() == "2026-11-23T12:00:00.250001+00:00"
    assert pulse["tai_ns"] == BLOCK.tai_ns + 1001
    spectra = tables["spectra"].to_pylist()
    assert [row["stokes"] for row in spectra] == ["I", "Q"]
    assert spectra[0]["frequencies"] == FREQUENCIES.tolist()
    assert spectra[0]["time"].isoformat() == "2026-11-23T12:00:00.250000+00:00"
    flags = tables["flags"].to_pylist()
    assert [row["flagger"] for row in flags] == [flag_name(flag) for flag in Flag]
    assert flags[1]["raised"] == [0, 2, 4]
    ledger = tables["ledger"].to_pylist()[0]
    assert (ledger["lost_missing"], ledger["lost_overrun"], ledger["lost_damaged"]) == (60, 40, 0)
    assert (ledger["flagged_mask"], ledger["flagged_power"], ledger["flagged_zero_dm"]) == (10, 5, 0)


def test_a_block_without_pulses_is_a_table_without_rows_that_still_says_what_it_is_of() -> None:
    table = pulses_table(PROVENANCE, BLOCK, [])
    back = pq.read_table(pa.BufferReader(to_parquet(table)))
    assert back.num_rows == 0
    assert back.schema.equals(table.schema)
    assert back.schema.metadata[b"edgefilter.block"] == b"3"


def test_another_process_makes_the_same_bytes() -> None:
    program = (
        "import hashlib\nfrom tests.products.test_tables import *\n"
        "print(*(hashlib.sha256(to_parquet(t)).hexdigest() for t in all_tables().values()))"
    )
    here = [hashlib.sha256(to_parquet(table)).hexdigest() for table in all_tables().values()]
    there = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert there.stdout.split() == here


@pytest.mark.parametrize(
    "changes",
    [
        {"samples_received": 901},
        {"samples_received": 1060, "lost_missing": -60, "lost_overrun": 0},
        {"cells_kept": 26},
        {"flagged_mask": 0, "flagged_power": 0},
        {"cells": 0},
    ],
)
def test_an_account_that_does_not_balance_is_refused(changes: dict[str, int]) -> None:
    with pytest.raises(StoreError, match=r"sky-01234567, block 3: .* does not balance") as caught:
        ledger_table(PROVENANCE, BLOCK, ledger_row(**changes))
    assert "\n" not in str(caught.value)


counts = st.integers(0, 2**40)


@settings(deadline=None, max_examples=25)
@given(
    received=counts,
    lost=st.fixed_dictionaries(dict.fromkeys(LOST_COLUMNS.values(), counts)),
    flagged=st.fixed_dictionaries(dict.fromkeys(FLAGGED_COLUMNS.values(), counts)),
    rest=st.tuples(counts, counts, counts),
    error=st.integers(-3, 3),
)
def test_the_balance_is_exact(
    received: int, lost: dict[str, int], flagged: dict[str, int], rest: tuple[int, int, int], error: int
) -> None:
    row = ledger_row(
        samples_expected=received + sum(lost.values()),
        samples_received=received,
        cells=sum(flagged.values()) + sum(rest) + error,
        **dict(zip(("cells_lost", "cells_discarded", "cells_kept"), rest, strict=True)),
        **lost,
        **flagged,
    )
    if error:
        with pytest.raises(StoreError):
            ledger_table(PROVENANCE, BLOCK, row)
    else:
        check_balance(pa.concat_tables([ledger_table(PROVENANCE, BLOCK, row)] * 2))
