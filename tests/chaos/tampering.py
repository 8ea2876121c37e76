"""The tampering table of a campaign: each alteration of each table of a copy of its ledger is refused by the database, or found by `verify`.

With the guards on, an alteration is tried and rolled back; with the guards off, it is made, looked for and undone. What
can be made with the guards off has to be found, whether or not the guards refuse it.
"""

import random
import sqlite3
from collections import defaultdict
from dataclasses import dataclass, field
from typing import Any

import psycopg
from sqlalchemy import text

from gpt_image_runs.database.engine import Database
from gpt_image_runs.database.errors import LedgerRefused
from gpt_image_runs.database.open import open_database
from gpt_image_runs.database.tables import metadata
from tests.support.ledger.tampering import (
    LEDGER,
    add_decisions,
    delete,
    find_all,
    list_alterations,
    read_rows,
    unguarded,
    write,
)

_KIND_COLUMNS = ("kind", "outcome")
Row = dict[str, Any]
Alteration = tuple[str, str, list[Row], list[Row]]


@dataclass
class TamperingReport:
    """What became of the alterations. `impossible` break a key that nobody can turn off; `missed` were made and not found; `empty` are tables with no row to alter."""

    refused: int = 0
    found: int = 0
    impossible: int = 0
    missed: list[str] = field(default_factory=list)
    before: list[str] = field(default_factory=list)
    empty: list[str] = field(default_factory=list)
    tried: int = 0

    def find_violations(self) -> list[str]:
        """Return a sentence for each alteration that nobody noticed, and for whatever makes the table incomplete."""
        return [
            *(f"verify finds fault with the campaign's own ledger: {what}" for what in self.before),
            *(f"{table} has no rows, so no alteration of it was tried." for table in self.empty),
            *(f"{what}: made with the guards off, and verify did not find it." for what in self.missed),
        ]

    def describe(self) -> str:
        """Return the figure, one line."""
        noticed, tables = self.tried - len(self.missed), len(LEDGER) - len(self.empty)
        return (
            f"{self.tried} alterations of {tables} tables, {noticed} noticed ({_percent(noticed, self.tried)}):"
            f" {self.refused} refused with guards on; {self.found} found with guards off, {self.impossible} impossible"
        )


def tamper_with_copy(url: str, seed: int, rows_of_each: int, most: int | None = None) -> TamperingReport:
    """Try every alteration on up to `rows_of_each` rows of each kind in each table of the ledger at `url`, a copy.

    `most` draws so many of them, for a short campaign. Budgets and comparisons are written to it first, so that each table has rows.
    """
    database = open_database(url, create=False)
    try:
        report = TamperingReport(before=find_all(database))
        add_decisions(database)
        dice = random.Random(seed)
        alterations = _choose_alterations(database, dice, rows_of_each)
        report.empty = sorted(set(LEDGER) - {alteration[0] for alteration in alterations})
        if most is not None:
            alterations = dice.sample(alterations, min(most, len(alterations)))
        report.tried = len(alterations)
        # All of these first: to turn the guards off is for good.
        report.refused = sum(_is_refused(database, alteration) for alteration in alterations)
        for alteration in alterations:
            is_found = _is_found(database, alteration)
            if is_found is None:
                report.impossible += 1
            elif is_found:
                report.found += 1
            else:
                report.missed.append(alteration[1])
        if not report.before:
            report.before = find_all(database)
        return report
    finally:
        database.close()


def _choose_alterations(database: Database, dice: random.Random, rows_of_each: int) -> list[Alteration]:
    chosen: list[Alteration] = []
    for table in LEDGER:
        rows = read_rows(database, table)
        kinds: dict[tuple[Any, ...], list[int]] = defaultdict(list)
        for number, row in enumerate(rows):
            kinds[tuple(row.get(name) for name in _KIND_COLUMNS)].append(number)
        numbers = {
            number for same in kinds.values() for number in dice.sample(same, min(rows_of_each, len(same)))
        }
        chosen += [(table, *alteration) for alteration in list_alterations(table, rows, numbers)]
    return chosen


def _is_refused(database: Database, alteration: Alteration) -> bool:
    """Return whether the database refuses the alteration, as one plain statement, with all of its guards on."""
    table, _, out, put = alteration
    if out and put:
        keys = [column.name for column in metadata.tables[table].primary_key]
        changed = {name: value for name, value in put[0].items() if value != out[0][name]}
        statement = f"UPDATE {table} SET {', '.join(f'{name} = :{name}' for name in changed)}"
        values = changed
        values |= {f"old_{name}": out[0][name] for name in keys}
        statement += f" WHERE {' AND '.join(f'{name} = :old_{name}' for name in keys)}"
    elif out:
        keys = [column.name for column in metadata.tables[table].primary_key]
        statement = f"DELETE FROM {table} WHERE {' AND '.join(f'{name} = :{name}' for name in keys)}"
        values = {name: out[0][name] for name in keys}
    else:
        values = put[0]
        statement = (
            f"INSERT INTO {table} ({', '.join(values)}) VALUES ({', '.join(f':{name}' for name in values)})"
        )
    try:
        with database.writing() as connection:
            connection.execute(text(statement), values)
            connection.rollback()
    except LedgerRefused:
        return True
    return False


def _is_found(database: Database, alteration: Alteration) -> bool | None:
    """Make the alteration with all guards off, and undo it. Return whether `verify` finds it in between.

    None: a key that is taken cannot be written by anybody, so nothing has changed.
    """
    table, _, out, put = alteration
    try:
        _exchange(database, table, out, put)
    except (sqlite3.IntegrityError, psycopg.IntegrityError):
        return None
    is_found = bool(find_all(database))
    _exchange(database, table, put, out)
    return is_found


def _exchange(database: Database, table: str, out: list[Row], put: list[Row]) -> None:
    with unguarded(database) as execute:
        for statement, values in [
            *(delete(table, row) for row in out),
            *(write(table, row) for row in put),
        ]:
            execute(statement, values)


def _percent(part: int, whole: int) -> str:
    """Return a share in percent, rounded down: 100 % is all of them."""
    return f"{100 * part // whole} %" if whole else "none"
