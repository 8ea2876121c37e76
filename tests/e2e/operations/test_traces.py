"""What real processes export to a real collector: one trace from the command to the request, and no text of anybody."""

import asyncio
import json
import os
import signal
import socket
import subprocess
import sys
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from temporalio.client import WorkflowHistory
from temporalio.worker import UnsandboxedWorkflowRunner

from gpt_image_runs.contracts.result import RunResult
from gpt_image_runs.temporal.replay import HistoryReplay
from tests.support.runs.batch_runs import start_site_batch
from tests.support.runs.command_line import Ended
from tests.support.servers.forked_program import ROOT, run_command
from tests.support.servers.otlp_receiver import Collector, Received, run_collector
from tests.support.servers.worker_site import Site, WorkerProcess, open_site, until
from workflows.payloads import RefuseSurplusArguments
from workflows.registry import WORKFLOWS

pytestmark = pytest.mark.asyncio(loop_scope="module")

PROMPT = "A secret lighthouse"


@dataclass(frozen=True)
class Told:
    """What a site's processes have told: spans to the collector, and the workers' log."""

    collector: Collector
    log: list[dict[str, Any]]
    history: WorkflowHistory


async def type_command(site: Site, *arguments: str) -> Ended:
    environment = {
        **os.environ,
        "TEMPORAL_ADDRESS": site.client.service_client.config.target_host,
        "IMAGE_STORE_URL": (site.folder / "images").as_uri(),
        "PROVIDER": "simulator",
        "DATA_DIR": str(site.folder / "data"),
    }
    return await run_command([*arguments, "--json"], environment)


async def generate(site: Site, request_id: str, prompt: str, *options: str) -> Ended:
    """Run the `generate` command."""
    return await type_command(
        site, "generate", prompt, "--model", "gpt-image-1", "--request-id", request_id, *options
    )


async def run_interrupted(site: Site, leaving: WorkerProcess) -> WorkerProcess:
    """Replace the worker of a run's workflow while the provider works."""
    site.simulator.script("delay=2", match="interrupted")
    begun = await generate(site, "interrupted", "interrupted", "--no-wait")
    assert begun.status == 0, begun.err
    await until(lambda: site.simulator.in_progress == 1)
    leaving.send_signal(signal.SIGTERM)
    assert await leaving.wait() == 0
    following = await site.start_worker("--only", "workflows")
    await site.client.get_workflow_handle("image:default:interrupted").result()
    return following


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def told(tmp_path_factory: pytest.TempPathFactory) -> Told:
    """Run two fleets: a run, a refused one, one with a replaced worker, and a batch; then stop both."""
    folder = tmp_path_factory.mktemp("traced")
    with pytest.MonkeyPatch.context() as patch:
        async with run_collector() as collector, open_site(folder) as site:
            patch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", collector.endpoint)
            fleets = [await site.start_worker("--only", fleet) for fleet in ("workflows", "provider")]
            site.simulator.script(
                "delay=1", match=PROMPT
            )  # long enough for the command to ask where the run is
            assert (await generate(site, "seen", PROMPT)).status == 0
            refused = await generate(site, "refused", f"{PROMPT} [simulate:moderation_blocked]")
            assert refused.status == 1
            fleets[0] = await run_interrupted(site, fleets[0])
            await start_site_batch(site, "traced", lines=2)
            await site.client.get_workflow_handle("batch:traced").result()
            history = await site.client.get_workflow_handle("image:default:interrupted").fetch_history()
            for fleet in fleets:
                fleet.send_signal(signal.SIGTERM)
                assert await fleet.wait() == 0
        log = [json.loads(line) for line in site.log.read_text().splitlines()]
    return Told(collector, log, history)


