"""The worker: `python worker.py` runs both task queues until SIGTERM or SIGINT, then lets paid calls finish.

`--only workflows` runs the workflows, the check before and the money after; `--only provider` runs the calls to the
provider. `--images-per-minute N` is the provider's limit, which the server holds for all workers. Wiring only.
"""

import argparse
import asyncio
import math
import os
import signal
import sys
import time
from collections.abc import Callable, Mapping
from contextlib import AbstractAsyncContextManager, AsyncExitStack
from datetime import timedelta
from typing import Any

import structlog
from temporalio.client import Client
from temporalio.worker import UnsandboxedWorkflowRunner, Worker, WorkflowRunner
from temporalio.worker.workflow_sandbox import SandboxedWorkflowRunner

from activities.advance_batch import BatchAdvancer
from activities.call_gpt_image import GptImageCaller
from activities.change_budget import BudgetChanger
from activities.check_request import CheckPolicy, RequestChecker
from activities.claim_economy_part import EconomyClaimer
from activities.close_economy_batch import EconomyCloser
from activities.compute_cost import CostComputer
from activities.economy_bills import LineBiller
from activities.find_earlier_run import EarlierRunFinder
from activities.image_runs import ImageRunsHandler
from activities.image_slots import take_image_slots
from activities.meters import LATENCY_BUCKETS, AttemptMeter, EntryMeter, ModelLabels
from activities.notify import Notifier
from activities.open_batch import BatchOpener
from activities.plan_economy_batch import EconomyPlanner
from activities.quote_price import PriceQuoter
from activities.reconcile_provider import ProviderReconciler
from activities.record_billing import BillingRecorder
from activities.send_economy_part import EconomySender
from activities.settle_economy_lines import EconomySettler
from activities.settle_run import RunSettler
from activities.standing_gauges import StandingGauges
from activities.watch_economy_parts import EconomyWatcher
from billing.attempts import AttemptLog
from billing.batches import Batches
from billing.budgets import Budgets
from billing.corrections import Corrections
from billing.database import Database
from billing.economy_attempts import EconomyAttempts
from billing.errors import LedgerError
from billing.ledger import Ledger
from billing.opening import open_database
from billing.rate_card_files import RateCardError
from billing.rate_cards import RateCards
from contracts import names
from imaging.batch_client import open_batch_client
from imaging.catalogue import Catalogue, CatalogueError
from imaging.client import ProviderSettings, open_client
from imaging.errors import ProviderFailure
from imaging.link_server import LinksUnavailable, serve_pictures
from imaging.picture_links import PictureLinks
from imaging.provider_books import BooksSettings, ProviderBooks
from imaging.store import ImageStore
from imaging.store_errors import StoreFailure
from runtime.dispatch_rates import hold_limit
from runtime.embedded import SIMULATOR
from runtime.logging import configure_logging
from runtime.metrics import MetricsUnavailable, find_meter, serve_metrics
from runtime.settings import Settings, SettingsError, load_settings
from runtime.temporal import TemporalUnavailable, connect_to_temporal, register_search_attributes
from runtime.tracing import begin_tracing, end_tracing
from runtime.versions import describe_build, tell_build
from runtime.webhook_client import TIMEOUT_SECONDS, WebhookClient
from workflows.arguments import RefuseSurplusArguments
from workflows.registered import WORKFLOWS

# A worker that is told to stop lets its calls finish: as long as an attempt may take (workflows.policies.CALL_ATTEMPT).
GRACE = timedelta(minutes=11)
SAME_WISH_SECONDS = 1.0
# For the last spans of a worker that has ended its work: longer is for no collector to ask.
TRACES_PATIENCE_SECONDS = 5.0
HEARTBEAT_THROTTLE = timedelta(seconds=9)
# A batch hears that it is paused or cancelled with the answer to a heartbeat.
BATCH_HEARTBEAT_THROTTLE = timedelta(seconds=1)
NOTIFICATIONS_AT_ONCE = 50
_GUARDED = SandboxedWorkflowRunner()

_STARTING_PROBLEMS = (
    SettingsError,
    MetricsUnavailable,
    LinksUnavailable,
    TemporalUnavailable,
    LedgerError,
    RateCardError,
    CatalogueError,
    StoreFailure,
    ProviderFailure,
)

