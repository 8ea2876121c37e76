"""The end of a run, told to a real receiver: signed, tried again, and never in the way of the run itself."""

import asyncio
import re
import subprocess
from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from aiohttp import web
from standardwebhooks import Webhook
from temporalio.client import WorkflowExecutionStatus, WorkflowFailureError, WorkflowHandle
from temporalio.exceptions import ApplicationError
from temporalio.worker import Worker
from temporalio.worker.workflow_sandbox import SandboxedWorkflowRunner

from activities.check_request import CheckPolicy, RequestChecker
from activities.notify import Notifier
from gpt_image_runs.billing.pricing.rate_cards import RateCards
from gpt_image_runs.contracts import names
from gpt_image_runs.contracts.notifications import event_id_for, message_id_for, notification_id_for
from gpt_image_runs.contracts.request import Notify
from gpt_image_runs.contracts.result import RunResult
from gpt_image_runs.local_stack.temporal_server import find_temporal_binary
from gpt_image_runs.provider.catalog import Catalog
from gpt_image_runs.temporal.replay import HistoryReplay
from gpt_image_runs.webhooks.allowlist import Destinations
from gpt_image_runs.webhooks.client import WebhookClient
from tests.support.runs.run_states import GIVE_UP, decide, until_held
from tests.support.runs.submissions import submit
from tests.support.servers.stack import (
    CONTRACT,
    Stack,
    event_names,
    new_run_id,
    run_application,
    run_stack,
    run_temporal,
    skipping_time,
    sqlite_url,
)
from tests.support.servers.webhook_receiver import OTHER_SECRET, SECRET, Received, Receiver, run_receiver
from workflows.notification import Notification
from workflows.payloads import RefuseSurplusArguments
from workflows.registry import WORKFLOWS

pytestmark = pytest.mark.asyncio(loop_scope="session")

# What no run has ordered: its destination is nowhere allowed.
ORDER = {
    "event": "failed",
    "event_id": "evt_" + "0" * 32,
    "run_id": "image:default:x",
    "url": "https://elsewhere.example.com/",
    "time": "2026-11-24T12:00:00Z",
    "failure": {"run_id": "image:default:x", "status": "failed", "type": "X", "message": "x"},
}


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def server() -> AsyncIterator[Receiver]:
    async with run_receiver() as running:
        yield running


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def telling(tmp_path_factory: pytest.TempPathFactory, server: Receiver) -> AsyncIterator[Stack]:
    """Run a stack whose runs may notify the receiver and hosts that do not exist."""
    folder = tmp_path_factory.mktemp("telling")
    async with run_stack(sqlite_url(folder), (folder / "images").as_uri(), **server.settings()) as running:
        yield running


@pytest.fixture
def receiver(server: Receiver) -> Receiver:
    """Return the receiver, emptied."""
    server.received.clear()
    server.answers.clear()
    return server


def asking(receiver: Receiver, prompt: str = "A cup", **fields: Any) -> dict[str, Any]:
    return {**CONTRACT, "prompt": prompt, "notify": {"url": receiver.url}, **fields}


def read_event(received: Received, secret: str = SECRET) -> dict[str, Any]:
    """Parse an event after verifying its signature by the specification's own library."""
    event: dict[str, Any] = Webhook(secret).verify(received.body, received.headers)
    namespace = event["source"].removeprefix("urn:gpt-image-runs:namespace:")
    assert received.headers["webhook-id"] == message_id_for(event["id"], namespace)
    assert received.headers["content-type"] == "application/cloudevents+json"
    return event


async def notification_of(
    stack: Stack, handle: WorkflowHandle[Any, Any], event: Any, url: str
) -> WorkflowHandle[Any, Any]:
    """Return the workflow of a notification, which must exist once the run is over."""
    execution = (await handle.describe()).run_id
    event_id = event_id_for(handle.id, event, execution)
    return stack.client.get_workflow_handle(notification_id_for(handle.id, event_id, url))


