"""One attempt of the call by itself, on a real ledger and store: what no run through the whole application can time."""

import asyncio
from dataclasses import replace
from pathlib import Path

import pytest
from temporalio.testing import ActivityEnvironment

from activities.call_gpt_image import GptImageCaller
from billing.attempt_records import Attempt, AttemptOutcome, NewAttempt
from billing.attempts import AttemptLog
from billing.opening import open_database
from billing.runs import RunIdentity
from contracts.calls import CallInput
from contracts.request import ImageRequest
from imaging.client import ProviderSettings, open_client
from imaging.store import ImageStore
from tests.billing.ledger_examples import FINISHED_AT, IDENTITY, begin_attempt

ORDER = CallInput(
    run_id=IDENTITY.run_id,
    tenant=IDENTITY.tenant,
    request_id=IDENTITY.request_id,
    request=ImageRequest(model=IDENTITY.requested_model, prompt="a lighthouse"),
    model="gpt-image-2",
    fingerprint=IDENTITY.fingerprint,
)


class SlowLog(AttemptLog):
    """A ledger that takes its time for new runs: `reached` is set where it begins to, and it goes on with `go_on`."""

    def __init__(self, *args: object) -> None:
        super().__init__(*args)  # type: ignore[arg-type]  # handed on
        self.reached = asyncio.Event()
        self.go_on = asyncio.Event()
        self._loop = asyncio.get_running_loop()

    def begin_run(self, identity: RunIdentity, new: NewAttempt) -> Attempt | None:
        """As `AttemptLog.begin_run`, later."""
        self._loop.call_soon_threadsafe(self.reached.set)
        asyncio.run_coroutine_threadsafe(self.go_on.wait(), self._loop).result()
        return super().begin_run(identity, new)


async def test_a_cancellation_while_the_ledger_is_asked_sends_nothing_more(tmp_path: Path) -> None:
    """A run that the ledger turns out to know, and that was cancelled meanwhile, ends as cancelled and is not sent again."""
    database = open_database(f"sqlite:///{tmp_path / 'ledger.db'}", create=True)
    rejected = begin_attempt(database)
    log = SlowLog(database)
    log.finish(rejected.attempt_id, AttemptOutcome(outcome="rejected", finished_at=FINISHED_AT))
    environment = ActivityEnvironment()
    environment.info = replace(environment.info, workflow_id=IDENTITY.workflow_id)
    async with open_client(ProviderSettings(api_key="none", base_url="http://127.0.0.1:9/v1")) as client:
        caller = GptImageCaller(
            client,
            ImageStore.from_url((tmp_path / "images").as_uri()),
            log,
            provider="openai",
            simulated=True,
            resends=1,
        )
        calling = asyncio.ensure_future(environment.run(caller.call_gpt_image, ORDER))
        await log.reached.wait()
        environment.cancel()
        log.go_on.set()
        with pytest.raises(asyncio.CancelledError):
            await calling
    assert [attempt.outcome for attempt in log.list_attempts(IDENTITY.run_id)] == ["rejected"]
    database.close()
