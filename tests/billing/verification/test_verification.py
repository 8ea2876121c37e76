"""Verifying a ledger: what was changed behind its back, contradicts itself or cannot be derived again is found and named."""

import os
from collections.abc import Iterator
from typing import Any

import pytest
from sqlalchemy import Connection, select

from gpt_image_runs.billing.ledger.heads import append_entry
from gpt_image_runs.billing.ledger.ledger import Ledger
from gpt_image_runs.billing.verification.snapshot import Finding
from gpt_image_runs.billing.verification.verify import LedgerVerification
from gpt_image_runs.contracts.billing import BillingRecord, Cost, LineItem
from gpt_image_runs.database.engine import Database
from gpt_image_runs.database.open import open_database
from gpt_image_runs.database.tables import ledger_entries
from tests.support.ledger.ledger_examples import identify, make_order, pay_attempt
from tests.support.ledger.priced_bills import USAGE, bill_run
from tests.support.ledger.tampering import forge, tamper

ALTERED = "The entry was changed after it was written: its hash is another."
BROKEN = "The chain is broken before this entry: one was taken out, put in, moved or replaced."
OTHER_END = "The tenant's chain does not end where its head says: entries were cut off or put on."
SECOND = "WHERE request_id = 'req-2'"


def verify(database: Database) -> tuple[list[Finding], LedgerVerification]:
    verification = LedgerVerification(database, lambda _checked, _total: None)
    return list(verification.find()), verification


def tell(database: Database) -> list[tuple[str | None, str]]:
    """List what is wrong, by run (without "image:acme:") or tenant."""
    findings, _ = verify(database)
    return [
        ((finding.run_id or finding.tenant or "").removeprefix("image:acme:"), finding.what)
        for finding in findings
    ]


@pytest.fixture
def three(database: Database) -> Database:
    """Three charges of acme, and one of zoo in between."""
    bill_run(database, identify("acme", "req-1"))
    bill_run(database, identify("zoo", "req-9"))
    bill_run(database, identify("acme", "req-2"))
    bill_run(database, identify("acme", "req-3"))
    return database


def bill_charge(database: Database, request_id: str) -> BillingRecord:
    return bill_run(database, identify("acme", request_id))


def bill_estimate(database: Database, request_id: str) -> BillingRecord:
    return bill_run(database, identify("acme", request_id), usage=None)


def bill_hold(database: Database, request_id: str) -> BillingRecord:
    return bill_run(database, identify("acme", request_id), usage=None, missing_usage="hold")


def bill_classes(database: Database, request_id: str) -> BillingRecord:
    """Bill a charge by token class, with text output and unknown fields."""
    details = {"text_tokens": 40, "image_tokens": 1056}
    usage = {"input_tokens": 13, "output_tokens": 1096, "output_tokens_details": details, "new": [1.5, None]}
    return bill_run(database, identify("acme", request_id), usage=usage, model="gpt-image-1.5")


BILLED = {"charge": bill_charge, "estimate": bill_estimate, "hold": bill_hold, "classes": bill_classes}


@pytest.fixture
def kinds(database: Database) -> Database:
    """A bill of each kind, each in a run of that name; the estimate is adjusted, and then all of it taken back."""
    records = {kind: bill(database, kind) for kind, bill in BILLED.items()}
    correct(database, records["estimate"].entry_id, **ADJUSTMENT)
    correct(database, "ent_adjustment", **REVERSAL)
    return database


def correct(database: Database, corrected: str, **columns: Any) -> None:
    """Write a correction as a reconciliation does: a copy of the corrected entry with these columns."""
    with database.writing() as connection:
        query = ledger_entries.select().where(ledger_entries.c.entry_id == corrected)
        row: dict[str, Any] = dict(connection.execute(query).mappings().one())
        del row["sequence"]
        row |= {"entry_id": f"ent_{columns['kind']}", "entry_key": columns["kind"], "corrects": corrected}
        assert append_entry(connection, row | columns)


