"""The command `batch run`: check a file of requests, start its batch, watch it."""

import asyncio
import json
import tempfile
from pathlib import Path, PurePath
from typing import Annotated, Any

from typer import Argument, Option

from cli import options
from cli.batches.intake import BatchIntake, Intake
from cli.batches.request_files import read_lines
from cli.batches.start import (
    Detach,
    Economy,
    FailFast,
    MaxCost,
    Options,
    Window,
    build_next_order,
    check_batch_id,
    check_digest,
    check_economy_options,
    check_kind,
    find_batch,
    parse_limit,
    start_batch,
)
from cli.batches.view import describe_progress, get_exit_status
from cli.batches.watch import watch_batch
from cli.files import name_source
from cli.output import Output
from cli.own_workers import connect_to_own_workers
from cli.runs.view import describe_lines
from cli.session import Session, open_session
from gpt_image_runs.contracts import names
from gpt_image_runs.contracts.batches import BatchOrder, BatchProgress
from gpt_image_runs.contracts.economy import EconomyOrder
from gpt_image_runs.contracts.money import format_usd


@options.with_request_options("partial_images", "request_id", "notify", tenant=(options.AnyTenant, None))
def run(
    *,
    file: Annotated[
        str,
        Argument(metavar="FILE|-", help="JSON Lines, or a table where its name ends in .csv; - is stdin."),
    ],
    batch_id: Annotated[
        str | None, Option("--id", help="Default: the file's name without its ending.")
    ] = None,
    skip_invalid: Annotated[
        bool, Option("--skip-invalid", help="Run the other lines where some are wrong.")
    ] = False,
    max_cost: MaxCost = None,
    fail_fast: FailFast = None,
    window: Window = None,
    economy: Economy = False,
    given: dict[str, Any],
    prepare: Annotated[
        bool,
        Option(
            "--prepare",
            help="Check and store the lines and print their order, for a schedule; start nothing.",
        ),
    ] = False,
    detach: Detach = False,
    as_json: options.AsJson = False,
) -> int:
    """Run a file of requests, a line each.

    Options are for lines that do not say otherwise. All lines are checked before the first is started. The same file again
    goes on with its batch, and never pays again. Ctrl-C leaves it running.
    """
    session, output = open_session(), Output(as_json=as_json)
    defaults = options.make_payload(given, session.settings.default_model)
    wanted = Options(window, parse_limit(max_cost), fail_fast)
    if economy:
        check_economy_options(wanted, session)
    name = check_batch_id(batch_id or PurePath(file).stem)
    runner = BatchRun(file, name, session, output, wanted, economy=economy)
    if prepare:
        return asyncio.run(runner.prepare(defaults, skip_invalid=skip_invalid))
    return asyncio.run(runner.run(defaults, skip_invalid=skip_invalid, detach=detach))


