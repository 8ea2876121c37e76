"""Measure what a ledger's health report costs: `python -m benchmarks.measure_standing [ENTRIES [WAITING [URL]]]`.

The ledger has ENTRIES entries, of which WAITING are estimates of an attempt that was lost before, and 100 tenants
with budgets. URL is an empty PostgreSQL database; without it, a SQLite file in a temporary directory. Not a test: it
asserts no times.
"""

import statistics
import sys
import tempfile
import time
from dataclasses import asdict
from datetime import timedelta
from typing import Any

from sqlalchemy import insert

from gpt_image_runs.billing.attempts.attempts import AttemptLog
from gpt_image_runs.billing.hash_chain import ENTRY_HASH, PREVIOUS_HASH
from gpt_image_runs.billing.ledger.ledger import cost_columns
from gpt_image_runs.billing.reports.health import read_standing
from gpt_image_runs.database.engine import Database
from gpt_image_runs.database.open import open_database
from gpt_image_runs.database.tables import ledger_entries, provider_attempts
from tests.support.ledger.ledger_examples import (
    CHARGE,
    ESTIMATE,
    FINISHED_AT,
    SENT_AT,
    describe_attempt,
    identify,
)
from tests.support.runs.spending import decide

_USAGE = {"input_tokens": 50, "output_tokens": 4160, "padding": "x" * 500}
_TIMES = 50


def main(entries: str = "100000", waiting: str = "1000", url: str | None = None) -> None:
    with tempfile.TemporaryDirectory() as folder:
        database = open_database(url or f"sqlite:///{folder}/ledger.db", create=True)
        for number in range(100):
            decide(database, {"month": 10_000_000, "day": 1_000_000}, tenant=f"tenant-{number}")
        fill(database, int(entries), int(waiting))
        now = SENT_AT + timedelta(hours=1)
        standing, wall, cpu = read_standing(database, now), [], []
        for _ in range(_TIMES):
            began, worked = time.perf_counter(), time.process_time()
            read_standing(database, now)
            wall.append(time.perf_counter() - began)
            cpu.append(time.process_time() - worked)
        sys.stdout.write(
            f"{database.dialect}, {entries} entries, {standing.money[False].estimated} estimated,"
            f" {standing.money[False].exposed} exposed: median {statistics.median(wall) * 1000:.1f} ms"
            f" ({statistics.median(cpu) * 1000:.1f} ms of our CPU time), longest {max(wall) * 1000:.1f} ms\n"
        )
        database.close()


def fill(database: Database, entries: int, waiting: int) -> None:
    """Insert rows of the usual size. They are not chained, which this report does not check."""
    AttemptLog(database).claim_run(identify("acme", "filling"))
    for first in range(0, entries, 1000):
        places = range(first, min(first + 1000, entries))
        with database.writing() as connection:
            connection.execute(insert(provider_attempts), [_attempt(place, waiting) for place in places])
            connection.execute(insert(ledger_entries), [_entry(place, waiting) for place in places])


def _attempt(place: int, waiting: int) -> dict[str, Any]:
    return {
        **asdict(describe_attempt("image:acme:filling")),
        "attempt_id": f"att_{place}",
        "number": place + 1,
        "client_request_id": f"filling-{place}",
        "begun_hash": "unchecked",
        "outcome": "unknown" if place < waiting else "succeeded",
        "finished_at": FINISHED_AT,
        "response": {"usage": _USAGE},
    }


def _entry(place: int, waiting: int) -> dict[str, Any]:
    cost = ESTIMATE if place < waiting else CHARGE
    return {
        **cost_columns(cost),
        "entry_id": f"ent_{place}",
        "entry_key": f"key-{place}",
        "run_id": "image:acme:filling",
        "tenant": "acme",
        "request_id": "filling",
        "attempt_id": f"att_{place}",
        "kind": "estimate" if place < waiting else "charge",
        "operation": "generate",
        "requested_model": "gpt-image-1",
        "model": "gpt-image-1",
        "provider": "openai",
        "simulated": False,
        "usage": _USAGE,
        "images": [],
        "image_count": 1,
        "metadata": {},
        "fingerprint": "a1" * 32,
        "sent_at": SENT_AT,
        "created_at": FINISHED_AT,
        PREVIOUS_HASH: f"hash-{place}",
        ENTRY_HASH: f"hash-{place + 1}",
    }


if __name__ == "__main__":
    main(*sys.argv[1:])
