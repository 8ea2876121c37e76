"""Run the worker until SIGTERM or SIGINT, then let paid calls finish: `python worker.py`.

`--only workflows` runs the workflows and all activities except calls to the provider; `--only provider` runs those calls.
`--images-per-minute N` is the provider's rate limit, which Temporal enforces for all workers together.
"""

import argparse
import asyncio
import os
import sys
from collections.abc import Mapping
from contextlib import AbstractAsyncContextManager, AsyncExitStack, suppress

import structlog

from activities.metrics import LATENCY_BUCKETS, StandingGauges
from activities.provider_call.ledger_watch import LedgerWatch
from activities.registry import build_notify_worker, build_provider_worker, build_runs_worker, find_links
from gpt_image_runs.billing.pricing.rate_cards import RateCardError
from gpt_image_runs.client.errors import TemporalUnavailable
from gpt_image_runs.contracts import names
from gpt_image_runs.database.engine import Database
from gpt_image_runs.database.errors import LedgerError
from gpt_image_runs.database.identity import read_ledger_id
from gpt_image_runs.database.open import open_database
from gpt_image_runs.images.backend import StoreFailure, StoreUnavailable
from gpt_image_runs.images.link_server import LinksUnavailable, serve_pictures
from gpt_image_runs.images.store import ImageStore
from gpt_image_runs.local_stack.data_folder import protect_data_dir
from gpt_image_runs.local_stack.processes import listen_for_stop
from gpt_image_runs.observability.logging import configure_logging
from gpt_image_runs.observability.metrics import MetricsUnavailable, serve_metrics
from gpt_image_runs.observability.tracing import begin_tracing, end_tracing
from gpt_image_runs.provider.catalog import CatalogError
from gpt_image_runs.provider.errors import ProviderFailure
from gpt_image_runs.settings import Settings, SettingsError, load_settings
from gpt_image_runs.temporal.connection import connect_to_temporal
from gpt_image_runs.temporal.rate_limits import hold_limit
from gpt_image_runs.temporal.search_attributes import register_search_attributes
from gpt_image_runs.temporal.versioning import describe_build, log_build
from gpt_image_runs.temporal.worker_identity import LedgersDiffer, format_identity, refuse_other_ledger

log = structlog.get_logger("worker")


# How long a worker that stops waits for the collector to take its last spans.
TRACES_PATIENCE_SECONDS = 5.0
STORE_PATIENCE_SECONDS = 10.0

_STARTING_PROBLEMS = (
    SettingsError,
    MetricsUnavailable,
    LinksUnavailable,
    TemporalUnavailable,
    LedgersDiffer,
    LedgerError,
    RateCardError,
    CatalogError,
    StoreFailure,
    ProviderFailure,
)


def serve_links(address: str, settings: Settings) -> AbstractAsyncContextManager[int]:
    """Serve the images behind signed links at `address`. Raise SettingsError if the links are not configured."""
    links = find_links(settings)
    if links is None:
        raise SettingsError(
            f"IMAGE_LINKS_ADDRESS is {address}, and nothing can be served there without IMAGE_LINKS_URL and"
            " IMAGE_LINKS_SECRET. Set them too (docs/how-to/links.md)."
        )
    return serve_pictures(address, ImageStore.from_url(settings.store_url()), links)


async def run_worker(only: str | None, changes: Mapping[str, str]) -> None:
    """Run until a stop signal, then drain. A second signal stops at once and leaves open calls with an unknown outcome.

    `changes` are settings that override the environment.
    """
    settings = load_settings(changes)
    configure_logging(settings.log_level)
    with suppress(OSError):  # opening the ledger or the store reports what is wrong with the folder
        uses_it = settings.database_url is None or settings.image_store_url is None
        protect_data_dir(settings.data_dir, create=uses_it)
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
        identity = await identify_worker(settings, database)
        client = await connect_to_temporal(settings.data_dir, runtime=served, identity=identity)
        await register_search_attributes(client, names.SEARCH_ATTRIBUTES)
        await refuse_other_ledger(client, (names.RUNS_QUEUE, names.PROVIDER_QUEUE), identity)
        limit = await hold_limit(client, names.PROVIDER_QUEUE, settings.images_per_minute)
        watch = LedgerWatch(database, ImageStore.from_url(settings.store_url()), client)
        await resources.enter_async_context(watch.noting_heads())
        workers = []
        if only != "provider":
            workers.append(
                build_runs_worker(
                    client,
                    settings,
                    database,
                    images_per_minute=limit,
                )
            )
            if settings.notify_hosts:
                workers.append(build_notify_worker(client, settings))
            if served:
                gauges = StandingGauges(database, served.metric_meter)
                await resources.enter_async_context(gauges.update_periodically())
        for worker in workers:
            await resources.enter_async_context(worker)
        # Workflows and bills go on meanwhile: they spend nothing.
        if only != "workflows" and await is_whole(watch, stop):
            workers.append(await build_provider_worker(client, settings, database, resources, watch))
            await resources.enter_async_context(workers[-1])
        log.info("worker_started", task_queues=[worker.task_queue for worker in workers])
        if build:
            await log_build(client, build)
        await stop.wait()
        log.info("worker_draining")
    log.info("worker_stopped")


async def identify_worker(settings: Settings, database: Database) -> str:
    """Build the worker identity, which shows in Temporal which ledger and which image store this worker uses."""
    store_id = None
    try:
        async with asyncio.timeout(STORE_PATIENCE_SECONDS):
            store_id = await ImageStore.from_url(settings.store_url()).find_or_create_id()
    except (StoreUnavailable, TimeoutError) as error:
        # A worker also starts, and waits, while its store is unavailable. Its identity then has no store.
        log.warning("image_store_not_identified", reason=str(error) or "no answer")
    return format_identity(await asyncio.to_thread(_read_ledger_id, database), store_id)


def _read_ledger_id(database: Database) -> str:
    with database.reading() as connection:
        return read_ledger_id(connection)


async def is_whole(watch: LedgerWatch, stop: asyncio.Event) -> bool:
    """Wait until the ledger is not older than its store. Return False if the worker is stopped before."""
    waiting = [asyncio.create_task(watch.wait_until_whole()), asyncio.create_task(stop.wait())]
    try:
        await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
        if waiting[0].done():
            await waiting[0]  # raises if the comparison failed
        return waiting[0].done()
    finally:
        for task in waiting:
            task.cancel()


async def send_last_traces() -> None:
    """Send the last spans of a worker to the collector, if there is one."""
    if not await asyncio.to_thread(end_tracing, TRACES_PATIENCE_SECONDS):
        log.warning("last_traces_not_sent", setting="OTEL_EXPORTER_OTLP_ENDPOINT")


def main() -> int:
    """Run the command line. Return exit status 0 after a drain, 1 with a message on stderr if it cannot start."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--only", choices=["workflows", "provider"], help="run one of the two task queues")
    parser.add_argument(
        "--images-per-minute", metavar="N", help="the provider's rate limit; overrides IMAGES_PER_MINUTE"
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
