"""Dispatches that stand for pictures: nothing is done in them. The server holds the provider's limit by the tasks that it
dispatches, and a call for n pictures is one task.

An activity that is to be dispatched several times fails until it has been: what is tried again is dispatched again, within
the same rate, and leaves nothing in the run's history.
"""

from datetime import timedelta

from temporalio import activity
from temporalio.exceptions import ApplicationError, ApplicationErrorCategory

from contracts import names

TAKING_IMAGE_SLOTS = "TakingImageSlots"
_AT_ONCE = timedelta(milliseconds=1)


@activity.defn(name=names.TAKE_IMAGE_SLOTS)
async def take_image_slots(count: int) -> None:
    """Ends with the dispatch that completes `count`.

    Raises:
        ApplicationError: type `TakingImageSlots`, to be tried again at once, before that.
    """
    missing = count - activity.info().attempt
    if missing > 0:
        raise dispatch_again(missing)


def dispatch_again(times: int) -> ApplicationError:
    """The failure of an attempt whose only use is that it was dispatched; so many more follow."""
    return ApplicationError(
        f"Pictures count one by one against the provider's limit: {times} more dispatches are taken.",
        type=TAKING_IMAGE_SLOTS,
        next_retry_delay=_AT_ONCE,
        category=ApplicationErrorCategory.BENIGN,
    )