async def test_completed_run_sends_its_result_signed(telling: Stack, receiver: Receiver) -> None:
    """The receiver gets the run's result, exactly as its caller does, signed with each of the secrets."""
    run_id = new_run_id("acme")
    handle = await telling.start(asking(receiver, tenant="acme"), run_id=run_id)
    result = await handle.result()
    (told,) = await receiver.until(1)

    event = read_event(told)
    assert told.path == "/hook?token=t"
    assert read_event(told, OTHER_SECRET) == event
    assert event.pop("id").startswith("evt_")
    assert event.pop("time").endswith("Z")
    assert event == {
        "specversion": "1.0",
        "source": "urn:gpt-image-runs:namespace:default",
        "type": "gpt-image-runs.run.completed",
        "subject": run_id,
        "datacontenttype": "application/json",
        "dataschema": "urn:gpt-image-runs:run-result",
        "data": result,
    }
    notification = await notification_of(telling, handle, "completed", receiver.url)
    assert (await notification.result())["http_status"] == 204
    described = await notification.describe()
    assert described.typed_search_attributes.get(names.TENANT) == "acme"
    assert await described.static_summary() == f"completed: told to {receiver.host}"


async def test_event_ids_of_two_namespaces_differ() -> None:
    """Runs of the same id that end in two namespaces are two messages, also where a receiver knows them by `webhook-id` alone."""
    event_id = event_id_for("image:acme:req-1", "completed", "")
    ids = [message_id_for(event_id, namespace) for namespace in ("default", "default", "staging.a1b2c")]

    assert ids[0] == ids[1] != ids[2]
    assert all(re.fullmatch(f"{event_id}-[0-9a-f]{{8}}", each) for each in ids)


async def test_run_without_notify_has_no_additional_event(telling: Stack) -> None:
    result = await telling.run({**CONTRACT, "prompt": "A quiet cup"})
    kinds = event_names(await telling.events(result.run_id))

    assert len(kinds) <= 20
    assert not [kind for kind in kinds if "CHILD" in kind]


async def test_notification_is_retried_with_the_same_id_and_body(telling: Stack, receiver: Receiver) -> None:
    """The run is over while its receiver fails; each attempt has the same id and body, and a signature of its own."""

    async def break_off(request: web.Request) -> web.StreamResponse:
        assert request.transport
        request.transport.close()
        return web.Response()

    later = web.Response(status=503, headers={"retry-after": "2"})
    receiver.answers.extend([break_off, later])
    handle = await telling.start(asking(receiver, "A cup whose receiver is away"))
    await handle.result()
    notification = await notification_of(telling, handle, "completed", receiver.url)
    delivery = await notification.result()

    assert delivery["attempts"] == len(receiver.received) == 3
    assert len({told.headers["webhook-id"] for told in receiver.received}) == 1
    assert len({told.body for told in receiver.received}) == 1
    times = [int(told.headers["webhook-timestamp"]) for told in receiver.received]
    assert times[2] - times[1] >= 2  # as the receiver has asked
    assert times == sorted(times)
    for told in receiver.received:
        read_event(told)


@pytest.mark.parametrize(
    ("status", "words"),
    [(410, "no longer exists"), (401, "was rejected"), (404, "was rejected"), (307, "a redirect")],
)
async def test_rejected_notification_is_not_retried(
    telling: Stack, receiver: Receiver, status: int, words: str
) -> None:
    """A receiver that says no is asked once, a redirect is not followed, and the run has its result all the same."""
    there = receiver.url.replace("/hook", "/elsewhere")
    receiver.answers.append(web.Response(status=status, headers={"location": there}))
    handle = await telling.start(asking(receiver, f"A cup and {status}"))
    assert RunResult.model_validate(await handle.result()).billing.state == "billed"
    notification = await notification_of(telling, handle, "completed", receiver.url)
    failure = await fail(notification)

    assert (failure.type, len(receiver.received)) == ("NotificationRejected", 1)
    assert words in failure.message
    assert "token" not in failure.message


