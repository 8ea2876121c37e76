"""`reconcile`, `reprice`, `reverse`, `pending` and `exposure`, where no server runs."""

import getpass
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest

from cli.errors import RequestRefused
from cli.ledger.settlements import tabulate_endings
from cli.options import find_actor
from gpt_image_runs.billing.attempts.attempts import AttemptLog
from gpt_image_runs.billing.ledger.corrections import Corrections
from gpt_image_runs.billing.pricing.rate_cards import RateCards
from gpt_image_runs.contracts.corrections import Correction
from gpt_image_runs.database.engine import Database
from gpt_image_runs.database.open import open_database
from tests.support.ledger.ledger_examples import SUCCEEDED, begin_attempt, describe_attempt, identify
from tests.support.ledger.priced_bills import bill_run
from tests.support.runs.command_line import CommandLine

USAGE = '{"input_tokens": 50, "output_tokens": 4160}'


@pytest.fixture
def database(data_dir: Path) -> Iterator[Database]:
    """The ledger of this DATA_DIR."""
    data_dir.mkdir()
    database = open_database(f"sqlite:///{data_dir / 'ledger.db'}", create=True)
    yield database
    database.close()


@pytest.fixture
def usage(tmp_path: Path) -> str:
    """A file with a usage."""
    path = tmp_path / "usage.json"
    path.write_text(USAGE)
    return str(path)


@pytest.mark.parametrize(
    "arguments",
    [
        (),
        ("req-1",),
        ("req-1", "--reason", "x"),
        ("--usage", "USAGE", "--reason", "x"),
        ("req-1", "--usage", "USAGE", "--file", "USAGE"),
        ("--file", "USAGE", "--no-wait"),
    ],
)
def test_reconcile_takes_one_run_or_a_file(run: CommandLine, usage: str, arguments: tuple[str, ...]) -> None:
    """Half of the one and half of the other is refused, with what to give."""
    ended = run("reconcile", *(usage if word == "USAGE" else word for word in arguments))

    assert ended.status == 2
    assert "Use either a RUN with its --usage and a --reason, or a --file of many." in ended.err


@pytest.mark.parametrize(
    ("words", "why"),
    [
        (("reconcile", "req-1", "--usage", "USAGE"), "reason is absent; allowed: a text of 1 to 500 characters"),
        (("reconcile", "req-1", "--usage", "USAGE", "--reason", " "), "reason is ' '; allowed: "),
        (("reconcile", "req-1", "--usage", "USAGE", "--reason", "x" * 501), "reason is 'xxx"),
        (("reverse", "req-1"), "Missing option '--reason'"),
        (("reverse", "req-1", "--reason", "a\x07b"), "reason is 'a\\x07b'; allowed: "),
        (("reverse", "req-1", "--reason", "x", "--actor", "a" * 129), "actor is 'aaa"),
        (("reverse", "req 1", "--reason", "x"), "'req 1' is not a valid run"),
        (("reprice", "image:acme:", "--reason", "x"), "'image:acme:' is not a valid run"),
    ],
)  # fmt: skip
def test_invalid_correction_is_refused_before_anything_starts(
    run: CommandLine, usage: str, words: tuple[str, ...], why: str
) -> None:
    """A missing or impossible reason, actor or run ends with status 2, without asking any server."""
    ended = run(*(usage if word == "USAGE" else word for word in words))

    assert ended.status == 2
    assert why in ended.err
    assert "Temporal" not in ended.err


def test_without_temporal_nothing_is_settled(run_process: CommandLine, usage: str) -> None:
    """A correction needs Temporal, and says so with status 1."""
    ended = run_process("reconcile", "req-1", "--usage", usage, "--reason", "x", "--json")

    assert ended.status == 1
    assert "No Temporal server answers" in ended.document["message"]


