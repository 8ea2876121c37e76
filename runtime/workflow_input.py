"""What a workflow was started with, read back from its history. What it means is not known here."""

from typing import Any

from temporalio.client import Client, WorkflowHandle


async def read_first_argument(client: Client, handle: WorkflowHandle[Any, Any]) -> Any:
    """The first argument of a workflow, decoded as plain JSON; None where it was started without one."""
    async for event in handle.fetch_history_events(page_size=1):
        given = event.workflow_execution_started_event_attributes.input.payloads
        argument, *_ = [*await client.data_converter.decode(given), None]
        return argument
    return None
