"""How long a ledger takes to migrate and to verify: `python -m benchmarks.measure_verification [ENTRIES [URL]]`.

Without a URL of an empty PostgreSQL database, a SQLite file in a temporary directory. No test: it asserts no time.
"""

import resource
import sys
import tempfile
import time
from collections.abc import Callable
from typing import Any

from gpt_image_runs.billing.verification.verify import LedgerVerification
from gpt_image_runs.database.engine import Database, parse_url
from gpt_image_runs.database.migrate import migrate_to_head
from tests.database.test_chain_migration import fill_old_ledger


def main(entries: str = "100000", url: str | None = None) -> None:
    with tempfile.TemporaryDirectory() as folder:
        database = Database(parse_url(url or f"sqlite:///{folder}/ledger.db"))
        measure("filled", lambda: fill_old_ledger(database, int(entries)))
        measure("migrated", lambda: migrate_to_head(database))
        verification = LedgerVerification(database, lambda _checked, _total: None)
        findings = measure("verified", lambda: sum(1 for _ in verification.find()))
        megabytes = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
        sys.stdout.write(f"{verification.entries:,} entries, {findings} findings, at most {megabytes} MB\n")
        database.close()


def measure(done: str, work: Callable[[], Any]) -> Any:
    started = time.monotonic()
    result = work()
    sys.stdout.write(f"{done} in {time.monotonic() - started:.1f} s\n")
    return result


if __name__ == "__main__":
    main(*sys.argv[1:])
