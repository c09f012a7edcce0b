"""What a spool does on a disk that is really full. Run by ``test_full.py`` in a small file system of its own."""

import os
import sys
from pathlib import Path

from edgefilter.core.errors import SpoolFullError
from edgefilter.spool import Cursor, Spool
from tests.spool.test_spool import make_product

BALLAST = 256 << 10


def fill_disk(path: Path, free_bytes: int) -> Path:
    """Take all space but so many bytes."""
    filler = path / "filler"
    with filler.open("wb", buffering=0) as file:
        state = os.statvfs(path)
        os.posix_fallocate(file.fileno(), 0, max(1, state.f_bavail * state.f_frsize - free_bytes))
    return filler


def product_names(spool: Spool) -> list[str]:
    return sorted(entry.name for entry in (*spool.next_entries(1000), *spool.unsealed()))


def grow(root: Path) -> None:
    """Blocks come until nothing more can be dropped; then the forwarder empties the full disk."""
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
        notes = spool.dropped()
        print(spool.ready)
        print(len(kept) == block, product_names(spool) == kept, 0 < dropped < block, {note.reason for note in notes})
        print([note.name for note in notes] == sorted(note.name for note in notes), spool.cursor("s") == Cursor(block))
    with Spool.open(root / "spool", role="forwarder", ballast_bytes=BALLAST) as spool:
        print(spool.recovered)
        spool.seal(spool.unsealed())
        for entry in spool.next_entries(1000):
            assert spool.read(entry) is not None
            spool.mark_delivered(entry)
        print(
            product_names(spool),
            len(list((root / "spool" / "payload").iterdir())),
            (root / "spool" / "ballast").exists(),
        )
    with Spool.open(root / "spool", role="reducer", ballast_bytes=BALLAST) as spool:
        print(spool.commit([make_product("cutouts", block)], "s", Cursor(block + 1)), spool.ready)


def step(root: Path, ballast: int) -> None:
    """Every amount of free space: whatever step of a commit or a delivery it fails, all or nothing is there."""
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
                took = spool.commit([make_product("cutouts", 2, 30_000), make_product("ledger", 2)], "s", Cursor(2))
            except SpoolFullError:
                took = False
            expected = ["cutouts", "ledger"] if took else []
            assert [name.split("/")[0] for name in product_names(spool)] == ["cutouts", *expected], (
                free_bytes,
                product_names(spool),
            )
            assert spool.cursor("s") == Cursor(2 if took else 1)
            outcomes.add(took)
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
            assert list((path / "payload").iterdir()) == []
        for file in sorted(path.rglob("*"), reverse=True):
            file.unlink() if file.is_file() else file.rmdir()
    print(sorted(outcomes))


if __name__ == "__main__":
    {"grow": lambda: grow(Path(sys.argv[2])), "step": lambda: step(Path(sys.argv[2]), int(sys.argv[3]))}[sys.argv[1]]()
