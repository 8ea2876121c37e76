"""Check that the ledger still holds what was written, and that it was right. Nothing is written here.

Five things are checked: the chain of each tenant, with its head; each amount, derived again from the usage and the
rates on its entry, and these rates against the shipped card that the entry names; each entry against its run and the attempt
that was paid; the entries of each run against one another; and each run, attempt, budget and comparison against its seal.

What this cannot find: somebody who writes to the database without its guards and computes all hashes and heads again leaves
a ledger that is consistent. Only a head that was noted elsewhere proves it then: its hash has to be the `entry_hash`
of an entry, as long as the ledger lives. The same holds for the heads of the seals.
"""

from collections.abc import Callable, Iterator
from typing import Any

from sqlalchemy import Connection, case, func, select, text

from gpt_image_runs.billing.ledger.ledger import bill_key
from gpt_image_runs.billing.verification.checks import ChainCheck, Head, check_agreement, check_amounts
from gpt_image_runs.billing.verification.pinned_rates import check_pinned_rates
from gpt_image_runs.billing.verification.seals import ChainOfSeals, check_seals, read_seal_heads
from gpt_image_runs.billing.verification.snapshot import (
    Finding,
    StoredEntry,
    list_verbatim,
    reading_verbatim,
    stream_entries,
)
from gpt_image_runs.database.engine import Database
from gpt_image_runs.database.tables import ledger_entries, ledger_heads

# The kinds that open a run's bill.
_OPENING = ("charge", "estimate", "hold")
_REPORT_EVERY = 500
_MAX_PAGE_ERRORS = 20

_HEADS = select(*list_verbatim(ledger_heads)).order_by(ledger_heads.c.tenant)
_entry, _corrected = ledger_entries.c, ledger_entries.alias()
_bills = func.sum(case((_entry.kind.in_(_OPENING), 1), else_=0))
_NOT_ONE_BILL = (
    select(_entry.run_id, func.min(_entry.tenant), _bills).group_by(_entry.run_id).having(_bills != 1)
)
_WRONG_CORRECTIONS = (
    select(_entry.tenant, _entry.run_id, _entry.entry_id, _entry.corrects, _corrected.c.run_id)
    .outerjoin(_corrected, _corrected.c.entry_id == _entry.corrects)
    .where(_entry.corrects.is_not(None))
    .where(
        _corrected.c.entry_id.is_(None)
        | (_corrected.c.run_id != _entry.run_id)
        | (_corrected.c.sequence >= _entry.sequence)
    )
)


class LedgerVerification:
    """One pass over a ledger, at one moment of it. `heads`, `seal_heads` and `entries` are complete once it has ended.

    `on_progress` is called now and then with the number of entries that were checked and the total by the heads.
    """

    def __init__(self, database: Database, on_progress: Callable[[int, int], None]) -> None:
        self._database = database
        self._on_progress = on_progress
        self.heads: tuple[Head, ...] = ()
        self.seal_heads: tuple[ChainOfSeals, ...] = ()
        self.entries = 0

    def find(self) -> Iterator[Finding]:
        """Yield everything that is wrong, in memory that does not grow with the ledger.

        Raises:
            LedgerUnavailable: the database does not answer, or is damaged beyond reading.
        """
        with reading_verbatim(self._database) as connection:
            self.heads = _read_heads(connection)
            self.seal_heads = read_seal_heads(connection)
            yield from _check_file(connection)
            yield from self._check_entries(connection)
            yield from _check_bills_of_runs(connection)
            yield from _check_corrections(connection)
            yield from check_seals(connection)

    def _check_entries(self, connection: Connection) -> Iterator[Finding]:
        chain, total = ChainCheck(), _count_entries(self.heads)
        for entry in stream_entries(connection):
            yield from chain.follow(entry)
            yield from _check_entry(entry)
            self.entries += 1
            if self.entries % _REPORT_EVERY == 0:
                self._on_progress(self.entries, total)
        yield from chain.compare(self.heads)


def _read_heads(connection: Connection) -> tuple[Head, ...]:
    return tuple(Head(*row) for row in connection.execute(_HEADS))


def _count_entries(heads: tuple[Head, ...]) -> int:
    counts: tuple[Any, ...] = tuple(head.entries for head in heads)  # any value, in a damaged file of SQLite
    return sum(count for count in counts if isinstance(count, int))


def _check_entry(entry: StoredEntry) -> Iterator[Finding]:
    yield from check_agreement(entry)
    yield from check_amounts(entry)
    yield from check_pinned_rates(entry)
    if entry.columns["kind"] in _OPENING:
        expected = bill_key(entry.columns["run_id"])
        if entry.columns["entry_key"] != expected:
            found = str(entry.columns["entry_key"])
            yield entry.find("A bill has another key than its run's.", expected=expected, found=found)


def _check_file(connection: Connection) -> Iterator[Finding]:
    """Yield what SQLite finds wrong in its file. PostgreSQL checks its pages as it reads them."""
    if connection.dialect.name == "sqlite":
        for (said,) in connection.execute(text(f"PRAGMA integrity_check({_MAX_PAGE_ERRORS})")):
            if said != "ok":
                yield Finding(what="The database file is damaged.", expected="ok", found=said)


def _check_bills_of_runs(connection: Connection) -> Iterator[Finding]:
    """Yield the runs that do not have exactly one entry that opens their bill."""
    for run_id, tenant, count in connection.execute(_NOT_ONE_BILL):
        what = "A run does not have exactly one entry that opens its bill."
        yield Finding(what=what, tenant=tenant, run_id=run_id, expected="1", found=str(count))


def _check_corrections(connection: Connection) -> Iterator[Finding]:
    """Yield the corrections that do not name an earlier entry of their own run."""
    for tenant, run_id, entry_id, corrects, run_of_corrected in connection.execute(_WRONG_CORRECTIONS):
        yield Finding(
            what="A correction does not name an earlier entry of its run.",
            tenant=tenant,
            run_id=run_id,
            entry_id=entry_id,
            expected=f"an entry of {run_id}",
            found=f"{corrects} of {run_of_corrected or 'no run'}",
        )