async def test_run_is_one_trace_from_the_command_to_the_provider_request(told: Told) -> None:
    """Each step of a run is a span under the one that caused it, in one trace that the command begins."""
    spans = told.collector.of_run("image:default:seen")
    named = {span.span_id: span.name for span in spans}
    tree = {span.name: named.get(span.parent_id) for span in spans}

    assert len({span.trace_id for span in spans}) == 1
    steps = ("check_request", "find_earlier_run", "call_gpt_image", "compute_cost", "record_billing")
    assert tree == {
        "StartUpdateWithStartWorkflow:ImageGeneration": None,
        "ValidateUpdate:submit": "StartUpdateWithStartWorkflow:ImageGeneration",
        "HandleUpdate:submit": "StartUpdateWithStartWorkflow:ImageGeneration",
        "RunWorkflow:ImageGeneration": "StartUpdateWithStartWorkflow:ImageGeneration",
        **{f"StartActivity:{name}": "RunWorkflow:ImageGeneration" for name in steps},
        **{f"RunActivity:{name}": f"StartActivity:{name}" for name in steps},
        "POST /images/generations": "RunActivity:call_gpt_image",
    }
    assert len(spans) == len(tree)
    services = Counter(span.service for span in spans)
    assert services == {"gpt-image-starter": 1, "gpt-image-worker": len(spans) - 1}


async def test_request_span_has_standard_attributes(told: Told) -> None:
    """The span of the HTTP request names model, attempt, status and the provider's own id, by the standard's names."""
    (span,) = [span for span in told.collector.of_run("image:default:seen") if span.name.startswith("POST ")]
    ids = {"gpt_image.attempt_id": "att_", "gpt_image.provider_request_id": "req_"}

    assert {name: span.attributes[name][:4] for name in ids} == ids
    assert {
        name: value for name, value in span.attributes.items() if name not in {*ids, "run_id", "server.port"}
    } == {
        "http.request.method": "POST",
        "http.response.status_code": 200,
        "server.address": "127.0.0.1",
        "gen_ai.operation.name": "generate_content",
        "gen_ai.output.type": "image",
        "gen_ai.provider.name": "simulator",
        "gen_ai.request.model": "gpt-image-1",
        "gen_ai.request.choice.count": 1,
        "gpt_image.attempt_number": 1,
        "workflow_id": "image:default:seen",
    }


async def test_log_lines_have_trace_and_span_ids(told: Told) -> None:
    """What a worker logs of a run names trace and span, and has the run's ids under the names that spans have."""
    spans = {span.span_id: span for span in told.collector.spans}
    lines = [line for line in told.log if line.get("workflow_id") == "image:default:seen"]

    assert {line["event"] for line in lines} >= {"provider_request_sent", "images_saved"}
    for line in lines:
        span = spans[line["span_id"]]
        assert line["trace_id"] == span.trace_id
        assert (line["workflow_id"], line["run_id"]) == (
            span.attributes["workflow_id"],
            span.attributes["run_id"],
        )


async def test_every_span_has_its_run_id(told: Told) -> None:
    """No span is without the id of its run or batch, and those of workers have Temporal's id of the execution too."""
    for span in told.collector.spans:
        assert span.attributes["workflow_id"].startswith(("image:default:", "batch:"))
        assert "run_id" in span.attributes or span.name.startswith("Start"), span.name


async def test_failed_spans_have_the_failure_type(told: Told) -> None:
    """The request, the activity and the run that fail say the type that operators know, and not the provider's words."""
    spans = told.collector.of_run("image:default:refused")
    failed = {span.name for span in spans if span.attributes.get("error.type") == "ContentRefused"}

    assert failed == {
        "RunWorkflow:ImageGeneration",
        "RunActivity:call_gpt_image",
        "POST /images/generations",
    }
    assert {span.span.status.message for span in spans} == {"", "ContentRefused"}


async def test_run_with_a_replaced_worker_has_each_span_once(told: Told) -> None:
    """The worker that replays a run exports what comes after, and nothing again; the run's span lasts from its beginning."""
    spans = told.collector.of_run("image:default:interrupted")
    counts = Counter(span.name for span in spans)

    assert set(counts.values()) == {1}
    assert {"RunWorkflow:ImageGeneration", "StartActivity:call_gpt_image", "RunActivity:record_billing"} <= (
        counts.keys()
    )
    assert len({span.trace_id for span in spans}) == 1
    times = {span.name: span.span for span in spans}
    whole, call = times["RunWorkflow:ImageGeneration"], times["RunActivity:call_gpt_image"]
    assert whole.start_time_unix_nano <= call.start_time_unix_nano
    assert whole.end_time_unix_nano >= call.end_time_unix_nano


async def test_traced_run_replays_without_tracing(told: Told) -> None:
    """Traces can be turned off while runs are under way: they are no part of what a workflow asks for."""
    player = HistoryReplay(WORKFLOWS, [RefuseSurplusArguments()], UnsandboxedWorkflowRunner())
    assert (await player.replay(told.history, "traced")).words is None


