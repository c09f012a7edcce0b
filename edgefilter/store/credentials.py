"""Keys of an object store: from the environment or a private file, never from the configuration."""

import configparser
import os
import stat
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from edgefilter.core.errors import StoreError


@dataclass(frozen=True, slots=True)
class Credentials:
    """Keys; only ``key`` is shown in messages."""

    key: str
    secret: str = field(repr=False)
    token: str | None = field(default=None, repr=False)


def find_credentials(environment: Mapping[str, str] = os.environ) -> Credentials:
    """Find the keys.

    1. ``AWS_ACCESS_KEY_ID``, ``AWS_SECRET_ACCESS_KEY`` and ``AWS_SESSION_TOKEN`` of the environment;
    2. the profile ``AWS_PROFILE`` (``default``) of the file ``AWS_SHARED_CREDENTIALS_FILE`` (``~/.aws/credentials``),
       which other users must not be able to read.

    Parameters
    ----------
    environment
        Environment variables.

    Returns
    -------
    Credentials
        The keys.

    Raises
    ------
    StoreError
        If there are no keys, or other users may read the file.
    """
    key, secret = environment.get("AWS_ACCESS_KEY_ID"), environment.get("AWS_SECRET_ACCESS_KEY")
    if key and secret:
        return Credentials(key, secret, environment.get("AWS_SESSION_TOKEN"))
    path = Path(environment.get("AWS_SHARED_CREDENTIALS_FILE") or "~/.aws/credentials").expanduser()
    profile = environment.get("AWS_PROFILE") or "default"
    parser = configparser.ConfigParser(interpolation=None)
    try:
        with path.open(encoding="utf-8") as file:
            if os.fstat(file.fileno()).st_mode & (stat.S_IRWXG | stat.S_IRWXO):
                raise StoreError(f"credentials {path}: other users may read it; its mode must be 0600")
            parser.read_file(file)
    except FileNotFoundError:
        raise StoreError(
            "no credentials: set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or AWS_SHARED_CREDENTIALS_FILE "
            "and AWS_PROFILE"
        ) from None
    except OSError as error:
        raise StoreError(f"credentials {path}: cannot be read: {error.strerror}") from None
    except (configparser.Error, UnicodeDecodeError):
        raise StoreError(f"credentials {path}: not a file of profiles") from None  # the error quotes the file
    section = dict(parser.items(profile)) if parser.has_section(profile) else parser.defaults()
    if not section.get("aws_access_key_id") or not section.get("aws_secret_access_key"):
        raise StoreError(f"credentials {path}: no aws_access_key_id and aws_secret_access_key in profile {profile!r}")
    return Credentials(section["aws_access_key_id"], section["aws_secret_access_key"], section.get("aws_session_token"))
