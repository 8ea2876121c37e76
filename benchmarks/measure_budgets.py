"""Measure what budgets cost a request: `python -m benchmarks.measure_budgets [ATTEMPTS [URL]]`.

Begins, finishes and bills runs in an empty month, and again after ATTEMPTS attempts in that month. URL is an empty
PostgreSQL database; without it, a SQLite file in a temporary directory. Not a test: it asserts no times.
"""

import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import asdict
from functools import partial
from typing import Any

from sqlalchemy import insert

from gpt_image_runs.billing.attempts.attempts import AttemptLog
from gpt_image_runs.billing.budgets.spend import Account, Spend, count_spend
from gpt_image_runs.billing.ledger.ledger import Ledger
from gpt_image_runs.database.engine import Database
from gpt_image_runs.database.open import open_database
from gpt_image_runs.database.tables import provider_attempts
from tests.support.ledger.ledger_examples import SENT_AT, SUCCEEDED, describe_attempt, identify, make_order

_RUNS = 400


def main(attempts: str = "100000", url: str | None = None) -> None:
    with tempfile.TemporaryDirectory() as folder:
        database = open_database(url or f"sqlite:///{folder}/ledger.db", create=True)
        run_lifecycles(database, "warm")
        measure(database, "empty")
        fill(database, int(attempts))
        measure(database, f"after {attempts} attempts")
        database.close()


def measure(database: Database, name: str) -> None:
    steps = run_lifecycles(database, name)
    shown = (
        f"{step} {statistics.median(wall) * 1e6:.0f} ({statistics.median(cpu) * 1e6:.0f})"
        for step, (wall, cpu) in steps.items()
    )
    sys.stdout.write(f"{name}: median microseconds (our CPU time): {', '.join(shown)}\n")


def run_lifecycles(database: Database, name: str) -> dict[str, tuple[list[float], list[float]]]:
    """Run the whole lifecycle of some runs; return wall and CPU seconds by step."""
    log, ledger = AttemptLog(database), Ledger(database)
    steps: dict[str, tuple[list[float], list[float]]] = {
        step: ([], []) for step in ("begin", "finish", "record")
    }

    def take(step: str, work: Callable[[], Any]) -> Any:
        wall, cpu = time.perf_counter(), time.thread_time()
        result = work()
        steps[step][1].append(time.thread_time() - cpu)
        steps[step][0].append(time.perf_counter() - wall)
        return result

    for number in range(_RUNS):
        identity = identify("acme", f"{name.replace(' ', '-')}-{number}")
        log.claim_run(identity)
        attempt = take("begin", partial(log.begin, describe_attempt(identity.run_id)))
        take("finish", partial(log.finish, attempt.attempt_id, SUCCEEDED))
        take("record", partial(ledger.record, make_order(attempt)))
    return steps


def fill(database: Database, attempts: int) -> None:
    """Insert attempts of the same tenant and month in bulk, and count them in the spend counters at once."""
    rows = []
    for place in range(attempts):
        new = asdict(describe_attempt(identify("acme", f"filling-{place // 50}").run_id))
        rows.append(
            {
                **new,
                "number": place % 50 + 1,
                "client_request_id": f"filling-{place}",
                "begun_hash": "unchecked",
            }
        )
    log = AttemptLog(database)
    for place in range(0, attempts, 50):
        log.claim_run(identify("acme", f"filling-{place // 50}"))
    with database.writing() as connection:
        connection.execute(insert(provider_attempts), rows)
        account = Account("acme", SENT_AT, simulated=False)
        count_spend(connection, account, Spend(reserved=250_000 * attempts))


if __name__ == "__main__":
    main(*sys.argv[1:])