async def test_batch_run_has_its_own_trace_linked_to_the_batch(told: Told) -> None:
    """A batch's runs do not pile up in its trace: each begins one of its own, which links to the batch's."""
    batch = {span.trace_id for span in told.collector.of_run("batch:traced")}
    runs = [told.collector.of_run(f"image:default:traced-{number:06d}") for number in (1, 2)]

    assert len(batch) == 1
    for spans in runs:
        assert len({span.trace_id for span in spans}) == 1
        (first,) = [span for span in spans if not span.parent_id]
        assert [link.trace_id.hex() for link in first.span.links] == [*batch]
    assert len({spans[0].trace_id for spans in runs} | batch) == 3


async def test_spans_hold_no_prompt_key_or_provider_message(told: Told) -> None:
    """Neither a prompt nor the key nor the provider's words about them are in anything that was exported."""
    exported = b"".join(told.collector.bodies)
    assert exported
    for text in (PROMPT, "Cup number", "0123456789abcdef", "safety system", "Traceback"):
        assert text.encode() not in exported
    assert not any(span.span.events for span in told.collector.spans)


def list_polls(spans: list[Received]) -> list[str]:
    return [span.name for span in spans if "Query" in span.name]


async def test_polling_commands_are_not_traced(told: Told) -> None:
    """A command asks where its run is again and again; that is no part of the run."""
    assert list_polls(told.collector.spans) == []


async def test_silent_collector_does_not_fail_run_command_or_worker(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The run completes, the command and the worker end well, and each says once that the traces are lost."""
    with socket.create_server(("127.0.0.1", 0)) as silent:
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", f"http://127.0.0.1:{silent.getsockname()[1]}")
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_TIMEOUT", "1")
        monkeypatch.setenv("OTEL_BSP_SCHEDULE_DELAY", "100")
        async with open_site(tmp_path) as site:
            worker = await site.start_worker()
            ended = await generate(site, "untold", PROMPT)
            await until(lambda: "traces_not_delivered" in site.log.read_text())
            worker.send_signal(signal.SIGTERM)
            status = await worker.wait()
            log = site.log.read_text()

    assert status == 0
    assert ended.status == 0
    assert RunResult.model_validate(ended.document).billing.state == "billed"
    beside_progress = [line for line in ended.err.splitlines() if not line.startswith("image:default:")]
    assert beside_progress == ["! The trace of this command did not reach OTEL_EXPORTER_OTLP_ENDPOINT."]
    assert log.count("traces_not_delivered") == 1
    assert log.count("last_traces_not_sent") == 1
    assert "worker_stopped" in log


async def test_worker_with_an_invalid_otel_variable_does_not_start(tmp_path: Path) -> None:
    """A worker that is given one ends with a sentence that names it, and the exit status 1."""
    environment = {
        **os.environ,
        "DATA_DIR": str(tmp_path),
        "OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:9",
        "OTEL_SPAN_ATTRIBUTE_COUNT_LIMIT": "many",
    }
    ended = await asyncio.to_thread(
        subprocess.run,
        [sys.executable, str(ROOT / "worker.py")],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert ended.returncode == 1
    assert ended.stderr == (
        "An OTEL_* variable cannot be used: OTEL_SPAN_ATTRIBUTE_COUNT_LIMIT must be a non-negative integer but got many.\n"
    )


async def test_opentelemetry_is_not_imported_without_a_collector() -> None:
    """Where no collector is named, neither the worker nor the command line imports anything of OpenTelemetry."""
    code = """
import sys
import worker, cli.runs.submit, cli.session
from gpt_image_runs.settings import Settings
from gpt_image_runs.observability.tracing import begin_tracing, end_tracing, list_interceptors, get_span_ids
begin_tracing(Settings(), "gpt-image-worker")
assert (list_interceptors(), get_span_ids(), end_tracing(0)) == ([], {}, True)
sys.exit(sum(name.partition(".")[0] == "opentelemetry" for name in sys.modules))
"""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("OTEL_")}
    loaded = await asyncio.to_thread(
        subprocess.run, [sys.executable, "-c", code], cwd=ROOT, env=environment, check=False
    )
    assert loaded.returncode == 0
