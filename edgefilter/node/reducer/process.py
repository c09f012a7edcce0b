"""The reducer process of one stream.

The supervisor starts it as ``python -m edgefilter.node.reducer.process``, a process manager as ``edgefilter reduce``.
It imports the compilers when it serves, so that heartbeats begin before that.
"""

import sys
from pathlib import Path

from edgefilter.node.child_process import run_child
from edgefilter.node.ipc import Link, Message
from edgefilter.node.run_file import Run, RunFile


def serve(link: Link, settings: Message) -> Run | None:
    """Reduce until the run ends, another reducer takes over, or a command ends this one.

    Parameters
    ----------
    link
        Where commands come from and events go to.
    settings
        Settings of the process: see :func:`~edgefilter.node.process_settings.reducer_settings`.

    Returns
    -------
    Run or None
        The run, if it has ended and all of it is committed.

    Raises
    ------
    EdgefilterError
        If the settings do not fit the stream, or the ring or the spool cannot be used.
    """
    from edgefilter.node.reducer.blocks import ReducerWorker
    from edgefilter_kernels.jit import watch_compilations

    with (
        watch_compilations(lambda kernel: link.send("compiling", kernel=kernel)),
        ReducerWorker(link, settings) as worker,
    ):
        return worker.run()


def serve_one_run(link: Link, settings: Message) -> None:
    """Reduce as :func:`serve` does, and remove the run if all of it is reduced, so that the next one can begin.

    Parameters
    ----------
    link, settings
        See :func:`serve`.

    Raises
    ------
    EdgefilterError
        See :func:`serve`.
    """
    run = serve(link, settings)
    if run is not None:
        RunFile(Path(settings["directory"]), settings["stream"]).remove(run)


if __name__ == "__main__":
    sys.exit(run_child(serve))
