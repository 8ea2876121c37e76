"""Any JSON at all, sent as a request: it is refused or it runs. Never a stuck task, never a call for a refused one."""

import asyncio
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from temporalio.client import WorkflowFailureError
from temporalio.exceptions import ApplicationError

from gpt_image_runs.contracts import names
from tests.support.servers.stack import CONTRACT, Stack, new_run_id

pytestmark = pytest.mark.asyncio(loop_scope="session")

SCALARS = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=20)
JSON = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)
FIELDS: dict[str, st.SearchStrategy[Any]] = {
    "model": st.sampled_from(["gpt-image-1", "gpt-image-2", "gpt-image-2.5-flare", "gpt-image-9", ""]),
    "prompt": st.text(min_size=0, max_size=40),
    "n": st.integers(-1, 11),
    "size": st.sampled_from(
        ["auto", "1024x1024", "1536x1024", "1280x768", "0x0", "16x16", "99999x99999", "1024X1024"]
    ),
    "quality": st.sampled_from(["auto", "low", "xhigh", "hd", "LOW"]),
    "background": st.sampled_from(["auto", "transparent", "green"]),
    "output_format": st.sampled_from(["png", "jpeg", "webp", "gif", "svg"]),
    "output_compression": st.integers(-1, 101),
    "moderation": st.sampled_from(["auto", "low", "off"]),
    "input_fidelity": st.sampled_from(["low", "high"]),
    "images": st.lists(st.sampled_from(["file:///etc/passwd", "data:,", "x"]), max_size=2),
    "tenant": st.sampled_from(["default", "acme", "Acme", "ä", "a/b"]),
    "metadata": st.dictionaries(st.text(max_size=5), st.text(max_size=5), max_size=2),
    "missing_usage": st.sampled_from(["estimate", "hold", "guess"]),
    "unknown_outcome": st.sampled_from(["resend", "hold", "guess"]),
    "stream": st.booleans(),
    "partial_images": st.integers(0, 4),
}
NEARLY_RIGHT = st.fixed_dictionaries({}, optional=FIELDS)
ANYTHING = st.one_of(
    NEARLY_RIGHT,
    NEARLY_RIGHT.map(lambda part: {**CONTRACT, **part}),
    st.tuples(st.sampled_from(sorted(FIELDS)), JSON).map(lambda pair: {**CONTRACT, pair[0]: pair[1]}),
    JSON,
)


async def try_it(stack: Stack, payload: Any) -> None:
    """Run one payload: refused without a trace, or sent exactly once and then billed or rejected by the provider."""
    run_id = new_run_id()
    handle = await stack.client.start_workflow(
        names.WORKFLOW, payload, id=run_id, task_queue=names.RUNS_QUEUE
    )
    async with asyncio.timeout(60):
        outcome: Any = (await asyncio.gather(handle.result(), return_exceptions=True))[0]
    failure = outcome.cause if isinstance(outcome, WorkflowFailureError) else None
    if isinstance(failure, ApplicationError) and failure.type == names.REQUEST_REFUSED:
        assert failure.details
        assert all(problem["field"] and problem["allowed"] for problem in failure.details)
        assert stack.calls(run_id) == []
    elif isinstance(failure, ApplicationError):
        # Our rules let it pass and the provider refused it: one request, nothing paid.
        assert failure.type in {"InvalidRequest", "ModelNotFound"}, failure
    else:
        workflow_id = outcome["run_id"]
        assert len(stack.calls(workflow_id)) == 1
        assert len(stack.entries(workflow_id)) == 1


async def test_any_payload_is_refused_or_runs(stack: Stack) -> None:
    """Three hundred payloads, from nearly right to nonsense, end refused, rejected or billed: none hangs or pays twice."""
    loop = asyncio.get_running_loop()

    @settings(max_examples=300, deadline=None, database=None, suppress_health_check=list(HealthCheck))
    @given(ANYTHING)
    def search(payload: Any) -> None:
        asyncio.run_coroutine_threadsafe(try_it(stack, payload), loop).result()

    await asyncio.to_thread(search)
