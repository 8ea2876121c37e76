"""The check of a payload before anything is sent: a local activity, whose verdict the history keeps."""

from typing import Any

from temporalio import workflow

from contracts import names
from contracts.calls import Admission, CheckInput
from workflows import policies


async def check_payload(payload: Any, workflow_id: str) -> Admission:
    """Whether what anybody has sent may run under this workflow's id, with all that is wrong."""
    admission: Admission = await workflow.execute_local_activity(
        names.CHECK_REQUEST,
        CheckInput(payload=payload, workflow_id=workflow_id),
        result_type=Admission,
        start_to_close_timeout=policies.CHECK_ATTEMPT,
        retry_policy=policies.CHECK_RETRY,
    )
    return admission
