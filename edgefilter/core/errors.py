"""Every error that a user can cause or meet, in one tree.

::

    EdgefilterError                 shown as one line; the program ends with exit status 1
    ├── ConfigError                 a setting: where it stands, its value, what it must be
    ├── GpuError                    a card that failed while it worked; the processor can go on
    ├── InputError                  samples that cannot be taken in
    │   ├── FormatError             a file: its path, what is wrong, what was expected
    │   └── SequenceError           files that do not belong to one stream
    ├── WireError                   a message that is not what the wire format says (counted, never fatal)
    └── StoreError                  a store that cannot be written or read
        ├── ConflictError           a name that holds other bytes: never passes by itself
        ├── UnavailableError        a store that does not answer, or not well: may pass, to be tried again
        └── SpoolError              the local queue in front of it
            ├── SpoolBusyError      another process has the part in it that was asked for
            └── SpoolFullError      no room is left for what must not be dropped; it passes when products have left

Anything else that escapes is a bug of ours and keeps its traceback.
"""

from pathlib import Path


class EdgefilterError(Exception):
    """Base of all errors whose message, one line, is meant for the user."""


class ConfigError(EdgefilterError):
    """A setting that cannot be: the message names its key, its value and its bound."""


class GpuError(EdgefilterError):
    """A card that failed while it worked."""


class InputError(EdgefilterError):
    """Samples that cannot be taken in."""


class FormatError(InputError):
    """A file that is not what its format demands.

    Parameters
    ----------
    path
        The file.
    problem
        What is wrong and what was expected, without the path.
    """

    def __init__(self, path: str | Path, problem: str) -> None:
        super().__init__(f"{path}: {problem}")
        self.path = Path(path)
        self.problem = problem


class SequenceError(InputError):
    """Files that were given as one stream but cannot follow one another."""


class WireError(EdgefilterError):
    """A message that breaks the wire format.

    Parameters
    ----------
    kind
        A short fixed word (``magic``, ``version``, ``size`` …) under which receivers count it.
    detail
        What was found and what was expected.
    """

    def __init__(self, kind: str, detail: str) -> None:
        super().__init__(f"{kind}: {detail}")
        self.kind = kind


class StoreError(EdgefilterError):
    """A store that cannot be written or read, or holds something it must not."""


class ConflictError(StoreError):
    """A name in a store that holds other bytes than it should; they stay as they are."""


class UnavailableError(StoreError):
    """A store that does not answer, or not as it should; to be tried again.

    Parameters
    ----------
    message
        What happened.
    retry_after
        Seconds that the server asks to be left alone, None if it does not say.
    """

    def __init__(self, message: str, retry_after: float | None = None) -> None:
        super().__init__(message)
        self.retry_after = retry_after


class SpoolError(StoreError):
    """A spool that cannot be written or read."""


class SpoolBusyError(SpoolError):
    """Another process owns the part that was asked for; it is free when that process has ended."""


class SpoolFullError(SpoolError):
    """No room for products that must not be dropped: nothing was taken, to be tried again when some have left."""