LINES = [
    {"token_class": "input", "tokens": 50, "usd_per_million": "10.00", "amount_usd": "0.000500"},
    {"token_class": "output", "tokens": 4160, "usd_per_million": "40.00", "amount_usd": "0.166400"},
]
ADJUSTMENT = {
    "kind": "adjustment",
    "basis": "token_usage",
    "usage": USAGE,
    "line_items": LINES,
    "amount_micro_usd": 500,  # 166,900 by its usage, after an estimate of 40 * 4160 = 166,400
    "list_cost_micro_usd": 250,  # 5 * 50 + 40 * 4160 = 166,650, after 166,400
}
REVERSAL: dict[str, Any] = {
    "kind": "reversal",
    "basis": "none",
    "usage": None,
    "rates": {},
    "line_items": [],
    "list_rates": {},
    "amount_micro_usd": -166_900,
    "list_cost_micro_usd": -166_650,
}


def test_a_sound_ledger_has_no_findings(kinds: Database) -> None:
    """Charges by totals and by class, estimates, holds and corrections verify, and the head counts them."""
    findings, verification = verify(kinds)
    assert findings == []
    assert verification.entries == 6
    assert [(head.tenant, head.entries) for head in verification.heads] == [("acme", 6)]


def test_an_empty_ledger_has_no_findings(database: Database) -> None:
    """Nothing is not wrong."""
    assert tell(database) == []


def test_bills_of_before_usage_was_checked_for_contradictions_stay_sound(database: Database) -> None:
    """Their amounts follow from input_tokens and output_tokens alone, which is the rule that they were written by."""
    rates = {"input": "10.00", "output": "40.00"}
    by_usage = {"basis": "token_usage", "rate_card": "charge-1", "rates": rates}
    line = LineItem(token_class="input", tokens=9, usd_per_million="10.00", amount_usd="0.000090")
    for request_id, usage, cost in (
        ("zeros", {"input_tokens": 0, "output_tokens": 0}, Cost(amount_usd="0.000000", **by_usage)),
        (
            "fraction",
            {"input_tokens": 9, "completion_tokens": 4160},
            Cost(amount_usd="0.000090", line_items=(line,), **by_usage),
        ),
    ):
        attempt = pay_attempt(database, identify("acme", request_id), response={"usage": usage})
        Ledger(database).record(make_order(attempt, cost))

    assert tell(database) == []


def change(database: Database, column: str) -> str:
    """Build SQL that changes a column as little as its type allows: JSON by a blank without meaning."""
    kind = str(ledger_entries.c[column].type)
    if kind == "DATETIME":
        if database.dialect == "sqlite":
            return f"substr({column}, 1, 25) || CASE substr({column}, 26, 1) WHEN '7' THEN '8' ELSE '7' END"
        return f"{column} + interval '1 microsecond'"
    if kind == "BOOLEAN":
        return f"NOT {column}"
    if "INT" in kind:
        return f"COALESCE({column}, 0) + 1"
    return f"COALESCE({column}, '') || ' '"


HASHED = [column.name for column in ledger_entries.c if column.name != "sequence"]


EMPTIED = ("usage", "amount_micro_usd", "size", "provider_request_id", "list_cost_micro_usd")


def test_a_change_of_any_column_is_found(database: Database) -> None:
    """Whichever column of an entry is changed or emptied behind the guards' back, its hash tells; no other is blamed."""
    changes = {column: change(database, column) for column in HASHED}
    changes |= {f"{column} emptied": "NULL" for column in EMPTIED}
    for number, _ in enumerate(changes):
        bill_run(database, identify("acme", f"req-{number}"))
    bill_run(database, identify("acme", "untouched"))
    tamper(
        database,
        *(
            f"UPDATE ledger_entries SET {what.split()[0]} = {how} WHERE sequence = {sequence}"
            for sequence, (what, how) in enumerate(changes.items(), start=1)
        ),
    )
    findings, _ = verify(database)
    altered = {finding.entry_id for finding in findings if finding.what == ALTERED}
    with database.reading() as connection:
        query = select(ledger_entries.c.entry_id).order_by(ledger_entries.c.sequence)
        *changed, untouched = connection.execute(query).scalars()
    missed = [what for what, entry_id in zip(changes, changed, strict=True) if entry_id not in altered]
    assert (missed, untouched in altered, len(altered)) == ([], False, len(changes))


