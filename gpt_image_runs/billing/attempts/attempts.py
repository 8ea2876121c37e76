"""Runs and their attempts, recorded before anything is sent, so that no payment can go unrecorded.

An attempt begins with the outcome "unknown" and no `finished_at`. That stays true if nothing is heard of it again, and
it is what a crash leaves behind.
"""

import secrets
from collections.abc import Callable
from dataclasses import asdict, fields
from typing import Any

from sqlalchemy import Connection, RowMapping, bindparam, func, select, update

from gpt_image_runs.billing.attempts.runs import RunIdentity, claim_run, insert_run, refuse_conflict
from gpt_image_runs.billing.budgets.reservations import reserve_worst_case, settle_reservation
from gpt_image_runs.billing.records import Attempt, AttemptOutcome, EndedAttempt, NewAttempt
from gpt_image_runs.billing.seals import (
    BEGUN_HASH,
    SEAL,
    SealHead,
    append_seal,
    begin_chain,
    hash_begun,
    hash_outcome,
)
from gpt_image_runs.database.engine import Database
from gpt_image_runs.database.errors import AttemptConflict, LedgerRefused
from gpt_image_runs.database.identity import read_ledger_id
from gpt_image_runs.database.tables import provider_attempts, runs, seal_heads

# Built once: building a statement takes longer than executing it.
_OF_THE_RUN = provider_attempts.c.run_id == bindparam("of_run")
_HIGHEST_NUMBER = select(func.coalesce(func.max(provider_attempts.c.number), 0)).where(_OF_THE_RUN)
_IN_ORDER = select(provider_attempts).where(_OF_THE_RUN).order_by(provider_attempts.c.number)
# Two attempts of one run wait for each other at the run's row. NO KEY UPDATE does not block foreign keys to it.
_LOCK_RUN = select(runs.c.tenant).where(runs.c.run_id == bindparam("of_run")).with_for_update(key_share=True)
_ATTEMPT = tuple(field.name for field in fields(Attempt))
_INSERT = provider_attempts.insert().returning(*provider_attempts.c)


def insert_attempt(connection: Connection, new: NewAttempt) -> Attempt:
    """Insert an attempt and reserve its worst case in the caller's transaction.

    See `AttemptLog.begin`.
    """
    tenant = lock_run(connection, new.run_id)
    return _insert(connection, tenant, new, number=_take_next_number(connection, new.run_id))


def insert_first_attempt(connection: Connection, tenant: str, new: NewAttempt) -> Attempt:
    """Insert the first attempt of a run that the same transaction has just inserted.

    No lock is needed: nobody else can know the run yet.
    """
    return _insert(connection, tenant, new, number=1)


def list_attempts(connection: Connection, run_id: str) -> tuple[Attempt, ...]:
    rows = connection.execute(_IN_ORDER, {"of_run": run_id}).mappings()
    return tuple(read_attempt(row) for row in rows)


def lock_run(connection: Connection, run_id: str) -> str:
    """Lock a run and return its tenant. No other attempt of it can begin meanwhile.

    The lock lasts until the transaction ends.

    Raises:
        LedgerRefused: the run was not claimed.
    """
    tenant: str | None = connection.execute(_LOCK_RUN, {"of_run": run_id}).scalar()
    if tenant is None:
        raise LedgerRefused(f"There is no run {run_id} in the ledger: claim it before its first attempt.")
    return tenant


def read_attempt(row: RowMapping) -> Attempt:
    """Build an attempt from its row."""
    images = row["images"]
    told = {name: row[name] for name in _ATTEMPT}
    return Attempt(**{**told, "images": None if images is None else tuple(images)})


def _insert(connection: Connection, tenant: str, new: NewAttempt, *, number: int) -> Attempt:
    reserve_worst_case(connection, tenant, new)
    row: dict[str, Any] = {
        **asdict(new),
        "number": number,
        "client_request_id": f"{new.run_id}:{number}:{secrets.token_hex(4)}",
    }
    row[BEGUN_HASH] = hash_begun(row, connection)
    return read_attempt(connection.execute(_INSERT, row).mappings().one())


