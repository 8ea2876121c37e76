"""The provider's limit, held by the server: n counts as n, one limit for all workers, and a 429 that slows down and fails nothing."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from activities.provider_call.retry_state import PROVIDER_PAUSED
from gpt_image_runs.client.errors import TemporalUnavailable
from gpt_image_runs.contracts import names
from gpt_image_runs.contracts import names as priorities
from gpt_image_runs.contracts.result import RunResult
from gpt_image_runs.temporal.rate_limits import (
    hold_dispatch_rate,
    hold_limit,
    rate_within,
    read_dispatch_rate,
)
from tests.support.servers.stack import Stack, new_run_id, run_application, run_temporal, sqlite_url

SMALL = {"model": "gpt-image-2", "size": "1024x1024", "quality": "low", "output_format": "jpeg"}
# A limit that no test reaches: a thousand a second.
FAR_OFF = 60_000


@asynccontextmanager
async def limited(
    folder: Path, limit: int | None, *, provider_limit: int | None = None, **settings: Any
) -> AsyncIterator[Stack]:
    """Run the application with a limit on a server of its own; the provider's limit is another one."""
    async with (
        run_temporal() as client,
        run_application(
            client,
            sqlite_url(folder),
            (folder / "images").as_uri(),
            provider_limit=provider_limit,
            images_per_minute=limit,
            **settings,
        ) as stack,
    ):
        yield stack


async def list_dispatches(stack: Stack, run_id: str) -> list[tuple[str, int, float]]:
    """List a run's dispatches on the provider's queue in order: activity, priority, weight."""
    scheduled = [event.activity_task_scheduled_event_attributes for event in await stack.events(run_id)]
    return [
        (one.activity_type.name, one.priority.priority_key, round(one.priority.fairness_weight, 3))
        for one in scheduled
        if one.task_queue.name == names.PROVIDER_QUEUE
    ]


async def list_attempts(stack: Stack, run_id: str) -> list[int]:
    """Count how often each activity of a run was dispatched."""
    return [
        event.activity_task_started_event_attributes.attempt
        for event in await stack.events(run_id)
        if event.HasField("activity_task_started_event_attributes")
    ]


async def test_run_of_four_images_takes_four_dispatches(tmp_path: Path) -> None:
    """A run of four pictures takes four dispatches: the first in line and weighing four, two and its call ahead of the line."""
    async with limited(tmp_path, FAR_OFF) as stack:
        result = await stack.run({**SMALL, "prompt": "Four cups", "n": 4})
        dispatches = await list_dispatches(stack, result.run_id)
        attempts = await list_attempts(stack, result.run_id)

    assert len(result.images) == 4
    ahead = (priorities.PRIORITY_INTERACTIVE, 0.0)
    assert dispatches == [
        (names.TAKE_IMAGE_SLOTS, priorities.PRIORITY_UNSAID, 0.25),
        (names.TAKE_IMAGE_SLOTS, *ahead),
        (names.CALL_GPT_IMAGE, *ahead),
    ]
    assert attempts[:3] == [1, 2, 1]


@pytest.mark.parametrize(("limit", "n"), [(FAR_OFF, 1), (None, 4)])
async def test_run_of_one_image_or_without_limit_takes_one_dispatch(
    tmp_path: Path, limit: int | None, n: int
) -> None:
    """A run of one picture, and any run where there is no limit, has the history that it always had."""
    async with limited(tmp_path, limit) as stack:
        result = await stack.run({**SMALL, "prompt": "A cup", "n": n})
        events = await stack.events(result.run_id)
        dispatches = await list_dispatches(stack, result.run_id)

    assert dispatches == [(names.CALL_GPT_IMAGE, 0, 0.0)]
    assert b"image_slots" not in b"".join(event.SerializeToString() for event in events)


async def test_request_over_the_limit_is_refused(tmp_path: Path) -> None:
    """A run that asks for more than the limit could never be carried out: it is refused, and says why."""
    async with limited(tmp_path, 3) as stack:
        refused = await stack.fail({**SMALL, "prompt": "Four cups", "n": 4})
    assert refused.type == names.REQUEST_REFUSED
    assert "at most 3: the provider takes no more images in a minute (IMAGES_PER_MINUTE)" in refused.message


async def test_server_spaces_dispatches_by_the_limit(tmp_path: Path) -> None:
    """With 60 a minute three runs of two pictures are at least five dispatches' time apart, whatever the workers are ready for."""
    async with limited(tmp_path, 60) as stack:
        loop = asyncio.get_running_loop()
        began = loop.time()
        await asyncio.gather(*(stack.run({**SMALL, "prompt": "Two cups", "n": 2}) for _ in range(3)))
        took = loop.time() - began
    # Six dispatches at 0.976 a second, of which the first comes at once and a second's worth may be caught up on.
    assert took >= 4 / rate_within(60) / 1.0 - 0.1


