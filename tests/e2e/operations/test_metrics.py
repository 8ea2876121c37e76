"""What a real worker shows to Prometheus after real runs of every kind."""

import asyncio
import os
import socket
import sys
from pathlib import Path

import pytest
import pytest_asyncio

from activities.metrics import OTHER, list_error_types
from gpt_image_runs.local_stack.processes import choose_port
from tests.support.deploy.exposition import Exposition, scrape, show_runs
from tests.support.runs.economy_runs import finish, make_requests, start, write_pages
from tests.support.servers.forked_program import ROOT
from tests.support.servers.worker_site import open_site

pytestmark = pytest.mark.asyncio(loop_scope="module")

# Every label of ours, and all that it can be in these runs.
BOUNDED = {
    "outcome": {"succeeded", "rejected", "not_sent", "unknown"},
    "error_type": {"none", OTHER, *(error_type for error_type, _ in list_error_types())},
    "simulated": {"true", "false"},
    "model": {"gpt-image-1", OTHER},
    "kind": {"charge", "estimate", "hold", "adjustment", "reversal"},
    "token_class": {"input", "output", "text_in", "image_in", "text_out", "image_out"},
    "state": {"pending", "estimated"},
    "period": {"month", "day"},
    "use": {"any", "80_percent", "100_percent"},
}


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def shown(tmp_path_factory: pytest.TempPathFactory) -> Exposition:
    return await show_runs(tmp_path_factory.mktemp("shown"))


async def test_attempts_are_counted_by_outcome(shown: Exposition) -> None:
    """Three were answered, one answer was lost, one was refused for its prompt and one for its model."""
    assert shown.find("gpt_image_attempts_total", simulated="true") == {
        ("none", "succeeded"): 3,
        ("AnswerLost", "unknown"): 1,
        ("ContentRefused", "rejected"): 1,
        ("ModelNotFound", "rejected"): 1,
    }
    assert shown.find("gpt_image_provider_latency_seconds_count") == {
        ("gpt-image-1", "succeeded", "true"): 3,
        ("gpt-image-1", "unknown", "true"): 1,
        ("gpt-image-1", "rejected", "true"): 1,
        (OTHER, "rejected", "true"): 1,
    }


async def test_every_failure_type_is_exported_before_it_happens(shown: Exposition) -> None:
    """A series that began with its first failure would not have risen, and an alert would miss that failure."""
    there = {
        (sample.labels["error_type"], sample.labels["outcome"])
        for sample in shown.samples
        if sample.name == "gpt_image_attempts_total"
    }
    assert there >= {*list_error_types(), ("none", "succeeded")}
    assert ("AuthenticationFailed", "rejected") in there


async def test_entries_are_counted_with_images_and_tokens(shown: Exposition) -> None:
    """Two charges and an estimate, each of one picture. They come to 10 and 40 micro-USD for each token that is shown, of which those
    of the estimate are estimated.
    """
    assert shown.find("gpt_image_entries_total") == {("charge", "true"): 2, ("estimate", "true"): 1}
    assert shown.find("gpt_image_images_total") == {("gpt-image-1", "true"): 3}
    tokens = shown.find("gpt_image_tokens_total", model="gpt-image-1", simulated="true")
    assert tokens.keys() == {("input",), ("output",)}
    (charge,) = shown.find("gpt_image_charge_micro_usd_total").values()
    assert charge == 10 * tokens["input",] + 40 * tokens["output",]
    assert shown.find("gpt_image_list_cost_micro_usd_total").keys() == {("gpt-image-1", "true")}


async def test_gauges_show_pending_bills_and_used_budgets(shown: Exposition) -> None:
    """The bill that was on hold before the worker began is pending, and the budget of nothing is used up."""
    assert shown.find("gpt_image_waiting_bills") == {("false", "pending"): 1}
    assert shown.find("gpt_image_highest_budget_use_percent") == {("month",): 100}
    assert shown.find("gpt_image_budgets", use="100_percent") == {("month",): 1}
    assert shown.find("gpt_image_standing_read_timestamp_seconds")


async def test_labels_have_a_fixed_set_of_values(shown: Exposition) -> None:
    """Labels of ours have a few values known beforehand; no tenant, run or prompt is shown, and no model that a caller made up."""
    ours = [sample for sample in shown.samples if sample.name.startswith("gpt_image_")]
    for sample in ours:
        for label, value in sample.labels.items():
            if label not in {"service_name", "le"}:
                assert value in BOUNDED[label], sample
    assert {label for sample in ours for label in sample.labels} == BOUNDED.keys() | {"service_name", "le"}
    for secret in ("acme", "lost once", "image:default", "my-own-image-model"):
        assert secret not in shown.text


async def test_worker_with_a_taken_metrics_port_does_not_start(tmp_path: Path) -> None:
    """A worker whose METRICS_ADDRESS another program has ends with a sentence and the exit status 1."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            str(ROOT / "worker.py"),
            env={**os.environ, "DATA_DIR": str(tmp_path), "METRICS_ADDRESS": address},
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
        _, told = await process.communicate()

    assert process.returncode == 1
    assert told.decode() == (
        f"METRICS_ADDRESS is {address}, and metrics cannot be served there (Address already in use (os error 98))."
        " Give each worker on a host its own free port, at an address of this host.\n"
    )


async def test_two_workers_on_one_host_export_their_own_metrics(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two fleets at ports of their own: the one shows the provider's queue, the other the ledger, and each its own alone."""
    addresses = {}
    async with open_site(tmp_path) as site:
        for fleet in ("workflows", "provider"):
            addresses[fleet] = f"127.0.0.1:{choose_port()}"
            monkeypatch.setenv("METRICS_ADDRESS", addresses[fleet])
            await site.start_worker("--only", fleet)
        await (await site.start_run("together", model="gpt-image-1")).result()
        shown = {fleet: scrape(address) for fleet, address in addresses.items()}

    assert shown["workflows"].find("gpt_image_entries_total") == {("charge", "true"): 1}
    assert shown["provider"].find("gpt_image_attempts_total") == {("none", "succeeded", "true"): 1}
    assert shown["workflows"].find("gpt_image_attempts_total") == {}
    assert "gpt_image_standing" not in shown["provider"].text


async def test_economy_lines_count_as_attempts_without_latency(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Lines of a batch of the provider count like runs by themselves, but a day in line is no latency of the provider."""
    async with open_site(tmp_path) as site:
        address = f"127.0.0.1:{choose_port()}"
        monkeypatch.setenv("METRICS_ADDRESS", address)
        await site.start_worker()
        requests = make_requests("metered", ["A cup", "A pot [simulate:moderation_blocked]"])
        order = await write_pages(site.store, "metered", requests)
        await finish(site.simulator, await start(site.client, order))
        shown = scrape(address)

    assert shown.find("gpt_image_attempts_total", simulated="true") == {
        ("none", "succeeded"): 1,
        ("ContentRefused", "rejected"): 1,
    }
    assert shown.find("gpt_image_provider_latency_seconds_count") == {}
    assert shown.find("gpt_image_entries_total") == {("charge", "true"): 1}
    assert shown.find("gpt_image_images_total") == {("gpt-image-1", "true"): 1}
