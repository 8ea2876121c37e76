"""Signs of life beside a call that is paid for, and who watches them: no clock of another host decides anything."""

import asyncio
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from temporalio.exceptions import ApplicationError

from activities.provider_call import earlier_attempts as under_way
from activities.provider_call.earlier_attempts import SILENCE, STILL_UNDER_WAY, Liveness
from gpt_image_runs.billing.records import Attempt
from gpt_image_runs.database.open import open_database
from gpt_image_runs.images.store import ImageStore
from tests.support.ledger.ledger_examples import begin_attempt

SKEWS = [
    timedelta(),
    *(sign * skew for sign in (1, -1) for skew in (timedelta(seconds=45), timedelta(days=1))),
]


class BrokenStore:
    """Fails in a way that no store should."""

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
    """An open attempt, just written down by a worker whose clock is wrong by so much."""
    database = open_database(f"sqlite:///{tmp_path / 'ledger.db'}", create=True)
    begun = begin_attempt(database)
    database.close()
    return replace(begun, sent_at=datetime.now(UTC) + request.param)


async def is_waited_for(watcher: Liveness, attempt: Attempt) -> bool:
    """Whether a worker that looks now waits for the attempt."""
    try:
        await watcher.wait_for_attempts_in_progress((attempt,))
    except ApplicationError as failure:
        if failure.type == STILL_UNDER_WAY:
            return True
        raise
    return False


async def until_another_sign(store: ImageStore, attempt: Attempt) -> None:
    """Waits until the worker that sends has left another sign than the one that is there."""
    key = f"alive/{attempt.attempt_id}.txt"
    before = await store.read_document(key)
    async with asyncio.timeout(60):
        while await store.read_document(key) == before:
            await asyncio.sleep(0)


async def test_sign_that_fails_costs_no_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever goes wrong with a sign of life, the call beside it keeps its answer."""
    monkeypatch.setattr(under_way, "SIGN_EVERY", timedelta(0))
    store: Any = BrokenStore()
    async with Liveness(store).liveness_marker("att_1"):
        await store.asked.wait()
        await asyncio.sleep(0)
        answer = "the pictures"

    assert answer == "the pictures"


async def test_dead_worker_is_waited_for_30_seconds_whatever_its_clock_said(
    store: ImageStore, attempt: Attempt
) -> None:
    """Neither is sent again too early, nor a day late: what counts is how long the watcher itself saw no sign."""
    clock = Clock()
    watcher = Liveness(store, clock)
    for _ in range(10):
        assert await is_waited_for(watcher, attempt)
        clock.now += 2.99
    clock.now = 1000.0 + SILENCE.total_seconds()
    assert not await is_waited_for(watcher, attempt)


async def test_living_worker_is_never_taken_for_dead_whatever_its_clock_says(
    store: ImageStore, attempt: Attempt, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As long as its signs change, for hours, however its clock differs; 30 seconds after the last one it is dead."""
    monkeypatch.setattr(under_way, "SIGN_EVERY", timedelta(0))
    skew = attempt.sent_at - datetime.now(UTC)

    class Skewed(datetime):
        """The clock of the worker that sends, which stands still as well."""

        @classmethod
        def now(cls, tz: Any = None) -> Any:
            return datetime(2026, 11, 28, tzinfo=tz) + skew

    monkeypatch.setattr(under_way, "datetime", Skewed)
    clock = Clock()
    watcher = Liveness(store, clock)
    async with Liveness(store).liveness_marker(attempt.attempt_id):
        for _ in range(10):
            assert await is_waited_for(watcher, attempt)
            clock.now += 10 * SILENCE.total_seconds()
            await until_another_sign(store, attempt)
    assert await is_waited_for(watcher, attempt)
    clock.now += SILENCE.total_seconds()
    assert not await is_waited_for(watcher, attempt)


async def test_attempt_of_the_same_process_is_known_to_live(store: ImageStore, attempt: Attempt) -> None:
    """A process that is short of time is late with its signs and with its looks alike: its own calls need no sign."""
    clock = Clock()
    worker = Liveness(store, clock)
    async with worker.liveness_marker(attempt.attempt_id):
        assert await is_waited_for(worker, attempt)
        clock.now += 10 * SILENCE.total_seconds()
        assert await is_waited_for(worker, attempt)


async def test_watched_attempt_that_nobody_asks_about_is_forgotten(
    store: ImageStore, attempt: Attempt
) -> None:
    """What is kept of attempts does not grow for ever; one that is asked about again is watched from the start."""
    clock = Clock()
    watcher = Liveness(store, clock)
    others = [replace(attempt, attempt_id=f"att_{number}") for number in range(20)]
    for other in others:
        assert await is_waited_for(watcher, other)
    clock.now += 3601
    assert await is_waited_for(watcher, attempt)
    assert len(watcher._watched) == 1
    assert await is_waited_for(watcher, others[0])
