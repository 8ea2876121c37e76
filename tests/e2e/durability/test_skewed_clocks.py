"""Workers on hosts whose clocks are wrong: nothing is paid twice, and nobody waits for a clock to catch up."""

from datetime import timedelta
from pathlib import Path

import pytest

from gpt_image_runs.billing.attempts.attempts import AttemptLog
from gpt_image_runs.billing.reports.entries import list_entries
from gpt_image_runs.contracts.result import RunResult
from tests.support.servers.skewed_worker import ROOT
from tests.support.servers.worker_site import Site, WorkerProcess, open_site, until

SKEWED_WORKER = ROOT / "tests" / "support" / "servers" / "skewed_worker.py"
A_DAY = timedelta(days=1)


async def start_skewed(site: Site, skew: timedelta) -> WorkerProcess:
    """Start a worker with one call slot, so that a second call is always another worker's."""
    return await site.start_worker(
        str(skew.total_seconds()), program=SKEWED_WORKER, settings={"PROVIDER_CONCURRENCY": "1"}
    )


@pytest.mark.parametrize("skew", [timedelta(seconds=45), A_DAY], ids=str)
async def test_call_of_a_living_worker_is_not_bought_again(tmp_path: Path, skew: timedelta) -> None:
    """A run is terminated and submitted again in mid-call; the clock of the worker that works on it is behind that
    of the one that takes it over, so that its signs of life seem to be old.
    """
    async with open_site(tmp_path) as site:
        site.simulator.script("delay=15", match="impatient")
        await start_skewed(site, -skew)
        first = await site.start_run("impatient")
        await until(lambda: site.simulator.in_progress == 1)
        await first.terminate()
        await start_skewed(site, timedelta())
        again = await site.start_run("impatient")

        result = RunResult.model_validate(await again.result())

        assert result.provider.attempts == 1
        assert len(site.simulator.books.paid) == 1
        assert len(list_entries(site.database)) == 1


async def test_dead_worker_whose_clock_was_a_day_ahead_is_not_waited_for(tmp_path: Path) -> None:
    """Its attempt seems to be sent tomorrow; the next one is sent within the minute all the same."""
    async with open_site(tmp_path) as site:
        site.simulator.script("hang", match="cut-off")
        leaving = await start_skewed(site, A_DAY)
        run = await site.start_run("cut-off")
        await until(lambda: site.simulator.in_progress == 1)
        leaving.kill()
        await leaving.wait()
        await start_skewed(site, timedelta())
        await until(lambda: len(AttemptLog(site.database).list_attempts(run.id)) == 2)

        result = RunResult.model_validate(await run.result())

        attempts = AttemptLog(site.database).list_attempts(run.id)
        assert [attempt.outcome for attempt in attempts] == ["unknown", "succeeded"]
        assert attempts[0].sent_at > attempts[1].sent_at + A_DAY / 2
        assert result.provider.attempts == 2
