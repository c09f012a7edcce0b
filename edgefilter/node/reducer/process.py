"""The reducer process of one stream.

The supervisor starts it as ``python -m edgefilter.node.reducer.process``, a process manager as ``edgefilter reduce``.
It imports the compilers when it serves, so that heartbeats begin before that.
"""

import sys
from contextlib import suppress
from pathlib import Path

from edgefilter.core.errors import SpoolBusyError, SpoolFullError
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
    _check_setup(settings)
    run = serve(link, settings)
    if run is not None:
        RunFile(Path(settings["directory"]), settings["stream"]).remove(run)


def _check_setup(settings: Message) -> None:
    """Fail now, not when the stream comes, if the spool cannot be used or a stage cannot be made."""
    from edgefilter.core.config import NodeConfig
    from edgefilter.core.validation import validate
    from edgefilter.pipeline.plugin_stages import check_stages
    from edgefilter.spool import Spool

    with suppress(SpoolBusyError, SpoolFullError):  # these pass: the reducer waits for them
        Spool.open(settings["spool"], role="reducer", name=settings["stream"]).close()
    config = validate(NodeConfig, settings["config"])
    check_stages(config, next(section for section in config.stream if section.name == settings["stream"]))


if __name__ == "__main__":
    sys.exit(run_child(serve))