@pytest.mark.parametrize(
    ("statement", "found"),
    [
        ("DELETE FROM ledger_entries WHERE request_id = 'req-1'", [("req-2", BROKEN), ("acme", OTHER_END)]),
        ("DELETE FROM ledger_entries WHERE request_id = 'req-2'", [("req-3", BROKEN), ("acme", OTHER_END)]),
        ("DELETE FROM ledger_entries WHERE request_id = 'req-3'", [("acme", OTHER_END)]),
        ("DELETE FROM ledger_entries WHERE tenant = 'zoo'", [("zoo", OTHER_END)]),
        ("UPDATE ledger_entries SET sequence = 99 WHERE request_id = 'req-2'", [("req-3", BROKEN), ("req-2", BROKEN), ("acme", OTHER_END)]),
        ("UPDATE ledger_entries SET previous_hash = 'no hash' WHERE request_id = 'req-1'", [("req-1", BROKEN), ("req-1", ALTERED)]),
        ("UPDATE ledger_heads SET entry_hash = 'no hash' WHERE tenant = 'zoo'", [("zoo", OTHER_END)]),
        ("UPDATE ledger_heads SET entries = 7 WHERE tenant = 'zoo'", [("zoo", OTHER_END)]),
        ("DELETE FROM ledger_heads WHERE tenant = 'zoo'", [("zoo", "The tenant has entries, and no head that says where its chain ends.")]),
        ("INSERT INTO ledger_heads VALUES ('nobody', 1, 'hash')", [("nobody", OTHER_END)]),
    ],
)  # fmt: skip
def test_a_chain_that_was_cut_or_mended_is_found(
    three: Database, statement: str, found: list[tuple[str, str]]
) -> None:
    """An entry that is gone or moved breaks the chain at the next one, the last one leaves a head that says otherwise."""
    tamper(three, statement)
    assert tell(three) == found


def test_entries_that_changed_places_are_found(three: Database) -> None:
    """Two entries that swap their numbers break the chain at both, and after them."""
    tamper(
        three,
        "UPDATE ledger_entries SET sequence = 99 WHERE request_id = 'req-1'",
        "UPDATE ledger_entries SET sequence = 1 WHERE request_id = 'req-2'",
        "UPDATE ledger_entries SET sequence = 3 WHERE request_id = 'req-1'",
    )
    assert tell(three) == [("req-2", BROKEN), ("req-1", BROKEN), ("req-3", BROKEN)]


def read_row(database: Database, request_id: str) -> dict[str, Any]:
    with database.reading() as connection:
        query = ledger_entries.select().where(ledger_entries.c.request_id == request_id)
        return dict(connection.execute(query).mappings().one())


@pytest.mark.parametrize(
    ("request_id", "found"),
    [("req-2", [("req-3", BROKEN)]), ("req-3", [("acme", OTHER_END)])],
)
def test_a_forged_entry_with_a_hash_of_its_own_is_found(
    database: Database, request_id: str, found: list[tuple[str, str]]
) -> None:
    """An entry that was changed and given the right hash breaks the chain at the next one, or at the head."""
    for number in (1, 2, 3):
        bill_run(database, identify("acme", f"req-{number}"))
    old = {name: read_row(database, name)["entry_hash"] for name in ("req-1", "req-2", "req-3")}
    metadata = 'UPDATE ledger_entries SET metadata = \'{"order":"other"}\' WHERE request_id'
    forge(database, f"{metadata} = '{request_id}'")
    for other in {"req-1", "req-2", "req-3"} - {request_id}:
        tamper(
            database, f"UPDATE ledger_entries SET entry_hash = '{old[other]}' WHERE request_id = '{other}'"
        )
    tamper(
        database,
        f"UPDATE ledger_entries SET previous_hash = '{old['req-2']}' WHERE request_id = 'req-3'",
        f"UPDATE ledger_heads SET entry_hash = '{old['req-3']}'",
    )
    assert tell(database) == found


def test_a_copy_of_an_entry_is_found(three: Database) -> None:
    """An entry that was written twice, with keys of its own, breaks the chain and bills its run twice."""
    columns = ", ".join(
        column for column in HASHED if column not in {"entry_id", "entry_key", "previous_hash"}
    )
    tamper(
        three,
        f"INSERT INTO ledger_entries (entry_id, entry_key, previous_hash, {columns})"
        f" SELECT 'ent_copy', 'copy', 'other', {columns} FROM ledger_entries {SECOND}",
    )
    assert tell(three) == [
        ("req-2", BROKEN),
        ("req-2", ALTERED),
        ("req-2", "A bill has another key than its run's."),
        ("acme", OTHER_END),
        ("req-2", "A run does not have exactly one entry that opens its bill."),
    ]


