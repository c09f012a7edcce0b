"""The reducer's process: ``python -m edgefilter.node.reducer.process``, started by the supervisor.

Only the link is imported at once, so that the heart beats while compilers load.
"""

import sys
import traceback

from edgefilter.core.errors import EdgefilterError
from edgefilter.node.ipc import Link


def main() -> int:
    """Wait for settings and work; what ends the work is told to the supervisor."""
    with Link.from_environment(lambda: {"ready": False}) as link:
        try:
            while (settings := link.receive(0.5)) is None or settings["kind"] != "settings":
                link.mark()
            from edgefilter.node.reducer.blocks import Reducing
            from edgefilter_kernels.jit import compilations

            with (
                compilations(lambda kernel: link.tell("compiling", kernel=kernel)),
                Reducing(link, settings) as reducing,
            ):
                reducing.run()
        except EdgefilterError as error:
            link.tell("failed", why=str(error), error=type(error).__name__)
            return 1
        except Exception as error:
            link.tell("failed", why=f"{type(error).__name__}: {error}", error="")
            traceback.print_exc()
            return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
