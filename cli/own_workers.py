"""Check, before anything is spent, that the workers use this terminal's ledger and image store.

A terminal without either uses Temporal alone; then all workers must agree with each other.
"""

import asyncio
from dataclasses import dataclass

from temporalio.client import Client

from cli.errors import CommandFailed
from cli.output import Output
from cli.session import Session
from gpt_image_runs.contracts import names
from gpt_image_runs.database.engine import describe_location, parse_url
from gpt_image_runs.database.errors import LedgerError, LedgerNotReady
from gpt_image_runs.database.identity import read_ledger_id
from gpt_image_runs.images.backend import StoreFailure
from gpt_image_runs.images.store import ImageStore
from gpt_image_runs.temporal.worker_identity import WorkerIdentity, list_live_workers, shorten_id

_QUEUES = (names.RUNS_QUEUE, names.PROVIDER_QUEUE)
_STORE_PATIENCE_SECONDS = 10.0


class OtherWorkers(CommandFailed):
    """The workers use another ledger or image store than this terminal; nothing was sent."""


@dataclass(frozen=True, slots=True)
class _Place:
    """A ledger or a store of this terminal. `short_id` is None if there is none; `problem` says why it is not known."""

    location: str
    short_id: str | None = None
    problem: str | None = None


async def connect_to_own_workers(session: Session, output: Output) -> Client:
    """Connect to Temporal for a command that spends or writes, and check its workers.

    The check passes if no worker polls yet, or if the workers do not report what they use.

    Raises:
        TemporalUnavailable: no server answers.
        OtherWorkers: they use another ledger or store.
    """
    client = await session.connect()
    await check_own_workers(client, session, output)
    return client


async def check_own_workers(client: Client, session: Session, output: Output) -> None:
    """Check that the workers have the ledger and the store of this terminal. Raises OtherWorkers."""
    difference, problems = await compare_workers(client, session)
    if difference:
        raise OtherWorkers(f"{difference} Nothing was sent.")
    for problem in problems:
        output.warn(problem)


async def compare_workers(client: Client, session: Session) -> tuple[str | None, list[str]]:
    """Describe how the workers differ from this terminal or from each other, and what could not be compared."""
    workers = await list_live_workers(client, _QUEUES)
    if difference := _find_disagreement(workers):
        return difference, []
    ledger_of = next((worker for worker in workers if worker.ledger), None)
    store_of = next((worker for worker in workers if worker.store), None)
    problems = []
    if ledger_of:
        own = await asyncio.to_thread(_find_own_ledger, session)
        if own.short_id and own.short_id != ledger_of.ledger:
            return _describe_ledgers(own, ledger_of, client), []
        problems += [own.problem] if own.problem else []
    if store_of:
        own = await _find_own_store(session)
        if own.short_id and own.short_id != store_of.store:
            return _describe_stores(own, store_of, client), []
        problems += [own.problem] if own.problem else []
    return None, problems


def _find_disagreement(workers: list[WorkerIdentity]) -> str | None:
    """Describe two workers with different ledgers or stores; None if all agree."""
    known: dict[str, WorkerIdentity] = {}
    for worker in workers:
        for what, short_id in (("ledger", worker.ledger), ("image store", worker.store)):
            first = known.setdefault(what, worker) if short_id else worker
            first_id = first.ledger if what == "ledger" else first.store
            if first_id != short_id:
                return (
                    f"The worker {first.process} has the {what} {first_id}, and the worker {worker.process} has the {what}"
                    f" {short_id}, and either may get a run. Stop one of them. A killed worker is listed for"
                    " five minutes."
                )
    return None


def _describe_ledgers(own: _Place, worker: WorkerIdentity, client: Client) -> str:
    return (
        f"The worker {worker.process} at {_name_server(client)} uses the ledger {worker.ledger}, and this terminal uses the"
        f" ledger {own.short_id} ({own.location}). Set TEMPORAL_ADDRESS to the Temporal of this ledger, or DATABASE_URL"
        " to the worker's ledger, or DATA_DIR to an empty folder to use Temporal alone."
    )


def _describe_stores(own: _Place, worker: WorkerIdentity, client: Client) -> str:
    return (
        f"The worker {worker.process} at {_name_server(client)} uses the image store {worker.store}, and this terminal"
        f" uses the image store {own.short_id} ({own.location}). Set TEMPORAL_ADDRESS to the Temporal of this store, or"
        " IMAGE_STORE_URL to the worker's store, or DATA_DIR to an empty folder to use Temporal alone."
    )


def _name_server(client: Client) -> str:
    return f"{client.service_client.config.target_host} ({client.namespace})"


def _find_own_ledger(session: Session) -> _Place:
    try:
        location = describe_location(parse_url(session.settings.ledger_url()))
        with session.open_ledger() as database, database.reading() as connection:
            return _Place(location, shorten_id(read_ledger_id(connection)))
    except LedgerNotReady as error:
        if session.settings.database_url is None:
            return _Place("")  # no ledger was ever made here: Temporal is all that this terminal uses
        return _Place("", problem=_describe_unknown("ledger", error))
    except LedgerError as error:
        return _Place("", problem=_describe_unknown("ledger", error))


async def _find_own_store(session: Session) -> _Place:
    url = session.settings.store_url()
    try:
        async with asyncio.timeout(_STORE_PATIENCE_SECONDS):
            store_id = await ImageStore.find_id_at(url)
    except (StoreFailure, TimeoutError) as error:
        return _Place("", problem=_describe_unknown("image store", error))
    return _Place(url, shorten_id(store_id) if store_id else None)


def _describe_unknown(what: str, error: Exception) -> str:
    return f"It is not known whether the workers use the {what} of this terminal: {str(error) or 'it does not answer.'}"
