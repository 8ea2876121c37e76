"""A new round of a batch: which of its failed lines may be started again, and how.

A run that ended without a bill is carried out again under its own id, and uses what it may have paid for. Only a run that has
used up its requests of unknown outcome gets a new id, as under the old one nothing would ever be sent again. Not one whose
answer came late: under its own id it bills what it has paid for, under another one it would pay again.
"""

from sqlalchemy import Connection, bindparam, func, select, update

from billing.batch_tables import batch_lines, batches
from billing.database import Database
from billing.tables import provider_attempts
from contracts.batches import Retry
from contracts.names import run_id_for

EXHAUSTED = "TooManyUnknownOutcomes"
_STATES = ("failed", "cancelled")
_line = batch_lines.c


def count_retries(database: Database, batch_id: str) -> dict[Retry, int]:
    """How many lines a retry would start again: those that were never paid, and those that may have been."""
    ended = select(func.count()).where(_line.batch_id == batch_id, _line.state.in_(_STATES))
    with database.reading() as connection:
        return {
            "unpaid": connection.execute(ended.where(_line.unknown == 0)).scalar_one(),
            "unknown": connection.execute(ended.where(_line.unknown > 0)).scalar_one(),
        }


def reset_lines(connection: Connection, batch_id: str, number: int, retry: Retry) -> None:
    """Lets lines wait again, for the round of that number. The batch's row has to be locked."""
    again = [_line.batch_id == batch_id, _line.state.in_(_STATES)]
    if retry == "unpaid":
        again.append(_line.unknown == 0)
    else:
        _give_new_ids(connection, batch_id, number)
    states = connection.execute(select(_line.state, func.count()).where(*again).group_by(_line.state))
    counts = {str(state): int(count) for state, count in states}
    connection.execute(
        update(batch_lines)
        .where(*again)
        .values(
            state="waiting",
            round=number,
            workflow_run_id=None,
            attached=False,
            ceiling_micro_usd=None,
            error_type=None,
            error_message=None,
            started_at=None,
            ended_at=None,
        )
    )
    moved = {state: batches.c[state] - count for state, count in counts.items()}
    waiting = batches.c.waiting + sum(counts.values())
    connection.execute(update(batches).where(batches.c.batch_id == batch_id).values(**moved, waiting=waiting))


def _give_new_ids(connection: Connection, batch_id: str, number: int) -> None:
    """What the old runs have exposed stays counted for the batch, so the lines begin anew with nothing."""
    paid = select(provider_attempts.c.attempt_id).where(
        provider_attempts.c.run_id == _line.run_id, provider_attempts.c.outcome == "succeeded"
    )
    exhausted = select(_line.line, _line.run_id).where(
        _line.batch_id == batch_id,
        _line.state.in_(_STATES),
        _line.error_type == EXHAUSTED,
        ~paid.exists(),
    )
    changes = [
        {"of_line": line, "new_run_id": run_id_for(run_id.split(":")[1], f"{batch_id}-{line:06d}.{number}")}
        for line, run_id in connection.execute(exhausted)
    ]
    if changes:
        connection.execute(
            update(batch_lines)
            .where(_line.batch_id == batch_id, _line.line == bindparam("of_line"))
            .values(run_id=bindparam("new_run_id"), unknown=0, exposed_micro_usd=0),
            changes,
        )
