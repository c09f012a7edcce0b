"""SeaweedFS: master, volume server, filer and S3 gateway in one process."""

import json
import sys
import urllib.request
from contextlib import ExitStack
from pathlib import Path

from tests.helpers.servers.process import Server, free_ports, run

_KEY, _SECRET = "edge", "not-a-secret"


def start(root: Path, stack: ExitStack) -> Server:
    """Start SeaweedFS with its data in ``root``; closing the stack kills it."""
    ports = free_ports(8)
    names = ("master.port", "master.port.grpc", "volume.port", "volume.port.grpc", "filer.port", "filer.port.grpc")
    identity = {
        "name": "edge",
        "credentials": [{"accessKey": _KEY, "secretKey": _SECRET}],
        "actions": ["Admin", "Read", "Write", "List", "Tagging"],
    }
    (root / "identities.json").write_text(json.dumps({"identities": [identity]}))
    (root / "data").mkdir()
    command = [str(Path(sys.executable).parent / "weed"), "server", "-ip=127.0.0.1", f"-dir={root}/data", "-s3"]
    command += [f"-{name}={port}" for name, port in zip(names, ports, strict=False)]
    command += [f"-s3.port={ports[6]}", f"-s3.port.grpc={ports[7]}", f"-s3.config={root}/identities.json"]
    # Servers that no test needs: their fixed ports would collide between two workers.
    command += ["-s3.port.iceberg=0", "-s3.port.lance=0", "-volume.max=20", "-master.volumeSizeLimitMB=64"]
    run(stack, command, root / "log")
    server = Server(f"http://127.0.0.1:{ports[6]}", _KEY, _SECRET)

    def answers() -> bool:
        try:
            urllib.request.urlopen(f"{server.endpoint}/healthz", timeout=1).close()
        except OSError:
            return False
        return True

    server.wait(answers, root / "log")
    return server
