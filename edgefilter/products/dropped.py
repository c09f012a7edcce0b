"""The table ``dropped``: products that a node has dropped, one row per product.

The ledger lists them, but they will never be in the store; this table says why.
"""

from collections.abc import Iterable, Iterator
from typing import Any

import pyarrow as pa

from edgefilter.products.base import METADATA, STREAM, Priority, Product, Table, column, to_parquet
from edgefilter.products.naming import ProductName, parse, range_product

SCHEMA = pa.schema(
    [
        STREAM,
        column("block", pa.int64(), "", "number of the first block that the object held rows of"),
        column("last_block", pa.int64(), "", "number of the last one"),
        column("object", pa.string(), "", "name that the object would have in the store"),
        column("bytes", pa.int64(), "B", "its size"),
        column("reason", pa.string(), "", "why the node gave it up: budget, disk full, damaged"),
    ],
    metadata=METADATA,
)

DROPPED = Table("dropped", SCHEMA, Priority.LEDGER)


def dropped_products(node: str, dropped_objects: Iterable[tuple[str, int, str]]) -> Iterator[tuple[Product, list[str]]]:
    """Make the tables that tell the store what a node has dropped.

    Parameters
    ----------
    node
        Its name, for products whose own names do not have it.
    dropped_objects
        Name of the product, size in B, reason. Products that belong to no block are left out.

    Yields
    ------
    Product, list of str
        A table, and the names in it.
    """
    groups: dict[tuple[str, str, str], list[tuple[ProductName, str, int, str]]] = {}
    for name, size, reason in dropped_objects:
        parsed = parse(name)
        if parsed.date:
            key = (parsed.node or node, parsed.date, parsed.stream)
            groups.setdefault(key, []).append((parsed, name, size, reason))
    for (owner, date, stream), items in sorted(groups.items()):
        items.sort(key=lambda item: (item[0].block, item[1]))
        columns: dict[str, list[Any]] = {
            "stream": [stream] * len(items),
            "block": [parsed.block for parsed, *_ in items],
            "last_block": [parsed.last for parsed, *_ in items],
            "object": [name for _, name, *_ in items],
            "bytes": [size for *_, size, _ in items],
            "reason": [reason for *_, reason in items],
        }
        table = pa.table([pa.array(columns[field.name], field.type) for field in SCHEMA], schema=SCHEMA)
        like = ProductName("dropped", owner, date, stream)
        product = range_product(like, columns["block"][0], max(columns["last_block"]), to_parquet(table))
        yield product, columns["object"]
