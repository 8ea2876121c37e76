"""`doctor`: check what is reachable, and say what to do about the rest."""

import asyncio
from collections.abc import Awaitable
from contextlib import suppress
from dataclasses import asdict, dataclass
from functools import partial
from http import HTTPStatus

import httpx2
from rich.text import Text
from temporalio.api.workflowservice.v1 import GetSystemInfoRequest
from temporalio.client import Client
from temporalio.service import RPCError

from cli import options
from cli.output import Output
from cli.own_workers import compare_workers
from cli.session import Session, hush_temporal, open_session
from gpt_image_runs.billing.recovery.notes import read_ledger_now
from gpt_image_runs.billing.recovery.recovery import find_losses, find_unpaid_runs
from gpt_image_runs.billing.reports.entries import total
from gpt_image_runs.client.errors import TemporalUnavailable
from gpt_image_runs.contracts import names
from gpt_image_runs.database.engine import describe_location, parse_url
from gpt_image_runs.database.errors import LedgerError
from gpt_image_runs.images.backend import StoreFailure
from gpt_image_runs.local_stack.stack import simulator_environment
from gpt_image_runs.provider.errors import ProviderNotConfigured
from gpt_image_runs.provider.sdk import OPENAI_URL, ProviderSettings, check_settings
from gpt_image_runs.settings import Settings
from gpt_image_runs.temporal.connection import (
    connect_to_temporal,
    has_pollers,
)
from gpt_image_runs.temporal.run_evidence import BilledRuns, find_billed_runs
from gpt_image_runs.temporal.search_attributes import inspect_search_attributes
from gpt_image_runs.temporal.versioning import explain_idleness

_REFUSED = (HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN)


class ProviderSilent(Exception):
    """The provider cannot be used; the message says what to do."""


async def ask_provider(settings: Settings, simulator_url: str | None, timeout_seconds: float) -> str:
    """Request the list of models from the provider, or from the simulator at `simulator_url`; return who answered.

    Raises:
        ProviderSilent: a setting is missing or not valid, the key is refused, or nobody answers.
    """
    url, headers = _address_simulator(simulator_url) if simulator_url else _address(settings)
    shown = url.copy_with(username=None, password=None, query=None)
    where = "".join(settings.provider_addresses()) or "OPENAI_BASE_URL"
    try:
        async with (
            httpx2.AsyncClient(timeout=timeout_seconds, follow_redirects=False) as client,
            # The status says it all, and a body may have any size.
            client.stream("GET", url, headers=headers) as response,
        ):
            pass
    except httpx2.HTTPError as error:
        raise ProviderSilent(
            f"Nobody answers at {shown} ({type(error).__name__}). Check the network and {where}."
        ) from error
    if response.status_code in _REFUSED:
        key = "AZURE_OPENAI_API_KEY" if settings.azure_openai_endpoint else "OPENAI_API_KEY"
        raise ProviderSilent(f"The provider refuses the key (HTTP {response.status_code}). Check {key}.")
    if response.status_code != HTTPStatus.OK:
        raise ProviderSilent(f"The provider answered HTTP {response.status_code} at {shown}. Check {where}.")
    return f"simulator at {simulator_url}" if simulator_url else f"{settings.provider_name()} takes the key"


def _address_simulator(simulator_url: str) -> tuple[httpx2.URL, dict[str, str]]:
    key = simulator_environment(simulator_url)["OPENAI_API_KEY"]
    return httpx2.URL(f"{simulator_url}/models"), {"Authorization": f"Bearer {key}"}


def _address(settings: Settings) -> tuple[httpx2.URL, dict[str, str]]:
    """Return the URL of the provider's list of models and the headers. Checks the settings as the worker's client does."""
    azure, key = settings.azure_openai_endpoint, settings.provider_key()
    if key is None:
        name = "AZURE_OPENAI_API_KEY" if azure else "OPENAI_API_KEY"
        raise ProviderSilent(
            f"{name} is not set. Set it, or run `make up`, which brings a simulator that needs no key."
        )
    version = settings.openai_api_version
    try:
        check_settings(
            ProviderSettings(
                api_key=key,
                base_url=settings.openai_base_url,
                azure_endpoint=azure,
                azure_api_version=version,
            )
        )
    except ProviderNotConfigured as error:
        raise ProviderSilent(str(error)) from None
    if azure:
        url = f"{azure.rstrip('/')}/openai/models?api-version={version}"
        return httpx2.URL(url), {"api-key": key}
    base = (settings.openai_base_url or OPENAI_URL).rstrip("/")
    return httpx2.URL(f"{base}/models"), {"Authorization": f"Bearer {key}"}