FORGERIES = (
    ("charge", "amount_micro_usd = 166901", "The amount is not what usage and rates come to."),
    ("charge", "list_cost_micro_usd = 1", "The list cost is not what usage and rates come to."),
    ("charge", "list_rates = '{}'", "The list cost is not what usage and rates come to."),
    ("charge", "line_items = '[]'", "The line items are not what usage and rates come to."),
    ("charge", "rates = '{}'", "The amount cannot be derived: the entry does not hold the rates of a rate card."),
    ("charge", "rates = '{\"input\":\"10.00\",\"output\":\"41.00\"}'", "The amount is not what usage and rates come to."),
    ("charge", "usage = NULL", "The amount cannot be derived: the entry charges for usage, and has none."),
    ("charge", "usage = '{\"input_tokens\":50,\"output_tokens\":4161}'", "The entry's usage is not that of its attempt."),
    ("charge", "usage = '{\"input_tokens\":-1}'", "The amount cannot be derived: usage.input_tokens is -1: a token count has to be a whole number from 0 to 1,000,000,000,000."),
    ("charge", "flags = flags, usage = '{'", "The amount cannot be derived: a column that has to hold JSON does not: Expecting property name enclosed in double quotes: line 1 column 2 (char 1)."),
    ("charge", "kind = 'hold', amount_micro_usd = NULL, reason = 'because'", "The basis is not that of its kind."),
    ("charge", "operation = 'gift'", "The amount cannot be derived: operation: Input should be 'generate' or 'edit'."),
    ("charge", "fingerprint = 'other'", "The entry's fingerprint is not that of its run."),
    ("charge", "model = 'gpt-image-2'", "The entry's model is not that of its attempt."),
    ("charge", "simulated = (1 = 1)", "The entry's simulated is not that of its attempt."),
    ("charge", "size = 'other'", "The entry's size is not that of its attempt."),
    ("charge", "images = '[]'", "The entry's images is not that of its attempt."),
    ("charge", "image_count = 2", "The entry's image_count is not that of its attempt."),
    ("charge", "entry_key = 'other'", "A bill has another key than its run's."),
    ("charge", "run_id = 'image:acme:nobody'", "The entry's run is not in the ledger."),
    ("charge", "attempt_id = 'att_nobody'", "The entry's attempt is not in the ledger."),
    ("estimate", "amount_micro_usd = 166401", "The amount is not what usage and rates come to."),
    ("estimate", "quality = 'low'", "The amount is not what usage and rates come to."),
    ("estimate", "quality = 'odd'", "The amount cannot be derived: no estimate is known for this model, size and quality."),
    ("estimate", "usage = '{\"input_tokens\":50}'", "The amount cannot be derived: the entry is an estimate, although the provider reported usage."),
    ("hold", "amount_micro_usd = 1", "The amount is not what usage and rates come to."),
    ("hold", "reason = ''", "The entry is on hold and does not say why."),
    ("classes", "amount_micro_usd = 34256", "The amount is not what usage and rates come to."),
)  # fmt: skip


def test_forgeries_with_a_chain_made_anew_are_found(database: Database) -> None:
    """Even where all hashes and heads are right, an entry that contradicts itself or its attempt is found."""
    forged = [
        (BILLED[kind](database, f"{kind}-{number}").entry_id, forgery, what)
        for number, (kind, forgery, what) in enumerate(FORGERIES)
    ]
    forge(
        database,
        *(
            f"UPDATE ledger_entries SET {forgery} WHERE entry_id = '{entry_id}'"
            for entry_id, forgery, _ in forged
        ),
    )
    findings, _ = verify(database)
    said = {(finding.entry_id, finding.what) for finding in findings}
    assert [(forgery, what) for entry_id, forgery, what in forged if (entry_id, what) not in said] == []
    assert not {ALTERED, BROKEN, OTHER_END} & {what for _, what in said}


