"""The watch of the ledger while Temporal cannot or may not list runs."""

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
    """A client whose server fails to list runs with these errors, one at a time, and then lists none."""

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


async def test_watch_waits_while_runs_cannot_be_listed(
    database: Database, local_store: ImageStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The ledger is only trusted after a complete comparison."""
    monkeypatch.setattr(ledger_watch, "_COMPARED_EVERY_SECONDS", 0.0)
    client = RefusingClient(RPCStatusCode.UNAVAILABLE, RPCStatusCode.INTERNAL)
    with capture_logs() as lines:
        await watch(database, local_store, client).wait_until_whole()
    assert client.left == []
    assert [line["event"] for line in lines] == ["ledger_not_compared"] * 2


@pytest.mark.parametrize("status", [RPCStatusCode.PERMISSION_DENIED, RPCStatusCode.UNIMPLEMENTED])
async def test_watch_goes_on_when_listing_runs_is_denied(
    database: Database, local_store: ImageStore, status: RPCStatusCode
) -> None:
    """Then only the image store is compared."""
    with capture_logs() as lines:
        await watch(database, local_store, RefusingClient(status)).wait_until_whole()
    assert [line["event"] for line in lines] == ["runs_not_listed"]


async def test_ledger_is_compared_again_after_temporal_was_away(
    database: Database, local_store: ImageStore
) -> None:
    """A note that the ledger does not match is compared with Temporal too. A failed comparison does not end the watch."""
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
