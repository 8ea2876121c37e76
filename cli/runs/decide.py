"""`decide`: resend the request of a held run, or give it up."""

import asyncio
from typing import Annotated, Literal

from temporalio.client import WorkflowExecutionStatus, WorkflowUpdateRPCTimeoutOrCancelledError
from temporalio.service import RPCError, RPCStatusCode
from typer import Argument, Option

from cli import options
from cli.errors import FAILED, INTERRUPTED, CommandFailed, RequestRefused
from cli.options import find_actor
from cli.output import Output
from cli.own_workers import check_own_workers
from cli.runs.follow import warn_without_worker
from cli.runs.lookup import KnownRun, find_in_temporal
from cli.runs.view import describe_lines
from cli.session import Session, open_session
from gpt_image_runs.client.errors import ClientError, DecisionRefused
from gpt_image_runs.client.runs import send_decision
from gpt_image_runs.contracts.decisions import Decision, DecisionTaken
from gpt_image_runs.contracts.problems import InvalidPayload, parse

_PATIENCE_SECONDS = 2.0


class DecisionInDoubt(CommandFailed):
    """Interrupted, or the server was lost, before the worker answered."""

    status = "running"

    def __init__(self, run_id: str, exit_status: int) -> None:
        super().__init__(
            f"It is not known whether the decision was taken. Check the run: python starter.py show {run_id}",
            exit_status=exit_status,
            run_id=run_id,
        )


def decide(
    *,
    run: options.Run,
    decision: Annotated[
        Literal["resend", "give-up"],
        Argument(metavar="resend|give-up", help="Send the request once more, or end the run as failed."),
    ],
    reason: Annotated[str, Option(help="The reason; recorded with the run.")],
    actor: Annotated[
        str | None, Option(help="Who decides; recorded with the run. Default: this machine's user.")
    ] = None,
    tenant: options.Tenant = "default",
    as_json: options.AsJson = False,
) -> None:
    """Decide about a held run: resend its request, or give it up.

    Its request was sent and may have been charged, but no answer came (and UNKNOWN_OUTCOME, or the request, says hold).
    resend sends it once more, which may pay twice. give-up ends the run as failed; what may have been charged stays listed.
    """
    payload = {"decision": decision.replace("-", "_"), "reason": reason, "actor": find_actor(actor)}
    try:
        read = parse(Decision, payload, "decision")
    except InvalidPayload as error:
        raise RequestRefused(str(error)) from None
    asyncio.run(_decide(options.find_run_id(run, tenant), read, open_session(), Output(as_json=as_json)))


async def _decide(run_id: str, decision: Decision, session: Session, output: Output) -> None:
    known = await find_in_temporal(run_id, session)
    if known is None:
        raise CommandFailed(
            f"Temporal does not know the run {run_id}, so there is nothing to decide. Check the request id and --tenant.",
            run_id=run_id,
        )
    if known.status is not WorkflowExecutionStatus.RUNNING:
        raise _refuse_ended(run_id)
    if decision.decision == "resend":
        await check_own_workers(known.client, session, output)
    taken = await _send(known, decision, output)
    link = session.link_to_run(run_id, known.client)
    rows = [
        ("decided", taken.message),
        ("by", f"{decision.actor}: {decision.reason}"),
        ("wait", f"python starter.py wait {run_id}" if taken.decision == "resend" else ""),
        ("Web UI", link or ""),
    ]
    output.answer(taken.model_dump(mode="json") | {"web_ui": link}, describe_lines(run_id, rows))


async def _send(known: KnownRun, decision: Decision, output: Output) -> DecisionTaken:
    """Send the decision and wait for the worker's answer, which says whether it was taken."""
    run_id, told = known.handle.id, set[str]()
    sending = asyncio.ensure_future(send_decision(known.handle, decision))
    try:
        while not sending.done():
            await asyncio.wait({sending}, timeout=_PATIENCE_SECONDS)
            if not sending.done():
                await warn_without_worker(known.client, output, told)
        return await sending
    except DecisionRefused as refused:
        raise RequestRefused(f"{refused} Check it: python starter.py show {run_id}", run_id=run_id) from None
    except ClientError as error:
        raise CommandFailed(str(error), run_id=run_id) from None
    except RPCError as error:
        if error.status is RPCStatusCode.NOT_FOUND:  # it has ended since
            raise _refuse_ended(run_id) from None
        raise
    except asyncio.CancelledError:
        raise DecisionInDoubt(run_id, INTERRUPTED) from None
    except WorkflowUpdateRPCTimeoutOrCancelledError:
        raise DecisionInDoubt(run_id, FAILED) from None
    finally:
        sending.cancel()


def _refuse_ended(run_id: str) -> RequestRefused:
    return RequestRefused(
        f"The run {run_id} has ended, so there is nothing to decide. See how: python starter.py show {run_id}",
        run_id=run_id,
    )
