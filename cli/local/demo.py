"""`demo`: an image, an edit of it with a mask, a response without usage, and their bills."""

import asyncio
import io
import secrets
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from PIL import Image, ImageDraw
from rich.table import Table
from rich.text import Text
from temporalio.client import Client

from cli import options
from cli.local.up import start_stack
from cli.output import Output, make_table
from cli.own_workers import check_own_workers
from cli.runs.follow import follow_run
from cli.runs.images import copy_images
from cli.runs.start import check_request, start_run
from cli.runs.view import describe_tokens, shorten_path
from cli.session import Session, hush_temporal, open_session
from gpt_image_runs.billing.reports.entries import CostTotals, total
from gpt_image_runs.contracts.images import ImageRef
from gpt_image_runs.contracts.result import RunResult
from gpt_image_runs.images.store import ImageStore
from gpt_image_runs.temporal.connection import connect_to_stack
from gpt_image_runs.temporal.stack_file import Stack, read_stack_file

_WIDTH_FOR_ONE_LINE_EACH = 119


@dataclass(frozen=True, slots=True)
class DemoRun:
    """A finished run of the demo, its images as files, and its page in the Web UI."""

    result: RunResult
    files: tuple[Path, ...]
    link: str | None


def show_demo(runs: list[DemoRun], totals: CostTotals, output: Output) -> None:
    """Print the demo's answer."""
    document = {
        "status": "completed",
        "runs": [
            run.result.model_dump(mode="json")
            | {"files": [str(file) for file in run.files], "web_ui": run.link}
            for run in runs
        ],
        "totals": totals.model_dump(mode="json"),
    }
    table = _tabulate_wide(runs) if output.width >= _WIDTH_FOR_ONE_LINE_EACH else _tabulate_narrow(runs)
    output.answer(document, table, _describe_totals(totals), _list_links(runs))


def _tabulate_wide(runs: list[DemoRun]) -> Table:
    columns = ("Run", "Picture", "Tokens", "Charge USD", "Basis", "Billing")
    table = make_table(*columns, right=("Charge USD",), whole=("Run", "Charge USD", "Billing"))
    for run in runs:
        table.add_row(
            run.result.run_id,
            _name_files(run),
            describe_tokens(run.result.usage),
            _style_charge(run),
            run.result.cost.basis,
            _style_state(run),
        )
    return table


def _tabulate_narrow(runs: list[DemoRun]) -> Table:
    """Make a table with two lines for each run: six columns do not fit into 80 characters."""
    columns = ("Run\nPicture", "Tokens", "Charge USD", "Basis\nBilling")
    table = make_table(*columns, right=("Charge USD",), whole=("Tokens", "Charge USD"))
    for run in runs:
        table.add_row(
            f"{run.result.run_id}\n{_name_files(run)}",
            describe_tokens(run.result.usage).replace(", ", "\n").replace("usage ", "usage\n"),
            _style_charge(run),
            Text(f"{run.result.cost.basis}\n").append_text(_style_state(run)),
        )
        table.add_section()
    return table


def _name_files(run: DemoRun) -> str:
    return "\n".join(shorten_path(file) for file in run.files)


def _style_charge(run: DemoRun) -> Text:
    return Text(run.result.cost.amount_usd or "not known yet", style="bold")


def _style_state(run: DemoRun) -> Text:
    state = run.result.billing.state
    return Text(state, style="green" if state == "billed" else "yellow")


def _describe_totals(totals: CostTotals) -> Text:
    lines = []
    for row in (totals.real, totals.simulated):
        if row.runs:
            simulated = ", simulated: no money was spent" if row.simulated else ""
            lines.append(f"The ledger's total: {row.total_usd} USD for {row.runs:,} runs{simulated}")
            lines.append(
                f"  {row.charged_usd} charged, {row.estimated_usd} estimated, {row.pending:,} pending"
            )
    return Text("\n".join([*lines, ""]))


def _list_links(runs: list[DemoRun]) -> Text:
    text = Text("Web UI links, which work while `make up` runs:")
    for run in runs:
        text.append(f"\n  {run.link}", style="cyan")
    return text


_TENANT = "demo"
_CONTRACT = {
    "model": "gpt-image-1",
    "prompt": "Create a premium product hero shot on a neutral studio background",
    "n": 1,
    "size": "1024x1024",
    "quality": "high",
    "background": "auto",
    "output_format": "png",
}
_EDIT_PROMPT = "Replace the product with a porcelain teapot, keep light and background as they are"
_MISSING_USAGE_PROMPT = "[simulate:missing_usage] A teapot, answered without usage"