class BatchRun:
    """One `batch run` of a file."""

    def __init__(
        self,
        file: str,
        batch_id: str,
        session: Session,
        output: Output,
        wanted: Options,
        *,
        economy: bool,
    ) -> None:
        self._economy = economy
        self._file = file
        self._batch_id = batch_id
        self._session = session
        self._output = output
        self._wanted = wanted

    async def prepare(self, defaults: dict[str, Any], *, skip_invalid: bool) -> int:
        """Write the lines into the store and print the order for a schedule. Nothing is started.

        Raises:
            CommandFailed: refused.
        """
        with tempfile.TemporaryDirectory() as folder:
            intake = await self._check_file(defaults, None, Path(folder))
            self._report_wrong_lines(intake, skip_invalid=skip_invalid)
            await intake.spool.upload(self._session.open_store(), self._batch_id, intake.digest)
        order = self._build_order(intake)
        document = order.model_dump(mode="json", exclude_defaults=True)
        kind = names.ECONOMY_BATCH if self._economy else names.BATCH
        rows = [("workflow type", kind), ("workflow id", order.workflow_id), ("task queue", names.RUNS_QUEUE)]
        rows.append(("input", json.dumps(document)))
        self._output.answer(document, describe_lines("Nothing was started. For a schedule:", rows))
        return 0

    async def run(self, defaults: dict[str, Any], *, skip_invalid: bool, detach: bool) -> int:
        """Check the lines, start or continue the batch, watch it, and return the exit status.

        Raises:
            CommandFailed: refused, lost or interrupted.
        """
        known = find_batch(self._session, self._batch_id)
        if known:
            check_kind(known, economy=self._economy)
        with tempfile.TemporaryDirectory() as folder:
            intake = await self._check_file(defaults, known, Path(folder))
            if known:
                # Lines that were valid before may be invalid by today's rules: their runs are checked again.
                check_digest(self._batch_id, known.digest, intake.digest)
            else:
                self._report_wrong_lines(intake, skip_invalid=skip_invalid)
                store = self._session.open_store()
                await intake.spool.upload(store, self._batch_id, intake.digest)
        if known and known.has_ended and not known.waiting:
            self._output.say(f"The batch {self._batch_id} has run before, and has no line left to start.")
            self._output.answer(known.model_dump(mode="json"), describe_progress(known))
            return get_exit_status(known)
        return await start_and_watch(
            build_next_order(known, self._wanted) if known else self._build_order(intake),
            self._session,
            self._output,
            detach=detach,
        )

    def _build_order(self, intake: Intake) -> BatchOrder | EconomyOrder:
        lines: dict[str, Any] = {
            "batch_id": self._batch_id,
            "digest": intake.digest,
            "lines": intake.spool.lines,
            "pages": intake.spool.pages,
        }
        if self._economy:
            return EconomyOrder(**lines, max_cost_usd=self._wanted.max_cost_usd)
        return BatchOrder(**lines, **self._wanted.apply(None))

    async def _check_file(
        self, defaults: dict[str, Any], known: BatchProgress | None, folder: Path
    ) -> Intake:
        needs_price = self._wanted.max_cost_usd is not None and known is None
        intake = BatchIntake(
            self._session,
            self._batch_id,
            defaults,
            needs_price=needs_price,
            mode="batch" if self._economy else "standard",
        )
        return await intake.read_all(read_lines(self._file), name_source(self._file), folder)

    def _report_wrong_lines(self, intake: Intake, *, skip_invalid: bool) -> None:
        if not skip_invalid or not intake.sound:
            intake.check_lines(name_source(self._file))
        for problem in intake.problems:
            self._output.warn(f"Skipped: {problem}")
        if intake.wrong > len(intake.problems):
            self._output.warn(f"and {intake.wrong - len(intake.problems):,} more lines are skipped.")
        priced = f"at most {format_usd(intake.worst_case_micro_usd)} USD"
        more = f", and {intake.unpriced:,} lines whose price is not known" if intake.unpriced else ""
        checked = (
            "1 line is valid; it costs"
            if intake.sound == 1
            else f"{intake.sound:,} lines are valid; they cost"
        )
        self._output.say(f"{checked} {priced}{more}.")


async def start_and_watch(
    order: BatchOrder | EconomyOrder, session: Session, output: Output, *, detach: bool
) -> int:
    """Start a batch or attach to it, watch it until its end, and return the exit status.

    Raises:
        CommandFailed: refused, lost or interrupted.
    """
    client = await connect_to_own_workers(session, output)
    attached = await start_batch(client, order)
    link = session.link_to_run(order.workflow_id, client)
    if attached:
        output.say(
            f"Attached to the batch {order.batch_id}, which is under way with the options that it was started with."
        )
    if detach:
        document = {"status": "started", "batch_id": order.batch_id, "attached": attached, "web_ui": link}
        rows = [("watch", f"python starter.py batch watch {order.batch_id}"), ("Web UI", link or "")]
        output.answer(document, describe_lines(f"{order.batch_id} started", rows))
        return 0
    economy = isinstance(order, EconomyOrder)
    progress = await watch_batch(order.batch_id, session, client, output, economy=economy)
    # Somebody else may have started another batch of this id meanwhile.
    check_kind(progress, economy=economy)
    check_digest(order.batch_id, progress.digest, order.digest)
    output.answer(progress.model_dump(mode="json"), describe_progress(progress, link))
    return get_exit_status(progress)
