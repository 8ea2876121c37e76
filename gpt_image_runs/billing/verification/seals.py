"""Check runs, attempts, budgets and comparisons against their hashes and the chains of seals. Nothing is written here."""

from collections.abc import Iterator, Mapping
from functools import cache
from typing import Any, NamedTuple

from sqlalchemy import ColumnElement, Connection, Select, Table, and_, func, select

from gpt_image_runs.billing.hash_chain import hash_row
from gpt_image_runs.billing.seals import (
    BEGUN,
    BEGUN_HASH,
    COMPARISONS,
    FIRST,
    IDENTITY,
    RUN_HASH,
    SEAL,
    SealKind,
)
from gpt_image_runs.billing.verification.snapshot import Finding, list_verbatim, show_value
from gpt_image_runs.database.tables import (
    budgets,
    ledger_identity,
    provider_attempts,
    provider_comparisons,
    runs,
    seal_heads,
    seals,
)

_PAGE = 500
# All that an attempt has while it is under way.
_KNOWN = {*BEGUN, BEGUN_HASH, SEAL, "outcome", "simulated"}
_SEAL = seals.c["chain", "kind", "subject", "content_hash", "number"]
# Of each kind: the table of what is sealed, and the column that a seal names it by.
_SUBJECTS: tuple[tuple[SealKind, Table, str], ...] = (
    ("attempt", provider_attempts, "attempt_id"),
    ("budget", budgets, "budget_key"),
    ("comparison", provider_comparisons, "comparison_key"),
    ("identity", ledger_identity, "ledger_id"),
)
_HEADS = select(*list_verbatim(seal_heads)).order_by(seal_heads.c.chain)
_IN_ORDER = select(*list_verbatim(seals)).order_by(seals.c.chain, seals.c.number)
_RUNS = select(*list_verbatim(runs))
_SEALED_IDENTITIES = select(seals.c.content_hash).where(seals.c.kind == "identity", seals.c.chain == IDENTITY)
_IDENTITIES = select(*list_verbatim(ledger_identity))


class ChainOfSeals(NamedTuple):
    """The end of a chain of seals: how many there are, and the hash of the last."""

    chain: str
    seals: int
    seal_hash: str


def read_seal_heads(connection: Connection) -> tuple[ChainOfSeals, ...]:
    """Return the heads of all chains, sorted by name."""
    return tuple(ChainOfSeals(*row) for row in connection.execute(_HEADS))


def check_seals(connection: Connection) -> Iterator[Finding]:
    """Yield every row that was changed, removed or inserted after it was sealed.

    Memory does not grow with the ledger.
    """
    yield from _check_chains(connection)
    for kind, table, key in _SUBJECTS:
        yield from _find_missing(connection, kind, table, key)
    yield from _check_runs(connection)
    yield from _check_attempts(connection)
    yield from _check_numbered(connection, "budget", budgets, "budget_key")
    yield from _check_numbered(connection, "comparison", provider_comparisons, "comparison_key")
    yield from _check_identity(connection)


def _check_chains(connection: Connection) -> Iterator[Finding]:
    ends: dict[Any, ChainOfSeals] = {}
    for row in _stream(connection, _IN_ORDER):
        end = ends.get(row["chain"], ChainOfSeals(row["chain"], 0, FIRST))
        if (row["number"], row["previous_hash"]) != (end.seals + 1, end.seal_hash):
            yield _find(
                row["chain"],
                "The chain of seals is broken before this seal: one was taken out, put in, moved or replaced.",
                expected=f"seal {end.seals + 1} after {end.seal_hash}",
                found=f"seal {row['number']} after {row['previous_hash']}, of {row['subject']}",
            )
        computed = hash_row(row, left_out=("seal_hash",))
        if row["seal_hash"] != computed:
            yield _find(
                row["chain"],
                "A seal was changed after it was set: its hash is another.",
                expected=row["seal_hash"],
                found=f"{computed}, of {row['subject']}",
            )
        ends[row["chain"]] = ChainOfSeals(row["chain"], row["number"], row["seal_hash"])
    for head in read_seal_heads(connection):
        found = ends.pop(head.chain, ChainOfSeals(head.chain, 0, FIRST))
        if found != head:
            what = "The chain of seals does not end where its head says: seals were cut off or put on."
            yield _find(head.chain, what, expected=_describe(head), found=_describe(found))
    for end in ends.values():
        yield _find(
            end.chain, "There are seals, and no head that says where their chain ends.", found=_describe(end)
        )


def _find_missing(connection: Connection, kind: SealKind, table: Table, key: str) -> Iterator[Finding]:
    for chain, subject in connection.execute(_select_missing(kind, table, key)):
        yield _find(chain, f"The {kind} was sealed and is not in the ledger.", expected=str(subject))


@cache
def _select_missing(kind: SealKind, table: Table, key: str) -> Select[Any]:
    return (
        select(seals.c.chain, seals.c.subject)
        .outerjoin(table, table.c[key] == seals.c.subject)
        .where(seals.c.kind == kind, table.c[key].is_(None))
    )


def _check_runs(connection: Connection) -> Iterator[Finding]:
    for row in _stream(connection, _RUNS):
        computed = hash_row(row, left_out=(RUN_HASH,))
        if row[RUN_HASH] != computed:
            what = "The run was changed after it was written: its hash is another."
            yield _find(row["tenant"], what, row["run_id"], expected=row[RUN_HASH], found=computed)


