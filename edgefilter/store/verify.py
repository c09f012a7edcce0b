"""Proves a store: what the ledger says was made is there, once, undamaged, and adds up."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from itertools import pairwise

import pyarrow as pa
import pyarrow.parquet as pq

from edgefilter.core.errors import StoreError
from edgefilter.products.ledger import check_balance
from edgefilter.products.naming import CONFIGS, CUTOUTS, STREAMS, digest, parse
from edgefilter.products.schemas import SCHEMAS
from edgefilter.store.base import Store
from edgefilter.store.current_objects import StoredObject, current_objects, list_objects

_TABLES_OF_EVERY_BLOCK = ("spectra", "flags")
_BLOCK_KEY = ("stream", "config", "code", "block")

RunKey = tuple[str, str, str, str]
"""Node, stream, settings and code: what makes a run of blocks."""


@dataclass(slots=True)
class VerificationReport:
    """What a walk found.

    Parameters
    ----------
    objects, bytes
        Objects that were read, and their size.
    blocks
        Rows of the ledger.
    problems
        One line for each thing that is not as it should be.
    notes
        What is worth knowing and no problem: files of others, products that nodes have given up.
    """

    objects: int = 0
    bytes: int = 0
    blocks: int = 0
    problems: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


@dataclass(slots=True)
class _BlockRows:
    """Which blocks a table holds: rows of each by run and block."""

    rows: dict[RunKey, dict[int, int]] = field(default_factory=dict)

    def add(self, where: str, obj: StoredObject, table: pa.Table, problems: list[str]) -> None:
        found: dict[tuple[RunKey, int], int] = {}
        for stream, config, code, block in zip(*(table.column(name).to_pylist() for name in _BLOCK_KEY), strict=True):
            key = (obj.parsed_name.node, stream, config, code), block
            found[key] = found.get(key, 0) + 1
        for (run_key, block), count in found.items():
            blocks = self.rows.setdefault(run_key, {})
            if block in blocks:
                problems.append(f"{obj.name}: {where} of block {block} are in another object too")
            blocks[block] = count


def verify(store: Store) -> VerificationReport:
    """Read everything in a store and check it.

    1. Every object has the digest in its name, and every table can be read.
    2. The ledger balances exactly, has every block once, and no gap between the first and last of a run.
    3. Each block of the ledger has its spectra and flags, and as many pulses as it says; nothing else has.
    4. Every cut-out that a pulse names is there.
    5. The header of every stream and the settings of every reduction are there.

    What a node has given up and recorded (``dropped``) is not missed. Objects on their way are: a store that is being
    written may lack the newest products of a block whose ledger row has come.

    Raises
    ------
    StoreError
        If the store cannot be listed.
    """
    report = VerificationReport()
    tables = {name: _BlockRows() for name in SCHEMAS if name != "dropped"}
    ledgers: list[pa.Table] = []
    candidates: dict[tuple[RunKey, int], int] = {}
    referenced_cutouts: set[str] = set()
    dropped: set[str] = set()
    for name in SCHEMAS:
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
    report.notes += [f"given up by its node: {name}" for name in sorted(dropped)]
    _compare_with_ledger(tables, candidates, _dropped_blocks(dropped), report.problems)
    _check_other_objects(store, tables["ledger"].rows, referenced_cutouts - dropped, report)
    return report


def _read_table(store: Store, folder: str, report: VerificationReport) -> Iterator[tuple[StoredObject, pa.Table]]:
    """Give the current objects of a table, whole; damaged ones become problems."""
    for obj in current_objects(store, list_objects(store, f"{folder}/")):
        content = _read_checked(store, obj, report)
        if content is None:
            continue
        try:
            table = pq.read_table(pa.BufferReader(content), partitioning=None)
            schema = SCHEMAS[folder]
            if missing := [name for name in schema.names if name not in table.schema.names]:
                report.notes.append(f"{obj.name}: older, without {', '.join(missing)}")
            yield obj, table
        except (pa.ArrowException, OSError) as error:
            report.problems.append(f"{obj.name}: not a Parquet file of edgefilter: {str(error).splitlines()[0]}")


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
    """Hold the other tables against the ledger."""
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
                    f"{name} of {run_key[1]} on {run_key[0]}, block {block}: {rows} rows, the ledger says {wanted}"
                )
        for run_key, blocks in table.rows.items():
            problems += [
                f"{name} of {run_key[1]} on {run_key[0]}, block {block}: not in the ledger"
                for block in sorted(blocks)
                if (run_key, block) not in ledger
            ]


def _dropped_blocks(names: Iterable[str]) -> set[tuple[str, str, int]]:
    """Table, stream and block of everything that was given up."""
    made = [parse(name) for name in names]
    return {(name.folder, name.stream, block) for name in made for block in range(name.block, name.last + 1)}


def _check_other_objects(
    store: Store, ledger: dict[RunKey, dict[int, int]], referenced_cutouts: set[str], report: VerificationReport
) -> None:
    """Check cut-outs, headers and settings, and note what is not ours."""
    found = {folder: list_objects(store, f"{folder}/") for folder in (CUTOUTS, STREAMS, CONFIGS)}
    for members in found.values():
        for obj in members:
            _read_checked(store, obj, report)
    cutouts = {obj.name for obj in found[CUTOUTS]}
    report.problems += [
        f"{name}: a pulse names it, and it is not there" for name in sorted(referenced_cutouts - cutouts)
    ]
    report.notes += [f"{name}: no pulse names it" for name in sorted(cutouts - referenced_cutouts)]
    streams = {obj.parsed_name.stream for obj in found[STREAMS]}
    configs = {obj.parsed_name.digest for obj in found[CONFIGS]}
    for _, stream, config, _ in ledger:
        if stream not in streams:
            report.problems.append(f"{STREAMS}/{stream}.json: not there, and the ledger has blocks of it")
        if config not in configs:
            report.problems.append(f"{CONFIGS}/{config}.json: not there, and the ledger has blocks made with it")
    report.problems = sorted(set(report.problems))
    ours = (*SCHEMAS, CUTOUTS, STREAMS, CONFIGS)
    for info in store.listing():
        try:
            parse(info.name)
        except StoreError:
            what = "not a product" if info.name.split("/")[0] in ours else "in no folder of ours"
            report.notes.append(f"{info.name}: {what}")


def summary(report: VerificationReport) -> str:
    """Say in one line what was found."""
    return (
        f"{report.objects} objects, {report.bytes} B, {report.blocks} blocks in the ledger: "
        f"{len(report.problems)} problems, {len(report.notes)} notes"
    )
