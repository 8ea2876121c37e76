"""Liveness markers of attempts in progress, and the workers that watch them. No clock of another host counts."""

import asyncio
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from temporalio.exceptions import ApplicationError

from activities.provider_call import earlier_attempts
from activities.provider_call.earlier_attempts import MARKER_TIMEOUT, STILL_UNDER_WAY, Liveness
from gpt_image_runs.billing.records import Attempt
from gpt_image_runs.database.open import open_database
from gpt_image_runs.images.store import ImageStore
from tests.support.ledger.ledger_examples import begin_attempt

SKEWS = [
    timedelta(),
    *(sign * skew for sign in (1, -1) for skew in (timedelta(seconds=45), timedelta(days=1))),
]


class BrokenStore:
    """Fails with an error that no store should raise."""

    def __init__(self) -> None:
        self.asked = asyncio.Event()

    async def put_document(self, _key: str, _data: bytes) -> None:
        self.asked.set()
        raise RuntimeError("a defect")


class Clock:
    """A monotonic clock that a test moves."""

    now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def store(tmp_path: Path) -> ImageStore:
    return ImageStore.from_url((tmp_path / "images").as_uri())


@pytest.fixture(params=SKEWS, ids=str)
def attempt(tmp_path: Path, request: pytest.FixtureRequest) -> Attempt:
    """An open attempt, just recorded by a worker whose clock is wrong by `request.param`."""
    database = open_database(f"sqlite:///{tmp_path / 'ledger.db'}", create=True)
    begun = begin_attempt(database)
    database.close()
    return replace(begun, sent_at=datetime.now(UTC) + request.param)


async def is_waited_for(watcher: Liveness, attempt: Attempt) -> bool:
    """Return whether a worker that checks now waits for the attempt."""
    try:
        await watcher.wait_for_attempts_in_progress((attempt,))
    except ApplicationError as failure:
        if failure.type == STILL_UNDER_WAY:
            return True
        raise
    return False


async def wait_for_next_marker(store: ImageStore, attempt: Attempt) -> None:
    """Wait until the sending worker has changed the marker."""
    key = f"alive/{attempt.attempt_id}.txt"
    before = await store.read_document(key)
    async with asyncio.timeout(60):
        while await store.read_document(key) == before:
            await asyncio.sleep(0)


async def test_marker_that_fails_does_not_lose_the_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(earlier_attempts, "MARKER_EVERY", timedelta(0))
    store: Any = BrokenStore()
    async with Liveness(store).liveness_marker("att_1"):
        await store.asked.wait()
        await asyncio.sleep(0)
        answer = "the pictures"

    assert answer == "the pictures"


async def test_dead_worker_is_waited_for_30_seconds_whatever_its_clock_said(
    store: ImageStore, attempt: Attempt
) -> None:
    """Its request is neither sent again too early nor a day late: only the time on the watcher's clock counts."""
    clock = Clock()
    watcher = Liveness(store, clock)
    for _ in range(10):
        assert await is_waited_for(watcher, attempt)
        clock.now += 2.99
    clock.now = 1000.0 + MARKER_TIMEOUT.total_seconds()
    assert not await is_waited_for(watcher, attempt)


async def test_living_worker_is_never_taken_for_dead_whatever_its_clock_says(
    store: ImageStore, attempt: Attempt, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As long as its marker changes, for hours. 30 seconds after the last change it counts as dead."""
    monkeypatch.setattr(earlier_attempts, "MARKER_EVERY", timedelta(0))
    skew = attempt.sent_at - datetime.now(UTC)

    class Skewed(datetime):
        """The sending worker's clock, which is also stopped."""

        @classmethod
        def now(cls, tz: Any = None) -> Any:
            return datetime(2026, 11, 28, tzinfo=tz) + skew

    monkeypatch.setattr(earlier_attempts, "datetime", Skewed)
    clock = Clock()
    watcher = Liveness(store, clock)
    async with Liveness(store).liveness_marker(attempt.attempt_id):
        for _ in range(10):
            assert await is_waited_for(watcher, attempt)
            clock.now += 10 * MARKER_TIMEOUT.total_seconds()
            await wait_for_next_marker(store, attempt)
    assert await is_waited_for(watcher, attempt)
    # A write that was under way when the worker stopped may still change the marker once.
    waited = []
    for _ in range(2):
        clock.now += MARKER_TIMEOUT.total_seconds()
        waited.append(await is_waited_for(watcher, attempt))
    assert waited[-1] is False


async def test_attempt_of_the_same_process_needs_no_marker(store: ImageStore, attempt: Attempt) -> None:
    """A busy process writes its markers late."""
    clock = Clock()
    worker = Liveness(store, clock)
    async with worker.liveness_marker(attempt.attempt_id):
        assert await is_waited_for(worker, attempt)
        clock.now += 10 * MARKER_TIMEOUT.total_seconds()
        assert await is_waited_for(worker, attempt)


async def test_attempt_that_is_not_checked_for_an_hour_is_forgotten(
    store: ImageStore, attempt: Attempt
) -> None:
    """The memory for watched attempts does not grow without limit. One that is checked again is watched from the start."""
    clock = Clock()
    watcher = Liveness(store, clock)
    others = [replace(attempt, attempt_id=f"att_{number}") for number in range(20)]
    for other in others:
        assert await is_waited_for(watcher, other)
    clock.now += 3601
    assert await is_waited_for(watcher, attempt)
    assert len(watcher._watched) == 1
    assert await is_waited_for(watcher, others[0])
