"""Write structured logs: one JSON object a line on stderr, with Temporal's context, for our code and all libraries.

Workflows and activities log through Temporal's own adapters (silent on replay) or, in activities, through structlog;
the lines look the same. Prompts and keys must never be passed to a logger.
"""

import logging
import sys
from typing import Any, Literal

import structlog
from structlog.typing import EventDict, WrappedLogger
from temporalio import activity, workflow

from gpt_image_runs.contracts.visible_text import escape_controls
from gpt_image_runs.observability.tracing import get_span_ids

_CONTEXT = ("temporal_workflow", "temporal_activity")
_CONTEXT_FIELDS = ("workflow_id", "workflow_type", "run_id", "activity_type", "attempt", "task_queue")


def configure_logging(level: str, *, style: Literal["json", "console"] = "json") -> None:
    """Configure structlog and the standard library's logging for this process, once."""
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
    # Their lines (one for each HTTP request or table) repeat what the attempt's own line says.
    for name in ("httpx2", "httpcore2", "openai", "aiohttp.access", "alembic"):
        logging.getLogger(name).setLevel(logging.WARNING)


def _add_activity_context(_logger: WrappedLogger, _method: str, event: EventDict) -> EventDict:
    """Add the activity's ids to lines written through structlog inside an activity."""
    if activity.in_activity() and not any(name in event for name in _CONTEXT):
        info = activity.info()
        event.setdefault("workflow_id", info.workflow_id)
        event.setdefault("run_id", info.workflow_run_id)
        event.setdefault("activity_type", info.activity_type)
        event.setdefault("attempt", info.attempt)
    return event


def _add_trace(_logger: WrappedLogger, _method: str, event: EventDict) -> EventDict:
    """Add the trace and span ids to lines written within a trace."""
    event.update(get_span_ids())
    return event


def _escape_controls(_logger: WrappedLogger, _method: str, event: EventDict) -> EventDict:
    """Escape control characters: a provider's error text may contain terminal commands."""
    for name, value in event.items():
        if isinstance(value, str):
            event[name] = escape_controls(value)
    return event


def _flatten_temporal_context(_logger: WrappedLogger, _method: str, event: EventDict) -> EventDict:
    """Move the context of Temporal's adapters from one field to the top level."""
    for name in _CONTEXT:
        context: dict[str, Any] = event.pop(name, None) or {}
        event.update({key: value for key, value in context.items() if key in _CONTEXT_FIELDS})
    return event
