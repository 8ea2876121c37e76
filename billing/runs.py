"""The identity of a run: written down once, before anything is sent for it, it outlives Temporal's memory."""

from dataclasses import asdict, dataclass
from datetime import UTC, datetime

from sqlalchemy import Connection, and_, or_, select

from billing.errors import RunConflict
from billing.tables import runs
from billing.writes import insert_once


@dataclass(frozen=True, kw_only=True)
class RunIdentity:
    """What a run is, for good. `fingerprint` stands for all that was asked."""

    run_id: str
    tenant: str
    request_id: str
    workflow_id: str
    fingerprint: str
    operation: str
    requested_model: str


def claim_run(connection: Connection, identity: RunIdentity) -> bool:
    """Writes a run down, once and for good; the same run again changes nothing. Returns whether it is new.

    Raises:
        RunConflict: its request id stands for something else already.
    """
    known = _find_run(connection, identity)
    if known is None:
        if insert_once(connection, runs, {**asdict(identity), "created_at": datetime.now(UTC)}):
            return True
        known = _find_run(connection, identity)  # another process was faster, and this is its row
    if known is not None and known != identity:
        raise RunConflict(_explain(identity, known))
    return False


def _find_run(connection: Connection, identity: RunIdentity) -> RunIdentity | None:
    same_request = and_(runs.c.tenant == identity.tenant, runs.c.request_id == identity.request_id)
    columns = [runs.c[name] for name in asdict(identity)]
    found = connection.execute(select(*columns).where(or_(runs.c.run_id == identity.run_id, same_request)))
    row = found.mappings().first()
    return None if row is None else RunIdentity(**row)


def _explain(asked: RunIdentity, known: RunIdentity) -> str:
    request = f"Request {known.request_id} of tenant {known.tenant}"
    if asked.fingerprint != known.fingerprint:
        return (
            f"{request} was submitted before with other content (fingerprint {known.fingerprint[:12]}, now"
            f" {asked.fingerprint[:12]}). Nothing was sent. Choose a new request_id for a new picture, or submit the"
            " first content again for its result."
        )
    name = next(name for name, value in asdict(known).items() if value != getattr(asked, name))
    return (
        f"{request} belongs to {name} {getattr(known, name)}, and this is {name} {getattr(asked, name)}."
        f" Nothing was sent. The run that exists is under the workflow id {known.workflow_id}: attach to that one."
    )