async def test_limit_is_shared_by_all_workers() -> None:
    """The limit is one number on the server: a worker that names another sets it, one that names none leaves it, 0 lifts it."""
    async with run_temporal() as client:

        async def held() -> float | None:
            return await read_dispatch_rate(client, names.PROVIDER_QUEUE)

        assert await held() is None
        assert await hold_limit(client, names.PROVIDER_QUEUE, None) is None
        assert await hold_limit(client, names.PROVIDER_QUEUE, 250) == 250
        assert await held() == pytest.approx(rate_within(250))
        assert await hold_limit(client, names.PROVIDER_QUEUE, None) == 250
        assert await hold_limit(client, names.PROVIDER_QUEUE, 20) == 20
        assert await hold_limit(client, names.PROVIDER_QUEUE, None) == 20
        assert await hold_dispatch_rate(client, names.PROVIDER_QUEUE, rate_within(20), reason="") is False
        assert await hold_limit(client, names.PROVIDER_QUEUE, 0) is None
        assert await held() is None


async def test_worker_that_may_not_set_the_limit_does_not_start() -> None:
    """Where the worker may not set the limit it does not start without one: it names the command for the operator."""
    async with run_temporal() as client:
        with pytest.raises(
            TemporalUnavailable, match=r"temporal task-queue config set .* --queue-rps-limit -1\.0"
        ):
            await hold_dispatch_rate(client, names.PROVIDER_QUEUE, -1.0, reason="")


async def test_rate_limit_of_one_model_does_not_delay_another(tmp_path: Path) -> None:
    """A long delay for one model holds its calls back alone: another tenant's run for another model is done meanwhile."""
    async with limited(tmp_path, None) as stack:
        stack.simulator.script("rate_limited,seconds=600", match="unlucky")
        unlucky = await stack.start({**SMALL, "prompt": "The unlucky cup"})
        async with asyncio.timeout(60):
            while not any(attempt.outcome == "rejected" for attempt in stack.attempts(unlucky.id)):
                await asyncio.sleep(0.01)
        waiting = await stack.start(SMALL | {"prompt": "A cup that waits"})
        async with asyncio.timeout(60):
            while PROVIDER_PAUSED not in str((await waiting.describe()).raw_description):
                await asyncio.sleep(0.01)

        other = {**SMALL, "prompt": "A cup", "model": "gpt-image-1", "tenant": "other"}
        result = await stack.run(other, run_id=new_run_id("other"))
        sent = stack.calls(waiting.id)
        for run in (unlucky, waiting):
            await run.cancel()

    assert result.billing.state == "billed"
    assert sent == []


async def test_rate_limit_pauses_all_calls_for_its_model(tmp_path: Path) -> None:
    """While the provider's delay lasts no other call for the model is sent, none fails, and none takes a row in the ledger."""
    async with limited(tmp_path, None) as stack:
        stack.simulator.script("rate_limited,seconds=4", match="first")
        first = await stack.start({**SMALL, "prompt": "The first cup"})
        async with asyncio.timeout(60):
            while not stack.simulator.books.entries:
                await asyncio.sleep(0.01)
        second = await stack.start({**SMALL, "prompt": "The second cup"})
        async with asyncio.timeout(60):
            while not (pending := (await second.describe()).raw_description.pending_activities) or not (
                pending[0].HasField("last_failure")
            ):
                await asyncio.sleep(0.01)
        told = pending[0].last_failure.application_failure_info.type
        before = stack.attempts(second.id)
        results = [RunResult.model_validate(await handle.result()) for handle in (first, second)]
        refused, *carried_out = stack.simulator.books.entries

    assert told == PROVIDER_PAUSED
    assert before == ()
    assert refused.status == 429
    assert [entry.status for entry in carried_out] == [200, 200]
    assert min(entry.time for entry in carried_out) - refused.time >= timedelta(seconds=4)
    assert sorted(result.provider.attempts for result in results) == [1, 2]


async def test_rate_limited_request_takes_all_its_dispatches_again(tmp_path: Path) -> None:
    """A request of three pictures that was refused is sent again after three further dispatches, and not after one."""
    async with limited(tmp_path, FAR_OFF) as stack:
        stack.simulator.script("rate_limited,seconds=0.1,header=retry-after-ms", match="Three")
        result = await stack.run({**SMALL, "prompt": "Three cups", "n": 3})
        attempts = await list_attempts(stack, result.run_id)

    assert result.provider.attempts == 2
    assert attempts[:3] == [1, 1, 4]


async def test_request_over_an_unknown_limit_fails_at_once(tmp_path: Path) -> None:
    """Where nobody has told us the limit, a request that never fits in a minute ends at once, and not after hours."""
    async with limited(tmp_path, None, provider_limit=2) as stack:
        failure = await stack.fail({**SMALL, "prompt": "Three cups", "n": 3})
        calls = len(stack.simulator.books.entries)
    assert failure.type == "RequestOverLimit"
    assert "Limit 2, Used 0, Requested 3" in failure.message
    assert calls == 1


async def test_runs_over_an_unknown_limit_wait_and_complete(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nine runs against a limit of four in six seconds, unknown to the worker, are all carried out: each refusal only waits."""
    monkeypatch.setattr("simulator.rate_limits.WINDOW_SECONDS", 6.0)
    async with limited(tmp_path, None, provider_limit=4) as stack:
        results = await asyncio.gather(*(stack.run({**SMALL, "prompt": "A cup"}) for _ in range(9)))
        statuses = [entry.status for entry in stack.simulator.books.entries]
    assert {result.billing.state for result in results} == {"billed"}
    assert statuses.count(200) == 9
    assert statuses.count(429) >= 1
