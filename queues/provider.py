"""The queue of calls to the provider."""

from contextlib import AsyncExitStack
from datetime import timedelta

from temporalio.client import Client
from temporalio.worker import Worker

from activities.call_gpt_image import GptImageCaller
from activities.call_terms import CallTerms
from activities.image_slots import take_image_slots
from activities.ledger_watch import LedgerWatch
from billing.attempts import AttemptLog
from billing.database import Database
from billing.rate_cards import RateCards
from contracts import names
from imaging.catalogue import Catalogue
from imaging.client import open_client
from imaging.input_memory import ByteBudget
from imaging.store import ImageStore
from queues.economy import build_economy_calls
from queues.parts import (
    GRACE,
    build_attempt_meter,
    build_pause_meter,
    find_links,
    find_owners,
    is_simulated,
    provider_settings,
)
from runtime.downloads import Downloader
from runtime.settings import Settings
from runtime.versions import describe_build

HEARTBEAT_THROTTLE = timedelta(seconds=9)


async def build_provider_worker(
    client: Client,
    settings: Settings,
    database: Database,
    resources: AsyncExitStack,
    watch: LedgerWatch | None = None,
) -> Worker:
    """The calls to the provider: as many at once as PROVIDER_CONCURRENCY says.

    `watch` refuses them while the ledger is older than its store.
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
            Catalogue.load(settings.provider_name()),
            RateCards.load(settings.rate_card),
            settings.unpriced_models,
        ),
        simulated=is_simulated(settings),
        resends=settings.unknown_outcome_resends,
        input_memory=input_memory,
        links=find_links(settings),
        on_pause=build_pause_meter(client, settings).note_pause,
        downloader=Downloader(settings.image_url_destinations(), settings.provider_urls()),
        refuse_behind=watch.refuse_behind if watch else None,
        owners=find_owners(settings, database, store),
    )
    return Worker(
        client,
        task_queue=names.PROVIDER_QUEUE,
        activities=[
            caller.call_gpt_image,
            take_image_slots,
            *await build_economy_calls(client, settings, database, resources, input_memory),
        ],
        max_concurrent_activities=settings.provider_concurrency,
        # By default the SDK holds heartbeats back for 24 of the 30 s after which a call counts as dead and is sent again.
        max_heartbeat_throttle_interval=HEARTBEAT_THROTTLE,
        graceful_shutdown_timeout=GRACE,
        deployment_config=describe_build(settings),
    )
