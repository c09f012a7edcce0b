"""CURVE keys: who may send to a node, and how both ends prove who they are.

A key pair is two files of ZeroMQ's certificate format: ``NAME.key`` has the public key, ``NAME.key_secret`` both. The
node is always the CURVE server, also where it connects; a sender needs its own pair and the node's public key. A node
lets in the senders whose public files lie in one folder, which is read at every handshake: files may come and go.
"""

import os
import stat
from dataclasses import dataclass
from pathlib import Path

import zmq
import zmq.auth

from edgefilter.core.errors import ConfigError

_PUBLIC_TEMPLATE = (
    '# CURVE public key of {name}: give it to whom {name} talks to.\nmetadata\ncurve\n    public-key = "{public}"\n'
)
_KEY_PAIR_TEMPLATE = (
    "# CURVE secret key of {name}: for {name} alone.\n"
    'metadata\ncurve\n    public-key = "{public}"\n    secret-key = "{secret}"\n'
)


@dataclass(frozen=True, slots=True)
class KeyPair:
    """Both keys of one end, in Z85."""

    public: bytes
    secret: bytes


def make_key_pair(folder: str | Path, name: str) -> tuple[Path, Path]:
    """Make a key pair; the secret file is readable by its owner alone from its first moment on.

    Returns
    -------
    public, secret
        The two files.

    Raises
    ------
    ConfigError
        If the name cannot be a file's, one of the files is there already, or cannot be written.
    """
    if not name or name.startswith(".") or "/" in name or not name.isprintable():
        raise ConfigError(f"name is {name!r}, must be one that a file can have")
    public, secret = (key.decode() for key in zmq.curve_keypair())
    public_path, secret_path = Path(folder) / f"{name}.key", Path(folder) / f"{name}.key_secret"
    try:
        Path(folder).mkdir(mode=0o700, parents=True, exist_ok=True)
        # The secret first: a public key without its secret could be handed out.
        _create_file(secret_path, 0o600, _KEY_PAIR_TEMPLATE.format(name=name, public=public, secret=secret))
        try:
            _create_file(public_path, 0o644, _PUBLIC_TEMPLATE.format(name=name, public=public))
        except OSError:
            secret_path.unlink()
            raise
    except FileExistsError as error:
        raise ConfigError(f"{error.filename}: is there already: keys are never overwritten") from None
    except OSError as error:
        raise ConfigError(f"{error.filename}: cannot be written: {error.strerror}") from None
    return public_path, secret_path


def load_key_pair(path: str | Path) -> KeyPair:
    """Read a ``.key_secret`` file.

    Raises
    ------
    ConfigError
        If it cannot be read, others than its owner may read it, or it has no secret key.
    """
    try:
        mode = stat.S_IMODE(Path(path).stat().st_mode)
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read: {error.strerror}") from None
    if mode & 0o077:
        raise ConfigError(f"{path}: mode is {mode:04o}, a secret key must be its owner's alone: chmod 600")
    public, secret = _load(path)
    if secret is None:
        raise ConfigError(f"{path}: has no secret key, expected a .key_secret file")
    return KeyPair(public, secret)


def load_public_key(path: str | Path) -> bytes:
    """Read the public key, in Z85, of a ``.key`` file.

    Raises
    ------
    ConfigError
        If it cannot be read or has no key.
    """
    return _load(path)[0]


class AllowList:
    """The senders that may connect: those whose ``.key`` files lie in a folder.

    Parameters
    ----------
    folder
        The folder.

    Raises
    ------
    ConfigError
        If it is none, or a file in it is not a public key.
    """

    def __init__(self, folder: str | Path) -> None:
        self._folder = Path(folder)
        self.refused = 0
        """Handshakes with other keys."""
        if not self._folder.is_dir():
            raise ConfigError(f"{self._folder}: no such folder of senders' public keys")
        for path in self._folder.glob("*.key"):
            load_public_key(path)

    def callback(self, domain: str, key: bytes) -> bool:  # noqa: ARG002 - pyzmq's authenticator calls it so
        """Say whether the sender with this public key, in Z85, may connect."""
        allowed = any(self._matches(path, key) for path in self._folder.glob("*.key"))
        self.refused += not allowed
        return allowed

    @staticmethod
    def _matches(path: Path, key: bytes) -> bool:
        try:
            return load_public_key(path) == key
        except ConfigError:
            return False  # half written or spoilt since the start: it lets nobody in and keeps nobody else out


def _load(path: str | Path) -> tuple[bytes, bytes | None]:
    try:
        public, secret = zmq.auth.load_certificate(path)
    except (OSError, ValueError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: cannot be read as a key file: {error}") from None
    if any(len(key) != 40 for key in (public, secret) if key is not None):
        raise ConfigError(f"{path}: a key must have 40 characters")
    return public, secret


def _create_file(path: Path, mode: int, text: str) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
    with os.fdopen(descriptor, "w") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
