"""Logs: an event name and fields, one line each, to standard error.

Modules take `log = logs.get(__name__)` and log events in lower_case with fields. A process's entry point calls
`configure` once; a program that only imports the client does not, and then our entries go wherever that program sends
its standard-library logging. Dependencies' entries come out in the same form as ours, from level info up: what they
say at debug may hold headers and bodies.

Invariant: payload and secrets never come out. Bytes and messages are replaced by their size, values whose key speaks of
a secret by a placeholder, long texts are cut, tracebacks show no local variables.
"""

import logging
import os
import sys
from collections.abc import Mapping
from enum import Enum
from typing import Any, Final, Literal, TextIO

import structlog
from google.protobuf.message import Message
from structlog.typing import EventDict, Processor, WrappedLogger

Level = Literal["debug", "info", "warning", "error"]
Format = Literal["json", "console", "auto"]

LONGEST_TEXT: Final = 8192
"""Longer texts are cut, so that one entry cannot fill a disk."""

SECRET_WORDS: Final = ("password", "secret", "token", "credential", "private_key", "authorization")
HIDDEN: Final = "[hidden]"

_OURS: Final = "blockyard"
_FIELDS: Final = "_blockyard_fields"


def get(name: str, **fields: Any) -> structlog.stdlib.BoundLogger:
    """Return the logger of module `name`; `fields` go with every entry. `.bind(…)` returns one with more."""
    logger: structlog.stdlib.BoundLogger = structlog.wrap_logger(
        logging.getLogger(name),
        processors=_PROCESSORS,
        wrapper_class=structlog.stdlib.BoundLogger,
        cache_logger_on_first_use=True,
        **fields,
    )
    return logger


def configure(
    process: str,
    *,
    level: Level = "info",
    form: Format = "auto",
    stream: TextIO | None = None,
    ids: Mapping[str, object] | None = None,
) -> None:
    """Send all logs of this process to `stream` (None: standard error); a later call replaces an earlier one.

    Every entry has `process`, `pid` and `ids` (such as member="m1", node="n3") beside its own fields. `form` "auto" is
    console on a terminal and JSON elsewhere. Python's warnings are logged too.
    """
    target = sys.stderr if stream is None else stream
    if form == "auto":
        form = "console" if target.isatty() else "json"
    handler = logging.StreamHandler(target)
    handler.setFormatter(_formatter(form, target, {"process": process, "pid": os.getpid(), **(ids or {})}))
    root = logging.getLogger()
    for earlier in root.handlers[:]:
        if isinstance(earlier.formatter, structlog.stdlib.ProcessorFormatter):
            root.removeHandler(earlier)
    root.addHandler(handler)
    root.setLevel(max(logging.INFO, logging.getLevelName(level.upper())))
    logging.getLogger(_OURS).setLevel(level.upper())
    logging.captureWarnings(True)
    structlog.configure(  # for loggers that were not made by `get`
        processors=_PROCESSORS,
        wrapper_class=structlog.stdlib.BoundLogger,
        logger_factory=structlog.stdlib.LoggerFactory(),
        cache_logger_on_first_use=False,
    )


def _to_record(_logger: WrappedLogger, _method: str, entry: EventDict) -> EventDict:
    """Turn an entry into arguments of the standard library, all fields under one name: `name` is a LogRecord's own."""
    arguments: EventDict = {"msg": entry.pop("event"), "exc_info": entry.pop("exc_info", None)}
    return {**arguments, "extra": {_FIELDS: entry}}


_PROCESSORS: Final[list[Processor]] = [
    structlog.stdlib.filter_by_level,
    structlog.contextvars.merge_contextvars,
    _to_record,
]


def _formatter(form: Format, target: TextIO, bound: EventDict) -> logging.Formatter:
    def bind(_logger: WrappedLogger, _method: str, entry: EventDict) -> EventDict:
        return {**bound, **entry}

    render: list[Processor] = (
        [structlog.processors.format_exc_info, _safe, structlog.processors.JSONRenderer()]
        if form == "json"
        else [
            _safe,
            structlog.dev.ConsoleRenderer(
                colors=target.isatty(), exception_formatter=structlog.dev.plain_traceback, pad_event_to=0
            ),
        ]
    )
    return structlog.stdlib.ProcessorFormatter(
        foreign_pre_chain=[
            structlog.stdlib.add_log_level,
            structlog.stdlib.add_logger_name,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            _from_record,
            bind,
        ],
        processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, *render],
    )


def _from_record(_logger: WrappedLogger, _method: str, entry: EventDict) -> EventDict:
    return {**entry, **getattr(entry["_record"], _FIELDS, {})}


def _safe(_logger: WrappedLogger, _method: str, entry: EventDict) -> EventDict:
    exc_info = entry.pop("exc_info", None)
    safe: EventDict = {key: _shown(key, value) for key, value in entry.items()}
    if exc_info:
        safe["exc_info"] = exc_info
    return safe


def _shown(key: object, value: object) -> Any:
    """Return what may come out of `value`: plain, printable, bounded, and no secret."""
    if isinstance(key, str) and any(word in key.lower() for word in SECRET_WORDS):
        return HIDDEN
    match value:
        case bool() | int() | float() | None:
            return value.name if isinstance(value, Enum) else value
        case str():
            return _text(value)
        case bytes() | bytearray() | memoryview():
            return f"[{memoryview(value).nbytes} bytes]"
        case Message():
            return f"[{value.DESCRIPTOR.name} of {value.ByteSize()} bytes]"
        case Mapping():
            return {str(each): _shown(each, below) for each, below in value.items()}
        case list() | tuple() | set() | frozenset():
            return [_shown(None, each) for each in value]
        case BaseException():
            return _text(f"{type(value).__name__}: {value}")
    return _text(str(value))


def _text(text: str) -> str:
    printable = text.encode("utf-8", "backslashreplace").decode("utf-8")
    if len(printable) <= LONGEST_TEXT:
        return printable
    return f"{printable[:LONGEST_TEXT]}… [{len(printable)} characters]"
