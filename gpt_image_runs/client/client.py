"""The client: everything a service does with runs, in one class."""

import asyncio
import dataclasses
from collections.abc import Mapping
from datetime import timedelta
from typing import Any
from uuid import uuid4

from temporalio.client import Client as TemporalClient
from temporalio.client import WorkflowFailureError
from temporalio.contrib.pydantic import PydanticPayloadConverter, pydantic_data_converter
from temporalio.envconfig import ClientConfig, ClientConnectConfig
from temporalio.exceptions import ApplicationError
from temporalio.service import RPCError

from gpt_image_runs.client import batches
from gpt_image_runs.client.connection_failures import explain_connection_failure
from gpt_image_runs.client.errors import (
    DecisionRefused,
    NoAnswer,
    RunEnded,
    RunRefused,
    TemporalUnavailable,
    read_failure,
    temporal_errors,
    wait_at_most,
)
from gpt_image_runs.client.pictures import read_image
from gpt_image_runs.client.runs import (
    ANSWER_TIME,
    RunHandle,
    await_result,
    cancel_run,
    query_status,
    send_decision,
    unknown_run_error,
)
from gpt_image_runs.client.submissions import Submission, submit_request
from gpt_image_runs.contracts import names
from gpt_image_runs.contracts.batches import BatchOrder, BatchProgress
from gpt_image_runs.contracts.decisions import Choice, Decision, DecisionTaken
from gpt_image_runs.contracts.economy import EconomyOrder, EconomyProgress
from gpt_image_runs.contracts.images import ImageRef
from gpt_image_runs.contracts.problems import InvalidPayload, Problem, describe_problems, parse
from gpt_image_runs.contracts.quote import Quote
from gpt_image_runs.contracts.request import ImageRequest
from gpt_image_runs.contracts.request_parsing import read_request
from gpt_image_runs.contracts.result import RunResult, RunStatus

_CONNECT_SECONDS = 10.0


