"""The reducer process: ``python -m edgefilter.node.reducer.process``, started by the supervisor.

It imports the IPC client first and the rest later, so that heartbeats begin before the compilers are loaded.
"""

import sys
import traceback

from edgefilter.core.errors import EdgefilterError
from edgefilter.node.ipc import IpcClient


def main() -> int:
    """Wait for the settings and reduce; report errors to the supervisor.

    Returns
    -------
    int
        Exit status, 1 after an error.
    """
    with IpcClient.from_environment(lambda: {"ready": False}) as ipc:
        try:
            while (settings := ipc.receive(0.5)) is None or settings["kind"] != "settings":
                ipc.mark_progress()
            from edgefilter.node.reducer.blocks import ReducerWorker
            from edgefilter_kernels.jit import watch_compilations

            with (
                watch_compilations(lambda kernel: ipc.send("compiling", kernel=kernel)),
                ReducerWorker(ipc, settings) as worker,
            ):
                worker.run()
        except EdgefilterError as error:
            ipc.send("failed", why=str(error), error=type(error).__name__)
            return 1
        except Exception as error:
            ipc.send("failed", why=f"{type(error).__name__}: {error}", error="")
            traceback.print_exc()
            return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
