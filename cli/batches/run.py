"""`batch run`: a file of requests, each a run and a bill of its own."""

import asyncio
import json
import tempfile
from pathlib import Path, PurePath
from typing import Annotated, Any

from typer import Argument, Option

from cli import options
from cli.batches.intake import BatchIntake, Intake, read_lines
from cli.batches.start import (
    Detach,
    Economy,
    FailFast,
    MaxCost,
    Options,
    Window,
    check_batch_id,
    find_batch,
    make_order,
    read_limit,
    refuse_meaningless,
    refuse_other_kind,
    refuse_other_lines,
    start_batch,
)
from cli.batches.view import describe_progress, find_status
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
    wanted = Options(window, read_limit(max_cost), fail_fast)
    if economy:
        refuse_meaningless(wanted, session)
    name = check_batch_id(batch_id or PurePath(file).stem)
    runner = BatchRun(file, name, session, output, wanted, economy=economy)
    if prepare:
        return asyncio.run(runner.prepare(defaults, skip_invalid=skip_invalid))
    return asyncio.run(runner.carry_out(defaults, skip_invalid=skip_invalid, detach=detach))


class BatchRun:
    """One `batch run`, from the file to its end."""

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
        """Put the lines into the store and print the order that a schedule starts the batch with.

        Raises:
            CommandFailed: refused.
        """
        with tempfile.TemporaryDirectory() as folder:
            intake = await self._take_in(defaults, None, Path(folder))
            self._refuse_wrong_lines(intake, skip_invalid=skip_invalid)
            await intake.spool.upload(self._session.open_store(), self._batch_id, intake.digest)
        order = self._make_order(intake, None)
        document = order.model_dump(mode="json", exclude_defaults=True)
        kind = names.ECONOMY_BATCH if self._economy else names.BATCH
        rows = [("workflow type", kind), ("workflow id", order.workflow_id), ("task queue", names.RUNS_QUEUE)]
        rows.append(("input", json.dumps(document)))
        self._output.answer(document, describe_lines("Nothing was started. For a schedule:", rows))
        return 0

    async def carry_out(self, defaults: dict[str, Any], *, skip_invalid: bool, detach: bool) -> int:
        """Takes the lines in, starts or takes up the batch, and returns the exit status.

        Raises:
            CommandFailed: refused, lost or interrupted.
        """
        known = find_batch(self._session, self._batch_id)
        if known:
            refuse_other_kind(known, economy=self._economy)
        with tempfile.TemporaryDirectory() as folder:
            intake = await self._take_in(defaults, known, Path(folder))
            if known:
                # Lines that were right when they were taken in may be wrong by today's rules: their runs are checked again.
                refuse_other_lines(self._batch_id, known.digest, intake.digest)
            else:
                self._refuse_wrong_lines(intake, skip_invalid=skip_invalid)
                store = self._session.open_store()
                await intake.spool.upload(store, self._batch_id, intake.digest)
        if known and known.has_ended and not known.waiting:
            self._output.say(f"The batch {self._batch_id} has run before, and has no line left to start.")
            self._output.answer(known.model_dump(mode="json"), describe_progress(known))
            return find_status(known)
        return await start_and_watch(
            self._make_order(intake, known), self._session, self._output, detach=detach
        )

    def _make_order(self, intake: Intake, known: BatchProgress | None) -> BatchOrder | EconomyOrder:
        if known and self._economy:
            return make_order(known, self._wanted, "waiting")
        lines: dict[str, Any] = {
            "batch_id": self._batch_id,
            "digest": intake.digest,
            "lines": known.lines if known else intake.spool.lines,
            "pages": known.pages if known else intake.spool.pages,
        }
        if self._economy:
            return EconomyOrder(**lines, max_cost_usd=self._wanted.max_cost_usd)
        return BatchOrder(**lines, round=known.round if known else 1, **self._wanted.apply(known))

    async def _take_in(self, defaults: dict[str, Any], known: BatchProgress | None, folder: Path) -> Intake:
        needs_price = self._wanted.max_cost_usd is not None and known is None
        intake = BatchIntake(
            self._session,
            self._batch_id,
            defaults,
            needs_price=needs_price,
            mode="batch" if self._economy else "standard",
        )
        return await intake.take_in(read_lines(self._file), name_source(self._file), folder)

    def _refuse_wrong_lines(self, intake: Intake, *, skip_invalid: bool) -> None:
        if not skip_invalid or not intake.sound:
            intake.refuse_wrong_lines(name_source(self._file))
        for problem in intake.told:
            self._output.warn(f"Skipped: {problem}")
        if intake.wrong > len(intake.told):
            self._output.warn(f"and {intake.wrong - len(intake.told):,} more lines are skipped.")
        priced = f"at most {format_usd(intake.worst_case_micro_usd)} USD"
        more = f", and {intake.unpriced:,} lines whose price is not known" if intake.unpriced else ""
        told = (
            "1 line is sound; it costs"
            if intake.sound == 1
            else f"{intake.sound:,} lines are sound; they cost"
        )
        self._output.say(f"{told} {priced}{more}.")


async def start_and_watch(
    order: BatchOrder | EconomyOrder, session: Session, output: Output, *, detach: bool
) -> int:
    """Starts a batch or attaches to it, and shows it until its end; returns the exit status.

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
    # Others may have come first meanwhile.
    refuse_other_kind(progress, economy=economy)
    refuse_other_lines(order.batch_id, progress.digest, order.digest)
    output.answer(progress.model_dump(mode="json"), describe_progress(progress, link))
    return find_status(progress)
