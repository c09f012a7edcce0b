"""Logs: one line per event, to standard error, as text or as JSON."""

import logging
import sys
from typing import Any

import structlog

JSON_VARIABLE = "EDGEFILTER_LOG_JSON"
"""Environment variable: set if the node logs JSON, so that its children do too."""


def configure(as_json: bool, level: int = logging.INFO) -> None:
    """Configure structlog and the standard library's loggers to write lines of the same format.

    Parameters
    ----------
    as_json
        Whether the lines are JSON; then all levels are logged.
    level
        Lowest level of lines that are text.
    """
    shared: list[Any] = [
        structlog.contextvars.merge_contextvars,
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]
    render: Any = (
        structlog.processors.JSONRenderer()
        if as_json
        else structlog.dev.ConsoleRenderer(
            colors=sys.stderr.isatty(), exception_formatter=structlog.dev.plain_traceback
        )
    )
    structlog.configure(
        processors=[*shared, structlog.processors.dict_tracebacks, render] if as_json else [*shared, render],
        wrapper_class=structlog.make_filtering_bound_logger(logging.DEBUG if as_json else level),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
        cache_logger_on_first_use=False,
    )
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared,
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, render],
        )
    )
    logging.basicConfig(handlers=[handler], level=logging.INFO, force=True)


def logger(**bound: Any) -> Any:
    """Return a logger.

    Parameters
    ----------
    **bound
        Fields of every line.

    Returns
    -------
    structlog.BoundLogger
        The logger.
    """
    return structlog.get_logger(**bound)
