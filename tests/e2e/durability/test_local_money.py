"""Cost and bill are worked out within the workflow task, and go on as scheduled activities where that does not work."""

import asyncio
import threading
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from gpt_image_runs.billing.ledger.ledger import Ledger
from gpt_image_runs.billing.pricing.cost import compute_cost
from gpt_image_runs.contracts.billing import BillingRecord
from gpt_image_runs.contracts.result import RunResult
from tests.support.servers.stack import CONTRACT, Stack, activities_in, run_stack, sqlite_url

pytestmark = pytest.mark.asyncio(loop_scope="session")
WORST_WAIT_SECONDS = 60


@pytest_asyncio.fixture(loop_scope="session")
async def own_stack(tmp_path: Path) -> AsyncIterator[Stack]:
    """Run a stack that a test may break."""
    async with run_stack(sqlite_url(tmp_path), (tmp_path / "images").as_uri()) as running:
        yield running


class LateLedger:
    """A ledger that writes the first bill at once, and is heard of again only when `answers` is set."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.written, self.answers, self.calls = threading.Event(), threading.Event(), 0
        real = Ledger.record

        def record(ledger: Ledger, *given: Any, **named: Any) -> BillingRecord:
            self.calls += 1
            recorded = real(ledger, *given, **named)
            if self.calls == 1:
                self.written.set()
                self.answers.wait(WORST_WAIT_SECONDS)
            return recorded

        monkeypatch.setattr(Ledger, "record", record)


async def test_bill_written_by_a_late_local_activity_is_found_by_the_scheduled_one(
    own_stack: Stack, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A bill that was written while nobody waited any more is found by the activity that is scheduled then: one entry."""
    ledger = LateLedger(monkeypatch)
    result = await own_stack.run(CONTRACT)
    ledger.answers.set()

    assert ledger.calls == 2
    assert result.billing.state == "billed"
    (entry,) = own_stack.entries(result.run_id)
    assert entry.entry_id == result.billing.entry_id
    assert activities_in(await own_stack.events(result.run_id))[2:] == [
        ("compute_cost", "local"),
        ("record_billing", "local"),
        ("record_billing", "scheduled"),
    ]


async def test_run_cancelled_while_its_bill_is_written_completes_with_one_entry(
    own_stack: Stack, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It throws away the workflow task that wrote the bill: the bill is found, the run completes, and there is one entry."""
    ledger = LateLedger(monkeypatch)
    handle = await own_stack.start(CONTRACT)
    assert await asyncio.to_thread(ledger.written.wait, WORST_WAIT_SECONDS)
    await handle.cancel()
    ledger.answers.set()
    result = RunResult.model_validate(await handle.result())

    assert ledger.calls == 2
    assert [entry.entry_id for entry in own_stack.entries(handle.id)] == [result.billing.entry_id]
    assert len(own_stack.calls(handle.id)) == 1


async def test_failing_cost_computation_is_retried_as_a_scheduled_activity(
    own_stack: Stack, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A mistake in pricing fails no run: it is tried again, as an activity that everyone sees, until it is mended."""
    tries = []

    def fail_once(*order: object) -> object:
        tries.append(order)
        if len(tries) == 1:
            raise RuntimeError("a mistake of ours")
        return compute_cost(*order)  # type: ignore[arg-type]

    monkeypatch.setattr("activities.compute_cost.compute_cost", fail_once)
    result = await own_stack.run(CONTRACT)

    assert result.billing.state == "billed"
    assert activities_in(await own_stack.events(result.run_id))[2:] == [
        ("compute_cost", "local"),
        ("compute_cost", "scheduled"),
        ("record_billing", "local"),
    ]
