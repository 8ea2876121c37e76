"""Runs and their attempts in the ledger: written down before anything is sent, and given one outcome."""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, replace
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest

from gpt_image_runs.billing.attempts.attempts import AttemptLog
from gpt_image_runs.billing.records import AttemptOutcome
from gpt_image_runs.database.engine import Database
from gpt_image_runs.database.errors import AttemptConflict, LedgerRefused, RunConflict
from gpt_image_runs.database.open import open_database
from tests.support.ledger.ledger_examples import (
    FINISHED_AT,
    IDENTITY,
    SENT_AT,
    SUCCEEDED,
    begin_attempt,
    describe_attempt,
    identify,
)

REJECTED = AttemptOutcome(outcome="rejected", finished_at=FINISHED_AT)
UNKNOWN = AttemptOutcome(outcome="unknown", finished_at=FINISHED_AT)


def test_a_run_is_claimed_once(database: Database) -> None:
    """Claiming the same run again, as a retried activity does, changes nothing."""
    log = AttemptLog(database)
    log.claim_run(IDENTITY)
    log.claim_run(IDENTITY)
    assert log.begin(describe_attempt()).number == 1


def test_claiming_a_run_again_tells_of_its_attempts(database: Database) -> None:
    """Whoever claims a run learns with that whether anything was sent for it: nothing at first, then each attempt."""
    log = AttemptLog(database)
    assert log.claim_run(IDENTITY) == ()
    begun = [log.begin(describe_attempt()), log.begin(describe_attempt())]
    assert log.claim_run(IDENTITY) == tuple(begun)


def test_a_new_run_is_written_down_with_its_first_attempt(database: Database) -> None:
    """A run that nobody knows begins at once, as if it were claimed first; one that is known does not, and nothing is written."""
    log = AttemptLog(database)
    begun = log.begin_run(IDENTITY, describe_attempt())
    assert begun is not None
    assert (begun.number, begun.outcome, begun.reserved_micro_usd) == (1, "unknown", 250_000)
    assert log.begin_run(IDENTITY, describe_attempt()) is None
    assert log.begin_run(replace(IDENTITY, fingerprint="b2" * 32), describe_attempt()) is None
    assert log.begin_run(replace(IDENTITY, run_id="mine"), describe_attempt("mine")) is None
    assert log.claim_run(IDENTITY) == (begun,)
    assert log.begin(describe_attempt()).number == 2


def test_find_attempts_writes_nothing(database: Database) -> None:
    """A run is found with its attempts, another one of its request is a conflict, and one that nobody knows leaves no trace."""
    log = AttemptLog(database)
    assert log.find_attempts(IDENTITY) == ()
    begun = log.begin_run(IDENTITY, describe_attempt())
    assert log.find_attempts(IDENTITY) == (begun,)
    with pytest.raises(RunConflict, match="other content"):
        log.find_attempts(replace(IDENTITY, fingerprint="b2" * 32))


def test_a_run_that_was_claimed_does_not_begin_anew(database: Database) -> None:
    """A run that was written down and has sent nothing is known: its attempts begin one by one."""
    log = AttemptLog(database)
    log.claim_run(IDENTITY)
    assert log.begin_run(IDENTITY, describe_attempt()) is None
    assert log.list_attempts(IDENTITY.run_id) == ()


def test_of_ten_that_begin_a_run_at_once_one_may_send(database_url: str) -> None:
    """Where several workers begin the same run at once, one has its first attempt, and the others have nothing."""
    databases = [open_database(database_url, create=False) for _ in range(2)]
    with ThreadPoolExecutor(10) as threads:
        begun = list(
            threads.map(
                lambda number: AttemptLog(databases[number % 2]).begin_run(IDENTITY, describe_attempt()),
                range(10),
            )
        )
    (first,) = [attempt for attempt in begun if attempt]
    assert AttemptLog(databases[0]).list_attempts(IDENTITY.run_id) == (first,)
    for database in databases:
        database.close()


