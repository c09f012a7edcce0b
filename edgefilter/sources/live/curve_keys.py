"""CURVE keys: they prove the identity of node and senders, and say which senders a node accepts.

A key pair is two files in ZeroMQ's certificate format: ``NAME.key`` has the public key, ``NAME.key_secret`` both keys.
The node is always the CURVE server, even if it connects to the sender; a sender needs its own pair and the node's
public key. A node accepts the senders whose public keys are in one folder. It reads the folder at every handshake, so
keys can be added and removed while it runs.
"""

import os
import stat
from dataclasses import dataclass
from pathlib import Path

import zmq
import zmq.auth

from edgefilter.core.errors import ConfigError

_PUBLIC_TEMPLATE = (
    '# CURVE public key of {name}: give it to the peers of {name}.\nmetadata\ncurve\n    public-key = "{public}"\n'
)
_KEY_PAIR_TEMPLATE = (
    "# CURVE secret key of {name}: only {name} may read it.\n"
    'metadata\ncurve\n    public-key = "{public}"\n    secret-key = "{secret}"\n'
)


@dataclass(frozen=True, slots=True)
class KeyPair:
    """Both keys of one peer, in Z85 (40 characters)."""

    public: bytes
    secret: bytes


@dataclass(frozen=True, slots=True)
class SenderKeys:
    """Keys that a sender needs for CURVE: its own pair, and the public key of the node, in Z85."""

    own: KeyPair
    node: bytes


def make_key_pair(folder: str | Path, name: str) -> tuple[Path, Path]:
    """Make a key pair; the file of the secret key is created with mode 0600.

    Parameters
    ----------
    folder
        Where to write it; created if necessary.
    name
        Name of the node or sender.

    Returns
    -------
    public, secret
        The two files.

    Raises
    ------
    ConfigError
        If the name is not a file name, or one of the files exists or cannot be written.
    """
    if not name or name.startswith(".") or "/" in name or not name.isprintable():
        raise ConfigError(f"name is {name!r}, must be a printable file name without / and a leading .")
    public, secret = (key.decode() for key in zmq.curve_keypair())
    public_path, secret_path = Path(folder) / f"{name}.key", Path(folder) / f"{name}.key_secret"
    try:
        Path(folder).mkdir(mode=0o700, parents=True, exist_ok=True)
        # The secret first: a public key without its secret would be useless to those who get it.
        _create_file(secret_path, 0o600, _KEY_PAIR_TEMPLATE.format(name=name, public=public, secret=secret))
        try:
            _create_file(public_path, 0o644, _PUBLIC_TEMPLATE.format(name=name, public=public))
        except OSError:
            secret_path.unlink()
            raise
    except FileExistsError as error:
        raise ConfigError(f"{error.filename}: exists, keys are never overwritten") from None
    except OSError as error:
        raise ConfigError(f"{error.filename}: cannot be written: {error.strerror}") from None
    return public_path, secret_path


def load_key_pair(path: str | Path) -> KeyPair:
    """Read a ``.key_secret`` file.

    Parameters
    ----------
    path
        The file.

    Returns
    -------
    KeyPair
        Both keys.

    Raises
    ------
    ConfigError
        If it cannot be read, users other than its owner may read it, or it has no secret key.
    """
    try:
        mode = stat.S_IMODE(Path(path).stat().st_mode)
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read: {error.strerror}") from None
    if mode & 0o077:
        raise ConfigError(f"{path}: mode is {mode:04o}, but only the owner may read a secret key: chmod 600")
    public, secret = _load(path)
    if secret is None:
        raise ConfigError(f"{path}: has no secret key, expected a .key_secret file")
    return KeyPair(public, secret)


def load_public_key(path: str | Path) -> bytes:
    """Read a ``.key`` file.

    Parameters
    ----------
    path
        The file.

    Returns
    -------
    bytes
        The public key, in Z85.

    Raises
    ------
    ConfigError
        If it cannot be read or has no key.
    """
    return _load(path)[0]


class AllowList:
    """The senders that may connect: those whose ``.key`` files are in a folder.

    Parameters
    ----------
    folder
        The folder.

    Raises
    ------
    ConfigError
        If it does not exist, or a file in it is not a public key.
    """

    def __init__(self, folder: str | Path) -> None:
        self._folder = Path(folder)
        self.refused = 0
        """Number of handshakes with other keys."""
        if not self._folder.is_dir():
            raise ConfigError(f"{self._folder}: no such folder, expected one with the public keys of senders")
        for path in self._folder.glob("*.key"):
            load_public_key(path)

    def callback(self, _domain: str, key: bytes) -> bool:
        """Say whether a sender may connect; pyzmq's authenticator calls this method.

        Parameters
        ----------
        key
            Public key of the sender, in Z85.

        Returns
        -------
        bool
            Whether a file in the folder has this key.
        """
        allowed = any(self._matches(path, key) for path in self._folder.glob("*.key"))
        self.refused += not allowed
        return allowed

    @staticmethod
    def _matches(path: Path, key: bytes) -> bool:
        try:
            return load_public_key(path) == key
        except ConfigError:
            return False  # incomplete or damaged since the start: it admits no sender, and other files still count


def _load(path: str | Path) -> tuple[bytes, bytes | None]:
    try:
        public, secret = zmq.auth.load_certificate(path)
    except (OSError, ValueError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: cannot be read as a key file: {error}") from None
    if any(len(key) != 40 for key in (public, secret) if key is not None):
        raise ConfigError(f"{path}: has a key of another length, must be 40 characters")
    return public, secret


def _create_file(path: Path, mode: int, text: str) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
    with os.fdopen(descriptor, "w") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