log = structlog.get_logger("worker")


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
    return Worker(
        client,
        task_queue=names.RUNS_QUEUE,
        workflows=WORKFLOWS,
        activities=[
            checker.check_request,
            EarlierRunFinder(database).find_earlier_run,
            PriceQuoter(cards).quote_price,
            CostComputer(cards).compute_cost,
            BillingRecorder(Ledger(database, on_entry=meter.count_entry)).record_billing,
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
        deployment_config=describe_build(settings),
    )


def build_notify_worker(client: Client, settings: Settings) -> Worker:
    """The requests to receivers of notifications."""
    webhooks = WebhookClient(settings.notify_destinations(), settings.notify_keys())
    return Worker(
        client,
        task_queue=names.NOTIFY_QUEUE,
        activities=[Notifier(webhooks).notify],
        max_concurrent_activities=NOTIFICATIONS_AT_ONCE,
        graceful_shutdown_timeout=timedelta(seconds=TIMEOUT_SECONDS),
    )


def build_economy_planning(
    client: Client, settings: Settings, database: Database, checker: RequestChecker
) -> list[Callable[..., Any]]:
    """What an economy batch needs of the ledger and the store, before and after the provider."""
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
        EconomyPlanner(checker, store, database).plan_economy_batch,
        claimer.claim_economy_part,
        closer.close_economy_part,
        closer.close_economy_round,
    ]


async def build_economy_calls(
    client: Client, settings: Settings, database: Database, resources: AsyncExitStack
) -> list[Callable[..., Any]]:
    """What an economy batch has to do with the provider: a file up, a look now and then, results down and billed."""
    provider = await resources.enter_async_context(open_batch_client(provider_settings(settings)))
    store, attempts = ImageStore.from_url(settings.store_url()), EconomyAttempts(database)
    log = AttemptLog(database, on_end=build_attempt_meter(client, settings).count_outcome)
    ledger = Ledger(database, on_entry=build_entry_meter(client, settings).count_entry)
    biller = LineBiller(ledger, RateCards.load(settings.rate_card))
    watcher = EconomyWatcher(provider)
    return [
        EconomySender(provider, store, attempts).send_economy_part,
        watcher.look_at_economy_parts,
        watcher.cancel_economy_parts,
        EconomySettler(provider, store, database, log, biller).settle_economy_lines,
    ]


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


async def build_provider_worker(
    client: Client, settings: Settings, database: Database, resources: AsyncExitStack
) -> Worker:
    """The calls to the provider: as many at once as PROVIDER_CONCURRENCY says."""
    provider = await resources.enter_async_context(open_client(provider_settings(settings)))
    meter = build_attempt_meter(client, settings)
    caller = GptImageCaller(
        provider,
        ImageStore.from_url(settings.store_url()),
        AttemptLog(database, on_end=meter.count_attempt),
        provider=settings.provider_name(),
        simulated=is_simulated(settings),
        resends=settings.unknown_outcome_resends,
        links=find_links(settings),
    )
    return Worker(
        client,
        task_queue=names.PROVIDER_QUEUE,
        activities=[
            caller.call_gpt_image,
            take_image_slots,
            *await build_economy_calls(client, settings, database, resources),
        ],
        max_concurrent_activities=settings.provider_concurrency,
        # By default the SDK holds heartbeats back for 24 of the 30 s after which a call counts as dead and is sent again.
        max_heartbeat_throttle_interval=HEARTBEAT_THROTTLE,
        graceful_shutdown_timeout=GRACE,
        deployment_config=describe_build(settings),
    )


def find_links(settings: Settings) -> PictureLinks | None:
    """Links to pictures, where a deployment has them."""
    return PictureLinks.configure(
        settings.image_links_url, settings.image_links_keys(), settings.image_links_days
    )


def serve_links(address: str, settings: Settings) -> AbstractAsyncContextManager[int]:
    """What is behind the links, where IMAGE_LINKS_ADDRESS says. Raises SettingsError where the rest is not set."""
    links = find_links(settings)
    if links is None:
        raise SettingsError(
            f"IMAGE_LINKS_ADDRESS is {address}, and nothing can be served there without IMAGE_LINKS_URL and"
            " IMAGE_LINKS_SECRET. Set them too (docs/links.md)."
        )
    return serve_pictures(address, ImageStore.from_url(settings.store_url()), links)


def build_attempt_meter(client: Client, settings: Settings) -> AttemptMeter:
    """What counts attempts for Prometheus, or for nobody where METRICS_ADDRESS is not set."""
    labels = ModelLabels(Catalogue.load(settings.provider_name()))
    return AttemptMeter(find_meter(client), labels, simulated=is_simulated(settings))


