"""The client against real servers: one application for the module, whose provider makes one picture at a time."""

import ast
import asyncio
import gc
import re
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import timedelta
from pathlib import Path
from types import FunctionType
from typing import Any

import pytest
import pytest_asyncio
from temporalio.client import Client as TemporalClient
from temporalio.service import RetryConfig

import gpt_image_runs
from gpt_image_runs import (
    BatchConflict,
    BatchNotFound,
    BatchOrder,
    BatchProgress,
    Client,
    DecisionRefused,
    EconomyOrder,
    ImageRequest,
    NoAnswer,
    RunCancelled,
    RunConflict,
    RunEnded,
    RunFailed,
    RunNotFound,
    RunRefused,
    TemporalUnavailable,
    run_id_for,
)
from gpt_image_runs.client.runs import await_result
from gpt_image_runs.contracts import names
from tests.support.runs.economy_runs import make_requests, new_batch_id, write_pages
from tests.support.servers.stack import Stack, run_stack, run_temporal, sqlite_url

pytestmark = pytest.mark.asyncio(loop_scope="module")

UNKNOWN = "image:acme:nobody-asked"
SHORT = timedelta(seconds=1)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def stack(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Stack]:
    folder = tmp_path_factory.mktemp("client")
    images = (folder / "images").as_uri()
    async with run_stack(sqlite_url(folder), images, provider_concurrency=1) as running:
        yield running


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def client(stack: Stack) -> Client:
    return await Client.connect(stack.client.service_client.config.target_host)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def idle() -> AsyncIterator[Client]:
    """Return a client of a server without workers."""
    async with run_temporal() as temporal:
        yield Client(temporal)


def make_request(prompt: str = "A cup", **changes: Any) -> ImageRequest:
    fields = {"model": "gpt-image-2", "size": "1024x1024", "quality": "low", "tenant": "acme"}
    return ImageRequest(**{**fields, "prompt": prompt, "request_id": f"r-{uuid.uuid4().hex}", **changes})


async def until(condition: Callable[[], Awaitable[bool]]) -> None:
    async with asyncio.timeout(60):
        while not await condition():
            await asyncio.sleep(0.05)


async def hold(client: Client, stack: Stack, prompt: str) -> str:
    """Submit a request whose answer is lost after it was paid, and return the run's id once it waits for a decision."""
    stack.simulator.script("reset_after_payment", match=prompt)
    submitted = await client.submit(make_request(prompt, unknown_outcome="hold"))

    async def is_held() -> bool:
        return (await submitted.status()).stage == "held"

    await until(is_held)
    return submitted.run_id


async def test_submit_returns_receipt_then_result_with_image_bytes(client: Client, stack: Stack) -> None:
    request = make_request("A cup that is submitted")
    submitted = await client.submit(request)
    result = await submitted.result()
    (data,) = await client.images(result)

    assert submitted.receipt.status == "accepted"
    # 196 tokens of a picture at 30 micro-USD, and at most 123 of input at 8: the prompt's 23 bytes and 100 around it
    assert submitted.receipt.price_ceiling_usd == "0.006864"
    assert (len(data), data[:4]) == (result.images[0].bytes, b"\x89PNG")
    assert (await client.status(submitted.run_id)).stage == "completed"
    assert await client.result(submitted.run_id) == result
    assert await client.images(submitted.run_id) == (data,)


async def test_submit_again_attaches_and_is_one_bill(client: Client, stack: Stack) -> None:
    request = make_request("A cup that is submitted twice")
    # More than Temporal lets wait at a time.
    submissions = await asyncio.gather(*(client.submit(dict(request)) for _ in range(25)))
    results = await asyncio.gather(*(submission.result() for submission in submissions))
    late = await client.submit(request.model_dump(mode="json"))

    statuses = [submission.receipt.status for submission in submissions]
    # None is accepted where the start's own answer was lost and the run was over when the server was asked again.
    assert statuses.count("accepted") <= 1
    assert set(statuses) <= {"accepted", "attached"}
    assert late.receipt.paid_before
    assert {result.billing.entry_id for result in [*results, await late.result()]} == {
        stack.entries(late.run_id)[0].entry_id
    }
    assert len(stack.calls(late.run_id)) == len(stack.entries(late.run_id)) == 1


