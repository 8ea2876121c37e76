"""Structured logs: one JSON object a line on stderr, with Temporal's context, from our code and every library alike.

Workflows and activities log through Temporal's own adapters (silent on replay) or through structlog in activities;
either way the lines look the same. Prompts and keys are never logged: nobody hands them to a logger.
"""

import logging
import sys
from typing import Any, Literal

import structlog
from structlog.typing import EventDict, WrappedLogger
from temporalio import activity, workflow

from gpt_image_runs.contracts.visible_text import escape_controls
from gpt_image_runs.observability.tracing import name_span

_CONTEXT = ("temporal_workflow", "temporal_activity")
_WANTED = ("workflow_id", "workflow_type", "run_id", "activity_type", "attempt", "task_queue")


def configure_logging(level: str, *, style: Literal["json", "console"] = "json") -> None:
    """Sets up structlog and the standard library's logging for this process, once."""
    workflow.logger.workflow_info_on_message = False
    activity.logger.activity_info_on_message = False
    shared: list[structlog.typing.Processor] = [
        structlog.contextvars.merge_contextvars,
        _add_activity_context,
        _add_trace,
        structlog.stdlib.add_logger_name,
        structlog.stdlib.add_log_level,
        structlog.stdlib.ExtraAdder(),
        _flatten_temporal_context,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.processors.format_exc_info,
    ]
    structlog.configure(
        processors=[
            structlog.stdlib.filter_by_level,
            *shared,
            structlog.stdlib.ProcessorFormatter.wrap_for_formatter,
        ],
        logger_factory=structlog.stdlib.LoggerFactory(),
        cache_logger_on_first_use=True,
    )
    renderer: structlog.typing.Processor = (
        structlog.processors.JSONRenderer()
        if style == "json"
        else structlog.dev.ConsoleRenderer(colors=False)
    )
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared,
            processors=[
                structlog.stdlib.ProcessorFormatter.remove_processors_meta,
                _escape_controls,
                renderer,
            ],
        )
    )
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level)
    # A line per HTTP request with its URL says nothing that the attempt's own line does not; nor a line per table.
    for chatty in ("httpx2", "httpcore2", "openai", "aiohttp.access", "alembic"):
        logging.getLogger(chatty).setLevel(logging.WARNING)


def _add_activity_context(_logger: WrappedLogger, _method: str, event: EventDict) -> EventDict:
    """For lines written through structlog inside an activity: whose activity it is."""
    if activity.in_activity() and not any(name in event for name in _CONTEXT):
        info = activity.info()
        event.setdefault("workflow_id", info.workflow_id)
        event.setdefault("run_id", info.workflow_run_id)
        event.setdefault("activity_type", info.activity_type)
        event.setdefault("attempt", info.attempt)
    return event


def _add_trace(_logger: WrappedLogger, _method: str, event: EventDict) -> EventDict:
    """For lines written within a trace: which it is. Nothing where no traces are exported."""
    event.update(name_span())
    return event


def _escape_controls(_logger: WrappedLogger, _method: str, event: EventDict) -> EventDict:
    """For lines on a terminal: a provider's error text may hold what a terminal carries out."""
    for name, value in event.items():
        if isinstance(value, str):
            event[name] = escape_controls(value)
    return event


def _flatten_temporal_context(_logger: WrappedLogger, _method: str, event: EventDict) -> EventDict:
    """For lines written through Temporal's adapters: the context beside the message instead of inside one field."""
    for name in _CONTEXT:
        context: dict[str, Any] = event.pop(name, None) or {}
        event.update({key: value for key, value in context.items() if key in _WANTED})
    return event