_PATIENCE_SECONDS = 5.0
_MAX_DOUBTFUL = 5
_WITHOUT_TEMPORAL = "Cannot be checked without Temporal."


class NotWell(Exception):
    """A check failed; the message says what is wrong and what to do."""


@dataclass(frozen=True, slots=True)
class Check:
    """The result of one check."""

    name: str
    ok: bool
    message: str


async def check_everything(session: Session) -> list[Check]:
    """Run all checks concurrently; return them in the order in which to fix problems."""
    temporal = asyncio.ensure_future(_connect(session))
    checks = [
        _look("Temporal", _check_server(temporal)),
        _look("search attributes", _check_attributes(temporal)),
        _look("workers", _check_workers(session, temporal)),
        _look("ledger", _check_ledger(session)),
        _look("image store", _check_store(session)),
        _look("ledger's age", _check_age(session, temporal)),
        _look("provider", _check_provider(session)),
    ]
    if session.settings.notify_hosts:
        checks.append(_look("notifications", _check_notifications(session.settings, temporal)))
    return list(await asyncio.gather(*checks))


async def _look(name: str, check: Awaitable[str]) -> Check:
    try:
        async with asyncio.timeout(_PATIENCE_SECONDS * 2):
            return Check(name, ok=True, message=await check)
    except TimeoutError:
        return Check(name, ok=False, message=f"No answer within {_PATIENCE_SECONDS * 2:.0f} seconds.")
    except (NotWell, TemporalUnavailable, LedgerError, StoreFailure, ProviderSilent) as error:
        return Check(name, ok=False, message=str(error))
    except RPCError as error:
        message = (
            f"Temporal answers {error.status.name}: {error.message.rstrip('.')}. Check TEMPORAL_NAMESPACE."
        )
        return Check(name, ok=False, message=message)


async def _connect(session: Session) -> Client:
    hush_temporal()
    return await connect_to_temporal(session.settings.data_dir, patience_seconds=_PATIENCE_SECONDS)


async def _connected(temporal: "asyncio.Future[Client]") -> Client:
    """Return the client, or raise a short sentence: only the check of the server explains why there is none."""
    try:
        return await asyncio.shield(temporal)
    except TemporalUnavailable:
        raise NotWell(_WITHOUT_TEMPORAL) from None


async def _check_server(temporal: "asyncio.Future[Client]") -> str:
    client = await asyncio.shield(temporal)
    info = await client.workflow_service.get_system_info(GetSystemInfoRequest())
    address = client.service_client.config.target_host
    return f"{address}, namespace {client.namespace}, server {info.server_version}"


async def _check_attributes(temporal: "asyncio.Future[Client]") -> str:
    client = await _connected(temporal)
    report = await inspect_search_attributes(client, names.SEARCH_ATTRIBUTES)
    if sentence := report.describe_mistyped(client.namespace):
        raise NotWell(f"{sentence} The worker does not start until then.")
    if report.missing:
        raise NotWell(
            f"{', '.join(report.missing)} missing in {client.namespace}: the worker adds them when it starts, or reports why"
            " it cannot."
        )
    wanted = ", ".join(key.name for key in names.SEARCH_ATTRIBUTES)
    if report.not_listed:
        return f"{wanted}, by filters only: Temporal does not list them ({report.not_listed.rstrip('.')})"
    return wanted


async def _check_workers(session: Session, temporal: "asyncio.Future[Client]") -> str:
    client = await _connected(temporal)
    queues = (names.RUNS_QUEUE, names.PROVIDER_QUEUE)
    alone = [queue for queue in queues if not await has_pollers(client, (queue,))]
    if alone:
        raise NotWell(f"Nobody polls {' and '.join(alone)}. Start `make up`, or `python worker.py`.")
    for queue in queues:
        if idle := await explain_idleness(client, queue):
            raise NotWell(idle)
    difference, problems = await compare_workers(client, session)
    if difference:
        raise NotWell(difference)
    return " ".join((f"{' and '.join(queues)} are polled", *problems))