def _take_next_number(connection: Connection, run_id: str) -> int:
    last: int = connection.execute(_HIGHEST_NUMBER, {"of_run": run_id}).scalar_one()
    return last + 1


# Bytes of a malformed answer that are stored: enough to understand it.
MAX_RAW_BODY = 64 * 1024
_LOCK_ATTEMPT = (
    select(
        provider_attempts,
        runs.c.tenant,
        seal_heads.c.seals.label("head_seals"),
        seal_heads.c.seal_hash.label("head_hash"),
    )
    .join_from(provider_attempts, runs)
    .join(seal_heads, seal_heads.c.chain == runs.c.tenant)
    .where(provider_attempts.c.attempt_id == bindparam("attempt_id"))
    .with_for_update(key_share=True, of=[provider_attempts, seal_heads])
)
_FIND_TENANT = (
    select(runs.c.tenant)
    .join_from(provider_attempts, runs)
    .where(provider_attempts.c.attempt_id == bindparam("attempt_id"))
)
# The SET columns are those of the parameters that it is executed with.
_LEARN = update(provider_attempts).where(provider_attempts.c.attempt_id == bindparam("of_attempt"))


class AttemptLog:
    """The runs and attempts of a ledger. Safe to share between threads.

    `on_end` is called with each outcome that was written, not when the same outcome is written again.
    """

    def __init__(self, database: Database, on_end: Callable[[EndedAttempt], None] | None = None) -> None:
        self._database = database
        self._on_end = on_end

    @property
    def database(self) -> Database:
        """The ledger's database."""
        return self._database

    def read_ledger_id(self) -> str:
        """Return the id of the ledger."""
        with self._database.reading() as connection:
            return read_ledger_id(connection)

    def claim_run(self, identity: RunIdentity) -> tuple[Attempt, ...]:
        """Insert a run, once, and return its attempts in order. The same run again changes nothing.

        Raises:
            RunConflict: its request id already belongs to another run.
        """
        with self._database.writing() as connection:
            is_new = claim_run(connection, identity)
            return () if is_new else list_attempts(connection, identity.run_id)

    def find_attempts(self, identity: RunIdentity) -> tuple[Attempt, ...]:
        """Return a run's attempts in order, none where the ledger does not know the run. Writes nothing.

        Raises:
            RunConflict: its request id already belongs to another run.
        """
        with self._database.reading() as connection:
            refuse_conflict(connection, identity)
            return list_attempts(connection, identity.run_id)

    def begin_run(self, identity: RunIdentity, new: NewAttempt) -> Attempt | None:
        """Insert a run with its first attempt in one transaction. Send nothing before this has returned.

        Returns None where the ledger already knows the run or another of its request: then nothing is written, and
        `find_attempts` returns what there is.

        Raises:
            BudgetExceeded: the tenant's budget does not allow it; nothing was written, not the run either.
        """
        with self._database.writing() as connection:
            if not insert_run(connection, identity):
                return None
            return insert_first_attempt(connection, identity.tenant, new)

    def begin(self, new: NewAttempt) -> Attempt:
        """Insert an attempt with the next number of its run. Send nothing before this has returned.

        The same transaction reserves its worst case from what its tenant may spend.

        `client_request_id` is unique, ASCII and shorter than 512 characters, because run ids are made of a tenant and a request
        id that the contract limits.

        Raises:
            LedgerRefused: the run was not claimed.
            BudgetExceeded: the tenant's budget does not allow it; nothing was written.
        """
        with self._database.writing() as connection:
            return insert_attempt(connection, new)

    def finish(self, attempt_id: str, outcome: AttemptOutcome) -> None:
        """Record the outcome of an attempt, once. The same outcome again changes nothing.

        An attempt that ended as "unknown" may still get its outcome later. No other outcome ever changes.

        Raises:
            AttemptConflict: it already has a different outcome.
            LedgerRefused: there is no such attempt.
        """
        learned = _collect_learned(outcome)
        with self._database.writing() as connection:
            attempt = _lock_attempt(connection, attempt_id)
            is_written = attempt is not None and _may_learn(attempt, outcome)
            if attempt is not None and is_written:
                seal = _seal_outcome(connection, attempt, learned)
                connection.execute(_LEARN, {**learned, SEAL: seal, "of_attempt": attempt_id})
                settle_reservation(connection, attempt, outcome)
        if not is_written:
            known = None if attempt is None else attempt["outcome"]
            _refuse_another_outcome(attempt_id, known, outcome.outcome)
        elif attempt is not None and self._on_end:
            self._on_end(_describe_end(attempt, outcome))

    def find_success(self, run_id: str) -> Attempt | None:
        """Return the first attempt of a run that succeeded, None where there is none."""
        succeeded = (provider_attempts.c.run_id == run_id, provider_attempts.c.outcome == "succeeded")
        with self._database.reading() as connection:
            row = connection.execute(
                select(provider_attempts).where(*succeeded).order_by(provider_attempts.c.number).limit(1)
            ).mappings()
            found = row.first()
        return None if found is None else read_attempt(found)

    def list_attempts(self, run_id: str) -> tuple[Attempt, ...]:
        with self._database.reading() as connection:
            return list_attempts(connection, run_id)


