"""Where an economy batch stands, for its query and for its page in the Web UI. No effects here, and no commands of the workflow."""

from typing import Any

from temporalio import workflow

from contracts.economy import EconomyProgress, EconomyStage, PartProgress
from workflows.economy_details import describe_economy


class EconomyBoard:
    """The progress of one batch, which one run of its workflow hands to the next."""

    def __init__(self) -> None:
        self.progress = EconomyProgress()

    def show(self, stage: EconomyStage, **news: Any) -> None:
        """Moves the progress on."""
        self.progress = self.progress.model_copy(update={"stage": stage, **news})
        workflow.set_current_details(describe_economy(self.progress))

    def set_part(self, number: int, **news: Any) -> None:
        """Moves one part on, by its place in the list."""
        parts = list(self.progress.parts)
        parts[number] = parts[number].model_copy(update=news)
        self.show(self.progress.stage, parts=tuple(parts))

    def find_part(self, provider_batch_id: str) -> tuple[int, PartProgress]:
        """A part and its place in the list."""
        return next(
            (number, each)
            for number, each in enumerate(self.progress.parts)
            if each.provider_batch_id == provider_batch_id
        )

    def list_open(self) -> tuple[str, ...]:
        """The provider's batches that have not been closed."""
        return tuple(
            each.provider_batch_id
            for each in self.progress.parts
            if each.provider_batch_id and not each.closed
        )
