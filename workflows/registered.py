"""The workflows of this application, for whoever runs or replays them."""

from workflows.budget_change import BudgetChange
from workflows.economy_batch import EconomyBatch
from workflows.image_batch import ImageBatch
from workflows.image_generation import ImageGeneration
from workflows.notification import Notification
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
