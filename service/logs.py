"""Logs: one JSON object a line, on standard error. No key and no destination ever stands in one."""

import logging
import traceback
from contextvars import ContextVar
from typing import Any, Final

from pythonjsonlogger.json import JsonFormatter

REQUEST_ID: Final[ContextVar[str | None]] = ContextVar("request_id", default=None)
"""The id of the API call that is being answered."""


class Formatter(JsonFormatter):
    """Of an exception only where it was raised and its type: its message may quote what a request held."""

    def formatException(self, ei: Any) -> str:  # noqa: N802  # the name that logging gives it
        kind, _, where = ei
        return "".join(traceback.format_tb(where)) + (kind.__qualname__ if kind else "")


class WithRequestId(logging.Filter):
    """Gives a record the id of the call that it was logged in."""

    def filter(self, record: logging.LogRecord) -> bool:
        record.request_id = REQUEST_ID.get()
        return True


def configuration(level: str) -> dict[str, Any]:
    """For `logging.config.dictConfig`: what is logged from `level` on."""
    return {
        "version": 1,
        "disable_existing_loggers": False,
        "filters": {"request_id": {"()": WithRequestId}},
        "formatters": {
            "json": {
                "()": Formatter,
                "fmt": ["levelname", "name", "message", "request_id"],
                "style": ",",
                "timestamp": "time",
                "rename_fields": {"levelname": "level", "name": "logger"},
            }
        },
        "handlers": {
            "stderr": {
                "class": "logging.StreamHandler",
                "formatter": "json",
                "filters": ["request_id"],
                # Of the handler too, since Granian sets the level of its own loggers.
                "level": level.upper(),
            }
        },
        "root": {"handlers": ["stderr"], "level": level.upper()},
        "loggers": {},
    }