def demo(*, as_json: options.AsJson = False) -> None:
    """Make three images and show their bills, to see that everything works.

    Uses the stack that runs for DATA_DIR, or starts one for the duration of the demo. Without OPENAI_API_KEY the provider is
    simulated and no money is spent; with it, real images at low quality cost a few cents.
    """
    asyncio.run(_run_demo(open_session(), Output(as_json=as_json)))


@dataclass(frozen=True, slots=True)
class _Stage:
    """The inputs of the demo's runs. `mark` distinguishes the runs of different demos."""

    session: Session
    client: Client
    store: ImageStore
    output: Output
    mark: str


async def _run_demo(session: Session, output: Output) -> None:
    hush_temporal()
    async with _find_or_start_stack(session, output) as stack:
        session = Session(session.settings, stack)
        client = await connect_to_stack(stack)
        await check_own_workers(client, session, output)
        stage = _Stage(session, client, session.open_store(), output, secrets.token_hex(2))
        runs = await (_run_simulated(stage) if session.is_simulated else _run_live(stage))
        with session.open_ledger() as database:
            totals = total(database)
    show_demo(runs, totals, output)  # when all has ended, so that nothing can go wrong after the answer


@asynccontextmanager
async def _find_or_start_stack(session: Session, output: Output) -> AsyncIterator[Stack]:
    running = read_stack_file(session.settings.data_dir)
    if running:
        output.say(f"Using the running stack; its Web UI is at {running.ui_url}.")
        yield running
        return
    output.say("Starting Temporal, its Web UI and the worker ...")
    async with start_stack(session, output.warn) as stack:
        yield stack


async def _run_simulated(stage: _Stage) -> list[DemoRun]:
    stage.output.say("The provider is simulated (OPENAI_API_KEY is not set): no money is spent.")
    hero = await _carry_out(stage, "hero", "1/3  an image from the documented payload", _CONTRACT)
    edit = await _edit(stage, "2/3  an edit of that image with a mask", hero, _CONTRACT["model"], "high")
    without = {**_CONTRACT, "prompt": _MISSING_USAGE_PROMPT, "quality": "medium"}
    bare = await _carry_out(stage, "bare", "3/3  a response without usage", without)
    return [hero, edit, bare]


async def _run_live(stage: _Stage) -> list[DemoRun]:
    model = stage.session.settings.default_model
    stage.output.say(f"The provider is live: two images with {model} at low quality cost a few cents.")
    payload = {**_CONTRACT, "model": model, "quality": "low"}
    hero = await _carry_out(stage, "hero", f"1/2  an image from the documented payload, on {model}", payload)
    edit = await _edit(stage, "2/2  an edit of that image with a mask", hero, model, "low")
    stage.output.say("The response without usage is left out: only the simulator can return one.")
    return [hero, edit]


async def _edit(stage: _Stage, title: str, hero: DemoRun, model: Any, quality: str) -> DemoRun:
    picture = hero.result.images[0]
    mask = await stage.store.put_image(await asyncio.to_thread(_draw_mask, picture), owner=_TENANT)
    payload = {
        "model": model,
        "prompt": _EDIT_PROMPT,
        "size": "1024x1024",
        "quality": quality,
        "images": [picture.uri],
        "mask": mask.uri,
    }
    return await _carry_out(stage, "edit", title, payload)


async def _carry_out(stage: _Stage, name: str, title: str, payload: dict[str, Any]) -> DemoRun:
    stage.output.say(title, style="bold")
    named = {**payload, "tenant": _TENANT, "request_id": f"{name}-{stage.mark}"}
    checked = await check_request(named, stage.session)
    run = await start_run(stage.client, checked)
    result = await follow_run(stage.client, run.handle, stage.output)
    files = await copy_images(result, stage.store, stage.session.settings.data_dir / "demo")
    run_done = _complete(result, files, stage.session.link_to_run(run.run_id, stage.client))
    for path in run_done.files:
        stage.output.say(f"     {shorten_path(path)}", style="dim")
    return run_done


def _complete(result: RunResult, files: list[dict[str, Any]], link: str | None) -> DemoRun:
    return DemoRun(result, tuple(Path(file["path"]).resolve() for file in files), link)


def _draw_mask(picture: ImageRef) -> bytes:
    """Draw a PNG mask of the image's size, transparent in a rounded box around the product, where the provider may draw."""
    width, height = picture.width, picture.height
    mask = Image.new("RGBA", (width, height), "white")
    box = (width // 5, height // 10, width - width // 5, height * 3 // 4)
    ImageDraw.Draw(mask).rounded_rectangle(box, radius=width // 16, fill=(0, 0, 0, 0))
    encoded = io.BytesIO()
    mask.save(encoded, "PNG")
    return encoded.getvalue()
