"""Reduction of recorded files in one call, for notebooks."""

import shutil
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from edgefilter.analysis.archive import Archive
from edgefilter.batch.local import Replay
from edgefilter.core.config import Reduction
from edgefilter.core.validation import validate
from edgefilter.pipeline.backend import BackendSelector
from edgefilter.sources.base import Source
from edgefilter.sources.files.recognise import open_files
from edgefilter.store.connect import connect

_SHORTCUTS = {"dm": "pulses", "snr": "pulses"}


def replay(
    files: "str | Path | Source | Sequence[str | Path]",
    store: str | Path | None = None,
    threads: int = 0,
    **settings: Any,
) -> Archive:
    """Reduce recorded files, and return the open store of the products.

    Parameters
    ----------
    files
        A file, several files of one stream, or a source such as a synthetic sky.
    store
        Directory of the products. If None, a temporary directory, deleted together with the returned object.
    threads
        Number of worker threads; 0 is one per core.
    **settings
        Sections of the configuration as mappings, such as ``flag={"power_sigma": 0}``; ``dm=(0, 1000)`` (pc/cm3) and
        ``snr=8`` are short for those of section ``pulses``. Settings that are not given follow from the files.

    Returns
    -------
    Archive
        The open store.

    Raises
    ------
    ConfigError
        If a setting is invalid.
    InputError
        If a file cannot be read.
    StoreError
        If the store cannot be written.

    Examples
    --------
    >>> import edgefilter as ef
    >>> run = ef.replay("burst.fil", dm=(0, 1000))  # doctest: +SKIP
    >>> run.pulses[0].plot()  # doctest: +SKIP
    """
    tree: dict[str, Any] = {}
    for name, value in settings.items():
        if name in _SHORTCUTS:
            tree.setdefault(_SHORTCUTS[name], {})[name] = value
        elif isinstance(value, Mapping):
            tree.setdefault(name, {}).update(value)
        else:
            tree[name] = value
    reduction = validate(Reduction, tree)
    if isinstance(files, str | Path):
        files = [files]
    source = open_files(files) if isinstance(files, Sequence) else files
    temporary = tempfile.mkdtemp(prefix="edgefilter-") if store is None else None
    where = str(store or temporary)
    try:
        for _ in Replay(source, reduction, where, backend_selector=BackendSelector(threads=threads)).run():
            pass
        return Archive(connect(where), temporary)
    except BaseException:
        if temporary:
            shutil.rmtree(temporary, ignore_errors=True)
        raise
    finally:
        if source is not files:
            source.close()
