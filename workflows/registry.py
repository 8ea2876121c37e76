"""The workflow classes that a worker registers and a replay needs."""

from workflows.budget_change import BudgetChange
from workflows.economy_batch import EconomyBatch
from workflows.image_batch import ImageBatch
from workflows.image_generation import ImageGeneration
from workflows.notification import Notification, NotificationOfAnyBuild
from workflows.price_quote import PriceQuote
from workflows.provider_reconciliation import ProviderReconciliation
from workflows.reconciliation import Reconciliation

WORKFLOWS: tuple[type, ...] = (
    ImageGeneration,
    ImageBatch,
    PriceQuote,
    EconomyBatch,
    Notification,
    Reconciliation,
    ProviderReconciliation,
    BudgetChange,
)
_OF_A_BUILD: dict[type, type] = {Notification: NotificationOfAnyBuild}


def list_workflows(*, of_a_build: bool) -> tuple[type, ...]:
    """Return the workflows that a worker registers. Workers with a build id get other versioning behaviors."""
    return tuple(_OF_A_BUILD.get(kind, kind) if of_a_build else kind for kind in WORKFLOWS)
