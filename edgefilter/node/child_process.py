"""A process of the node under the supervisor, which gives it its settings and handles its errors."""

import json
import os
import signal
import sys
import traceback
from collections.abc import Callable

from edgefilter.core.errors import EdgefilterError
from edgefilter.node.ipc import IPC_SOCKET_VARIABLE, IpcClient, Link, Message


def run_child(serve: Callable[[Link, Message], object]) -> int:
    """Do the work of a process that the supervisor has started.

    The connection opens before the work is imported, so that heartbeats begin before compilers are loaded.

    Parameters
    ----------
    serve
        Does the work, with the connection to the supervisor and the settings.

    Returns
    -------
    int
        Exit status: 0 after a command to end, 1 after an error, which is reported as ``failed``.
    """
    if IPC_SOCKET_VARIABLE not in os.environ:
        line = "edgefilter: only a supervisor starts this module: use edgefilter receive, reduce or forward"
        print(line, file=sys.stderr)
        return 1
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, signal.SIG_IGN)  # only the supervisor stops this process
    with IpcClient.from_environment() as ipc:
        try:
            serve(ipc, json.load(sys.stdin))
        except EdgefilterError as error:
            ipc.send("failed", why=str(error), error=type(error).__name__)
        except Exception as error:
            ipc.send("failed", why=f"{type(error).__name__}: {error}", error="")
            traceback.print_exc()
        else:
            return 0
    return 1