def test_who_decides_is_the_user_of_the_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    """The actor is the one that is given, else this machine's user; a machine without users is told to name one."""
    assert find_actor("grace") == "grace"
    assert find_actor(None) == getpass.getuser()

    def fail() -> str:
        raise OSError

    monkeypatch.setattr(getpass, "getuser", fail)
    with pytest.raises(RequestRefused, match="Use --actor NAME"):
        find_actor(None)


def test_pending_runs_are_listed(run: CommandLine, database: Database) -> None:
    """`pending` lists holds with their reason, the oldest first; with --estimates the estimates too."""
    bill_run(database, identify("acme", "held"), usage=None, missing_usage="hold")
    bill_run(database, identify("acme", "estimated"), usage=None)
    bill_run(database, identify("zoo", "unpriced"), model="gpt-image-9")

    document = run("pending", "--json").document
    both = run("pending", "--estimates", "--tenant", "acme", "--json").document
    table = run("pending", "--limit", "1").out

    assert [(found["run_id"], found["usage_is_kept"]) for found in document["runs"]] == [
        ("image:acme:held", False),
        ("image:zoo:unpriced", True),
    ]
    assert [(found["state"], found["amount_usd"]) for found in both["runs"]] == [
        ("pending", None),
        ("estimated", "0.166400"),
    ]
    assert "image:acme:held" in table
    assert "The provider returned no usage" in table
    assert "unpriced" not in table


def test_pending_without_runs_is_one_sentence(run: CommandLine, database: Database) -> None:
    """An empty list is said in words."""
    assert run("pending").out == "No bills are waiting.\n"


def test_exposure_is_listed(run: CommandLine, database: Database) -> None:
    """`exposure` sums what was lost, counts what has no price, and shows what is in flight apart."""
    log = AttemptLog(database)
    lost = begin_attempt(database)
    log.finish(lost.attempt_id, replace(SUCCEEDED, outcome="unknown"))
    log.begin(replace(describe_attempt(), reserved_micro_usd=None))
    log.begin(replace(describe_attempt(), sent_at=datetime.now(UTC)))

    document = run("exposure", "--json").document
    table = run("exposure", "--by", "day").out

    row = {"simulated": False, "attempts": 2, "unpriced": 1, "reserved_usd": "0.250000"}
    assert document["rows"] == [{"key": "image:acme:req-1", **row}]
    assert document["totals"]["real"] == {"key": "total", **row}
    assert [len(document[name]) for name in ("attempts", "in_flight")] == [2, 1]
    assert "2026-11-23" in table
    assert "0.250000+" in table
    assert "1 more is in flight and may still be answered." in table


def test_nothing_to_settle_is_one_sentence() -> None:
    """Where nothing waits there is no table without rows."""
    assert [str(part) for part in tabulate_endings([])] == ["There is nothing to settle."]


def test_exposure_without_requests_is_one_sentence(run: CommandLine, database: Database) -> None:
    """A ledger without lost requests says so."""
    assert run("exposure").out == "No requests with an unknown outcome.\n"


def test_a_settled_run_is_shown_as_it_is_owed(run: CommandLine, database: Database) -> None:
    """A run that Temporal has forgotten is shown with its correction: state, amount, list cost and usage."""
    bill_run(database, usage=None)
    Corrections(database, RateCards.load()).settle(
        Correction(
            action="reconcile",
            run_id="image:acme:req-1",
            usage={"input_tokens": 50, "output_tokens": 4160},
            reason="ticket 7",
            actor="ada",
        )
    )

    result = run("show", "image:acme:req-1", "--json").document

    assert result["billing"]["state"] == "reconciled"
    assert result["billing"]["reason"] == "ticket 7"
    assert (result["cost"]["amount_usd"], result["cost"]["list_cost_usd"]) == ("0.166900", "0.166650")
    assert (result["cost"]["basis"], result["cost"]["flags"]) == ("token_usage", [])
    assert result["usage"] == {"input_tokens": 50, "output_tokens": 4160}
