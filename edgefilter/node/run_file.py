"""The run file of a stream: through it and the ring, receiver and reducer find each other in the run directory.

1. The receiver gets the header of a new stream, writes the run file, and waits until the ring exists.
2. The reducer waits for the run file and makes the ring, whose size follows from its settings.
3. The receiver writes samples into the ring and ends the run there.
4. When all of it is reduced, the run file and the ring are removed, and the next run can begin.

A process that starts at any point of this finds its place. Only the receiver begins a run.
"""

import json
import secrets
from pathlib import Path
from typing import NamedTuple

from edgefilter.core.stream import Stream


class Run(NamedTuple):
    """A run of a stream: the life of one ring.

    Parameters
    ----------
    name
        Name of the run.
    stream
        Header of the stream.
    ring
        File of the ring, which may not exist yet.
    """

    name: str
    stream: Stream
    ring: Path


class RunFile:
    """The run file of a stream.

    Parameters
    ----------
    directory
        Run directory of the node.
    name
        Name of the stream in the node.
    """

    def __init__(self, directory: Path, name: str) -> None:
        self._directory = directory
        self._ring_prefix = f"ring-{name}-"
        self._path = directory / f"run-{name}.json"

    def read(self) -> Run | None:
        """Return the current run; None if no stream has arrived."""
        try:
            fields = json.loads(self._path.read_text())
        except (FileNotFoundError, ValueError):
            return None
        name = fields["run"]
        return Run(name, Stream.from_json(fields["header"]), self._directory / (self._ring_prefix + name))

    def begin(self, stream: Stream) -> Run:
        """Begin a run, unless there is one already.

        Parameters
        ----------
        stream
            Header of the stream.

        Returns
        -------
        Run
            The current run.
        """
        while (run := self.read()) is None:
            fields = {"run": secrets.token_hex(4), "header": stream.to_json()}
            write_atomically(self._path, json.dumps(fields))
        return run

    def remove(self, run: Run) -> None:
        """Remove the run file, if it is that of the run, and then the ring.

        In this order, because a ring without a run file is removed at the next start of the reducer, and because the
        receiver begins the next run when the ring has disappeared.

        Parameters
        ----------
        run
            The run, which has ended.
        """
        if self.read() == run:
            self._path.unlink()
        run.ring.unlink(missing_ok=True)

    def remove_stale_rings(self) -> None:
        """Remove the rings of earlier runs, which a process that was killed has left."""
        run = self.read()
        for path in self._directory.glob(self._ring_prefix + "*"):
            # The name of another stream may begin with that of this one and a dash.
            is_ours = "-" not in path.name.removeprefix(self._ring_prefix)
            if is_ours and (run is None or path != run.ring):
                path.unlink(missing_ok=True)


def write_atomically(path: Path, text: str) -> None:
    """Replace a small file; a reader sees the old text or the new one, never a part.

    Parameters
    ----------
    path
        The file.
    text
        Its new content.
    """
    part = path.with_suffix(".part")
    part.write_text(text)
    part.replace(path)
