"""The queue of workflows and of all that surrounds the call: check, money, corrections, budgets, batches."""

from datetime import timedelta

from temporalio.client import Client
from temporalio.worker import Worker, WorkflowRunner
from temporalio.worker.workflow_sandbox import SandboxedWorkflowRunner

from activities.advance_batch import BatchAdvancer
from activities.change_budget import BudgetChanger
from activities.check_request import CheckPolicy, RequestChecker
from activities.compute_cost import CostComputer
from activities.find_earlier_run import EarlierRunFinder
from activities.image_runs import ImageRunsHandler
from activities.open_batch import BatchOpener
from activities.quote_price import PriceQuoter
from activities.reconcile_provider import ProviderReconciler
from activities.record_billing import BillingRecorder
from activities.settle_run import RunSettler
from billing.batches import Batches
from billing.budgets import Budgets
from billing.corrections import Corrections
from billing.database import Database
from billing.ledger import Ledger
from billing.rate_cards import RateCards
from contracts import names
from imaging.catalogue import Catalogue
from imaging.provider_books import BooksSettings, ProviderBooks
from imaging.store import ImageStore
from queues.economy import build_economy_planning
from queues.parts import GRACE, build_entry_meter
from runtime.settings import Settings
from runtime.versions import describe_build
from workflows.arguments import RefuseSurplusArguments
from workflows.registered import list_workflows

# A batch hears that it is paused or cancelled with the answer to a heartbeat.
BATCH_HEARTBEAT_THROTTLE = timedelta(seconds=1)
_GUARDED = SandboxedWorkflowRunner()


def build_runs_worker(
    client: Client,
    settings: Settings,
    database: Database,
    *,
    images_per_minute: int | None = None,
    runner: WorkflowRunner = _GUARDED,
) -> Worker:
    """Workflows and their Nexus service, the check before, the money after, batches, and the comparison with the
    provider's own books.
    """
    cards = RateCards.load(settings.rate_card)
    policy = CheckPolicy(
        missing_usage=settings.missing_usage,
        unknown_outcome=settings.unknown_outcome,
        retired_models=settings.retired_models,
        unpriced_models=settings.unpriced_models,
        images_per_minute=images_per_minute,
        destinations=settings.notify_destinations(),
    )
    catalogue = Catalogue.load(settings.provider_name())
    checker = RequestChecker(catalogue, cards, policy)
    meter = build_entry_meter(client, settings)
    store = ImageStore.from_url(settings.store_url())
    build = describe_build(settings)
    return Worker(
        client,
        task_queue=names.RUNS_QUEUE,
        workflows=list_workflows(of_a_build=build is not None),
        activities=[
            checker.check_request,
            EarlierRunFinder(database).find_earlier_run,
            PriceQuoter(cards).quote_price,
            CostComputer(cards).compute_cost,
            BillingRecorder(Ledger(database, on_entry=meter.count_entry), cards).record_billing,
            build_reconciler(settings, database).reconcile_provider,
            RunSettler(Corrections(database, cards, on_entry=meter.count_correction)).settle_run,
            BudgetChanger(Budgets(database)).change_budget,
            BatchOpener(Batches(database), store).open_batch,
            BatchAdvancer(client, database, store, checker).advance_batch,
            *build_economy_planning(client, settings, database, checker),
        ],
        nexus_service_handlers=[ImageRunsHandler()],
        workflow_runner=runner,
        interceptors=[RefuseSurplusArguments()],
        max_heartbeat_throttle_interval=BATCH_HEARTBEAT_THROTTLE,
        graceful_shutdown_timeout=GRACE,
        deployment_config=build,
    )


def build_reconciler(settings: Settings, database: Database) -> ProviderReconciler:
    """What compares days. Without an admin key it is there too, and says what is missing when it is asked."""
    key = settings.openai_admin_key
    books = BooksSettings(
        admin_key=key.get_secret_value() if key else None,
        base_url=settings.openai_base_url,
        is_azure=settings.azure_openai_endpoint is not None,
    )
    return ProviderReconciler(
        ProviderBooks(books),
        database,
        provider=settings.provider_name(),
        project_id=settings.openai_project_id,
    )