OF_THE_CARD = "The {} rates are not those of the rate card that the entry names, {}-2026-11-04."
OTHER_RATES: tuple[tuple[str, dict[str, Any], str], ...] = (
    # The issue's own: an amount that its rates come to, under the shipped card's id.
    (
        "charge",
        {
            "rates": '{"input":"0.01","output":"0.04"}',
            "amount_micro_usd": 167,
            "line_items": '[{"token_class":"input","tokens":50,"usd_per_million":"0.01","amount_usd":"0.0000005"},'
            '{"token_class":"output","tokens":4160,"usd_per_million":"0.04","amount_usd":"0.0001664"}]',
        },
        OF_THE_CARD.format("charge", "charge"),
    ),
    (
        "charge",
        {"list_rates": '{"text_in":"5.00","image_in":"10.00","image_out":"0.01"}'},
        OF_THE_CARD.format("list", "list"),
    ),
    ("charge", {"rate_card": "list-2026-11-04"}, "The entry's charge rates are under the id of a list card."),
    (
        "charge",
        {"list_rate_card": "charge-2026-11-04"},
        "The entry's list rates are under the id of a charge card.",
    ),
    # Half of the price is that of a batch, and the attempt was in none.
    (
        "charge",
        {"rate_card": "charge-batch-2026-11-04", "rates": '{"input":"5.00","output":"20.00"}'},
        "The charge rates are not those of the rate card that the entry names, charge-batch-2026-11-04.",
    ),
    (
        "estimate",
        {"rates": '{"input":"10.00","output":"0.04"}', "amount_micro_usd": 167},
        OF_THE_CARD.format("charge", "charge"),
    ),
    (
        "classes",
        {"rates": '{"text_in":"5.00","image_in":"8.00","image_out":"32.00"}'},
        OF_THE_CARD.format("charge", "charge"),
    ),
)


def test_rates_that_are_not_those_of_the_shipped_card_are_found(database: Database) -> None:
    """A shipped card's id stands for its rates, also where amount, hashes and heads were all made to fit others."""
    forged = [
        (BILLED[kind](database, f"{kind}-{number}").entry_id, columns, what)
        for number, (kind, columns, what) in enumerate(OTHER_RATES)
    ]
    sound = bill_charge(database, "sound").entry_id
    forge(
        database,
        *(
            f"UPDATE ledger_entries SET {', '.join(f'{name} = {value!r}' for name, value in columns.items())}"
            f" WHERE entry_id = '{entry_id}'"
            for entry_id, columns, _ in forged
        ),
    )
    said = {(finding.entry_id, finding.what) for finding in verify(database)[0]}
    assert [what for entry_id, _, what in forged if (entry_id, what) not in said] == []
    assert sound not in {entry_id for entry_id, _ in said}
    # The first one is found by this alone: it is right in itself.
    assert [what for entry_id, what in said if entry_id == forged[0][0]] == [forged[0][2]]


def test_rates_of_a_card_of_ones_own_are_not_held_against_the_shipped_ones(database: Database) -> None:
    bill_charge(database, "own")
    forge(database, "UPDATE ledger_entries SET rate_card = 'own+0123456789ab'")
    assert tell(database) == []


def test_a_run_without_a_bill_is_found(three: Database) -> None:
    """A run with entries none of which opens a bill is found, where even the chain was made anew."""
    forge(three, f"UPDATE ledger_entries SET kind = 'gift' {SECOND}")
    # On SQLite the file's own check has its say before: such a kind breaks a rule of the table.
    assert tell(three)[-1:] == [("req-2", "A run does not have exactly one entry that opens its bill.")]


@pytest.mark.parametrize(
    ("statement", "what"),
    [
        ("UPDATE provider_attempts SET outcome = 'unknown' WHERE run_id = 'image:acme:charge'", "The attempt that was paid has another outcome."),
        ("UPDATE provider_attempts SET response = NULL WHERE run_id = 'image:acme:charge'", "The entry's usage is not that of its attempt."),
        ("UPDATE provider_attempts SET response = '{' WHERE run_id = 'image:acme:charge'", "The entry's usage is not that of its attempt."),
        ("UPDATE provider_attempts SET images = '[{}]' WHERE run_id = 'image:acme:charge'", "The entry's images is not that of its attempt."),
        ("UPDATE provider_attempts SET run_id = 'image:acme:hold', number = 2 WHERE run_id = 'image:acme:charge'", "The entry's run_id is not that of its attempt."),
        ("UPDATE runs SET requested_model = 'other' WHERE request_id = 'charge'", "The entry's requested_model is not that of its run."),
        ("DELETE FROM runs WHERE request_id = 'charge'", "The entry's run is not in the ledger."),
        ("DELETE FROM provider_attempts WHERE run_id = 'image:acme:charge'", "The entry's attempt is not in the ledger."),
    ],
)  # fmt: skip
def test_a_change_of_what_an_entry_was_copied_from_is_found(
    kinds: Database, statement: str, what: str
) -> None:
    """A run or an attempt that no longer says what its entry says is found, by that entry and by its own hash or seal."""
    tamper(kinds, statement)
    assert tell(kinds)[0] == ("charge", what)
    assert len(tell(kinds)) > 1