async def test_submit_other_content_is_a_conflict(client: Client) -> None:
    first = await client.submit(make_request("A cup"))
    await first.result()
    other = make_request("A plate", request_id=first.run_id.rpartition(":")[2])

    with pytest.raises(RunConflict, match="with other content") as conflict:
        await client.submit(other)

    assert conflict.value.run_id == first.run_id
    assert [difference.field for difference in conflict.value.differences] == ["prompt"]


@pytest.mark.parametrize(
    ("changes", "fields"),
    [({"n": 11, "size": "big"}, ["n", "size"]), ({"request_id": None}, ["request_id"])],
)
async def test_submit_malformed_request_is_refused_before_it_is_sent(
    idle: Client, changes: dict[str, Any], fields: list[str]
) -> None:
    payload = {**make_request().model_dump(mode="json"), **changes}

    with pytest.raises(RunRefused, match="nothing was sent") as refused:
        await idle.submit(payload)

    assert [problem.field for problem in refused.value.problems] == fields
    assert refused.value.run_id is None


async def test_submit_what_the_model_does_not_allow_is_refused_by_the_worker(client: Client) -> None:
    request = make_request(quality="superb")

    with pytest.raises(RunRefused) as refused:
        await client.submit(request)
    with pytest.raises(RunRefused) as failed:
        await client.result(str(refused.value.run_id))
    with pytest.raises(RunRefused) as unquoted:
        await client.quote(request)

    assert [problem.field for problem in refused.value.problems] == ["quality"]
    assert refused.value.problems == failed.value.problems == unquoted.value.problems


async def test_submit_waits_until_the_owner_of_the_request_id_gets_its_receipt(
    client: Client, stack: Stack
) -> None:
    """Beside an execution that a program has started plainly with other content the owner gets no receipt: it is asked again."""
    request = make_request("A cup that is paid")
    first = await (await client.submit(request)).result()
    # The only place at the provider is taken, so that the other execution stays open.
    slow = await client.submit(make_request("Slow [simulate:delay=4]"))
    while not stack.simulator.in_progress:
        await asyncio.sleep(0.02)
    other = await stack.start({**dict(request), "prompt": "A plate"}, run_id=first.run_id)

    again = await client.submit(request)

    assert (await again.result()).billing == first.billing
    with pytest.raises(RunConflict):
        await await_result(client.temporal, other)
    await slow.result()


async def test_decide_give_up_ends_a_held_run(client: Client, stack: Stack) -> None:
    run_id = await hold(client, stack, "A cup that is given up")
    with pytest.raises(DecisionRefused, match="reason is"):
        await client.decide(run_id, "give_up", reason="", actor="ann")

    taken = await client.decide(run_id, "give_up", reason="not needed", actor="ann")

    assert (taken.run_id, taken.stage) == (run_id, "failed")
    with pytest.raises(RunFailed, match="GivenUp") as failed:
        await client.result(run_id)
    assert failed.value.failure_type == "GivenUp"
    with pytest.raises(RunEnded):
        await client.decide(run_id, "resend", reason="after all", actor="ann")


async def test_decide_about_a_run_that_does_not_wait_is_refused(client: Client) -> None:
    submitted = await client.submit(make_request("Slow [simulate:delay=1]"))

    with pytest.raises(DecisionRefused):
        await client.decide(submitted.run_id, "resend", reason="hurry", actor="ann")

    await submitted.result()


async def test_cancel_ends_a_held_run_and_leaves_an_ended_one(client: Client, stack: Stack) -> None:
    run_id = await hold(client, stack, "A cup that is cancelled")
    await client.cancel(run_id)

    with pytest.raises(RunCancelled, match=run_id):
        await client.result(run_id)
    await client.cancel(run_id)


async def test_unknown_run_is_not_found(client: Client) -> None:
    for ask in (client.status, client.result, client.cancel):
        with pytest.raises(RunNotFound, match=UNKNOWN):
            await ask(UNKNOWN)
    with pytest.raises(RunNotFound, match=UNKNOWN):
        await client.decide(UNKNOWN, "resend", reason="hurry", actor="ann")