async def _check_notifications(settings: Settings, temporal: "asyncio.Future[Client]") -> str:
    """Check this terminal's notification settings; the workers' own settings cannot be seen from here."""
    if not settings.notify_keys():
        raise NotWell("NOTIFY_HOSTS is set without NOTIFY_SECRETS: requests with notify are refused.")
    client = await _connected(temporal)
    if not await has_pollers(client, (names.NOTIFY_QUEUE,)):
        raise NotWell(
            f"Nobody polls {names.NOTIFY_QUEUE}, so no notifications are sent. Start the workers that run workflows"
            " with NOTIFY_HOSTS and NOTIFY_SECRETS."
        )
    return f"{settings.notify_hosts}; {names.NOTIFY_QUEUE} is polled"


async def _check_ledger(session: Session) -> str:
    return await asyncio.to_thread(_count_entries, session)


def _count_entries(session: Session) -> str:
    with session.open_ledger() as database:
        totals = total(database)
    where = describe_location(parse_url(session.settings.ledger_url()))
    return f"{where}, {totals.real.runs:,} runs billed, {totals.simulated.runs:,} simulated"


async def _check_store(session: Session) -> str:
    store = await asyncio.to_thread(session.open_store)
    await store.check()
    return f"{store.root}, written and read"


async def _check_age(session: Session, temporal: "asyncio.Future[Client]") -> str:
    """Check that the ledger has everything that the image store and Temporal know; a restored one may not.

    Executions that falsely claim to be billed runs are not losses. They are named, because somebody writes them.
    """
    store = await asyncio.to_thread(session.open_store)
    with session.open_ledger() as database:
        now = await asyncio.to_thread(read_ledger_now, database)
        billed = BilledRuns({})
        with suppress(TemporalUnavailable, RPCError):  # why is said by the check of the server
            client = await asyncio.shield(temporal)
            billed = await find_billed_runs(client, partial(find_unpaid_runs, database), now.sought_ledger)
        losses = await find_losses(database, store, billed.proven)
    doubtful = _describe_doubtful((*losses.unwitnessed, *billed.doubtful))
    if losses:
        raise NotWell(f"{losses.describe()}{doubtful}")
    accepted = f", {losses.accepted:,} attempts accepted as lost" if losses.accepted else ""
    return f"complete by what the image store and Temporal know{accepted}{doubtful and '.'}{doubtful}"


def _describe_doubtful(doubtful: tuple[str, ...]) -> str:
    more = len(doubtful) - _MAX_DOUBTFUL
    told = (*doubtful[:_MAX_DOUBTFUL], *([f"{more:,} more are not shown."] if more > 0 else []))
    return "".join(f" Warning: {sentence}" for sentence in told)


async def _check_provider(session: Session) -> str:
    simulator = session.stack.provider_base_url if session.stack else None
    return await ask_provider(session.settings, simulator, _PATIENCE_SECONDS)


_NAMES_WIDTH = 18


def doctor(*, as_json: options.AsJson = False) -> int:
    """Check what is reachable, and show what is missing and what to do about it.

    It is free, and writes nothing but a test object to the image store. Exit status 0 if everything that a run needs answers.
    """
    session = open_session()  # unusable settings end here, with a sentence for each
    settings = Check("settings", ok=True, message=f"DATA_DIR is {session.settings.data_dir.resolve()}")
    checks = [settings, *asyncio.run(check_everything(session))]
    ok = all(check.ok for check in checks)
    document = {"status": "ok" if ok else "not ready", "checks": [asdict(check) for check in checks]}
    Output(as_json=as_json).answer(document, _describe(checks))
    return 0 if ok else 1


def _describe(checks: list[Check]) -> Text:
    text = Text()
    for check in checks:
        text.append("✓ " if check.ok else "✗ ", style="green" if check.ok else "bold red")
        text.append(f"{check.name:<{_NAMES_WIDTH}}", style="bold")
        text.append(f"{check.message}\n")
    text.rstrip()
    return text
