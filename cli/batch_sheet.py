"""The contact sheet of a batch: what became of each line, beside what was asked in it."""

from collections.abc import AsyncIterator, Iterable
from pathlib import Path

from billing.batch_results import LineResult
from cli.batch_view import describe_counts
from cli.contact_sheet import SheetRow, WrittenSheet, write_contact_sheet
from cli.session import Session
from contracts.batch_pages import BatchLine, page_key, read_page
from contracts.batches import BatchProgress
from imaging.store import ImageStore


async def write_batch_sheet(
    batch: BatchProgress, results: Iterable[LineResult], session: Session, path: Path
) -> WrittenSheet:
    """Writes the page of all lines, with their pictures and prompts from the image store.

    Raises:
        CommandFailed: the file cannot be written.
        StoreUnavailable: the store does not answer.
    """
    store = session.open_store()
    note = f"{describe_counts(batch)}. {batch.reason or ''}".strip()
    rows = _join(results, _read_requests(batch, store))
    return await write_contact_sheet(f"Batch {batch.batch_id}", rows, store, path, note=note)


async def _join(results: Iterable[LineResult], requests: AsyncIterator[BatchLine]) -> AsyncIterator[SheetRow]:
    """Both come in the order of the file, and neither is held as a whole."""
    known = await anext(requests, None)
    for result in results:
        while known and known.line < result.line:
            known = await anext(requests, None)
        yield _make_row(result, known if known and known.line == result.line else None)


async def _read_requests(batch: BatchProgress, store: ImageStore) -> AsyncIterator[BatchLine]:
    """The lines as they were taken in. A page that is gone leaves its prompts out, no more."""
    for page in range(batch.pages):
        data = await store.read_document(page_key(batch.batch_id, batch.digest, page))
        for line in read_page(data or b""):
            yield line


def _make_row(result: LineResult, line: BatchLine | None) -> SheetRow:
    asked = (line.request if line else None) or {}
    texts = {name: str(asked[name]) if asked.get(name) else None for name in ("size", "quality")}
    return SheetRow(
        line=result.line,
        run_id=result.run_id or "",
        prompt=str(asked.get("prompt") or ""),
        model=str(asked.get("model") or ""),
        size=texts["size"],
        quality=texts["quality"],
        state=result.state,
        billing_state=result.billing_state,
        charge_usd=result.charge_usd,
        error=result.error,
        pictures=result.pictures,
    )
