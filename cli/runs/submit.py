"""`generate`, `edit` and `submit`: check a request, start or attach to its run, wait, show the result."""

import asyncio
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, Any

from temporalio.client import Client
from typer import Argument, Option

from cli import options
from cli.errors import RequestRefused
from cli.files import name_source, read_document, read_source
from cli.output import Output
from cli.own_workers import connect_to_own_workers
from cli.runs.follow import follow_run
from cli.runs.start import StartedRun, check_request, check_result_is_own, start_run
from cli.runs.view import describe_lines, describe_result
from cli.session import Session, open_session
from gpt_image_runs.contracts import names
from gpt_image_runs.contracts.problems import Problem
from gpt_image_runs.contracts.request import ImageRequest
from gpt_image_runs.images.inputs import InputsRefused, upload_file
from gpt_image_runs.images.store import ImageStore
from gpt_image_runs.local_stack.stack import has_provider
from gpt_image_runs.temporal.connection import has_pollers


async def find_doubt(client: Client, run: StartedRun, request: ImageRequest) -> str | None:
    """Explain why the requested notification may not be sent; None if nothing speaks against it."""
    if request.notify is None:
        return None
    if run.ended:
        return "The run had already ended, so no notification is sent."
    if await has_pollers(client, (names.NOTIFY_QUEUE,)):
        return None
    return (
        f"No worker polls {names.NOTIFY_QUEUE}: the notification is sent once a worker with NOTIFY_HOSTS runs, but not if there is"
        " none for three days."
    )


async def carry_out(
    payload: Any,
    session: Session,
    output: Output,
    *,
    wait: bool,
    problems_before: tuple[Problem, ...] = (),
) -> None:
    """Run a payload and show its result, or with `wait` False only its run.

    Raises:
        CommandFailed: refused, failed or interrupted.
    """
    try:
        checked = await check_request(payload, session, problems_before)
    except RequestRefused:
        _tell_whose_rules(session, output)
        raise
    told: set[str] = set()
    _warn(checked.warnings, output, told)
    client = await connect_to_own_workers(session, output)
    run = await start_run(client, checked)
    link = session.link_to_run(run.run_id, client)
    if run.attached:
        output.say(f"Attached to the existing run {run.run_id}: it is billed once.")
    _warn(run.receipt.warnings if run.receipt else (), output, told)
    if doubt := await find_doubt(client, run, checked.request):
        output.warn(doubt)
    if not wait:
        _answer_started(run, link, output)
        return
    to_the_last = bool(checked.request.partial_images)
    result = await follow_run(client, run.handle, output, to_the_last=to_the_last, told=told)
    await check_result_is_own(client, run, checked)
    store = await asyncio.to_thread(session.find_store)
    output.answer(result.model_dump(mode="json"), describe_result(result, store, link))


def _warn(warnings: Iterable[str], output: Output, told: set[str]) -> None:
    """Print warnings that were not printed before."""
    for warning in warnings:
        if warning not in told:
            told.add(warning)
            output.warn(warning)


def _answer_started(run: StartedRun, link: str | None, output: Output) -> None:
    """Print where the run is and what it can cost at most."""
    ceiling = run.receipt.price_ceiling_usd if run.receipt else None
    document = {
        "status": "started",
        "run_id": run.run_id,
        "attached": run.attached,
        "price_ceiling_usd": ceiling,
        "web_ui": link,
    }
    rows = [
        ("at most", f"{ceiling} USD for each request to the provider" if ceiling else ""),
        ("wait", f"python starter.py wait {run.run_id}"),
        ("Web UI", link or ""),
    ]
    output.answer(document, describe_lines(f"{run.run_id} started", rows))


def _tell_whose_rules(session: Session, output: Output) -> None:
    """Say which provider's rules apply if neither a stack nor a key is configured: its models may differ."""
    if session.stack is None and not has_provider(session.settings):
        output.say(
            f"Checked by the rules of the provider {session.provider}; the simulator's rules apply while `make up` runs."
        )


@options.with_request_options("input_fidelity")
def generate(
    *,
    prompt: options.Prompt,
    given: dict[str, Any],
    no_wait: options.NoWait = False,
    as_json: options.AsJson = False,
) -> None:
    """Generate images from a prompt.

    The same --request-id attaches to the existing run: it is one run and one bill.
    """
    session = open_session()
    payload = options.make_payload(given, session.settings.default_model, prompt=prompt)
    asyncio.run(carry_out(payload, session, Output(as_json=as_json), wait=not no_wait))


_REFERENCES = ("file://", "s3://", "data:")


@options.with_request_options()
def edit(
    *,
    prompt: options.Prompt,
    image: Annotated[
        list[str],
        Option(metavar="FILE_OR_URI", help="A file, or a reference to an image in the store; up to 16."),
    ],
    mask: Annotated[
        str | None, Option(metavar="FILE_OR_URI", help="A PNG that is transparent where the model may draw.")
    ] = None,
    given: dict[str, Any],
    no_wait: options.NoWait = False,
    as_json: options.AsJson = False,
) -> None:
    """Edit images by a prompt, with or without a mask.

    Local files are uploaded to the image store first. The same --request-id attaches to the existing run.
    """
    session = open_session()
    payload = options.make_payload(given, session.settings.default_model, prompt=prompt)
    asyncio.run(_edit(payload, image, mask, session, Output(as_json=as_json), wait=not no_wait))


async def _edit(
    payload: dict[str, Any],
    images: list[str],
    mask: str | None,
    session: Session,
    output: Output,
    *,
    wait: bool,
) -> None:
    store = session.open_store()
    named = [(f"images.{index}", given) for index, given in enumerate(images)]
    if mask:
        named.append(("mask", mask))
    inputs, problems = {}, []
    for field, given in named:
        try:
            inputs[field] = await _refer_to(given, store, payload.get("tenant"))
        except InputsRefused as refused:
            inputs[field] = given
            problems += [problem.model_copy(update={"field": field}) for problem in refused.problems]
    mask_input = inputs.pop("mask", None)
    payload = {**payload, "images": list(inputs.values())} | ({"mask": mask_input} if mask_input else {})
    before: tuple[Problem, ...] = tuple(problems)
    await carry_out(payload, session, output, wait=wait, problems_before=before)


async def _refer_to(given: str, store: ImageStore, tenant: str | None) -> str:
    """Return the reference, uploading the image first if it is a file."""
    if given.lower().startswith(_REFERENCES):
        return given
    return (await upload_file(Path(given), store, owner=tenant)).uri


def submit(
    *,
    file: Annotated[str, Argument(metavar="FILE|-", help="A file with one JSON object, or - for stdin.")],
    no_wait: options.NoWait = False,
    as_json: options.AsJson = False,
) -> None:
    """Start the run of a request in JSON.

    A payload from the provider's documentation is a valid request. All problems are listed at once.
    """
    payload = read_document(read_source(file), name_source(file))
    asyncio.run(carry_out(payload, open_session(), Output(as_json=as_json), wait=not no_wait))
