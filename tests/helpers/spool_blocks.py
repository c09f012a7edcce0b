"""Products of blocks, which depend only on the block number (law 1), in spools and stores."""

from pathlib import Path

import numpy as np

from edgefilter.core.config import Reduction
from edgefilter.core.stream import Encoding, SampleKind, Stream
from edgefilter.products.base import BlockInfo, Product, Provenance, make_table, to_parquet
from edgefilter.products.ledger import ledger_table
from edgefilter.products.naming import ProductNamer, config_product, stream_product
from edgefilter.products.pulses import PulseRow, pulses_table
from edgefilter.products.schemas import SCHEMAS
from edgefilter.spool import Cursor, Spool
from edgefilter.store.base import Store

TAI = 1_795_000_000_000_000_000
DATE = "2026-11-18"
NEXT_DATE = "2026-11-19"
NEXT_DATE_BLOCK = 6
"""First block of :data:`NEXT_DATE` in :func:`fill_store`."""
SAMPLES = 1000
FREQUENCIES = np.linspace(1100.0, 1500.0, 16)

HEADER = Stream("sky", SampleKind.POWER, TAI, 1000, 16, 1.5e9, -25e6, ("I",), 8, Encoding.UNSIGNED)  # type: ignore[arg-type]
SETTINGS = Reduction()
PROVENANCE = Provenance(HEADER.id, SETTINGS.digest(), "0.1.0")
STREAM = HEADER.id


def header_products() -> list[Product]:
    """Return the objects that describe the stream and the settings."""
    return [stream_product(HEADER), config_product(SETTINGS)]


def cursor(block: int) -> Cursor:
    """Return the cursor of the stream after a block."""
    return Cursor((block + 1) * SAMPLES, 0, SETTINGS.digest())


def products(number: int, node: str = "n1", date: str = DATE) -> list[Product]:
    """Return the products of a block; every third has a pulse with a cut-out."""
    namer, block = ProductNamer(node, PROVENANCE), BlockInfo(number, TAI + number * 10**9, 1.0)
    block_products: list[Product] = []
    pulses = []
    if number % 3 == 0:
        block_products.append(
            namer.cutout(number, date, b"\x89HDF\r\n\x1a\n" + np.random.default_rng(number).bytes(2000))
        )
        tai = block.tai_ns
        pulses.append(
            PulseRow(
                number,
                0.1,
                0.0,
                tai,
                50.0,
                0.1,
                0.001,
                7.0 + number % 9,
                1100.0,
                1500.0,
                3,
                0.0,
                block_products[0].name,
            )
        )
        block_products.append(namer.table("pulses", number, date, to_parquet(pulses_table(PROVENANCE, block, pulses))))
    power = np.random.default_rng(number).normal(size=16).astype(np.float32)
    none = np.zeros(16, np.int64)
    spectra = {"stokes": ["I"], "frequencies": [FREQUENCIES], "power": [power], "cells": [none + 60]}
    flags = {
        "flagger": ["lost", "zero_dm"],
        "frequencies": [FREQUENCIES] * 2,
        "first": [none] * 2,
        "raised": [none] * 2,
    }
    ledger = {
        "sample_start": number * SAMPLES,
        "samples_expected": SAMPLES,
        "samples_received": SAMPLES,
        "cells": 960,
        "cells_lost": 0,
        "cells_discarded": 900,
        "cells_kept": 60,
        "bytes_in": 16000,
        "bytes_out": 9,
        "candidates": len(pulses),
        "candidates_overflow": 0,
    }
    tables = {
        "spectra": make_table(SCHEMAS["spectra"], PROVENANCE, block, spectra),
        "flags": make_table(SCHEMAS["flags"], PROVENANCE, block, flags),
        "ledger": ledger_table(PROVENANCE, block, ledger),
    }
    block_products += [namer.table(name, number, date, to_parquet(table)) for name, table in tables.items()]
    return block_products


def fill_spool(path: Path, blocks: range) -> None:
    """Commit blocks to a spool, as a reducer does."""
    with Spool.open(path, role="reducer") as spool:
        for product in header_products():
            spool.put(product)
        for block in blocks:
            spool.commit(products(block), STREAM, cursor(block))


def fill_store(store: Store, node: str = "n1", blocks: range = range(9)) -> None:
    """Put blocks into a store, as a replay does: one object for each table and block."""
    for product in header_products():
        store.put(product)
    for block in blocks:
        for product in products(block, node, DATE if block < NEXT_DATE_BLOCK else NEXT_DATE):
            store.put(product)
