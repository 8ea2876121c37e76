"""Request ids and tenants that a request does not name, and the ids of what a Temporal Schedule starts."""

import re
from datetime import UTC, datetime
from typing import Any

from contracts import names
from contracts.request import REQUEST_ID_PATTERN, TENANT_PATTERN, ImageRequest


def find_request_id(request: ImageRequest, workflow_id: str) -> str | None:
    """The request's own id, else what follows image:TENANT: in the workflow's id, or the whole of it; None where neither is one."""
    if request.request_id is not None:
        return request.request_id
    candidate = workflow_id.removeprefix(names.run_id_for(request.tenant, ""))
    return candidate if re.fullmatch(REQUEST_ID_PATTERN, candidate) else None


# The server appends the scheduled time to the id of the workflow that a schedule starts.
_SERVER_SUFFIX = re.compile(r"-[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}Z$", re.ASCII)
_STAMP = "%Y%m%dT%H%M%SZ"
_STAMP_LENGTH = len("-20261128T020000Z")
MAX_SCHEDULED_REQUEST_ID = 128 - _STAMP_LENGTH
MAX_SCHEDULED_BATCH_ID = 64 - _STAMP_LENGTH


def strip_scheduled_time(workflow_id: str) -> str:
    """The workflow id that a schedule was made with: "image:acme:nightly" of "image:acme:nightly-2026-11-28T02:00:00Z"."""
    return _SERVER_SUFFIX.sub("", workflow_id)


def derive_scheduled_id(base: str, scheduled_at: datetime) -> str:
    """The request or batch id of one scheduled time: "nightly-20261128T020000Z"."""
    return f"{base}-{scheduled_at.astimezone(UTC):{_STAMP}}"


def find_tenant(payload: Any, workflow_id: str) -> str | None:
    """Whose request it is, also where it is refused; None where that cannot be told.

    The request's own word counts, then the workflow's id; a request without a tenant is the default one's.
    """
    named = payload.get("tenant") if isinstance(payload, dict) else None
    if isinstance(named, str) and re.fullmatch(TENANT_PATTERN, named):
        return named
    parts = strip_scheduled_time(workflow_id).split(":")
    if len(parts) == 3 and parts[0] == "image" and re.fullmatch(TENANT_PATTERN, parts[1]):  # noqa: PLR2004
        return parts[1]
    is_unnamed = isinstance(payload, dict) and named is None
    return str(ImageRequest.model_fields["tenant"].default) if is_unnamed else None