def _describe_end(attempt: RowMapping, outcome: AttemptOutcome) -> EndedAttempt:
    return EndedAttempt(
        model=attempt["model"],
        sent_at=attempt["sent_at"],
        simulated=attempt["simulated"] if outcome.simulated is None else outcome.simulated,
        outcome=outcome,
    )


def _lock_attempt(connection: Connection, attempt_id: str) -> RowMapping | None:
    """Lock an attempt and its tenant's chain of seals; return its row, its tenant and the chain's head.

    Nobody else ends the attempt, or seals anything of the tenant, until the transaction ends.
    """
    this = {"attempt_id": attempt_id}
    found = connection.execute(_LOCK_ATTEMPT, this).mappings().first()
    if found is None:  # there is no such attempt, or its tenant's first outcome is being written
        tenant = connection.execute(_FIND_TENANT, this).scalar()
        if tenant is not None:
            begin_chain(connection, tenant)
            found = connection.execute(_LOCK_ATTEMPT, this).mappings().first()
    return found


def _may_learn(attempt: RowMapping, outcome: AttemptOutcome) -> bool:
    if outcome.outcome == "unknown":
        return attempt["finished_at"] is None
    return bool(attempt["outcome"] == "unknown")


def _seal_outcome(connection: Connection, attempt: RowMapping, learned: dict[str, Any]) -> str:
    row = {name: attempt[name] for name in provider_attempts.c.keys()}  # noqa: SIM118  a collection of columns
    content_hash = hash_outcome({**row, **learned}, connection)
    head = SealHead(attempt["head_seals"], attempt["head_hash"])
    return append_seal(
        connection, attempt["tenant"], "attempt", attempt["attempt_id"], content_hash, head=head
    )


def _refuse_another_outcome(attempt_id: str, known: str | None, given: str) -> None:
    if known is None:
        raise LedgerRefused(
            f"There is no attempt {attempt_id} in the ledger: begin it before it is finished."
        )
    if known != given:
        raise AttemptConflict(
            f"Attempt {attempt_id} ended as {known} already and cannot be {given} too. The first outcome is final."
        )


def _collect_learned(outcome: AttemptOutcome) -> dict[str, Any]:
    learned = {name: value for name, value in vars(outcome).items() if value is not None}
    if outcome.raw_body is not None:
        learned["raw_body"] = _shorten(outcome.raw_body)
    return learned


def _shorten(raw_body: str) -> str:
    return raw_body.encode("utf-8", "backslashreplace")[:MAX_RAW_BODY].decode("utf-8", "ignore")
