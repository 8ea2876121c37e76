"""Build the workers of the three task queues: runs, provider and notifications."""

from collections.abc import Callable
from contextlib import AsyncExitStack
from datetime import timedelta
from typing import Any

from temporalio.client import Client
from temporalio.worker import UnsandboxedWorkflowRunner, Worker

from activities.batches.advance_batch import BatchAdvancer, BatchOpener
from activities.billing_admin import BudgetChanger, EarlierRunFinder, PriceQuoter, RunSettler
from activities.call_gpt_image import GptImageCaller
from activities.check_request import CheckPolicy, RequestChecker
from activities.compute_cost import CostComputer
from activities.economy.claim import EconomyClaimer
from activities.economy.close import EconomyCloser
from activities.economy.plan import EconomyPlanner
from activities.economy.send import EconomySender, EconomyWatcher
from activities.economy.settle import EconomySettler, LineBiller
from activities.metrics import AttemptMeter, EntryMeter, ModelLabels, PauseMeter
from activities.nexus import ImageRunsHandler
from activities.notify import Notifier
from activities.provider_call.ledger_watch import LedgerWatch
from activities.provider_call.retry_state import take_image_slots
from activities.reconcile_provider import ProviderReconciler
from activities.record_billing import BillingRecorder
from gpt_image_runs.batches.batches import Batches
from gpt_image_runs.batches.economy import EconomyAttempts
from gpt_image_runs.billing.attempts.attempts import AttemptLog
from gpt_image_runs.billing.attempts.call_terms import CallTerms
from gpt_image_runs.billing.budgets.budgets import Budgets
from gpt_image_runs.billing.ledger.corrections import Corrections
from gpt_image_runs.billing.ledger.ledger import Ledger
from gpt_image_runs.billing.pricing.rate_cards import RateCards
from gpt_image_runs.contracts import names
from gpt_image_runs.database.engine import Database
from gpt_image_runs.images.input_memory import ByteBudget
from gpt_image_runs.images.ownership import PictureOwners
from gpt_image_runs.images.signed_links import PictureLinks
from gpt_image_runs.images.store import ImageStore
from gpt_image_runs.local_stack.stack import SIMULATOR
from gpt_image_runs.observability.metrics import find_meter
from gpt_image_runs.provider.batch_api import open_batch_client
from gpt_image_runs.provider.catalog import Catalog
from gpt_image_runs.provider.client import ProviderSettings, open_client
from gpt_image_runs.provider.usage_api import BooksSettings, ProviderBooks
from gpt_image_runs.settings import Settings
from gpt_image_runs.temporal.versioning import describe_build
from gpt_image_runs.webhooks.client import TIMEOUT_SECONDS, WebhookClient
from gpt_image_runs.webhooks.downloads import Downloader
from workflows.payloads import RefuseSurplusArguments
from workflows.registry import list_workflows

# A worker that is stopped lets its calls finish: as long as an attempt may take (workflows.retry_policies.CALL_ATTEMPT).
GRACE = timedelta(minutes=11)


def build_attempt_meter(client: Client, settings: Settings) -> AttemptMeter:
    """Build the counter of attempts. It does nothing if METRICS_ADDRESS is not set, like the other meters."""
    labels = ModelLabels(Catalog.load(settings.provider_name()))
    return AttemptMeter(find_meter(client), labels, simulated=is_simulated(settings))


def build_entry_meter(client: Client, settings: Settings) -> EntryMeter:
    """Build the counter of ledger entries."""
    labels = ModelLabels(Catalog.load(settings.provider_name()))
    return EntryMeter(find_meter(client), labels, simulated=is_simulated(settings))


def build_pause_meter(client: Client, settings: Settings) -> PauseMeter:
    """Build the gauge of the provider's pauses."""
    labels = ModelLabels(Catalog.load(settings.provider_name()))
    return PauseMeter(find_meter(client), labels, simulated=is_simulated(settings))


def find_links(settings: Settings) -> PictureLinks | None:
    """Return the maker of signed links to images, None if the settings have no link server."""
    return PictureLinks.configure(
        settings.image_links_url, settings.image_links_keys(), settings.image_links_days
    )


def is_simulated(settings: Settings) -> bool:
    """Return whether the provider is the simulator, whose charges are not real money."""
    return settings.provider_name() == SIMULATOR


def provider_settings(settings: Settings) -> ProviderSettings:
    """Build the settings of the provider's client."""
    return ProviderSettings(
        api_key=settings.provider_key(),
        base_url=settings.openai_base_url,
        azure_endpoint=settings.azure_openai_endpoint,
        azure_api_version=settings.openai_api_version,
        timeout_seconds=settings.provider_timeout_seconds,
        max_connections=settings.provider_concurrency,
    )


def build_economy_planning(
    client: Client, settings: Settings, database: Database, checker: RequestChecker
) -> list[Callable[..., Any]]:
    """Build the activities of an economy batch that use the ledger and the store."""
    store = ImageStore.from_url(settings.store_url())
    log = AttemptLog(database, on_end=build_attempt_meter(client, settings).count_outcome)
    claimer = EconomyClaimer(
        database,
        store,
        provider=settings.provider_name(),
        simulated=is_simulated(settings),
        resends=settings.unknown_outcome_resends,
    )
    closer = EconomyCloser(database, log, store)
    return [
        EconomyPlanner(
            checker, store, database, PictureOwners(store, shared=settings.shared_images)
        ).plan_economy_batch,
        claimer.claim_economy_part,
        closer.close_economy_part,
        closer.close_economy_round,
    ]