async def fail(handle: WorkflowHandle[Any, Any]) -> ApplicationError:
    with pytest.raises(WorkflowFailureError) as raised:
        await asyncio.wait_for(handle.result(), 60)
    assert isinstance(raised.value.cause, ApplicationError)
    return raised.value.cause


async def test_failed_runs_send_their_failure(telling: Stack, receiver: Receiver) -> None:
    """A run that the provider rejects, that is refused, and that somebody gives up: each tells its type and its words."""
    rejected = await telling.start(asking(receiver, "A cup [simulate:moderation_blocked]"))
    refused = await telling.start(asking(receiver, "A cup too large", size="10x10"))
    telling.simulator.script("reset_after_payment", match="A cup to give up")
    given_up = await telling.start(asking(receiver, "A cup to give up", unknown_outcome="hold"))
    await until_held(given_up)
    await decide(given_up, GIVE_UP)
    failures = {handle.id: await fail(handle) for handle in (rejected, refused, given_up)}
    await receiver.until(3)

    told = {event["subject"]: event for event in map(read_event, receiver.received)}
    assert [told[run].get("type") for run in failures] == ["gpt-image-runs.run.failed"] * 3
    assert {failure.type for failure in failures.values()} == {"ContentRefused", "RequestRefused", "GivenUp"}
    for run, failure in failures.items():
        assert told[run]["data"] == {
            "run_id": run,
            "status": "failed",
            "type": failure.type,
            "message": failure.message,
        }


async def test_cancelled_run_sends_its_end(telling: Stack, receiver: Receiver) -> None:
    """A run that is cancelled before it has a picture ends as cancelled, and says so."""
    telling.simulator.script("reset_after_payment", match="A cup to cancel")
    handle = await telling.start(asking(receiver, "A cup to cancel", unknown_outcome="hold"))
    await until_held(handle)
    await handle.cancel()
    with pytest.raises(WorkflowFailureError):
        await handle.result()
    (told,) = await receiver.until(1)

    assert (await handle.describe()).status is WorkflowExecutionStatus.CANCELED
    assert read_event(told)["type"] == "gpt-image-runs.run.cancelled"
    assert read_event(told)["data"]["status"] == "cancelled"


async def test_run_submitted_again_notifies_each_destination_once(telling: Stack, receiver: Receiver) -> None:
    """The same request again is told once, another destination of the same request hears of it too, under the same id."""
    payload, run_id = asking(receiver, "A cup asked for twice"), new_run_id()
    first = await telling.run(payload, run_id=run_id)
    again = await telling.run(payload, run_id=run_id)
    elsewhere = f"{receiver.url}&to=other"
    third = await telling.run({**payload, "notify": elsewhere}, run_id=run_id)
    await receiver.until(2)

    assert first.cost == again.cost == third.cost
    assert len(telling.calls(run_id)) == 1
    events = [read_event(told) for told in receiver.received]
    assert len(events) == 2
    assert events[0]["id"] == events[1]["id"]
    assert {told.path for told in receiver.received} == {"/hook?token=t", "/hook?token=t&to=other"}


async def test_failed_notification_is_sent_again_when_its_run_is_submitted_again(
    telling: Stack, receiver: Receiver
) -> None:
    """A notification that has failed is begun again by the same request, under the same id: the event is the same."""
    receiver.answers.append(404)
    payload, run_id = asking(receiver, "A cup told late"), new_run_id()
    handle = await telling.start(payload, run_id=run_id)
    await handle.result()
    await fail(await notification_of(telling, handle, "completed", receiver.url))

    await telling.run(payload, run_id=run_id)
    first, second = await receiver.until(2)
    assert first.headers["webhook-id"] == second.headers["webhook-id"]


async def reset(stack: Stack, run_id: str) -> None:
    """Reset a run to its beginning, as an operator does."""
    address = stack.client.service_client.config.target_host
    words = ("--workflow-id", run_id, "--type", "FirstWorkflowTask", "--reason", "once more")
    command = [str(find_temporal_binary()), "workflow", "reset", "--address", address, *words]
    await asyncio.to_thread(subprocess.run, command, check=True, capture_output=True)


