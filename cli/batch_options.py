"""The words that several commands of `batch` share."""

import re
from typing import Annotated

from typer import Argument, Option

from cli.failures import RequestRefused
from contracts.batches import ALLOWED, BATCH_ID_PATTERN, LARGEST_WINDOW, USUAL_WINDOW

BatchId = Annotated[str, Argument(metavar="ID", help="A batch's id.")]
Window = Annotated[
    int | None,
    Option(min=1, max=LARGEST_WINDOW, help=f"Runs under way at once. Default: {USUAL_WINDOW}, or as before."),
]
MaxCost = Annotated[
    str | None,
    Option(metavar="USD", help="Start no run that could take charges and reservations beyond this."),
]
FailFast = Annotated[
    bool | None,
    Option(
        "--fail-fast/--no-fail-fast", help="Start nothing more once a line has failed.", show_default=False
    ),
]
Detach = Annotated[bool, Option("--detach", help="Do not watch it.")]


def check_batch_id(batch_id: str) -> str:
    """The id, where it may be one. Raises RequestRefused."""
    if re.fullmatch(BATCH_ID_PATTERN, batch_id):
        return batch_id
    raise RequestRefused(
        f"{batch_id!a} is no id of a batch: write {ALLOWED['batch_id']}. --id names another."
    )