async def build_economy_calls(
    client: Client,
    settings: Settings,
    database: Database,
    resources: AsyncExitStack,
    *,
    input_memory: ByteBudget,
    refuse_behind: Callable[[], None] | None = None,
) -> list[Callable[..., Any]]:
    """Build the activities of an economy batch that call the provider."""
    provider = await resources.enter_async_context(open_batch_client(provider_settings(settings)))
    store, attempts = ImageStore.from_url(settings.store_url()), EconomyAttempts(database)
    log = AttemptLog(database, on_end=build_attempt_meter(client, settings).count_outcome)
    ledger = Ledger(database, on_entry=build_entry_meter(client, settings).count_entry)
    biller = LineBiller(ledger, RateCards.load(settings.rate_card))
    watcher = EconomyWatcher(provider, store)
    return [
        EconomySender(
            provider,
            store,
            attempts,
            PictureOwners(store, shared=settings.shared_images),
            input_memory=input_memory,
            refuse_behind=refuse_behind,
        ).send_economy_part,
        watcher.look_at_economy_parts,
        watcher.cancel_economy_parts,
        EconomySettler(
            provider,
            store,
            database,
            log,
            biller,
            downloader=Downloader(settings.image_url_destinations(), settings.provider_urls()),
        ).settle_economy_lines,
    ]


# An activity of a batch hears that it is paused or cancelled in the response to a heartbeat.
BATCH_HEARTBEAT_THROTTLE = timedelta(seconds=1)


def build_runs_worker(
    client: Client,
    settings: Settings,
    database: Database,
    *,
    images_per_minute: int | None = None,
) -> Worker:
    """Build the worker of the runs queue: workflows, the Nexus service, all activities but provider calls."""
    cards = RateCards.load(settings.rate_card)
    policy = CheckPolicy(
        missing_usage=settings.missing_usage,
        unknown_outcome=settings.unknown_outcome,
        retired_models=settings.retired_models,
        unpriced_models=settings.unpriced_models,
        images_per_minute=images_per_minute,
        destinations=settings.notify_destinations(),
    )
    catalog = Catalog.load(settings.provider_name())
    checker = RequestChecker(catalog, cards, policy)
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
        # The sandbox costs time at each start of a run. The tests replay every saved history in it.
        workflow_runner=UnsandboxedWorkflowRunner(),
        interceptors=[RefuseSurplusArguments()],
        max_heartbeat_throttle_interval=BATCH_HEARTBEAT_THROTTLE,
        graceful_shutdown_timeout=GRACE,
        deployment_config=build,
    )


def build_reconciler(settings: Settings, database: Database) -> ProviderReconciler:
    """Build the activity that compares days. Without an admin key it fails with a message that says so."""
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


HEARTBEAT_THROTTLE = timedelta(seconds=9)


async def build_provider_worker(
    client: Client,
    settings: Settings,
    database: Database,
    resources: AsyncExitStack,
    watch: LedgerWatch | None = None,
) -> Worker:
    """Build the worker of the provider queue, with PROVIDER_CONCURRENCY calls at once.

    `watch` refuses calls while the ledger is older than its store.
    """
    provider = await resources.enter_async_context(open_client(provider_settings(settings)))
    meter = build_attempt_meter(client, settings)
    store = ImageStore.from_url(settings.store_url())
    input_memory = ByteBudget(settings.input_memory_mib * 1024 * 1024)
    caller = GptImageCaller(
        provider,
        store,
        AttemptLog(database, on_end=meter.count_attempt),
        terms=CallTerms(
            Catalog.load(settings.provider_name()),
            RateCards.load(settings.rate_card),
            settings.unpriced_models,
        ),
        simulated=is_simulated(settings),
        resends=settings.unknown_outcome_resends,
        input_memory=input_memory,
        links=find_links(settings),
        on_pause=build_pause_meter(client, settings).record_pause,
        downloader=Downloader(settings.image_url_destinations(), settings.provider_urls()),
        refuse_behind=watch.refuse_behind if watch else None,
        owners=PictureOwners(store, shared=settings.shared_images),
    )
    return Worker(
        client,
        task_queue=names.PROVIDER_QUEUE,
        activities=[
            caller.call_gpt_image,
            take_image_slots,
            *await build_economy_calls(
                client,
                settings,
                database,
                resources,
                input_memory=input_memory,
                refuse_behind=watch.refuse_behind if watch else None,
            ),
        ],
        max_concurrent_activities=settings.provider_concurrency,
        # By default the SDK holds heartbeats back for 24 of the 30 s after which a call times out and is sent again.
        max_heartbeat_throttle_interval=HEARTBEAT_THROTTLE,
        graceful_shutdown_timeout=GRACE,
        deployment_config=describe_build(settings),
    )


NOTIFICATIONS_AT_ONCE = 50


def build_notify_worker(client: Client, settings: Settings) -> Worker:
    """Build the worker of the notification queue."""
    webhooks = WebhookClient(settings.notify_destinations(), settings.notify_keys())
    return Worker(
        client,
        task_queue=names.NOTIFY_QUEUE,
        activities=[Notifier(webhooks).notify],
        max_concurrent_activities=NOTIFICATIONS_AT_ONCE,
        graceful_shutdown_timeout=timedelta(seconds=TIMEOUT_SECONDS),
    )
