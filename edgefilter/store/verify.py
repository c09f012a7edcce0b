"""Proof of a store: every product of the ledger's blocks is there once and undamaged, and the ledger balances."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from itertools import pairwise

import pyarrow as pa
import pyarrow.parquet as pq

from edgefilter.core.errors import StoreError
from edgefilter.products.base import COMMON
from edgefilter.products.ledger import check_balance
from edgefilter.products.naming import CONFIGS, CUTOUTS, STREAMS, digest, parse
from edgefilter.products.schemas import SCHEMAS
from edgefilter.store.base import Store, first_line
from edgefilter.store.current_objects import StoredObject, current_objects, list_objects
from edgefilter.store.table_files import table_names

_TABLES_OF_EVERY_BLOCK = ("spectra", "flags")
_BLOCK_KEY = ("stream", "config", "code", "block")

RunKey = tuple[str, str, str, str]
"""Node, stream, settings and code: the same for all blocks of a run."""


@dataclass(slots=True)
class VerificationReport:
    """Result of a verification.

    Parameters
    ----------
    objects
        Number of objects read.
    bytes
        Their size, B.
    blocks
        Number of blocks in the ledger.
    problems
        One line for each problem.
    notes
        One line for each fact that is no problem: foreign files, products that nodes have dropped.
    """

    objects: int = 0
    bytes: int = 0
    blocks: int = 0
    problems: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


@dataclass(slots=True)
class _BlockRows:
    """Number of rows in a table by run and block."""

    rows: dict[RunKey, dict[int, int]] = field(default_factory=dict)

    def add(self, name: str, obj: StoredObject, table: pa.Table, problems: list[str]) -> None:
        found: dict[tuple[RunKey, int], int] = {}
        for stream, config, code, block in zip(*(table.column(name).to_pylist() for name in _BLOCK_KEY), strict=True):
            key = (obj.parsed_name.node, stream, config, code), block
            found[key] = found.get(key, 0) + 1
        for (run_key, block), count in found.items():
            blocks = self.rows.setdefault(run_key, {})
            if block in blocks:
                problems.append(f"{obj.name}: rows of {name}, block {block}, are also in another object")
            blocks[block] = count


def verify(store: Store) -> VerificationReport:
    """Read all objects of a store and check them.

    1. Every object has the digest in its name, and every table can be read.
    2. The ledger balances exactly, and has every block between the first and last of a run once.
    3. Each block of the ledger has spectra, flags, and the number of pulses in its ledger row; the tables hold no other
       blocks.
    4. Every cut-out that a pulse names is there.
    5. The header of every stream and the settings of every reduction are there.

    Products that a node has dropped and recorded in ``dropped`` may be missing. While nodes are writing, products of
    the newest blocks are reported as missing if their ledger row has arrived first.

    Parameters
    ----------
    store
        The store.

    Returns
    -------
    VerificationReport
        What was found.

    Raises
    ------
    StoreError
        If the store cannot be listed.
    """
    report = VerificationReport()
    names = table_names(store)
    tables = {name: _BlockRows() for name in names if name != "dropped"}
    ledgers: list[pa.Table] = []
    candidates: dict[tuple[RunKey, int], int] = {}
    referenced_cutouts: set[str] = set()
    dropped: set[str] = set()
    for name in names:
        for obj, table in _read_table(store, name, report):
            if name == "dropped":
                dropped |= set(table.column("object").to_pylist())
                continue
            tables[name].add(name, obj, table, report.problems)
            if name == "ledger":
                ledgers.append(table.append_column("node", pa.repeat(obj.parsed_name.node, table.num_rows)))
            elif name == "pulses":
                referenced_cutouts |= set(table.column("cutout").to_pylist()) - {""}
    for table in ledgers:
        _check_ledger_balance(table, report.problems)
        for node, stream, config, code, block, count in zip(
            *(table.column(name).to_pylist() for name in ("node", *_BLOCK_KEY, "candidates")), strict=True
        ):
            candidates[(node, stream, config, code), block] = count
    report.blocks = len(candidates)
    report.notes += [f"dropped by its node: {name}" for name in sorted(dropped)]
    _compare_with_ledger(tables, candidates, _dropped_blocks(dropped), report.problems)
    _check_other_objects(store, tables, referenced_cutouts - dropped, report)
    return report


def _read_table(store: Store, folder: str, report: VerificationReport) -> Iterator[tuple[StoredObject, pa.Table]]:
    """Yield the current objects of a table with their content; report damaged ones as problems."""
    for obj in current_objects(store, list_objects(store, f"{folder}/")):
        content = _read_checked(store, obj, report)
        if content is None:
            continue
        try:
            table = pq.read_table(pa.BufferReader(content), partitioning=None)
            schema = SCHEMAS.get(folder, pa.schema(COMMON))
            missing = [name for name in schema.names if name not in table.schema.names]
            if folder not in SCHEMAS and missing:
                report.problems.append(f"{obj.name}: not a table of blocks, without {', '.join(missing)}")
                continue
            if missing:
                report.notes.append(f"{obj.name}: of an older version, without {', '.join(missing)}")
            yield obj, table
        except (pa.ArrowException, OSError) as error:
            report.problems.append(f"{obj.name}: not a Parquet file of edgefilter: {first_line(error)}")


def _read_checked(store: Store, obj: StoredObject, report: VerificationReport) -> bytes | None:
    try:
        content = store.get(obj.name)
    except StoreError as error:
        report.problems.append(str(error))
        return None
    report.objects += 1
    report.bytes += len(content)
    if obj.parsed_name.digest and digest(content) != obj.parsed_name.digest:
        report.problems.append(f"{obj.name}: damaged: its content does not have the digest in its name")
        return None
    return content


def _check_ledger_balance(ledger: pa.Table, problems: list[str]) -> None:
    try:
        check_balance(ledger)
    except StoreError as error:
        problems.append(str(error))


def _compare_with_ledger(
    tables: dict[str, _BlockRows],
    ledger: dict[tuple[RunKey, int], int],
    dropped: set[tuple[str, str, int]],
    problems: list[str],
) -> None:
    """Compare the blocks of the other tables with the ledger."""
    for run_key, blocks in tables["ledger"].rows.items():
        where = f"ledger of {run_key[1]} on {run_key[0]}"
        problems += [
            f"{where}: no row for blocks {a + 1} to {b - 1}" for a, b in pairwise(sorted(blocks)) if b != a + 1
        ]
    for name, table in tables.items():
        if name == "ledger":
            continue
        for (run_key, block), candidates in ledger.items():
            rows = table.rows.get(run_key, {}).get(block, 0)
            missing = rows != candidates if name == "pulses" else name in _TABLES_OF_EVERY_BLOCK and rows == 0
            if missing and (name, run_key[1], block) not in dropped:
                wanted = f"{candidates} pulses" if name == "pulses" else name
                problems.append(
                    f"{name} of {run_key[1]} on {run_key[0]}, block {block}: {rows} rows, but the ledger has {wanted}"
                )
        for run_key, blocks in table.rows.items():
            problems += [
                f"{name} of {run_key[1]} on {run_key[0]}, block {block}: missing in the ledger"
                for block in sorted(blocks)
                if (run_key, block) not in ledger
            ]


def _dropped_blocks(names: Iterable[str]) -> set[tuple[str, str, int]]:
    """Return table, stream and block of all dropped products."""
    parsed = [parse(name) for name in names]
    return {(name.folder, name.stream, block) for name in parsed for block in range(name.block, name.last + 1)}


def _check_other_objects(
    store: Store, tables: dict[str, _BlockRows], referenced_cutouts: set[str], report: VerificationReport
) -> None:
    """Check cut-outs, headers and settings, and note foreign files."""
    found = {folder: list_objects(store, f"{folder}/") for folder in (CUTOUTS, STREAMS, CONFIGS)}
    for members in found.values():
        for obj in members:
            _read_checked(store, obj, report)
    cutouts = {obj.name for obj in found[CUTOUTS]}
    report.problems += [f"{name}: missing, but a pulse names it" for name in sorted(referenced_cutouts - cutouts)]
    report.notes += [f"{name}: no pulse names it" for name in sorted(cutouts - referenced_cutouts)]
    streams = {obj.parsed_name.stream for obj in found[STREAMS]}
    configs = {obj.parsed_name.digest for obj in found[CONFIGS]}
    for _, stream, config, _ in tables["ledger"].rows:
        if stream not in streams:
            report.problems.append(f"{STREAMS}/{stream}.json: missing, but the ledger has blocks of this stream")
        if config not in configs:
            report.problems.append(f"{CONFIGS}/{config}.json: missing, but the ledger has blocks with these settings")
    report.problems = sorted(set(report.problems))
    folders = (*tables, "dropped", CUTOUTS, STREAMS, CONFIGS)
    for info in store.listing():
        try:
            parse(info.name)
        except StoreError:
            what = "not a product" if info.name.split("/")[0] in folders else "in no folder of edgefilter"
            report.notes.append(f"{info.name}: {what}")


def summary(report: VerificationReport) -> str:
    """Summarise a verification in one line.

    Parameters
    ----------
    report
        Its result.

    Returns
    -------
    str
        Numbers of objects, bytes, blocks, problems and notes.
    """
    return (
        f"{report.objects} objects, {report.bytes} B, {report.blocks} blocks in the ledger: "
        f"{len(report.problems)} problems, {len(report.notes)} notes"
    )
