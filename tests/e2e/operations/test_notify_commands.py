"""Being told of a run's end from the command line: the option, what is said where nobody will be told, and `doctor`."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

from cli.local.doctor import Check, check_everything
from cli.runs.start import start_run
from cli.runs.submit import find_doubt
from cli.session import Session
from gpt_image_runs.settings import Settings
from tests.support.runs.commands import type_command
from tests.support.runs.submissions import RECEIPT_PATIENCE, make_checked_request
from tests.support.servers.stack import Stack, run_stack, run_temporal, sqlite_url
from tests.support.servers.webhook_receiver import SECRET, Receiver, run_receiver

pytestmark = pytest.mark.asyncio(loop_scope="session")

OPTIONS = ("--model", "gpt-image-2", "--size", "1024x1024", "--quality", "low")


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def receiver() -> AsyncIterator[Receiver]:
    async with run_receiver() as running:
        yield running


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def telling(tmp_path_factory: pytest.TempPathFactory, receiver: Receiver) -> AsyncIterator[Stack]:
    """Run a stack that may notify the receiver and warns of retired models."""
    folder = tmp_path_factory.mktemp("telling")
    settings = {**receiver.settings(), "provider": "openai", "retired_models": "replace"}
    async with run_stack(sqlite_url(folder), (folder / "images").as_uri(), **settings) as running:
        yield running


async def test_notify_option_sends_the_end_of_a_new_run_only(
    telling: Stack, receiver: Receiver, tmp_path: Path
) -> None:
    """--notify has the run's end told; for a run that has ended it says that nobody is told, and nobody is."""
    words = ("generate", "A cup that is told of", *OPTIONS, "--request-id", "told-by-option", "--notify")
    first = await type_command(telling, tmp_path, *words, receiver.url, "--json")
    await receiver.until(1)
    again = await type_command(telling, tmp_path, *words, f"{receiver.url}&to=other", "--json")

    assert (first.status, again.status) == (0, 0)
    assert again.document == first.document
    assert "had already ended" not in first.err
    assert "! The run had already ended, so no notification is sent." in again.err
    assert len(receiver.received) == 1


async def test_same_warning_is_printed_once(
    telling: Stack, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """What the terminal, the receipt and the status of the run all warn of is one line."""
    monkeypatch.setenv("RETIRED_MODELS", "replace")
    words = ("generate", "A cup [simulate:delay=2]", "--model", "gpt-image-1", "--quality", "low")
    ended = await type_command(telling, tmp_path, *words)

    warnings = [line for line in ended.err.splitlines() if line.startswith("! ")]
    assert ended.status == 0
    assert "waiting for the provider" in ended.err  # so the status was asked, which warns too
    assert len([line for line in warnings if "gpt-image-1" in line]) == 1
    assert len(warnings) == len(set(warnings))


async def look(stack: Stack, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, secrets: str) -> Check:
    """Return what `doctor` reports about notifications, with the setting NOTIFY_HOSTS."""
    monkeypatch.setenv("TEMPORAL_ADDRESS", stack.client.service_client.config.target_host)
    settings = Settings.model_validate(
        {"data_dir": tmp_path, "notify_hosts": "hooks.example.com", "notify_secrets": secrets or None}
    )
    checks = await check_everything(Session(settings, None))
    return next(each for each in checks if each.name == "notifications")


async def test_doctor_checks_notification_delivery(
    telling: Stack, stack: Stack, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Where NOTIFY_HOSTS is set doctor says whether the ends of runs can be told, and what to do where not."""
    unsigned = await look(telling, monkeypatch, tmp_path, "")
    alone = await look(stack, monkeypatch, tmp_path, SECRET)
    well = await look(telling, monkeypatch, tmp_path, SECRET)

    assert (unsigned.ok, alone.ok, well.ok) == (False, False, True)
    assert unsigned.message == "NOTIFY_HOSTS is set without NOTIFY_SECRETS: requests with notify are refused."
    assert alone.message.startswith("Nobody polls image-notifications, so no notifications are sent.")
    assert well.message == "hooks.example.com; image-notifications is polled"


async def test_run_with_notify_is_warned_about_a_missing_notify_worker() -> None:
    """A run that asks for it is started, and warned where nobody takes what is to be told; one that does not ask is not."""
    async with run_temporal() as client:
        telling, quiet = (
            make_checked_request("A cup", notify=notify) for notify in ("https://hooks.example.com/", None)
        )
        doubts = [
            await find_doubt(client, await start_run(client, each, patience=RECEIPT_PATIENCE), each.request)
            for each in (telling, quiet)
        ]

    assert doubts[0] is not None
    assert doubts[0].startswith("No worker polls image-notifications: the notification is sent once a worker")
    assert doubts[1] is None