async def test_reset_run_notifies_each_kind_of_end_once(telling: Stack, receiver: Receiver) -> None:
    """A run that was told to have failed, and fails again after a reset, is not told again; that it then completes is told."""
    prompt, run_id = "A cup that is begun anew", new_run_id()
    telling.simulator.script("moderation_blocked", "moderation_blocked", match=prompt)
    await fail(await telling.start(asking(receiver, prompt), run_id=run_id))
    await receiver.until(1)
    await reset(telling, run_id)
    await fail(telling.client.get_workflow_handle(run_id))
    await reset(telling, run_id)
    await telling.client.get_workflow_handle(run_id).result()
    told = [read_event(each)["type"] for each in await receiver.until(2)]

    assert told == ["gpt-image-runs.run.failed", "gpt-image-runs.run.completed"]
    assert len(telling.calls(run_id)) == 3


async def test_notification_gives_up_after_three_days(receiver: Receiver) -> None:
    """A receiver that always fails is asked for three days, ever more rarely; then the notification says what it answered."""
    receiver.answers.extend([503] * 100)
    destinations = Destinations.read(receiver.host, signed=True, loopback=True)
    notifier = Notifier(WebhookClient(destinations, [SECRET]))
    async with (
        skipping_time() as environment,
        Worker(
            environment.client,
            task_queue=names.RUNS_QUEUE,
            workflows=[Notification],
        ),
        Worker(environment.client, task_queue=names.NOTIFY_QUEUE, activities=[notifier.notify]),
    ):
        handle = await environment.client.start_workflow(
            names.NOTIFICATION,
            {**ORDER, "url": receiver.url},
            id="notify:x",
            task_queue=names.RUNS_QUEUE,
        )
        failure = await fail(handle)
        described = await handle.describe()

    assert failure.type == "NotificationGivenUp"
    assert "answered 503" in failure.message
    assert described.close_time is not None
    assert timedelta(hours=60) < described.close_time - described.start_time <= timedelta(hours=73)
    assert 15 <= len(receiver.received) <= 25


@pytest.mark.parametrize(
    ("url", "allowed"),
    [
        ("https://elsewhere.example.com/", "an address whose host and port are in the worker's setting"),
        ("https://hooks.example.com:8443/", "an address whose host and port are in the worker's setting"),
        ("http://hooks.example.com/", "an https address"),
        ("https://user:secret@hooks.example.com/", "without credentials"),
        ("https://hooks.example.com/#part", "without a fragment"),
        ("ftp://hooks.example.com/", "an https address"),
        ("https://127.0.0.1/", "an address whose host and port are in the worker's setting"),
    ],
)
async def test_destination_that_is_not_allowed_is_refused_before_payment(
    telling: Stack, receiver: Receiver, url: str, allowed: str
) -> None:
    """A run whose end may not be told there is refused, in words and without the address's secrets; nothing is paid."""
    run_id = new_run_id()
    failure = await telling.fail({**CONTRACT, "notify": {"url": url}}, run_id=run_id)

    assert failure.type == "RequestRefused"
    assert "notify.url is " in failure.message
    assert allowed in failure.message
    assert "secret" not in failure.message
    assert telling.calls(run_id) == []
    assert receiver.received == []


async def test_notify_without_configured_destinations_is_refused(stack: Stack) -> None:
    """Where no destinations are set, a request that names one is refused: it is not silently left untold."""
    failure = await stack.fail({**CONTRACT, "notify": "https://hooks.example.com/"})
    assert "nothing: no destinations are allowed here (the worker's setting NOTIFY_HOSTS)" in failure.message


async def test_notification_workflow_with_invalid_input_is_refused(
    telling: Stack, receiver: Receiver
) -> None:
    """Whoever starts a notification by hand is refused what no run would order: nothing hangs, and nothing is sent."""
    kinds = []
    orders: list[Any] = [None, [], {**ORDER, "failure": None}, {**ORDER, "url": "file:///x"}, ORDER]
    for number, payload in enumerate(orders):
        handle = await telling.client.start_workflow(
            names.NOTIFICATION, payload, id=f"notify:strange:{number}", task_queue=names.RUNS_QUEUE
        )
        kinds.append((await fail(handle)).type)

    assert kinds == ["RequestRefused"] * 4 + ["DestinationRefused"]
    assert receiver.received == []


