"""Buckets of the object stores."""

from pathlib import Path

import pyarrow.fs as pafs

from tests.helpers.servers.process import Server

BUCKET = "edge-bucket"


def make_bucket(server: Server, name: str = BUCKET, ca_bundle: Path | None = None) -> None:
    """Create a bucket; ``ca_bundle`` holds the authority of a server with TLS."""
    filesystem = pafs.S3FileSystem(
        access_key=server.key,
        secret_key=server.secret,
        endpoint_override=server.endpoint,
        region="us-east-1",
        allow_bucket_creation=True,
        tls_ca_file_path=str(ca_bundle) if ca_bundle else None,
    )
    filesystem.create_dir(name)
