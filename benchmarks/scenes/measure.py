"""Run a command and write what it used: ``python measure.py OUT.json COMMAND …``.

It is a small process of its own because the peak memory that Linux reports of a child includes that of the parent at
the fork. The processor time includes that of the command's own children.
"""

import json
import os
import subprocess
import sys
import time
from pathlib import Path


def main() -> None:
    out, *command = sys.argv[1:]
    began = time.monotonic()
    process = subprocess.Popen(command)
    _, status, usage = os.wait4(process.pid, 0)
    result = {
        "cpu_seconds": usage.ru_utime + usage.ru_stime,
        "wall_seconds": time.monotonic() - began,
        "peak_bytes": usage.ru_maxrss * 1024,
        "status": os.waitstatus_to_exitcode(status),
    }
    Path(out).write_text(json.dumps(result))


if __name__ == "__main__":
    main()
