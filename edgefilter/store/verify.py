"""Proves a store: what the ledger says was made is there, once, undamaged, and adds up."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from itertools import pairwise

import pyarrow as pa
import pyarrow.parquet as pq

from edgefilter.core.errors import StoreError
from edgefilter.products.naming import CONFIGS, CUTOUTS, STREAMS, digest, parse
from edgefilter.products.schemas import SCHEMAS, check_balance
from edgefilter.store.base import Store
from edgefilter.store.current_objects import Part, live, parts

_OF_EVERY_BLOCK = ("spectra", "flags")
_ROW = ("stream", "config", "code", "block")

Place = tuple[str, str, str, str]
"""Node, stream, settings and code: what makes a run of blocks."""


@dataclass(slots=True)
class Verdict:
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
class _Table:
    """Which blocks a table holds: rows of each by place and block."""

    rows: dict[Place, dict[int, int]] = field(default_factory=dict)

    def add(self, where: str, part: Part, table: pa.Table, problems: list[str]) -> None:
        found: dict[tuple[Place, int], int] = {}
        for stream, config, code, block in zip(*(table.column(name).to_pylist() for name in _ROW), strict=True):
            key = (part.parsed.node, stream, config, code), block
            found[key] = found.get(key, 0) + 1
        for (place, block), count in found.items():
            blocks = self.rows.setdefault(place, {})
            if block in blocks:
                problems.append(f"{part.name}: {where} of block {block} are in another object too")
            blocks[block] = count


def verify(store: Store) -> Verdict:
    """Read everything in a store and check it.

    1. Every object has the digest in its name, and every table can be read.
    2. The ledger balances exactly, has every block once, and no gap between the first and last of a run.
    3. Each block of the ledger has its spectra and flags, and as many pulses as it says; nothing else has.
    4. Every cut-out that a pulse names is there.
    5. The header of every stream and the settings of every reduction are there.

    What a node has given up and told (``dropped``) is not missed. Objects on their way are: a store that is being
    written may lack the newest products of a block whose ledger row has come.

    Raises
    ------
    StoreError
        If the store cannot be listed.
    """
    verdict = Verdict()
    tables = {name: _Table() for name in SCHEMAS if name != "dropped"}
    ledgers: list[pa.Table] = []
    candidates: dict[tuple[Place, int], int] = {}
    named: set[str] = set()
    given_up: set[str] = set()
    for name in SCHEMAS:
        for part, table in _read(store, name, verdict):
            if name == "dropped":
                given_up |= set(table.column("object").to_pylist())
                continue
            tables[name].add(name, part, table, verdict.problems)
            if name == "ledger":
                ledgers.append(table.append_column("node", pa.repeat(part.parsed.node, table.num_rows)))
            elif name == "pulses":
                named |= set(table.column("cutout").to_pylist()) - {""}
    for table in ledgers:
        _balance(table, verdict.problems)
        for node, stream, config, code, block, count in zip(
            *(table.column(name).to_pylist() for name in ("node", *_ROW, "candidates")), strict=True
        ):
            candidates[(node, stream, config, code), block] = count
    verdict.blocks = len(candidates)
    verdict.notes += [f"given up by its node: {name}" for name in sorted(given_up)]
    _compare(tables, candidates, _dropped_blocks(given_up), verdict.problems)
    _others(store, tables["ledger"].rows, named - given_up, verdict)
    return verdict


def _read(store: Store, folder: str, verdict: Verdict) -> Iterator[tuple[Part, pa.Table]]:
    """Give the live objects of a table, whole; damaged ones become problems."""
    for part in live(store, parts(store, f"{folder}/")):
        content = _content(store, part, verdict)
        if content is None:
            continue
        try:
            table = pq.read_table(pa.BufferReader(content), partitioning=None)
            schema = SCHEMAS[folder]
            if missing := [name for name in schema.names if name not in table.schema.names]:
                verdict.notes.append(f"{part.name}: older, without {', '.join(missing)}")
            yield part, table
        except (pa.ArrowException, OSError) as error:
            verdict.problems.append(f"{part.name}: not a Parquet file of edgefilter: {str(error).splitlines()[0]}")


def _content(store: Store, part: Part, verdict: Verdict) -> bytes | None:
    try:
        content = store.get(part.name)
    except StoreError as error:
        verdict.problems.append(str(error))
        return None
    verdict.objects += 1
    verdict.bytes += len(content)
    if part.parsed.digest and digest(content) != part.parsed.digest:
        verdict.problems.append(f"{part.name}: damaged: its content does not have the digest in its name")
        return None
    return content


def _balance(ledger: pa.Table, problems: list[str]) -> None:
    try:
        check_balance(ledger)
    except StoreError as error:
        problems.append(str(error))


def _compare(
    tables: dict[str, _Table],
    ledger: dict[tuple[Place, int], int],
    given_up: set[tuple[str, str, int]],
    problems: list[str],
) -> None:
    """Hold the other tables against the ledger."""
    for place, blocks in tables["ledger"].rows.items():
        where = f"ledger of {place[1]} on {place[0]}"
        problems += [
            f"{where}: no row for blocks {a + 1} to {b - 1}" for a, b in pairwise(sorted(blocks)) if b != a + 1
        ]
    for name, table in tables.items():
        if name == "ledger":
            continue
        for (place, block), candidates in ledger.items():
            rows = table.rows.get(place, {}).get(block, 0)
            missing = rows != candidates if name == "pulses" else name in _OF_EVERY_BLOCK and rows == 0
            if missing and (name, place[1], block) not in given_up:
                wanted = f"{candidates} pulses" if name == "pulses" else name
                problems.append(
                    f"{name} of {place[1]} on {place[0]}, block {block}: {rows} rows, the ledger says {wanted}"
                )
        for place, blocks in table.rows.items():
            problems += [
                f"{name} of {place[1]} on {place[0]}, block {block}: not in the ledger"
                for block in sorted(blocks)
                if (place, block) not in ledger
            ]


def _dropped_blocks(names: Iterable[str]) -> set[tuple[str, str, int]]:
    """Table, stream and block of everything that was given up."""
    made = [parse(name) for name in names]
    return {(name.folder, name.stream, block) for name in made for block in range(name.block, name.last + 1)}


def _others(store: Store, ledger: dict[Place, dict[int, int]], named: set[str], verdict: Verdict) -> None:
    """Check cut-outs, headers and settings, and note what is not ours."""
    found = {folder: parts(store, f"{folder}/") for folder in (CUTOUTS, STREAMS, CONFIGS)}
    for members in found.values():
        for part in members:
            _content(store, part, verdict)
    cutouts = {part.name for part in found[CUTOUTS]}
    verdict.problems += [f"{name}: a pulse names it, and it is not there" for name in sorted(named - cutouts)]
    verdict.notes += [f"{name}: no pulse names it" for name in sorted(cutouts - named)]
    streams = {part.parsed.stream for part in found[STREAMS]}
    configs = {part.parsed.digest for part in found[CONFIGS]}
    for _, stream, config, _ in ledger:
        if stream not in streams:
            verdict.problems.append(f"{STREAMS}/{stream}.json: not there, and the ledger has blocks of it")
        if config not in configs:
            verdict.problems.append(f"{CONFIGS}/{config}.json: not there, and the ledger has blocks made with it")
    verdict.problems = sorted(set(verdict.problems))
    ours = (*SCHEMAS, CUTOUTS, STREAMS, CONFIGS)
    for listed in store.listing():
        try:
            parse(listed.name)
        except StoreError:
            what = "not a product" if listed.name.split("/")[0] in ours else "in no folder of ours"
            verdict.notes.append(f"{listed.name}: {what}")


def summary(verdict: Verdict) -> str:
    """Say in one line what was found."""
    return (
        f"{verdict.objects} objects, {verdict.bytes} B, {verdict.blocks} blocks in the ledger: "
        f"{len(verdict.problems)} problems, {len(verdict.notes)} notes"
    )
