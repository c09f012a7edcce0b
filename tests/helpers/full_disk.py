"""Programs that fill the disk under a spool. ``test_full.py`` runs them in a small file system."""

import os
import sys
from pathlib import Path

from edgefilter.core.errors import SpoolFullError
from edgefilter.spool import Cursor, Spool
from tests.helpers.spools import make_product, payload_files, product_names

BALLAST = 256 << 10


def fill_disk(path: Path, free_bytes: int) -> Path:
    """Fill the disk up to ``free_bytes``; return the file that fills it."""
    filler = path / "filler"
    with filler.open("wb", buffering=0) as file:
        state = os.statvfs(path)
        os.posix_fallocate(file.fileno(), 0, max(1, state.f_bavail * state.f_frsize - free_bytes))
    return filler


def grow(root: Path) -> None:
    """Commit blocks until nothing more can be dropped; then empty the spool as the forwarder does."""
    with Spool.open(root / "spool", role="reducer", ballast_bytes=BALLAST) as spool:
        block, dropped = 0, 0
        while True:
            try:
                spool.commit(
                    [make_product("ledger", block, 20_000), make_product("spectra", block, 60_000)],
                    "s",
                    Cursor(block + 1),
                )
            except SpoolFullError:
                break
            block += 1
            dropped = dropped or (block if spool.dropped() else 0)
        kept = [name for name in product_names(spool) if name.startswith("ledger")]
        records = spool.dropped()
        print(spool.ready)
        print(
            len(kept) == block, product_names(spool) == kept, 0 < dropped < block, {record.reason for record in records}
        )
        print(
            [record.name for record in records] == sorted(record.name for record in records),
            spool.cursor("s") == Cursor(block),
        )
    with Spool.open(root / "spool", role="forwarder", ballast_bytes=BALLAST) as spool:
        print(spool.recovered)
        spool.seal(spool.unsealed())
        for entry in spool.next_entries(1000):
            assert spool.read(entry) is not None
            spool.mark_delivered(entry)
        print(
            product_names(spool),
            len(payload_files(root / "spool")),
            (root / "spool" / "ballast").exists(),
        )
    with Spool.open(root / "spool", role="reducer", ballast_bytes=BALLAST) as spool:
        print(spool.commit([make_product("cutouts", block)], "s", Cursor(block + 1)), spool.ready)


def step(root: Path, ballast: int) -> None:
    """Commit and deliver with every amount of free space: each block is in the spool completely or not at all."""
    outcomes = set()
    for free_bytes in range(0, 160_000, 4096):
        path = root / "spool"
        with (
            Spool.open(path, role="reducer", ballast_bytes=ballast) as spool,
            Spool.open(path, role="forwarder") as other,
        ):
            spool.commit([make_product("cutouts", 1)], "s", Cursor(1))
            filler = fill_disk(root, free_bytes)
            try:
                committed = spool.commit(
                    [make_product("cutouts", 2, 30_000), make_product("ledger", 2)], "s", Cursor(2)
                )
            except SpoolFullError:
                committed = False
            expected = ["cutouts", "ledger"] if committed else []
            assert [name.split("/")[0] for name in product_names(spool)] == ["cutouts", *expected], (
                free_bytes,
                product_names(spool),
            )
            assert spool.cursor("s") == Cursor(2 if committed else 1)
            outcomes.add(committed)
            try:
                other.seal(other.unsealed())
                for entry in other.next_entries(9):
                    other.mark_delivered(entry)
            except SpoolFullError:
                pass
            filler.unlink()
        with Spool.open(path, role="forwarder") as spool:
            assert not spool.recovered.lost
            spool.seal(spool.unsealed())
            for entry in spool.next_entries(9):
                spool.mark_delivered(entry)
            assert product_names(spool) == spool.dropped() == []
            assert payload_files(path) == []
        for file in sorted(path.rglob("*"), reverse=True):
            file.unlink() if file.is_file() else file.rmdir()
    print(sorted(outcomes))


if __name__ == "__main__":
    {"grow": lambda: grow(Path(sys.argv[2])), "step": lambda: step(Path(sys.argv[2]), int(sys.argv[3]))}[sys.argv[1]]()