def test_other_content_under_the_same_request_id_is_refused(database: Database) -> None:
    """A request id stands for one content: another one is told both fingerprints and what to do."""
    log = AttemptLog(database)
    log.claim_run(IDENTITY)
    with pytest.raises(RunConflict) as conflict:
        log.claim_run(replace(IDENTITY, fingerprint="b2" * 32))
    assert str(conflict.value) == (
        "Request req-1 of tenant acme was submitted before with other content (fingerprint a1a1a1a1a1a1, now"
        " b2b2b2b2b2b2). Nothing was sent. Choose a new request_id for a new picture, or submit the first content again"
        " for its result."
    )


def test_a_conflict_names_the_fields_that_differ(database: Database) -> None:
    """Where both contents have marks, the fields that were changed, added and left out are told in place of fingerprints."""
    log = AttemptLog(database)
    log.claim_run(replace(IDENTITY, fingerprint=f"{'a1' * 32} model:111111 prompt:222222 user:333333"))
    with pytest.raises(RunConflict, match=r"other content \(other in prompt, size, user\)\. Nothing"):
        log.claim_run(replace(IDENTITY, fingerprint=f"{'b2' * 32} model:111111 prompt:999999 size:444444"))


def test_a_run_that_was_written_down_without_marks_is_the_same(database: Database) -> None:
    """The marks decide nothing: a run is found by the fingerprint alone."""
    log = AttemptLog(database)
    log.claim_run(IDENTITY)
    log.begin(describe_attempt())
    marked = replace(IDENTITY, fingerprint=f"{IDENTITY.fingerprint} model:111111")
    assert len(log.claim_run(marked)) == 1


@pytest.mark.parametrize(
    ("changes", "difference"),
    [
        (
            {"workflow_id": "mine"},
            "Request req-1 of tenant acme belongs to workflow_id image:acme:req-1, and this is workflow_id mine.",
        ),
        (
            {"run_id": "mine"},
            "Request req-1 of tenant acme belongs to run_id image:acme:req-1, and this is run_id mine.",
        ),
        ({"tenant": "zoo"}, "Request req-1 of tenant acme belongs to tenant acme, and this is tenant zoo."),
    ],
)
def test_another_workflow_for_the_same_request_is_refused(
    database: Database, changes: dict[str, str], difference: str
) -> None:
    """A request belongs to one workflow: another one is told what differs, and where the run is."""
    log = AttemptLog(database)
    log.claim_run(IDENTITY)
    with pytest.raises(RunConflict) as conflict:
        log.claim_run(replace(IDENTITY, **changes))
    assert str(conflict.value) == (
        f"{difference} Nothing was sent. The run that exists is under the workflow id image:acme:req-1:"
        " attach to that one."
    )


def test_the_same_request_id_of_two_tenants_is_two_runs(database: Database) -> None:
    """Tenants choose their request ids without knowing each other's."""
    log = AttemptLog(database)
    log.claim_run(identify("acme", "req-1"))
    log.claim_run(identify("zoo", "req-1"))
    assert log.begin(describe_attempt("image:zoo:req-1")).number == 1


def test_two_contents_at_once_make_one_run(database_url: str) -> None:
    """Where two processes claim the same request with different content at once, one is refused."""
    databases = [open_database(database_url, create=False) for _ in range(2)]

    def claim(number: int) -> bool:
        try:
            AttemptLog(databases[number % 2]).claim_run(replace(IDENTITY, fingerprint=f"{number:064}"))
        except RunConflict:
            return False
        return True

    with ThreadPoolExecutor(10) as threads:
        claimed = list(threads.map(claim, range(10)))
    assert sorted(claimed) == [False] * 9 + [True]
    for database in databases:
        database.close()


def test_an_attempt_begins_as_unknown(database: Database) -> None:
    """Before anything is sent, an attempt says what would be true if nothing were ever heard of it again."""
    begun = begin_attempt(database)
    assert AttemptLog(database).list_attempts(IDENTITY.run_id) == (begun,)
    assert (begun.outcome, begun.finished_at, begun.number) == ("unknown", None, 1)
    assert (begun.sent_at, begun.reserved_micro_usd, begun.simulated) == (SENT_AT, 250_000, False)
    assert begun.attempt_id.startswith("att_")


