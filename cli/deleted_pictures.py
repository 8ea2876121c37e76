"""Warnings of pictures of a result that are not in the image store any more."""

from cli.output import Output
from cli.session import Session
from contracts.result import RunResult
from imaging.deleted_pictures import describe_deleted
from imaging.store_errors import StoreUnavailable


async def warn_of_deleted(result: RunResult, session: Session, output: Output) -> RunResult:
    """Warn of what the result warns of and of pictures that were deleted since; the result has all these warnings."""
    store = session.find_store()
    deleted: tuple[str, ...] = ()
    if store is not None:
        try:
            deleted = await describe_deleted(store, result.images)
        except StoreUnavailable as error:
            output.warn(f"Whether the pictures are still there is not known. {error}")
    warnings = tuple(dict.fromkeys((*result.warnings, *deleted)))
    for warning in warnings:
        output.warn(warning)
    return result.model_copy(update={"warnings": warnings})
