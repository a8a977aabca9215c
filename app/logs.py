"""How every process of the service logs: one line an event on stderr, for people or as JSON.

What libraries log goes the same way. No line holds a prompt, a title or a secret: events name ids, types and figures,
and the database's own errors come without what a statement was given.
"""

import logging
import sys

import structlog

from app.config import Settings

_SHARED: tuple[structlog.typing.Processor, ...] = (
    structlog.contextvars.merge_contextvars,
    structlog.stdlib.add_log_level,
    structlog.processors.TimeStamper(fmt="iso", utc=True),
)
_OWN_HANDLERS = ("uvicorn", "uvicorn.error", "celery")
"""Loggers whose libraries give them handlers of their own."""

_SILENT = "uvicorn.access"
"""Would tell every request a second time, with what is searched for."""

_TELL_ADDRESSES = ("httpx", "httpx2")
"""Loggers that tell every address that is asked, with what is searched for."""


def configure(settings: Settings) -> None:
    """Set up structlog, and the standard library's logging, for the whole process; `log_json` chooses the form."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=[*_SHARED, structlog.stdlib.add_logger_name],
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, *_rendering(settings)],
        )
    )
    logging.root.handlers[:] = [handler]
    logging.root.setLevel(logging.INFO)
    for name in _OWN_HANDLERS:
        logging.getLogger(name).handlers.clear()
        logging.getLogger(name).propagate = True
    logging.getLogger(_SILENT).handlers.clear()
    logging.getLogger(_SILENT).propagate = False
    for name in _TELL_ADDRESSES:
        logging.getLogger(name).setLevel(logging.WARNING)
    structlog.configure(
        processors=[*_SHARED, *_rendering(settings)],
        wrapper_class=structlog.make_filtering_bound_logger(logging.INFO),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
        cache_logger_on_first_use=False,
    )


def _rendering(settings: Settings) -> list[structlog.typing.Processor]:
    if settings.log_json:
        return [structlog.processors.format_exc_info, structlog.processors.JSONRenderer()]
    plain = structlog.dev.plain_traceback
    return [structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty(), exception_formatter=plain)]