def test_a_run_has_to_be_claimed_first(database: Database) -> None:
    """There is no attempt without a run, and the sentence says so."""
    with pytest.raises(LedgerRefused) as refusal:
        AttemptLog(database).begin(describe_attempt("image:acme:stranger"))
    assert str(refusal.value) == (
        "There is no run image:acme:stranger in the ledger: claim it before its first attempt."
    )


def test_attempts_are_numbered_without_gaps(database: Database) -> None:
    """Ten attempts of one run that begin at once get the numbers 1 to 10 and client request ids of their own."""
    log = AttemptLog(database)
    log.claim_run(IDENTITY)
    with ThreadPoolExecutor(10) as threads:
        list(threads.map(lambda _: log.begin(describe_attempt()), range(10)))
    attempts = log.list_attempts(IDENTITY.run_id)
    assert [attempt.number for attempt in attempts] == [1, 2, 3, 4, 5, 6, 7, 8, 9, 10]
    for attempt in attempts:
        assert attempt.client_request_id.startswith(f"image:acme:req-1:{attempt.number}:")
    assert len({attempt.client_request_id for attempt in attempts}) == 10


def test_a_client_request_id_is_never_the_same_twice(database: Database, tmp_path: Any) -> None:
    """The same attempt of the same run in another ledger has another id: the provider sees them all."""
    elsewhere = open_database(f"sqlite:///{tmp_path}/elsewhere.db", create=True)
    ids = {begin_attempt(each).client_request_id for each in (database, elsewhere)}
    elsewhere.close()
    assert len(ids) == 2


def test_an_outcome_is_kept_whole(database: Database) -> None:
    """Everything that was learned of an attempt reads back as it was written, next to what was known before."""
    begun = begin_attempt(database)
    outcome = AttemptOutcome(
        outcome="succeeded",
        finished_at=FINISHED_AT,
        latency_ms=41_000,
        http_status=200,
        provider_request_id="req_0123",
        size="1024x1024",
        quality="high",
        output_format="png",
        background="opaque",
        response={"created": 1, "usage": {"output_tokens": 10**30, "a": None}, "z": 1, "b": [0.1, True]},
        images=({"uri": "file:///1.png", "bytes": 1},),
        simulated=True,
    )
    AttemptLog(database).finish(begun.attempt_id, outcome)
    (read,) = AttemptLog(database).list_attempts(IDENTITY.run_id)
    assert read == replace(begun, **vars(outcome))
    assert isinstance(read.response, dict)
    assert list(read.response) == ["created", "usage", "z", "b"]


def test_an_error_is_kept_whatever_is_in_it(database: Database) -> None:
    """NUL characters and half surrogate pairs, which no database stores, do not lose an outcome."""
    begun = begin_attempt(database)
    outcome = AttemptOutcome(
        outcome="unknown",
        finished_at=FINISHED_AT,
        http_status=502,
        error_type="MalformedAnswer",
        error_code="c\x00de",
        error_message="no \ud83d JSON, größer \U0001f5bc",
        response={"nul\x00": "\ud83d\x00"},
        raw_body="<html>\x00",
    )
    AttemptLog(database).finish(begun.attempt_id, outcome)
    (read,) = AttemptLog(database).list_attempts(IDENTITY.run_id)
    assert read.error_code == "c\\x00de"
    assert read.error_message == "no \\ud83d JSON, größer \U0001f5bc"
    assert read.response == {"nul\x00": "\ud83d\x00"}
    assert read.raw_body == "<html>\\x00"


