"""All tables of a store."""

from types import MappingProxyType

import pyarrow as pa

from edgefilter.products.base import Table, column
from edgefilter.products.dropped import DROPPED
from edgefilter.products.flag_cost import FLAG_COST
from edgefilter.products.flags import FLAGS
from edgefilter.products.ledger import LEDGER
from edgefilter.products.pulses import PULSES
from edgefilter.products.spectra import SPECTRA

BLOCK_TABLES: tuple[Table, ...] = (PULSES, SPECTRA, FLAGS, FLAG_COST, LEDGER)
"""The tables that are made of every block, in the order of making: the ledger counts the bytes of the others."""

TABLES = MappingProxyType({table.name: table for table in (*BLOCK_TABLES, DROPPED)})
"""All tables by name."""

SCHEMAS = MappingProxyType({name: table.schema for name, table in TABLES.items()})
"""Schema of each table, as its files hold it."""

PATH_COLUMNS = (
    column("node", pa.string(), "", "node that made it, from the path of the file"),
    column("date", pa.string(), "", "UTC date of the block's start, from the path of the file"),
)
"""Columns that a store's reader adds behind those of a table."""
