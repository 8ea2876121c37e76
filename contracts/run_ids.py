"""The request id of a run whose request names none."""

import re

from contracts import names
from contracts.request import REQUEST_ID_PATTERN, ImageRequest


def find_request_id(request: ImageRequest, workflow_id: str) -> str | None:
    """The request's own id, else what follows image:TENANT: in the workflow's id, or the whole of it; None where neither is one."""
    if request.request_id is not None:
        return request.request_id
    candidate = workflow_id.removeprefix(names.run_id_for(request.tenant, ""))
    return candidate if re.fullmatch(REQUEST_ID_PATTERN, candidate) else None