async def test_refused_run_with_the_longest_id_is_notified(telling: Stack, receiver: Receiver) -> None:
    """A refused run under an id as long as Temporal takes is told like any other, and does not hang."""
    run_id = "x" * 990
    failure = await telling.fail(asking(receiver, n=11), run_id=run_id)
    (told,) = await receiver.until(1)

    assert read_event(told)["subject"] == run_id
    assert read_event(told)["data"]["type"] == failure.type == "RequestRefused"


async def test_economy_line_with_notify_is_refused(receiver: Receiver) -> None:
    """A line that is paid in a batch of the provider has no run: it is refused, and not silently left untold."""
    destinations = Destinations.read(receiver.host, signed=True, loopback=True)
    policy = CheckPolicy(
        missing_usage="estimate",
        unknown_outcome="resend",
        retired_models="refuse",
        unpriced_models="hold",
        destinations=destinations,
    )
    checker = RequestChecker(Catalog.load("simulator"), RateCards.load(None), policy)
    payload = asking(receiver, request_id="line-1")

    assert checker.check(payload, "", "standard").notify == Notify(url=receiver.url)
    (problem,) = checker.check(payload, "", "batch").problems
    assert problem.field == "notify.url"
    assert problem.allowed.startswith("nothing in an economy batch: its lines have no run")


async def test_second_destination_of_a_running_run_is_warned_about(
    telling: Stack, receiver: Receiver
) -> None:
    """The same request with another destination is attached, and warned that this run does not tell it, without the first address."""
    telling.simulator.script("reset_after_payment", match="A cup for two")
    payload, run_id = asking(receiver, "A cup for two", unknown_outcome="hold"), new_run_id()
    handle = await telling.start(payload, run_id=run_id)
    await until_held(handle)

    elsewhere, _ = await submit(telling.client, {**payload, "notify": f"{receiver.url}&to=other"}, run_id)
    to_nobody, _ = await submit(telling.client, {**payload, "notify": None}, run_id)
    spelt_otherwise, _ = await submit(telling.client, {**payload, "notify": receiver.url}, run_id)
    await decide(handle, GIVE_UP)
    await receiver.until(1)

    receipts = (elsewhere, to_nobody, spelt_otherwise)
    assert {receipt.status for receipt in receipts} == {"attached"}
    assert ["will not notify yours" in " ".join(receipt.warnings) for receipt in receipts] == [
        True,
        False,
        False,
    ]
    assert "token" not in elsewhere.model_dump_json()


async def test_run_cancelled_before_its_first_worker_is_notified_once(
    receiver: Receiver, tmp_path: Path
) -> None:
    """A run that is cancelled while it waits for its first worker is told too, once; nothing is sent to the provider."""
    async with run_temporal() as client:
        handle: WorkflowHandle[Any, Any] = await client.start_workflow(
            names.WORKFLOW, asking(receiver), id=new_run_id("acme"), task_queue=names.RUNS_QUEUE
        )
        await handle.cancel()
        ledger, images = sqlite_url(tmp_path), (tmp_path / "images").as_uri()
        async with run_application(client, ledger, images, **receiver.settings()) as stack:
            with pytest.raises(WorkflowFailureError):
                await handle.result()
            (told,) = await receiver.until(1)

            assert (await handle.describe()).status is WorkflowExecutionStatus.CANCELED
            assert read_event(told)["type"] == "gpt-image-runs.run.cancelled"
            assert read_event(told)["subject"] == handle.id
            assert not stack.simulator.books.entries
            replayed = await HistoryReplay(
                WORKFLOWS, [RefuseSurplusArguments()], SandboxedWorkflowRunner()
            ).replay(await handle.fetch_history(), handle.id)
            assert replayed.words is None, replayed.words