def test_a_raw_body_is_kept_up_to_64_kib(database: Database) -> None:
    """The beginning of a malformed answer is enough to understand it; no character is cut in two."""
    begun = begin_attempt(database)
    AttemptLog(database).finish(begun.attempt_id, replace(UNKNOWN, raw_body="x" + "ä" * 50_000))
    (read,) = AttemptLog(database).list_attempts(IDENTITY.run_id)
    assert read.raw_body == "x" + "ä" * 32_767


def test_time_of_another_zone_is_read_back_in_utc(database: Database) -> None:
    """A moment given in another time zone reads back as the same moment in UTC."""
    tokyo = timezone(timedelta(hours=9))
    log = AttemptLog(database)
    log.claim_run(IDENTITY)
    begun = log.begin(replace(describe_attempt(), sent_at=datetime(2026, 11, 24, 1, 0, tzinfo=tokyo)))
    assert begun.sent_at.isoformat() == "2026-11-23T16:00:00+00:00"
    assert begun.sent_at.tzinfo == UTC


@pytest.mark.parametrize("outcome", [SUCCEEDED, REJECTED, UNKNOWN])
def test_the_same_outcome_again_changes_nothing(database: Database, outcome: AttemptOutcome) -> None:
    """An activity that is not sure whether its outcome was written may write it again; the first one stands."""
    log = AttemptLog(database)
    attempt_id = begin_attempt(database).attempt_id
    log.finish(attempt_id, replace(outcome, latency_ms=1))
    log.finish(attempt_id, replace(outcome, latency_ms=2))
    (read,) = log.list_attempts(IDENTITY.run_id)
    assert (read.outcome, read.latency_ms) == (outcome.outcome, 1)


@pytest.mark.parametrize(
    ("first", "second"), [(SUCCEEDED, UNKNOWN), (SUCCEEDED, REJECTED), (REJECTED, SUCCEEDED)]
)
def test_a_contradicting_outcome_is_refused(
    database: Database, first: AttemptOutcome, second: AttemptOutcome
) -> None:
    """An outcome that is known never changes, and the sentence names both."""
    log = AttemptLog(database)
    attempt_id = begin_attempt(database).attempt_id
    log.finish(attempt_id, first)
    with pytest.raises(AttemptConflict) as conflict:
        log.finish(attempt_id, second)
    assert str(conflict.value) == (
        f"Attempt {attempt_id} ended as {first.outcome} already and cannot be {second.outcome} too."
        " The first outcome is final."
    )
    assert log.list_attempts(IDENTITY.run_id)[0].outcome == first.outcome


def test_an_unknown_outcome_can_be_settled(database: Database) -> None:
    """When more is learned of an attempt that ended as unknown, it is settled and keeps what was learned before."""
    log = AttemptLog(database)
    attempt_id = begin_attempt(database).attempt_id
    log.finish(attempt_id, replace(UNKNOWN, error_type="AnswerLost", latency_ms=600_000))
    log.finish(attempt_id, REJECTED)
    (read,) = log.list_attempts(IDENTITY.run_id)
    assert (read.outcome, read.error_type, read.latency_ms) == ("rejected", "AnswerLost", 600_000)


def test_an_attempt_has_to_begin_before_it_ends(database: Database) -> None:
    """An outcome for nothing is refused."""
    with pytest.raises(LedgerRefused, match=r"^There is no attempt att_0 in the ledger"):
        AttemptLog(database).finish("att_0", SUCCEEDED)


def test_the_first_success_is_found(database: Database) -> None:
    """Of all attempts of a run, the first that succeeded is the one that pays: not a rejected or a later one."""
    log = AttemptLog(database)
    assert log.find_success(IDENTITY.run_id) is None
    outcomes = (REJECTED, UNKNOWN, SUCCEEDED, SUCCEEDED)
    for outcome in outcomes:
        log.finish(begin_attempt(database).attempt_id, outcome)
    log.finish(begin_attempt(database, identify("zoo", "req-1")).attempt_id, SUCCEEDED)
    found = log.find_success(IDENTITY.run_id)
    assert found is not None
    assert found.number == 3
    assert asdict(found) == asdict(log.list_attempts(IDENTITY.run_id)[2])