class Client:
    """Submits image requests and manages their runs. One instance can serve a whole process and many concurrent tasks.

    `run_id` is always "image:TENANT:REQUEST_ID" (`gpt_image_runs.run_id_for`). `max_wait` limits how long to wait for a worker.
    Every method raises `TemporalUnavailable` if Temporal does not answer. All errors are `ClientError`s.
    """

    def __init__(self, temporal: TemporalClient) -> None:
        """Use an existing connection. Payloads are converted with pydantic, whatever the connection's converter is."""
        self._temporal = _with_pydantic(temporal)

    @classmethod
    async def connect(
        cls, address: str | None = None, *, namespace: str | None = None, **options: Any
    ) -> "Client":
        """Connect to Temporal: to `address`, such as "localhost:7233", or as the `TEMPORAL_*` settings say.

        `TEMPORAL_*` and its configuration file supply everything that is not given. `options` are those of `temporalio`'s
        `Client.connect`.

        Raises:
            TemporalUnavailable: no server is configured, or it does not answer; the message names the setting to check.
        """
        config = _load_config()
        if address is not None:
            config["target_host"] = address
        if namespace is not None:
            config["namespace"] = namespace
        # The explanation of a failure looks at these, too.
        if "tls" in options or "api_key" in options:
            config["tls"] = options.get("tls", config.get("tls") or bool(options.get("api_key")))
        if not config.get("target_host"):
            raise TemporalUnavailable(
                "No Temporal server is named. Give its address, such as Client.connect('localhost:7233'), or set TEMPORAL_ADDRESS."
            )
        settings: dict[str, Any] = {"data_converter": pydantic_data_converter, **config, **options}
        try:
            async with asyncio.timeout(_CONNECT_SECONDS):
                return cls(await TemporalClient.connect(**settings))
        except (RuntimeError, ValueError, RPCError, TimeoutError) as error:
            raise TemporalUnavailable(await explain_connection_failure(config, error)) from error

    @property
    def temporal(self) -> TemporalClient:
        """The underlying Temporal client."""
        return self._temporal

    async def submit(
        self, request: ImageRequest | Mapping[str, Any], *, max_wait: timedelta = ANSWER_TIME
    ) -> Submission:
        """Submit a request and return its receipt: accepted, or attached to the existing run with the same content.

        The request needs a `request_id`. Submitting the same one again, even after a crash of the caller, gives the same run and
        one bill.

        Raises:
            RunRefused: the request is not valid; the error lists all problems. Nothing was sent, and its request id stays free.
            RunConflict: its request id is already used for other content.
            NoAnswer: no receipt arrived in time. Submit it again with the same request id.
        """
        asked = _read(request)
        if asked.request_id is None:
            problem = Problem(
                field="request_id",
                value="absent",
                allowed="an id of your own for this image: the same id again is the same run and the same bill",
            )
            raise RunRefused(describe_problems((problem,)), problems=(problem,))
        run_id = names.run_id_for(asked.tenant, asked.request_id)
        return await submit_request(self._temporal, asked, run_id, max_wait)

    async def quote(
        self, request: ImageRequest | Mapping[str, Any], *, max_wait: timedelta = ANSWER_TIME
    ) -> Quote:
        """Return what a request would cost. Nothing is started or sent.

        Raises:
            RunRefused: the request is not valid; the error lists all problems.
            NoAnswer: no worker answered in time.
        """
        asked, quote_id = _read(request), f"quote:{uuid4()}"
        silence = NoAnswer(
            f"No worker answered within {max_wait.total_seconds():g} s, so there is no quote. `python starter.py doctor` says whether"
            " workers run."
        )
        asking = self._temporal.execute_workflow(
            names.PRICE_QUOTE,
            asked,
            id=quote_id,
            task_queue=names.RUNS_QUEUE,
            result_type=Quote,
            execution_timeout=max_wait,
        )
        with temporal_errors(self._temporal, no_answer=silence):
            try:
                quoted: Quote = await wait_at_most(max_wait, asking)
            except WorkflowFailureError as error:
                if not isinstance(error.cause, ApplicationError):
                    raise silence from error  # its own time limit came first
                raise read_failure(quote_id, error.cause) from error
            return quoted

    async def status(self, run_id: str, *, max_wait: timedelta = ANSWER_TIME) -> RunStatus:
        """Return the current stage of a run and what is known of it so far.

        Raises:
            RunNotFound: Temporal does not know it.
            NoAnswer: no worker answered in time.
        """
        return await query_status(self._temporal, self._handle(run_id), max_wait)

    async def result(self, run_id: str) -> RunResult:
        """Wait for a run to end and return its images and its bill.

        Uses the latest execution with this id. `Submission.result` is safer for your own request: it never returns the result
        of other content under the same id.

        Raises:
            RunNotFound: Temporal does not know it.
            RunRefused: it was refused and nothing was sent. `BudgetExceeded` if it is over its tenant's budget.
            RunConflict: its request id is already used for other content.
            RunFailed: it ended without a result. `RunCancelled` if it was cancelled.
        """
        return await await_result(self._temporal, self._handle(run_id))

    async def decide(
        self,
        run_id: str,
        decision: Choice,
        *,
        reason: str,
        actor: str,
        max_wait: timedelta | None = ANSWER_TIME,
    ) -> DecisionTaken:
        """Decide about a held run: "resend" its request, which may pay twice, or "give_up". `reason` and `actor` are recorded.

        Raises:
            DecisionRefused: it is not well-formed, or the run is not waiting for a decision.
            RunEnded: the run has ended.
            RunNotFound: Temporal does not know it.
            NoAnswer: no worker answered in time. Check the run's status before deciding again.
        """
        try:
            given = {"decision": decision, "reason": reason, "actor": actor}
            decided = parse(Decision, given, "decision")
        except InvalidPayload as error:
            raise DecisionRefused(str(error), run_id=run_id) from None
        handle = self._handle(run_id)
        silence = NoAnswer(
            f"No worker answered in time, so it is not known whether the decision about {run_id} was taken. Ask for its status.",
            run_id=run_id,
        )
        with temporal_errors(self._temporal, not_found=unknown_run_error(run_id), no_answer=silence):
            try:
                return await wait_at_most(max_wait, send_decision(handle, decided))
            except RPCError:
                # Temporal says "not found" of a run that has ended, too.
                if (await handle.describe()).close_time is not None:
                    sentence = f"The run {run_id} has ended, so there is nothing to decide."
                    raise RunEnded(sentence, run_id=run_id) from None
                raise

    async def cancel(self, run_id: str) -> None:
        """Cancel a run. A request that was already sent is completed and billed; a run that has ended stays as it is.

        Raises:
            RunNotFound: Temporal does not know it.
        """
        await cancel_run(self._temporal, self._handle(run_id))

    async def images(self, result: RunResult | str) -> tuple[bytes, ...]:
        """Read the images of a result, or of the run with this id, and check each against its hash.

        Images in a local store are read by path, those in S3 need the extra `app` and `AWS_*`.

        Raises:
            ImageUnavailable: an image cannot be read here.
        """
        found = await self.result(result) if isinstance(result, str) else result
        return tuple([await self.image(image) for image in found.images])

    async def image(self, image: ImageRef) -> bytes:
        """Read one image. See `images`."""
        return await read_image(image)

    async def start_batch(self, order: BatchOrder | EconomyOrder) -> batches.StartedBatch:
        """Start a batch, or attach to it. `starter.py batch run FILE --prepare` uploads its lines and prints the order.

        Raises:
            BatchConflict: its id is used for other lines, or for a batch at the other price.
        """
        with temporal_errors(self._temporal):
            return await batches.start_batch(self._temporal, order)

    async def batch_progress(
        self, batch_id: str, *, max_wait: timedelta = ANSWER_TIME
    ) -> BatchProgress | None:
        """Return a batch's progress; None before its first step.

        Raises:
            BatchNotFound: Temporal does not know it.
            NoAnswer: no worker answered in time.
        """
        return await batches.query_progress(self._temporal, batch_id, max_wait)

    async def economy_progress(self, batch_id: str, *, max_wait: timedelta = ANSWER_TIME) -> EconomyProgress:
        """Return an economy batch's progress. Errors as for `batch_progress`."""
        return await batches.query_economy(self._temporal, batch_id, max_wait)

    def _handle(self, run_id: str) -> RunHandle:
        return self._temporal.get_workflow_handle(run_id, result_type=RunResult)


def _load_config() -> ClientConnectConfig:
    try:
        return ClientConfig.load_client_connect_config()
    except (RuntimeError, ValueError, OSError) as error:
        raise TemporalUnavailable(f"The TEMPORAL_* settings cannot be used: {error}") from error


def _with_pydantic(temporal: TemporalClient) -> TemporalClient:
    """Return a client on the same connection that converts payloads with pydantic. A payload codec is kept."""
    converter = temporal.data_converter
    if issubclass(converter.payload_converter_class, PydanticPayloadConverter):
        return temporal
    config = temporal.config()
    config["data_converter"] = dataclasses.replace(
        converter, payload_converter_class=PydanticPayloadConverter
    )
    return TemporalClient(**config)


def _read(request: ImageRequest | Mapping[str, Any]) -> ImageRequest:
    reading = read_request(request if isinstance(request, ImageRequest) else dict(request))
    if reading.request is None:
        raise RunRefused(describe_problems(reading.problems), problems=reading.problems)
    return reading.request
