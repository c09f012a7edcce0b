"""What is kept: tables, cut-outs, the ledger, and their names."""

from dataclasses import dataclass

SCHEMA_VERSION = 1


@dataclass(frozen=True, slots=True)
class Product:
    """One immutable object of the store.

    Parameters
    ----------
    name
        Path in the store; follows from stream, block and the digest of ``content`` (law 5).
    content
        Its bytes.
    """

    name: str
    content: bytes


@dataclass(frozen=True, slots=True)
class Provenance:
    """What every product carries.

    Parameters
    ----------
    stream
        :attr:`edgefilter.core.stream.Stream.id`.
    config
        :meth:`edgefilter.core.config.Reduction.digest`.
    code
        Version of edgefilter.
    """

    stream: str
    config: str
    code: str
