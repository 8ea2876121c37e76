"""What takes hours or days, on the time-skipping server: how long a run tries, and what it never gives up."""

import asyncio
import json
from datetime import timedelta
from pathlib import Path

from sqlalchemy import text

from gpt_image_runs.contracts.result import RunResult
from gpt_image_runs.local_stack.processes import choose_port
from tests.support.servers.stack import CONTRACT, new_run_id, run_application, skipping_time, sqlite_url


async def test_run_gives_up_on_an_unreachable_provider_after_six_hours(tmp_path: Path) -> None:
    """A run whose provider cannot be reached tries for six hours, once a minute, sends nothing, and says why it ends. Of its
    hundreds of failures it hears of the 1st, 4th, 16th, 64th and 256th.
    """
    closed = f"http://127.0.0.1:{choose_port()}/v1"
    run_id = new_run_id()
    async with (
        skipping_time() as environment,
        run_application(
            environment.client, sqlite_url(tmp_path), (tmp_path / "images").as_uri(), openai_base_url=closed
        ) as stack,
    ):
        failure = await stack.fail(CONTRACT, run_id=run_id)
        described = await environment.client.get_workflow_handle(run_id).describe()
        attempts = stack.attempts(run_id)
        events = await stack.events(run_id)

    told = [
        json.loads(event.workflow_execution_signaled_event_attributes.input.payloads[0].data)
        for event in events
        if event.HasField("workflow_execution_signaled_event_attributes")
    ]
    assert [(one["failures"], one["attempts"]) for one in told] == [(4**n, 4**n) for n in range(5)]
    assert {one["error_type"] for one in told} == {"ConnectionFailed"}
    assert failure.type == "ConnectionFailed"
    assert "OPENAI_BASE_URL" in failure.message
    assert described.close_time is not None
    assert timedelta(hours=5) < described.close_time - described.start_time < timedelta(hours=7)
    assert 350 <= len(attempts) <= 380
    assert {attempt.outcome for attempt in attempts} == {"not_sent"}


async def test_paid_run_is_billed_after_half_a_day_without_a_ledger(tmp_path: Path) -> None:
    """A paid run whose ledger is away for twice as long as a call is tried is billed when it is back: money activities never give up."""
    async with (
        skipping_time() as environment,
        run_application(environment.client, sqlite_url(tmp_path), (tmp_path / "images").as_uri()) as stack,
    ):
        with stack.database.writing() as connection:
            connection.execute(
                text(
                    "CREATE TRIGGER away BEFORE INSERT ON ledger_entries BEGIN SELECT RAISE(ABORT, 'away'); END"
                )
            )
        handle = await stack.start(CONTRACT)
        while not stack.attempts(handle.id) or stack.attempts(handle.id)[0].outcome == "unknown":
            await asyncio.sleep(0.02)
        await environment.sleep(timedelta(hours=12))
        assert stack.entries(handle.id) == ()
        with stack.database.writing() as connection:
            connection.execute(text("DROP TRIGGER away"))

        result = RunResult.model_validate(await handle.result())

        assert result.billing.state == "billed"
        assert len(stack.calls(handle.id)) == 1