async def test_quote_gives_the_price_and_starts_nothing(client: Client, stack: Stack) -> None:
    request = make_request("A cup")
    quoted = await client.quote(request)

    assert (quoted.expected_usd, quoted.ceiling_usd) == ("0.005880", "0.006720")
    with pytest.raises(RunNotFound):
        await client.status(run_id_for("acme", str(request.request_id)))


async def test_connection_with_the_sdk_s_converter_is_enough(stack: Stack) -> None:
    plain = await TemporalClient.connect(stack.client.service_client.config.target_host)

    submitted = await Client(plain).submit(make_request("A cup in plain JSON"))

    assert (await submitted.result()).billing.state == "billed"


async def test_batch_is_started_attached_to_and_asked(client: Client, stack: Stack) -> None:
    batch_id = new_batch_id()
    requests = make_requests(batch_id, ["A cup [simulate:delay=1]", "A plate"])
    economy = await write_pages(stack.store, batch_id, requests)
    order = BatchOrder(batch_id=batch_id, digest=economy.digest, lines=2, pages=1)

    started, again = await client.start_batch(order), await client.start_batch(order)
    assert (started.attached, again.attached) == (False, True)
    with pytest.raises(BatchConflict, match="stands for other lines already"):
        await client.start_batch(order.model_copy(update={"digest": "0" * 64}))
    with pytest.raises(BatchConflict, match="at the standard price already"):
        await client.start_batch(economy)

    ended = await started.result()
    assert isinstance(ended, BatchProgress)
    assert (ended.done, ended.lines) == (2, 2)
    assert await client.batch_progress(batch_id) == ended


async def test_economy_batch_is_asked(client: Client, stack: Stack) -> None:
    batch_id = new_batch_id()
    order = await write_pages(stack.store, batch_id, make_requests(batch_id, ["A cup"]))
    assert isinstance(order, EconomyOrder)

    await client.start_batch(order)

    assert (await client.economy_progress(batch_id)).stage != "done"
    await stack.client.get_workflow_handle(order.workflow_id).signal(names.SIGNAL_CANCEL)


async def test_unknown_batch_is_not_found(client: Client) -> None:
    for ask in (client.batch_progress, client.economy_progress):
        with pytest.raises(BatchNotFound, match="no-such-batch"):
            await ask("no-such-batch")


async def test_submit_without_a_worker_starts_the_run_and_reports_no_answer(idle: Client) -> None:
    """The run is started, and who submits it again attaches to it once a worker polls."""
    request = make_request("A cup without a worker")
    run_id = run_id_for("acme", str(request.request_id))

    with pytest.raises(NoAnswer, match="with the same request id") as silent:
        await idle.submit(request, max_wait=SHORT)
    with pytest.raises(NoAnswer, match="no quote"):
        await idle.quote(request, max_wait=SHORT)
    with pytest.raises(NoAnswer, match=run_id):
        await idle.status(run_id, max_wait=SHORT)
    with pytest.raises(NoAnswer, match="not known whether the decision"):
        await idle.decide(run_id, "resend", reason="hurry", actor="ann", max_wait=SHORT)

    assert silent.value.run_id == run_id


async def test_more_submissions_than_temporal_lets_wait_are_tried_until_their_time_is_over(
    idle: Client, caplog: pytest.LogCaptureFixture
) -> None:
    """The SDK tries again for ten seconds, here for a moment; what it gives up is no reason to give up the request."""
    address = idle.temporal.service_client.config.target_host
    impatient = await Client.connect(
        address,
        retry_config=RetryConfig(initial_interval_millis=10, max_elapsed_time_millis=50, max_retries=1),
    )
    request = make_request("A cup that many want")

    ends = await asyncio.gather(
        *(impatient.submit(request, max_wait=timedelta(seconds=3)) for _ in range(12)), return_exceptions=True
    )
    gc.collect()

    assert [type(end) for end in ends] == [NoAnswer] * 12
    assert any("in-flight updates" in str(end) for end in ends)
    assert "never retrieved" not in caplog.text


