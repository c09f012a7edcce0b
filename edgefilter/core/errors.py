"""Every error that a user can cause or meet, in one tree.

::

    EdgefilterError                 shown as one line; the program ends with exit status 1
    ├── ConfigError                 a setting; the message: location, value, allowed values
    ├── PluginError                 a plug-in that is not installed, cannot be loaded, or breaks its contract
    ├── GpuError                    a GPU that failed; the processor can continue
    ├── InputError                  samples that cannot be read
    │   ├── FormatError             a file; the message: path, what is wrong, what was expected
    │   └── SequenceError           files that are not parts of one stream
    ├── WireError                   a message that breaks the wire format (counted, never fatal)
    └── StoreError                  a store that cannot be written or read
        ├── ConflictError           an object of this name exists with other content; trying again does not help
        ├── UnavailableError        a store that does not answer, or answers with an error; to be tried again
        └── SpoolError              the local queue in front of the store
            ├── SpoolBusyError      another process uses that part of the spool
            └── SpoolFullError      no room for products that must not be dropped; passes when products have left

Any other exception is a bug of ours and keeps its traceback.
"""

from pathlib import Path


class EdgefilterError(Exception):
    """Base of all errors whose message, one line, is meant for the user."""


class ConfigError(EdgefilterError):
    """A setting that is not possible; the message: location, value, allowed values."""


class PluginError(EdgefilterError):
    """A plug-in that is not installed, cannot be loaded, or breaks its contract."""


class GpuError(EdgefilterError):
    """A GPU that failed."""


class InputError(EdgefilterError):
    """Samples that cannot be read."""


class FormatError(InputError):
    """A file that breaks the rules of its format.

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
    """Files that were given as one stream but are not parts of one."""


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
    """An object of this name exists with other content; it stays as it is."""


class UnavailableError(StoreError):
    """A store that does not answer, or answers with an error; to be tried again.

    Parameters
    ----------
    message
        What happened.
    retry_after
        Seconds that the server asks to wait, None if it does not say.
    """

    def __init__(self, message: str, retry_after: float | None = None) -> None:
        super().__init__(message)
        self.retry_after = retry_after


class SpoolError(StoreError):
    """A spool that cannot be written or read."""


class SpoolBusyError(SpoolError):
    """Another process owns the part that was asked for; it is free when that process has ended."""


class SpoolFullError(SpoolError):
    """No room for products that must not be dropped: nothing was written; to be tried again."""