def _check_attempts(connection: Connection) -> Iterator[Finding]:
    columns = provider_attempts.c.keys()
    for row in _stream(connection, _select_attempts()):
        yield from _check_attempt({name: row[name] for name in columns}, row)


@cache
def _select_attempts() -> Select[Any]:
    later = seals.alias()
    last = (
        select(func.max(later.c.number))
        .where(later.c.subject == provider_attempts.c.attempt_id, later.c.kind == "attempt")
        .scalar_subquery()
    )
    return (
        select(
            *list_verbatim(provider_attempts),
            runs.c.tenant.label("run_tenant"),
            last.label("last_seal"),
            *_label_seal(),
        )
        .outerjoin(runs, runs.c.run_id == provider_attempts.c.run_id)
        .outerjoin(seals, seals.c.seal_hash == provider_attempts.c.seal)
    )


def _check_attempt(attempt: dict[str, Any], row: Mapping[str, Any]) -> Iterator[Finding]:
    tenant, run_id = row["run_tenant"], attempt["run_id"]
    if tenant is None:
        yield _find(None, "The attempt's run is not in the ledger.", run_id, found=attempt["attempt_id"])
    begun = hash_row({name: attempt[name] for name in BEGUN})
    if attempt[BEGUN_HASH] != begun:
        what = f"Attempt {attempt['attempt_id']} was changed after it was written: its hash is another."
        yield _find(tenant, what, run_id, expected=attempt[BEGUN_HASH], found=begun)
    if attempt["finished_at"] is None and attempt["outcome"] == "unknown":
        if attempt[SEAL] is not None or row["last_seal"] is not None:
            what = f"Attempt {attempt['attempt_id']} has no outcome, and one was sealed."
            yield _find(tenant, what, run_id, expected=f"seal {row['last_seal']}", found="no outcome")
        learned = sorted(name for name, value in attempt.items() if value is not None and name not in _KNOWN)
        if learned:
            what = f"Attempt {attempt['attempt_id']} has no outcome, and holds what is learned with one."
            yield _find(tenant, what, run_id, expected="nothing", found=", ".join(learned))
        return
    content = hash_row(attempt, left_out=(SEAL,))
    expected = (tenant, "attempt", attempt["attempt_id"], content, row["last_seal"])
    if tuple(row[f"seal_{column.name}"] for column in _SEAL) != expected:
        yield _find(
            tenant,
            f"The outcome of attempt {attempt['attempt_id']} is not the one that was sealed.",
            run_id,
            expected=row["seal_content_hash"] or "an outcome with its seal",
            found=f"{attempt['outcome']}, {content}",
        )


def _check_numbered(connection: Connection, kind: SealKind, table: Table, key: str) -> Iterator[Finding]:
    columns, last = table.c.keys(), dict[Any, int]()
    for row in _stream(connection, _select_numbered(kind, table, key)):
        content = hash_row({name: row[name] for name in columns})
        chain = row["tenant"] if kind == "budget" else COMPARISONS
        if (row["seal_chain"], row["seal_content_hash"]) != (chain, content):
            yield _find(
                chain,
                f"The {kind} {row[key]} is not as it was sealed.",
                expected=row["seal_content_hash"] or f"a {kind} with its seal",
                found=content,
            )
        elif row["seal_number"] < last.get(chain, 0):
            # The latest budget counts: an old one that is moved to the end would count again.
            yield _find(chain, f"The {kind} {row[key]} is not in the order in which it was sealed.")
        else:
            last[chain] = row["seal_number"]


@cache
def _select_numbered(kind: SealKind, table: Table, key: str) -> Select[Any]:
    return (
        select(*list_verbatim(table), *_label_seal())
        .outerjoin(seals, and_(seals.c.subject == table.c[key], seals.c.kind == kind))
        .order_by(table.c.sequence)
    )


def _check_identity(connection: Connection) -> Iterator[Finding]:
    sealed = sorted(str(content) for content in connection.execute(_SEALED_IDENTITIES).scalars())
    rows = connection.execute(_IDENTITIES).mappings()
    found = sorted(hash_row(dict(row)) for row in rows)
    if len(sealed) != 1 or found != sealed:
        yield _find(
            None,
            "The ledger's identity is not the one that it was created with.",
            expected=", ".join(sealed) or "one identity with its seal",
            found=", ".join(found) or "no identity",
        )


def _label_seal() -> list[ColumnElement[Any]]:
    return [column.label(f"seal_{column.name}") for column in _SEAL]


def _stream(connection: Connection, query: Select[Any]) -> Iterator[dict[str, Any]]:
    with connection.execute(query, execution_options={"yield_per": _PAGE}) as rows:
        for row in rows.mappings():
            yield dict(row)


def _find(chain: Any, what: str, run_id: Any = None, *, expected: Any = None, found: Any = None) -> Finding:
    return Finding(
        what=what,
        tenant=None if chain is None else str(chain),
        run_id=None if run_id is None else str(run_id),
        expected=None if expected is None else show_value(expected),
        found=None if found is None else show_value(found),
    )


def _describe(end: ChainOfSeals) -> str:
    return f"{show_value(end.seals)} seals, the last {show_value(end.seal_hash)}"
