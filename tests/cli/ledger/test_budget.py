"""What an operator types about budgets, and about what was paid and is on no entry, where no worker runs."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from gpt_image_runs.database.engine import Database
from gpt_image_runs.database.open import open_database
from tests.support.ledger.ledger_examples import identify, pay_attempt
from tests.support.ledger.priced_bills import bill_run
from tests.support.runs.command_line import CommandLine
from tests.support.runs.spending import ask, decide


@pytest.fixture
def now() -> datetime:
    """The moment at which the test begins: commands have the real clock, and a long campaign of tests has begun long ago."""
    return datetime.now(UTC)


@pytest.fixture
def database(data_dir: Path) -> Iterator[Database]:
    """The ledger of this DATA_DIR."""
    data_dir.mkdir()
    database = open_database(f"sqlite:///{data_dir / 'ledger.db'}", create=True)
    yield database
    database.close()


def test_a_budget_is_shown(run: CommandLine, database: Database, now: datetime) -> None:
    """`budget show TENANT` tells limit, used, reserved and left for people, and the same as JSON."""
    decide(database, {"month": 1_000_000})
    ask(database, at=now)
    ask(database, at=now, simulated=True)
    (shown,) = run("budget", "show", "acme", "--json").document["budgets"]
    assert (shown["tenant"], shown["month"]["limit_usd"], shown["day"]["limit_usd"]) == (
        "acme",
        "1.000000",
        None,
    )
    assert shown["month"]["real"] == {
        "used_usd": "0.000000",
        "reserved_usd": "0.250000",
        "unpriced": 0,
        "left_usd": "0.750000",
    }
    lines = run("budget", "show", "acme").out.splitlines()
    assert lines[0] == "Budget of acme"
    assert lines[1] == f"  month     1.000000 USD for {now.strftime('%Y-%m')} (UTC), by ada: a trial".rstrip()
    assert lines[2].split() == ["0.000000", "used,", "0.250000", "reserved,", "0.750000", "left"]
    assert lines[3].split() == [
        "0.000000",
        "used,",
        "0.250000",
        "reserved,",
        "0.750000",
        "left",
        "(simulated)",
    ]
    assert lines[4].split()[:4] == ["day", "no", "budget", "for"]


def test_all_budgets_are_shown(run: CommandLine, database: Database, now: datetime) -> None:
    """`budget show` has a line for each budget; requests without a price make what is reserved a lower bound."""
    assert run("budget", "show").out == "No tenant has a budget.\n"
    ask(database, at=now, needed=None)
    decide(database, {"month": 1_000_000, "day": 500_000})
    decide(database, {"day": 1}, tenant="zoo")
    rows = [line.split() for line in run("budget", "show").out.splitlines() if "USD" not in line]
    assert [row[:2] for row in rows if len(row) > 2] == [
        ["acme", now.strftime("%Y-%m")],
        ["acme", now.strftime("%Y-%m-%d")],
        ["zoo", now.strftime("%Y-%m-%d")],
    ]
    assert "0.000000+" in run("budget", "show").out
    assert len(run("budget", "show", "--json").document["budgets"]) == 2


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (("acme",), "No budget is given. Use --month USD, --day USD or both; none removes a budget."),
        (
            ("acme", "--month", "-1"),
            "limits.month is '-1'; allowed: an amount in USD from 0 to a billion, as a text such as 250.00",
        ),
        (("acme", "--day", "0.0000001"), "limits.day is '0.0000001'; allowed: an amount in USD"),
        (
            ("acme", "--day", "1000000000.000001"),
            "limits.day is '1000000000.000001'; allowed: an amount in USD",
        ),
        (("acme", "--day", "1e3"), "limits.day is '1e3'; allowed: an amount in USD"),
        (("Acme!", "--day", "1"), "tenant is 'Acme!'; allowed: 1 to 63 characters"),
        (("acme", "--day", "1", "--actor", " "), "actor is ' '; allowed: who decides"),
    ],
)
def test_invalid_budget_decision_is_refused(run: CommandLine, words: tuple[str, ...], sentence: str) -> None:
    """What is no budget is refused before anything is asked of a server, and the sentence says what is allowed."""
    ended = run("budget", "set", *words, "--reason", "a trial", "--json")
    assert ended.status == 2
    assert ended.document["message"].startswith(sentence)


def test_what_was_paid_and_not_billed_is_pending(run: CommandLine, database: Database, now: datetime) -> None:
    """`pending` lists paid requests without an entry and says what to do; `verify` notes them, and nothing is wrong."""
    long_ago = now - timedelta(hours=1)
    bill_run(database, identify("acme", "billed"))
    paid = pay_attempt(database, identify("acme", "terminated"), finished_at=long_ago)
    pay_attempt(database, identify("acme", "young"), finished_at=now)

    ended = run("pending", "--json")
    for_people = run("pending").out
    verified = run("verify", "--no-pictures", "--json")

    (found,) = ended.document["unbilled"]
    assert (found["attempt_id"], found["run_id"]) == (paid.attempt_id, "image:acme:terminated")
    assert [attempt["run_id"] for attempt in ended.document["in_flight"]] == ["image:acme:young"]
    assert ended.document["runs"] == []
    assert "submit the run again: it is billed, and nothing is bought" in for_people
    assert "1 more was just paid and will probably be billed soon." in for_people
    assert (verified.status, verified.document["ok"]) == (0, True)
    assert verified.document["notes"] == [
        "1 request was paid and is on no entry. `python starter.py pending` shows what to do."
    ]
