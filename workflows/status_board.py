"""What others see of a run while it goes on: the answer to the query, the page in the Web UI, the search attributes."""

from typing import Any

from temporalio import workflow
from temporalio.common import SearchAttributeUpdate

from contracts.billing import Basis
from contracts.calls import CallResult
from contracts.result import RunStatus
from workflows.details import describe_status


class StatusBoard:
    """The status of one run. Only the search attributes are commands of the workflow."""

    def __init__(self, run_id: str) -> None:
        self.status = RunStatus(run_id=run_id, stage="checking")

    def show(self, *, call: CallResult | None = None, basis: Basis = "none", **news: Any) -> None:
        """Moves the status on, for the query and for the page in the Web UI."""
        self.status = self.status.model_copy(update=news)
        pictures, links, attempts = (call.images, call.links or (), call.attempts) if call else ((), (), None)
        workflow.set_current_details(
            describe_status(self.status, pictures, links, attempts=attempts, basis=basis)
        )

    def index(self, *updates: SearchAttributeUpdate[Any]) -> None:
        """Sets search attributes, apart from those that the starter has set already: each upsert is an event."""
        known = workflow.info().typed_search_attributes
        news = [update for update in updates if known.get(update.key) != update.value]
        if news:
            workflow.upsert_search_attributes(news)
