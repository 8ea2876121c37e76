"""Measure how long a ledger takes to verify: `python -m benchmarks.measure_verification [ENTRIES [URL]]`.

URL is an empty PostgreSQL database; without it, a SQLite file in a temporary directory. Not a test: it asserts no
times.
"""

import resource
import sys
import tempfile
import time
from collections.abc import Callable
from typing import Any

from gpt_image_runs.billing.verification.verify import LedgerVerification
from gpt_image_runs.database.engine import Database
from gpt_image_runs.database.open import open_database
from tests.support.ledger.ledger_examples import identify
from tests.support.ledger.priced_bills import bill_run

_TENANTS = ("acme", "zoo", "acmé")


def main(entries: str = "10000", url: str | None = None) -> None:
    with tempfile.TemporaryDirectory() as folder:
        database = open_database(url or f"sqlite:///{folder}/ledger.db", create=True)
        measure("filled", lambda: fill(database, int(entries)))
        verification = LedgerVerification(database, lambda _checked, _total: None)
        findings = measure("verified", lambda: sum(1 for _ in verification.find()))
        megabytes = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
        sys.stdout.write(f"{verification.entries:,} entries, {findings} findings, at most {megabytes} MB\n")
        database.close()


def fill(database: Database, count: int) -> None:
    for place in range(count):
        bill_run(database, identify(_TENANTS[place % len(_TENANTS)], f"req-{place}"))


def measure(done: str, work: Callable[[], Any]) -> Any:
    started = time.monotonic()
    result = work()
    sys.stdout.write(f"{done} in {time.monotonic() - started:.1f} s\n")
    return result


if __name__ == "__main__":
    main(*sys.argv[1:])
