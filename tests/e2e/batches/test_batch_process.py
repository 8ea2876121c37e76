"""A batch whose worker process is killed."""

import asyncio
import functools
from pathlib import Path

from gpt_image_runs.batches.batches import Batches
from gpt_image_runs.batches.results import list_results
from gpt_image_runs.contracts import names
from gpt_image_runs.contracts.batches import BatchProgress
from gpt_image_runs.contracts.money import parse_usd
from tests.support.runs.batch_runs import start_site_batch
from tests.support.servers.worker_site import open_site, until

LINES = 40


def has_done(batches: Batches, lines: int) -> bool:
    known = batches.find("killed")
    return known is not None and known.done >= lines


def has_started(batches: Batches, lines: int) -> bool:
    known = batches.find("cancelled")
    return known is not None and known.running == lines


async def test_batch_with_a_killed_worker_pays_each_line_once(tmp_path: Path) -> None:
    async with open_site(tmp_path) as site:
        await site.start_worker("--only", "provider")
        await start_site_batch(site, "killed", lines=LINES)
        batches = Batches(site.database)
        for done in (5, 15):
            worker = await site.start_worker("--only", "workflows")
            await until(functools.partial(has_done, batches, done))
            worker.kill()
            await worker.wait()
        await site.start_worker("--only", "workflows")
        async with asyncio.timeout(180):
            handle = site.client.get_workflow_handle("batch:killed")
            ended = BatchProgress.model_validate(await handle.result())

        assert (ended.state, ended.done, ended.failed, ended.unknown) == ("done", LINES, 0, 0)
        assert len(site.simulator.books.entries) == LINES
        assert parse_usd(ended.charged_usd) == site.simulator.books.get_totals()["list_price_micro_usd"]
        assert (ended.running, ended.waiting, ended.reserved_usd) == (0, 0, "0.000000")
        results = list(list_results(site.database, "killed"))
        assert len({picture.sha256 for result in results for picture in result.pictures}) == LINES


async def test_batch_with_a_killed_worker_is_cancelled(tmp_path: Path) -> None:
    """A step that was cut short and cannot report must not end the batch: what runs is cancelled and costs nothing."""
    async with open_site(tmp_path) as site:
        worker = await site.start_worker("--only", "workflows")
        await start_site_batch(site, "cancelled", lines=LINES)
        await until(functools.partial(has_started, Batches(site.database), 10))
        worker.kill()
        await worker.wait()
        handle = site.client.get_workflow_handle("batch:cancelled")
        await handle.signal(names.SIGNAL_CANCEL)
        await site.start_worker("--only", "workflows")
        async with asyncio.timeout(120):
            ended = BatchProgress.model_validate(await handle.result())

        # What was claimed at the moment of the kill, and not started yet, waits again.
        assert (ended.state, ended.running, ended.cancelled + ended.waiting) == ("cancelled", 0, LINES)
        assert len(site.simulator.books.entries) == 0
