"""The command group `batch`."""

from typer import Typer

from cli.batches.control import cancel, pause, resume, retry
from cli.batches.results import results
from cli.batches.run import run
from cli.batches.watch import list_batches, status, watch

batch = Typer(add_completion=False, help="Run many requests from a file: progress, cost, retries, results.")
for _name, _command in (
    ("run", run),
    ("status", status),
    ("watch", watch),
    ("pause", pause),
    ("resume", resume),
    ("cancel", cancel),
    ("retry", retry),
    ("results", results),
    ("list", list_batches),
):
    batch.command(_name)(_command)
