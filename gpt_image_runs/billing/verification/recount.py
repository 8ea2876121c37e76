"""Recount what tenants have spent: `python -m gpt_image_runs.billing.verification.recount`, once `verify` has named a counter.

Counters change in the same transaction as what they count, so they are wrong only where somebody has changed the database
by hand. Attempts and entries are the truth.
"""

import argparse
import os
import sys

from sqlalchemy import Connection, text

from gpt_image_runs.billing.budgets.spend import change_counter
from gpt_image_runs.billing.verification.spend import find_differences
from gpt_image_runs.database.engine import Database
from gpt_image_runs.database.errors import LedgerError
from gpt_image_runs.database.open import open_database


def recount_spend(database: Database) -> int:
    """Correct every counter that is wrong; return how many there were.

    Raises:
        LedgerUnavailable: the database does not answer; nothing was changed.
    """
    with database.writing() as connection:
        if database.dialect == "postgresql":
            # Wait for transactions that are counting now, and block new ones: attempts, entries and counters change together.
            connection.execute(text("LOCK TABLE tenant_spend IN SHARE ROW EXCLUSIVE MODE"))
        days = _put_right(connection)
        return days + _put_right(connection)  # a month is right once its days are


def _put_right(connection: Connection) -> int:
    differences = find_differences(connection)
    for name, (expected, found) in sorted(differences.items()):
        change_counter(connection, name, expected - found)
    return len(differences)


def main(arguments: list[str] | None = None) -> int:
    """Run the command line; return 0 where every counter is right now, 1 where not known."""
    parser = argparse.ArgumentParser(
        prog="python -m gpt_image_runs.billing.verification.recount",
        description="Count anew what tenants have spent.",
    )
    parser.add_argument("--url", default=os.environ.get("DATABASE_URL"), help="default: DATABASE_URL")
    url = parser.parse_args(arguments).url
    if not url:
        return _fail("No ledger is configured. Set DATABASE_URL, or pass --url.")
    try:
        database = open_database(url, create=False)
        try:
            wrong = recount_spend(database)
        finally:
            database.close()
    except LedgerError as error:
        return _fail(str(error))
    result = f"{wrong:,} counters were wrong and are right now." if wrong else "every counter was right."
    sys.stdout.write(f"The ledger at {database.location}: {result}\n")
    return 0


def _fail(sentence: str) -> int:
    sys.stderr.write(f"{sentence}\n")
    return 1


if __name__ == "__main__":
    sys.exit(main())
