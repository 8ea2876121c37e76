"""The identity of a run: written once, before anything is sent for it, and kept after Temporal has deleted the workflow."""

from dataclasses import asdict, dataclass, fields, replace
from datetime import UTC, datetime

from sqlalchemy import Connection, and_, bindparam, or_, select

from gpt_image_runs.billing.seals import RUN_HASH, hash_run
from gpt_image_runs.contracts import names
from gpt_image_runs.contracts.fingerprints import name_differences, strip_marks
from gpt_image_runs.contracts.submissions import EarlierRun
from gpt_image_runs.database.engine import Database, insert_once
from gpt_image_runs.database.errors import RunConflict
from gpt_image_runs.database.tables import provider_attempts, runs


@dataclass(frozen=True, kw_only=True)
class RunIdentity:
    """What identifies a run; it never changes.

    `fingerprint` is a digest of all that was asked; see `gpt_image_runs.contracts.fingerprints`.
    """

    run_id: str
    tenant: str
    request_id: str
    workflow_id: str
    fingerprint: str
    operation: str
    requested_model: str


_SAME_REQUEST = and_(runs.c.tenant == bindparam("tenant"), runs.c.request_id == bindparam("request_id"))
_FIND = select(*(runs.c[field.name] for field in fields(RunIdentity))).where(
    or_(runs.c.run_id == bindparam("run_id"), _SAME_REQUEST)
)


def claim_run(connection: Connection, identity: RunIdentity) -> bool:
    """Insert a run, once, and return whether it is new. The same run again changes nothing.

    A run has one workflow, except where an economy batch sends it: then its attempts decide who may.

    Raises:
        RunConflict: its request id already belongs to another run.
    """
    if insert_run(connection, identity):
        return True
    refuse_conflict(connection, identity)
    return False


def refuse_conflict(connection: Connection, identity: RunIdentity) -> None:
    """Raise RunConflict where the run's request id already belongs to another run."""
    known = find_run(connection, identity)
    if known is not None and not is_same(known, identity):
        raise RunConflict(explain_conflict(identity, known))


def insert_run(connection: Connection, identity: RunIdentity) -> bool:
    """Insert a run unless it or another of its request is known; return whether it was new."""
    if find_run(connection, identity):  # SQLite's triggers refuse even to try
        return False
    row = {**asdict(identity), "created_at": datetime.now(UTC)}
    return insert_once(connection, runs, {**row, RUN_HASH: hash_run(row, connection)})


def find_run(connection: Connection, identity: RunIdentity) -> RunIdentity | None:
    """Return the run that the ledger has under the run's id or its request id."""
    asked = {"run_id": identity.run_id, "tenant": identity.tenant, "request_id": identity.request_id}
    row = connection.execute(_FIND, asked).mappings().first()
    return None if row is None else RunIdentity(**row)


def is_same(known: RunIdentity, asked: RunIdentity) -> bool:
    """Return whether both identities are the same run."""
    if names.is_economy_batch(known.workflow_id) or names.is_economy_batch(asked.workflow_id):
        asked = replace(asked, workflow_id=known.workflow_id)
    return _unmarked(known) == _unmarked(asked)


def _unmarked(identity: RunIdentity) -> RunIdentity:
    return replace(identity, fingerprint=strip_marks(identity.fingerprint))


def explain_conflict(asked: RunIdentity, known: RunIdentity) -> str:
    """Format why two identities are not the same run."""
    request = f"Request {known.request_id} of tenant {known.tenant}"
    if strip_marks(asked.fingerprint) != strip_marks(known.fingerprint):
        return (
            f"{request} was submitted before with other content ({_name_difference(asked, known)}). Nothing was sent."
            " Choose a new request_id for a new picture, or submit the first content again for its result."
        )
    name = next(
        name for name, value in asdict(_unmarked(known)).items() if value != getattr(_unmarked(asked), name)
    )
    return (
        f"{request} belongs to {name} {getattr(known, name)}, and this is {name} {getattr(asked, name)}."
        f" Nothing was sent. The run that exists is under the workflow id {known.workflow_id}: attach to that one."
    )


def _name_difference(asked: RunIdentity, known: RunIdentity) -> str:
    fields = name_differences(known.fingerprint, asked.fingerprint)
    if fields:
        return f"other in {', '.join(fields)}"
    return f"fingerprint {known.fingerprint[:12]}, now {asked.fingerprint[:12]}"


def find_earlier_run(database: Database, asked: RunIdentity) -> EarlierRun:
    """Return what a run of this identity would find. `AttemptLog.claim_run` decides once it is claimed."""
    with database.reading() as connection:
        known = find_run(connection, asked)
        if known is None:
            return EarlierRun()
        if not is_same(known, asked):
            return EarlierRun(
                conflict=explain_conflict(asked, known),
                differences=name_differences(known.fingerprint, asked.fingerprint),
            )
        return EarlierRun(is_owner=True, paid=_was_paid(connection, known.run_id))


def _was_paid(connection: Connection, run_id: str) -> bool:
    attempt = provider_attempts.c
    query = select(attempt.attempt_id).where(attempt.run_id == run_id, attempt.outcome == "succeeded")
    return connection.execute(query.limit(1)).first() is not None
