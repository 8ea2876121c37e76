"""The provider's batches of an economy batch, as its workflow tells of them. Where it cannot be asked, they are left out."""

import time
from collections.abc import Sequence
from contextlib import suppress
from datetime import timedelta

from rich.text import Text
from temporalio.client import Client
from temporalio.exceptions import TemporalError
from temporalio.service import RPCError

from cli.output import Output
from cli.session import Session
from contracts import names
from contracts.batches import BatchProgress
from contracts.economy import EconomyProgress, PartProgress
from runtime.temporal import TemporalUnavailable

_QUERY_PATIENCE = timedelta(seconds=3)
_LOOK_SECONDS = 5.0
_MOST_SHOWN = 50


async def find_parts(client: Client, batch_id: str) -> tuple[PartProgress, ...]:
    """Every part of the round that goes on, none where nobody answers."""
    handle = client.get_workflow_handle(names.economy_workflow_id(batch_id))
    with suppress(RPCError, TemporalError):
        progress = await handle.query(
            names.QUERY_ECONOMY, result_type=EconomyProgress, rpc_timeout=_QUERY_PATIENCE
        )
        return EconomyProgress.model_validate(progress).parts
    return ()


async def find_parts_of(progress: BatchProgress, session: Session) -> tuple[PartProgress, ...]:
    """The same for a batch that is looked at: none where it has ended, or runs at the standard price."""
    if not progress.economy or progress.has_ended:
        return ()
    with suppress(TemporalUnavailable):
        return await find_parts(await session.connect(), progress.batch_id)
    return ()


def describe_parts(parts: Sequence[PartProgress]) -> list[Text]:
    """A line for each part, for people."""
    more = [Text(f"and {len(parts) - _MOST_SHOWN:,} more parts")] if len(parts) > _MOST_SHOWN else []
    return [*(Text(_describe(each)) for each in parts[:_MOST_SHOWN]), *more]


class PartsTeller:
    """Tells what is new of the parts of one batch, every few seconds."""

    def __init__(self, client: Client, batch_id: str, output: Output) -> None:
        self._client = client
        self._batch_id = batch_id
        self._output = output
        self._told: dict[int, str] = {}
        self._next_at = 0.0

    async def tell_news(self) -> None:
        """Asks the workflow, if it is time, and says what has changed."""
        if time.monotonic() < self._next_at:
            return
        for each in await find_parts(self._client, self._batch_id):
            told = _describe(each)
            if each.part.number < _MOST_SHOWN and self._told.get(each.part.number) != told:
                self._told[each.part.number] = told
                self._output.say(told)
        self._next_at = time.monotonic() + _LOOK_SECONDS


def _describe(each: PartProgress) -> str:
    there = f", {each.completed:,} done and {each.failed:,} failed there" if each.provider_batch_id else ""
    name = f" ({each.provider_batch_id})" if each.provider_batch_id else ""
    return f"part {each.part.number}: {each.part.lines:,} lines for {each.part.model}, {each.status}{there}{name}"
