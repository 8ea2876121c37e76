"""The common part of `generate`, `edit` and `submit`: check, start or attach, wait, show."""

import asyncio
from collections.abc import Iterable
from typing import Any

from cli.failures import RequestRefused
from cli.following import follow_run
from cli.output import Output
from cli.own_workers import connect_to_own_workers
from cli.request_check import check_request
from cli.run_view import describe_lines, describe_result
from cli.session import Session
from cli.starting import StartedRun, start_run
from cli.telling import find_doubt
from contracts.problems import Problem
from runtime.embedded import has_provider


async def carry_out(
    payload: Any,
    session: Session,
    output: Output,
    *,
    wait: bool,
    problems_before: tuple[Problem, ...] = (),
) -> None:
    """Carries out a payload and shows its result, or with `wait` False only where it runs.

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
        output.say(f"Attached to the run {run.run_id}, which exists already: it is billed once.")
    _warn(run.receipt.warnings if run.receipt else (), output, told)
    if doubt := await find_doubt(client, run, checked.request):
        output.warn(doubt)
    if not wait:
        _answer_started(run, link, output)
        return
    to_the_last = bool(checked.request.partial_images)
    result = await follow_run(client, run.handle, output, to_the_last=to_the_last, told=told)
    store = await asyncio.to_thread(session.find_store)
    output.answer(result.model_dump(mode="json"), describe_result(result, store, link))


def _warn(warnings: Iterable[str], output: Output, told: set[str]) -> None:
    """Warns of what the terminal, the receipt and the run's status have all to say, once."""
    for warning in warnings:
        if warning not in told:
            told.add(warning)
            output.warn(warning)


def _answer_started(run: StartedRun, link: str | None, output: Output) -> None:
    """Where it runs, and the worst case that the worker has told of it."""
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
    """Where neither a stack nor a key is there, nobody has said which provider is meant: its models may be others."""
    if session.stack is None and not has_provider(session.settings):
        output.say(
            f"Checked by the rules of the provider {session.provider}; the simulator's apply while `make up` runs."
        )
