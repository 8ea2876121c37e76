"""What a watch of the ledger makes of a Temporal that does not tell its runs."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from structlog.testing import capture_logs
from temporalio.service import RPCError, RPCStatusCode

from activities.provider_call import ledger_watch
from activities.provider_call.ledger_watch import LedgerWatch
from gpt_image_runs.billing.recovery.notes import NotedHead, read_ledger_now, write_note
from gpt_image_runs.database.engine import Database
from gpt_image_runs.database.errors import LedgerBehind
from gpt_image_runs.database.open import open_database
from gpt_image_runs.images.store import ImageStore
from tests.support.ledger.ledger_examples import pay_attempt


class RefusingClient:
    """A client whose server answers a list of runs with these errors, one a time, and then with no run."""

    def __init__(self, *statuses: RPCStatusCode) -> None:
        self.left = list(statuses)

    async def list_workflows(self, *_: Any, **__: Any) -> AsyncIterator[Any]:
        if self.left:
            raise RPCError("not now", self.left.pop(0), b"")
        for run in list[Any]():
            yield run


@pytest.fixture
def database(tmp_path: Path) -> Database:
    return open_database(f"sqlite:///{tmp_path / 'ledger.db'}", create=True)


def watch(database: Database, store: ImageStore, client: RefusingClient) -> LedgerWatch:
    return LedgerWatch(database, store, client)  # type: ignore[arg-type]  # lists runs, and is asked for nothing else


async def test_runs_that_cannot_be_listed_now_are_waited_for(
    database: Database, local_store: ImageStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What could not be asked is not known to be whole: the worker sends nothing before it was."""
    monkeypatch.setattr(ledger_watch, "_LOOKED_AGAIN_AFTER_SECONDS", 0.0)
    client = RefusingClient(RPCStatusCode.UNAVAILABLE, RPCStatusCode.INTERNAL)
    with capture_logs() as lines:
        await watch(database, local_store, client).wait_until_whole()
    assert client.left == []
    assert [line["event"] for line in lines] == ["ledger_not_compared"] * 2


@pytest.mark.parametrize("status", [RPCStatusCode.PERMISSION_DENIED, RPCStatusCode.UNIMPLEMENTED])
async def test_server_that_never_lists_runs_stops_no_worker(
    database: Database, local_store: ImageStore, status: RPCStatusCode
) -> None:
    """The image store alone counts then."""
    with capture_logs() as lines:
        await watch(database, local_store, RefusingClient(status)).wait_until_whole()
    assert [line["event"] for line in lines] == ["runs_not_listed"]


async def test_ledger_is_compared_again_after_temporal_was_away(
    database: Database, local_store: ImageStore
) -> None:
    """A note that the ledger does not hold is compared with Temporal too; an answer that does not come ends no watch."""
    pay_attempt(database)
    other = NotedHead(tenant="acme", entries=1, entry_hash="f" * 64)
    now = read_ledger_now(database).model_copy(update={"heads": (other,)})
    await write_note(local_store, now)
    watching = watch(database, local_store, RefusingClient(RPCStatusCode.UNAVAILABLE))
    with capture_logs() as lines:
        async with watching.noting_heads():
            pass
    await watching.note_heads()
    assert "ledger_heads_not_noted" in [line["event"] for line in lines]
    with pytest.raises(LedgerBehind, match="Nothing was sent"):
        watching.refuse_behind()
