"""The worker as a process of its own: killed and stopped at the worst moments. Nothing is lost, nothing is paid twice."""

import json
import signal
import sqlite3
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from gpt_image_runs.billing.attempts.attempts import AttemptLog
from gpt_image_runs.billing.reports.entries import list_entries
from gpt_image_runs.contracts import names
from gpt_image_runs.contracts.result import RunResult
from gpt_image_runs.temporal.connection import has_pollers
from gpt_image_runs.temporal.rate_limits import rate_within, read_dispatch_rate
from tests.support.runs.run_states import decide, until_held
from tests.support.servers.worker_site import open_site, until


@asynccontextmanager
async def locked(database: Path) -> AsyncIterator[None]:
    """Hold the ledger's write lock while the block runs."""
    connection = sqlite3.connect(database, isolation_level=None)
    connection.execute("BEGIN IMMEDIATE")
    try:
        yield
    finally:
        connection.execute("ROLLBACK")
        connection.close()


async def test_runs_of_killed_worker_are_paid_and_billed_once(tmp_path: Path) -> None:
    """A worker is killed while the provider works on one run and after another run's picture was stored but not recorded.

    The first is sent again and its first attempt stays unknown; the second is found and adopted without another call.
    """
    async with open_site(tmp_path) as site:
        site.simulator.script("hang", match="cut-off")
        site.simulator.script("delay=1", match="unrecorded")
        first_worker = await site.start_worker()
        cut_off = await site.start_run("cut-off")
        await until(lambda: site.simulator.in_progress == 1)
        unrecorded = await site.start_run("unrecorded")
        await until(lambda: site.simulator.in_progress == 2)
        async with locked(tmp_path / "ledger.db"):
            receipts = tmp_path / "images" / "documents" / "attempts"
            await until(lambda: any(b'"succeeded"' in path.read_bytes() for path in receipts.rglob("*.json")))
            first_worker.kill()
            await first_worker.wait()
        await site.start_worker()
        results = [RunResult.model_validate(await run.result()) for run in (cut_off, unrecorded)]

        log = AttemptLog(site.database)
        assert [attempt.outcome for attempt in log.list_attempts(cut_off.id)] == ["unknown", "succeeded"]
        assert [attempt.outcome for attempt in log.list_attempts(unrecorded.id)] == ["succeeded"]
        assert [result.provider.attempts for result in results] == [2, 1]
        assert len(list_entries(site.database)) == 2
        assert len(site.simulator.books.paid) == 3
        for result in results:
            assert await site.store.read(result.images[0].uri)


async def test_run_that_says_hold_is_held_after_its_worker_is_killed(tmp_path: Path) -> None:
    """A worker is killed during the call of a run that says hold: the next one holds it, and loses it by no restart.

    Nothing is sent until somebody decides; what the killed worker had asked for stays unknown.
    """
    async with open_site(tmp_path) as site:
        site.simulator.script("hang", match="held")
        first_worker = await site.start_worker()
        run = await site.start_run("held", unknown_outcome="hold")
        await until(lambda: site.simulator.in_progress == 1)
        first_worker.kill()
        await first_worker.wait()
        second_worker = await site.start_worker()
        question = (await until_held(run)).open_decision
        second_worker.kill()
        await second_worker.wait()
        await site.start_worker()
        still_open = (await until_held(run)).open_decision
        sent_before = len(site.simulator.books.entries)
        await decide(run)
        result = RunResult.model_validate(await run.result())

        assert question is not None
        assert "Its worker ended before an answer came." in question.message
        assert still_open == question
        assert sent_before == 1
        attempts = AttemptLog(site.database).list_attempts(run.id)
        assert [attempt.outcome for attempt in attempts] == ["unknown", "succeeded"]
        assert result.provider.attempts == 2
        assert len(list_entries(site.database)) == 1


async def test_worker_told_to_stop_finishes_its_call_and_exits_0(tmp_path: Path) -> None:
    """A worker that is told to stop during a call finishes it and exits 0; the run is paid once, by one attempt."""
    async with open_site(tmp_path) as site:
        site.simulator.script("delay=3", match="in-flight")
        leaving = await site.start_worker()
        run = await site.start_run("in-flight")
        await until(lambda: site.simulator.in_progress == 1)
        leaving.send_signal(signal.SIGTERM)
        await site.start_worker()

        result = RunResult.model_validate(await run.result())

        assert await leaving.wait() == 0
        assert result.provider.attempts == 1
        assert len(site.simulator.books.paid) == 1
        assert len(list_entries(site.database)) == 1


async def test_run_cancelled_as_its_answer_comes_is_billed_and_completes(tmp_path: Path) -> None:
    """A run that hears of its cancellation and of its answer at once is billed and completes: the picture is paid for."""
    async with open_site(tmp_path) as site:
        site.simulator.script("delay=2", match="in-flight")
        workflows = await site.start_worker("--only", "workflows")
        await site.start_worker("--only", "provider")
        run = await site.start_run("in-flight")
        await until(lambda: site.simulator.in_progress == 1)
        workflows.kill()
        await workflows.wait()
        await run.cancel()
        await until(
            lambda: any(
                attempt.outcome == "succeeded" for attempt in AttemptLog(site.database).list_attempts(run.id)
            )
        )
        await site.start_worker("--only", "workflows")

        result = RunResult.model_validate(await run.result())

        assert result.billing.state == "billed"
        assert len(site.simulator.books.paid) == 1
        assert len(list_entries(site.database)) == 1


async def test_run_is_billed_by_a_workflow_fleet_and_a_provider_fleet(tmp_path: Path) -> None:
    async with open_site(tmp_path) as site:
        await site.start_worker("--only", "workflows")
        assert not await has_pollers(site.client, [names.PROVIDER_QUEUE])
        await site.start_worker("--only", "provider")

        result = RunResult.model_validate(await (await site.start_run("together")).result())

        assert result.billing.state == "billed"


async def test_worker_log_is_json_lines_without_prompt_and_key(tmp_path: Path) -> None:
    """A worker's log is one JSON object a line with the run's id, and holds neither a prompt nor the key."""
    async with open_site(tmp_path) as site:
        await site.start_worker()
        await (await site.start_run("logged", "A secret lighthouse")).result()
        lines = [json.loads(line) for line in site.log.read_text().splitlines()]

    text = site.log.read_text()
    assert any(line.get("workflow_id") == "image:default:logged" for line in lines)
    assert "secret lighthouse" not in text
    assert "0123456789abcdef" not in text


async def test_images_per_minute_option_is_held_by_the_server_after_its_worker(tmp_path: Path) -> None:
    """`--images-per-minute` is held by the server, also when that worker is gone and another knows nothing of it."""
    async with open_site(tmp_path) as site:
        leaving = await site.start_worker("--images-per-minute", "20")
        assert await read_dispatch_rate(site.client, names.PROVIDER_QUEUE) == pytest.approx(rate_within(20))
        leaving.send_signal(signal.SIGTERM)
        assert await leaving.wait() == 0
        await site.start_worker()

        assert await read_dispatch_rate(site.client, names.PROVIDER_QUEUE) == pytest.approx(rate_within(20))
        assert "rate_limit_kept" in site.log.read_text()