@pytest.mark.parametrize(
    ("corrects", "found"),
    [
        ("(SELECT entry_id FROM ledger_entries WHERE request_id = 'hold')", "of image:acme:hold"),
        ("'ent_nobody'", "ent_nobody of no run"),
        ("'ent_reversal'", "ent_reversal of image:acme:estimate"),
    ],
)
def test_a_correction_of_another_run_is_found(kinds: Database, corrects: str, found: str) -> None:
    """A correction names an earlier entry, which is there and of its own run."""
    forge(kinds, f"UPDATE ledger_entries SET corrects = {corrects} WHERE entry_id = 'ent_adjustment'")
    findings, _ = verify(kinds)
    assert [finding.what for finding in findings] == [
        "A correction does not name an earlier entry of its run."
    ]
    assert (findings[0].found or "").endswith(found)


@pytest.mark.parametrize(
    ("entry_id", "forgery", "expected", "found"),
    [
        ("ent_adjustment", "amount_micro_usd = 501", "0.000500", "0.000501"),
        ("ent_adjustment", "list_cost_micro_usd = NULL", "0.000250", "none"),
        ("ent_reversal", "amount_micro_usd = -166901", "-0.166900", "-0.166901"),
        ("ent_reversal", "list_cost_micro_usd = 0", "-0.166650", "0.000000"),
    ],
)
def test_a_correction_holds_the_difference(
    kinds: Database, entry_id: str, forgery: str, expected: str, found: str
) -> None:
    """An adjustment comes to its usage less what was billed before, a reversal to all of that, taken back."""
    forge(kinds, f"UPDATE ledger_entries SET {forgery} WHERE entry_id = '{entry_id}'")
    first = next(finding for finding in verify(kinds)[0] if finding.entry_id == entry_id)
    assert (first.expected, first.found) == (expected, found)


def test_finding_names_tenant_run_entry_and_both_amounts(kinds: Database) -> None:
    """A finding names tenant, run and entry, and both amounts as people write them."""
    entry_id = read_row(kinds, "charge")["entry_id"]
    forge(kinds, "UPDATE ledger_entries SET amount_micro_usd = 1 WHERE request_id = 'charge'")
    assert verify(kinds)[0] == [
        Finding(
            what="The amount is not what usage and rates come to.",
            tenant="acme",
            run_id="image:acme:charge",
            entry_id=entry_id,
            expected="0.166900",
            found="0.000001",
        )
    ]


@pytest.mark.parametrize("byte", [b"x", b"\xff"])
def test_a_byte_that_was_changed_in_the_file_is_found(tmp_path: os.PathLike[str], byte: bytes) -> None:
    """One byte in SQLite's file, changed past the database itself, is found, also where it is no text any more."""
    path = os.path.join(tmp_path, "ledger.db")  # noqa: PTH118  both take bytes as they are
    database = open_database(f"sqlite:///{path}", create=True)
    bill_run(database)
    database.close()
    with open(path, "r+b") as file:  # noqa: PTH123
        content = file.read()
        assert content.count(b'{"order":"4711"}') == 1
        file.seek(content.index(b"4711"))
        file.write(byte)
    assert tell(database) == [("req-1", ALTERED)]
    database.close()


def test_entries_written_during_verification_cause_no_finding(
    three: Database, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A verification sees one moment of the ledger: an entry that is written while it goes on does not disturb it."""
    monkeypatch.setattr("gpt_image_runs.billing.verification.verify._REPORT_EVERY", 1)
    other = open_database(database_url, create=False)
    told: list[tuple[int, int]] = []

    def write_meanwhile(checked: int, total: int) -> None:
        told.append((checked, total))
        bill_charge(other, f"meanwhile-{checked}")

    def write_after_the_heads(_connection: Connection) -> Iterator[Finding]:
        bill_charge(other, "meanwhile")
        return iter(())

    monkeypatch.setattr("gpt_image_runs.billing.verification.verify._check_file", write_after_the_heads)
    assert list(LedgerVerification(three, write_meanwhile).find()) == []
    assert told == [(1, 4), (2, 4), (3, 4), (4, 4)]
    monkeypatch.undo()
    assert verify(three)[1].entries == 9
    other.close()
