"""The activities of economy batches: some before and after the provider, and some that have to do with it."""

from collections.abc import Callable
from contextlib import AsyncExitStack
from typing import Any

from temporalio.client import Client

from activities.check_request import RequestChecker
from activities.claim_economy_part import EconomyClaimer
from activities.close_economy_batch import EconomyCloser
from activities.economy_bills import LineBiller
from activities.plan_economy_batch import EconomyPlanner
from activities.send_economy_part import EconomySender
from activities.settle_economy_lines import EconomySettler
from activities.watch_economy_parts import EconomyWatcher
from billing.attempts import AttemptLog
from billing.database import Database
from billing.economy_attempts import EconomyAttempts
from billing.ledger import Ledger
from billing.rate_cards import RateCards
from imaging.batch_client import open_batch_client
from imaging.input_memory import ByteBudget
from imaging.store import ImageStore
from queues.parts import (
    build_attempt_meter,
    build_entry_meter,
    find_owners,
    is_simulated,
    provider_settings,
)
from runtime.downloads import Downloader
from runtime.settings import Settings


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
        EconomyPlanner(checker, store, database, find_owners(settings, database, store)).plan_economy_batch,
        claimer.claim_economy_part,
        closer.close_economy_part,
        closer.close_economy_round,
    ]


async def build_economy_calls(
    client: Client,
    settings: Settings,
    database: Database,
    resources: AsyncExitStack,
    input_memory: ByteBudget,
) -> list[Callable[..., Any]]:
    """What an economy batch has to do with the provider: a file up, a look now and then, results down and billed."""
    provider = await resources.enter_async_context(open_batch_client(provider_settings(settings)))
    store, attempts = ImageStore.from_url(settings.store_url()), EconomyAttempts(database)
    log = AttemptLog(database, on_end=build_attempt_meter(client, settings).count_outcome)
    ledger = Ledger(database, on_entry=build_entry_meter(client, settings).count_entry)
    biller = LineBiller(ledger, RateCards.load(settings.rate_card))
    watcher = EconomyWatcher(provider)
    return [
        EconomySender(
            provider,
            store,
            attempts,
            find_owners(settings, database, store),
            input_memory=input_memory,
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