async def test_caller_s_own_timeout_and_cancellation_stay_its_own(idle: Client) -> None:
    """The SDK turns the cancellation of an Update into an error; a caller that cancels must see its cancellation."""
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.5):
            await idle.submit(make_request("A cup that nobody waits for"))
    submitting = asyncio.create_task(idle.submit(make_request("A cup that is hung up on")))
    await asyncio.wait({submitting}, timeout=0.3)
    submitting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await submitting


async def test_connect_without_a_server_says_what_to_set(
    unused_tcp_port: int, monkeypatch: pytest.MonkeyPatch, tmp_path: Any
) -> None:
    monkeypatch.setenv("TEMPORAL_CONFIG_FILE", str(tmp_path / "none.toml"))
    monkeypatch.delenv("TEMPORAL_ADDRESS", raising=False)
    with pytest.raises(TemporalUnavailable, match="set TEMPORAL_ADDRESS"):
        await Client.connect()

    monkeypatch.setenv("TEMPORAL_ADDRESS", f"127.0.0.1:{unused_tcp_port}")
    with pytest.raises(
        TemporalUnavailable, match=f"No Temporal server answers at 127.0.0.1:{unused_tcp_port}"
    ):
        await Client.connect()


async def test_connect_with_options_of_temporalio_names_what_is_wrong_with_them(idle: Client) -> None:
    address = idle.temporal.service_client.config.target_host

    with pytest.raises(TemporalUnavailable, match="the server does not speak TLS, and TLS is on"):
        await Client.connect(address, tls=True)


PAGE = Path(__file__).parents[2] / "docs" / "how-to" / "client.md"
SNIPPETS = dict(
    re.findall(r"^## ([^\n]+)\n\n```python\n(.*?)```$", PAGE.read_text("utf-8"), re.MULTILINE | re.DOTALL)
)


async def run_snippets(names: dict[str, Any], *headings: str) -> None:
    """Run snippets of docs/how-to/client.md as they stand, one after the other with the same names."""
    for heading in headings:
        code = compile(SNIPPETS[heading], PAGE.name, "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
        await FunctionType(code, names)()


async def test_page_of_the_client_runs_as_it_stands(
    client: Client, stack: Stack, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TEMPORAL_ADDRESS", stack.client.service_client.config.target_host)
    monkeypatch.chdir(tmp_path)
    batch_id = new_batch_id()
    economy = await write_pages(stack.store, batch_id, make_requests(batch_id, ["A cup"]))
    order = BatchOrder(batch_id=batch_id, digest=economy.digest, lines=1, pages=1)
    (tmp_path / "order.json").write_text(order.model_dump_json())
    public = {name: getattr(gpt_image_runs, name) for name in gpt_image_runs.__all__}
    names: dict[str, Any] = {**public, "Path": Path}
    simple = ["Connect", "Submit", "Result", "Images", "Quote", "Batches"]

    await run_snippets(names, *simple)
    names["run_id"] = names["submission"].run_id
    await run_snippets(names, "Status")
    names["run_id"] = await hold(client, stack, "A cup that the page decides about")
    await run_snippets(names, "Decide")
    names["run_id"] = await hold(client, stack, "A cup that the page cancels")
    await run_snippets(names, "Cancel")

    assert SNIPPETS.keys() == {*simple, "Status", "Decide", "Cancel"}
    assert (names["status"].stage, names["taken"].stage, names["summary"].done) == ("completed", "failed", 1)
    assert (tmp_path / "cover-1.png").read_bytes()[:4] == b"\x89PNG"


async def test_page_of_the_client_names_every_method_and_error() -> None:
    named = set(re.findall(r"`([A-Za-z_]+)", PAGE.read_text("utf-8")))
    used = set(re.findall(r"client\.([a-z_]+)\(", PAGE.read_text("utf-8")))
    errors = {name for name in gpt_image_runs.__all__ if is_error(getattr(gpt_image_runs, name))}

    assert {name for name in vars(Client) if not name.startswith("_")} <= named | used | {
        "connect",
        "temporal",
    }
    assert errors <= named


def is_error(found: Any) -> bool:
    return isinstance(found, type) and issubclass(found, Exception)