def build_entry_meter(client: Client, settings: Settings) -> EntryMeter:
    """What counts entries of the ledger, likewise."""
    labels = ModelLabels(Catalogue.load(settings.provider_name()))
    return EntryMeter(find_meter(client), labels, simulated=is_simulated(settings))


def is_simulated(settings: Settings) -> bool:
    """Whether the simulator stands in for the provider: what it is paid is no money."""
    return settings.provider_name() == SIMULATOR


def provider_settings(settings: Settings) -> ProviderSettings:
    """The provider's client as the environment describes it."""
    return ProviderSettings(
        api_key=settings.provider_key(),
        base_url=settings.openai_base_url,
        azure_endpoint=settings.azure_openai_endpoint,
        azure_api_version=settings.openai_api_version,
        timeout_seconds=settings.provider_timeout_seconds,
        max_connections=settings.provider_concurrency,
    )


async def run_worker(only: str | None, changes: Mapping[str, str]) -> None:
    """Runs until a signal says stop, then drains. A second signal ends at once, and leaves open calls as unknown.

    `changes` are settings that go before those of the environment.
    """
    settings = load_settings(changes)
    configure_logging(settings.log_level)
    build = describe_build(settings)
    stop = listen_for_stop()
    async with AsyncExitStack() as resources:
        database = await asyncio.to_thread(
            open_database, settings.ledger_url(), create=settings.creates_ledger()
        )
        resources.callback(database.close)
        address = settings.metrics_address
        served = serve_metrics(address, LATENCY_BUCKETS) if address else None
        if settings.image_links_address:
            await resources.enter_async_context(serve_links(settings.image_links_address, settings))
        begin_tracing(settings, "gpt-image-worker")
        resources.push_async_callback(send_last_traces)
        client = await connect_to_temporal(settings.data_dir, runtime=served)
        await register_search_attributes(client, names.SEARCH_ATTRIBUTES)
        limit = await hold_limit(client, names.PROVIDER_QUEUE, settings.images_per_minute)
        workers = []
        if only != "provider":
            workers.append(
                build_runs_worker(
                    client,
                    settings,
                    database,
                    images_per_minute=limit,
                    runner=UnsandboxedWorkflowRunner(),
                )
            )
            if settings.notify_hosts:
                workers.append(build_notify_worker(client, settings))
            if served:
                gauges = StandingGauges(database, served.metric_meter)
                await resources.enter_async_context(gauges.kept_current())
        if only != "workflows":
            workers.append(await build_provider_worker(client, settings, database, resources))
        for worker in workers:
            await resources.enter_async_context(worker)
        log.info("The worker polls.", task_queues=[worker.task_queue for worker in workers])
        if build:
            await tell_build(client, build)
        await stop.wait()
        log.info("The worker drains: calls in flight are let finish.")
    log.info("The worker has ended.")


async def send_last_traces() -> None:
    """What a worker that has ended its work still has for the collector, if there is one."""
    if not await asyncio.to_thread(end_tracing, TRACES_PATIENCE_SECONDS):
        log.warning("The last traces did not reach OTEL_EXPORTER_OTLP_ENDPOINT.")


def listen_for_stop() -> asyncio.Event:
    """An event that SIGTERM and SIGINT set. Another signal, more than a second later, ends the process at once."""
    loop, stop, first = asyncio.get_running_loop(), asyncio.Event(), math.inf

    def on_signal(number: int, _frame: object) -> None:
        nonlocal first
        # A supervisor may signal every process of a group, and our parent then signals us too: that is one wish.
        if time.monotonic() - first > SAME_WISH_SECONDS:
            os._exit(128 + number)
        first = min(first, time.monotonic())
        loop.call_soon_threadsafe(stop.set)

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, on_signal)
    return stop


def main() -> int:
    """The command line: exit status 0 after a drain, 1 with a sentence on stderr where it cannot start."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--only", choices=["workflows", "provider"], help="run one of the two task queues")
    parser.add_argument(
        "--images-per-minute", metavar="N", help="the provider's limit; goes before IMAGES_PER_MINUTE"
    )
    options = parser.parse_args()
    limit = options.images_per_minute
    try:
        asyncio.run(run_worker(options.only, {} if limit is None else {"images_per_minute": limit}))
    except _STARTING_PROBLEMS as error:
        sys.stderr.write(f"{error}\n")
        return 1
    return 0


if __name__ == "__main__":
    status = main()
    sys.stderr.flush()
    # The native runtime of a process that was a Temporal client may crash at interpreter exit and spoil the status.
    os._exit(status)
