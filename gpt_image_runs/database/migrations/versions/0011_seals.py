"""Seals: outcomes of attempts, budgets and comparisons join a chain of hashes, and runs and attempts carry their own.

What is there already is sealed in its order, and trusted as it stands on that day. On PostgreSQL the worker's role may
change only what an attempt may learn. From here on a worker of an older version can begin no attempt and end none: it
tries again until it is replaced, and what was paid meanwhile is kept as a receipt.
"""

from collections.abc import Callable, Iterator, Mapping
from typing import Any

import sqlalchemy as sa
from alembic import op

from gpt_image_runs.billing.hash_chain import hash_row

revision = "0011"
down_revision = "0010"

_PAGE = 1000
_FIRST = "0" * 64
_COMPARISONS = "*comparisons"
_IDENTITY = "*ledger"
_SEALS_STAY = "The ledger only grows: a seal stays as it was set."
_HEADS_MOVE_ON = "The ledger only grows: the head of a chain of seals moves on by one seal at a time."
_ATTEMPTS_STAY = "The ledger only grows: an attempt is written before it is sent, and changed once, to give it its outcome."
_UNSEALED = (
    f"{_ATTEMPTS_STAY} An outcome comes with its seal: is this worker older than the ledger''s schema?"
)
_UNHASHED = (
    "The ledger only grows: a row is written with its hash. Is this worker older than the ledger''s schema?"
)
_RUNS_STAY = "The ledger only grows: a run is written once and stays as it is."
_BROKEN_HEAD = "NEW.chain <> OLD.chain OR NEW.seals <> OLD.seals + 1"

_BEGUN = (
    "attempt_id",
    "run_id",
    "number",
    "client_request_id",
    "workflow_run_id",
    "model",
    "provider",
    "reserved_micro_usd",
    "sent_at",
    "batch_part",
)
# What a worker may change, by table. A row is locked with the right to change a column of it, also where a trigger
# refuses every change: `runs` has one for that alone.
_MAY_CHANGE = {
    "runs": ("created_at",),
    "provider_attempts": (
        "outcome",
        "finished_at",
        "latency_ms",
        "http_status",
        "provider_request_id",
        "error_type",
        "error_code",
        "error_message",
        "size",
        "quality",
        "output_format",
        "background",
        "response",
        "raw_body",
        "images",
        "simulated",
        "seal",
    ),
    "ledger_entries": (),
    "ledger_heads": ("entries", "entry_hash"),
    "budgets": (),
    "provider_comparisons": (),
    "tenant_spend": ("used_micro_usd", "reserved_micro_usd", "unpriced"),
    "seals": (),
    "seal_heads": ("seals", "seal_hash"),
}


def upgrade() -> None:
    """Adds the tables and columns, seals what is there, and guards it all."""
    is_postgresql = op.get_bind().dialect.name == "postgresql"
    _create_tables()
    op.add_column("runs", sa.Column("run_hash", sa.Text()))
    op.add_column("provider_attempts", sa.Column("begun_hash", sa.Text()))
    op.add_column("provider_attempts", sa.Column("seal", sa.Text()))
    if is_postgresql:
        op.execute(
            "LOCK TABLE runs, provider_attempts, budgets, provider_comparisons IN SHARE ROW EXCLUSIVE MODE"
        )
        op.execute("DROP TRIGGER runs_refuse_update_or_delete ON runs")
        op.execute("DROP TRIGGER provider_attempts_refuse_update ON provider_attempts")
    else:
        op.execute("DROP TRIGGER runs_refuse_update")
        op.execute("DROP TRIGGER provider_attempts_refuse_update")
    _seal_all()
    if is_postgresql:
        _guard_on_postgresql()
        _narrow_rights()
    else:
        _guard_on_sqlite()


def _create_tables() -> None:
    op.create_table(
        "seals",
        sa.Column("chain", sa.Text(), nullable=False),
        sa.Column("number", sa.BigInteger(), nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("subject", sa.Text(), nullable=False),
        sa.Column("content_hash", sa.Text(), nullable=False),
        sa.Column("previous_hash", sa.Text(), nullable=False),
        sa.Column("seal_hash", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("chain", "number", name="pk_seals"),
        sa.UniqueConstraint("seal_hash", name="uq_seals_seal_hash"),
        sa.CheckConstraint("kind IN ('attempt', 'budget', 'comparison', 'identity')", name="ck_seals_kind"),
    )
    op.create_index("ix_seals_subject", "seals", ["subject"])
    op.create_table(
        "seal_heads",
        sa.Column("chain", sa.Text(), nullable=False),
        sa.Column("seals", sa.BigInteger(), nullable=False),
        sa.Column("seal_hash", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("chain", name="pk_seal_heads"),
    )


def _seal_all() -> None:
    heads: dict[str, tuple[int, str]] = {}
    _seal_identity(heads)
    _hash_runs()
    _seal_attempts(heads)
    _seal_numbered("budgets", "budget_key", "budget", lambda row: str(row["tenant"]), heads)
    _seal_numbered("provider_comparisons", "comparison_key", "comparison", lambda _row: _COMPARISONS, heads)
    table = sa.table("seal_heads", *(sa.column(name) for name in ("chain", "seals", "seal_hash")))
    for chain, (count, seal_hash) in heads.items():
        op.get_bind().execute(table.insert(), {"chain": chain, "seals": count, "seal_hash": seal_hash})


def _read_pages(query: str, key: str, first: Any) -> Iterator[list[dict[str, Any]]]:
    after = first
    page = sa.text(f"{query} WHERE {key} > :after ORDER BY {key} LIMIT {_PAGE}")
    while rows := [dict(row) for row in op.get_bind().execute(page, {"after": after}).mappings()]:
        yield rows
        after = rows[-1][key.rpartition(".")[2]]


def _seal_identity(heads: dict[str, tuple[int, str]]) -> None:
    row = op.get_bind().execute(sa.text("SELECT * FROM ledger_identity")).mappings().one()
    _insert_seals([_link(heads, _IDENTITY, "identity", row["ledger_id"], hash_row(dict(row)))])


def _hash_runs() -> None:
    update = sa.text("UPDATE runs SET run_hash = :run_hash WHERE run_id = :run_id")
    for rows in _read_pages("SELECT * FROM runs", "run_id", ""):
        hashes = [
            {"run_id": row["run_id"], "run_hash": hash_row(row, left_out=("run_hash",))} for row in rows
        ]
        op.get_bind().execute(update, hashes)


def _seal_attempts(heads: dict[str, tuple[int, str]]) -> None:
    query = (
        "SELECT provider_attempts.*, runs.tenant AS tenant_of_run FROM provider_attempts"
        " JOIN runs ON runs.run_id = provider_attempts.run_id"
    )
    update = sa.text(
        "UPDATE provider_attempts SET begun_hash = :begun_hash, seal = :seal WHERE attempt_id = :attempt_id"
    )
    for rows in _read_pages(query, "provider_attempts.attempt_id", ""):
        changes, seals = [], []
        for row in rows:
            tenant = row.pop("tenant_of_run")
            row["begun_hash"] = hash_row({name: row[name] for name in _BEGUN})
            seal = None
            if row["finished_at"] is not None:
                content = hash_row(row, left_out=("seal",))
                seal = _link(heads, tenant, "attempt", row["attempt_id"], content)
                seals.append(seal)
            changes.append(
                {
                    "attempt_id": row["attempt_id"],
                    "begun_hash": row["begun_hash"],
                    "seal": seal and seal["seal_hash"],
                }
            )
        _insert_seals(seals)
        op.get_bind().execute(update, changes)


def _seal_numbered(
    table: str,
    key: str,
    kind: str,
    name_chain: Callable[[Mapping[str, Any]], str],
    heads: dict[str, tuple[int, str]],
) -> None:
    for rows in _read_pages(f"SELECT * FROM {table}", "sequence", 0):  # noqa: S608  constants
        _insert_seals([_link(heads, name_chain(row), kind, row[key], hash_row(row)) for row in rows])


def _link(
    heads: dict[str, tuple[int, str]], chain: str, kind: str, subject: str, content_hash: str
) -> dict[str, Any]:
    count, last = heads.get(chain, (0, _FIRST))
    seal: dict[str, Any] = {
        "chain": chain,
        "number": count + 1,
        "kind": kind,
        "subject": subject,
        "content_hash": content_hash,
        "previous_hash": last,
    }
    seal["seal_hash"] = hash_row(seal)
    heads[chain] = (count + 1, seal["seal_hash"])
    return seal


def _insert_seals(rows: list[dict[str, Any]]) -> None:
    if rows:
        op.get_bind().execute(sa.table("seals", *map(sa.column, rows[0])).insert(), rows)


def _guard_on_postgresql() -> None:
    changed = " OR ".join(f"OLD.{name} IS DISTINCT FROM NEW.{name}" for name in (*_BEGUN, "begun_hash"))
    row = "FOR EACH ROW"
    for table, name, change, condition, sentence in (
        ("runs", "update_or_delete", "UPDATE OR DELETE", row, _RUNS_STAY),
        ("runs", "unhashed", "INSERT", f"{row} WHEN (NEW.run_hash IS NULL)", _UNHASHED),
        ("provider_attempts", "update", "UPDATE", f"{row} WHEN (OLD.outcome <> 'unknown' OR {changed})", _ATTEMPTS_STAY),
        ("provider_attempts", "unsealed", "UPDATE", f"{row} WHEN (NEW.seal IS NOT DISTINCT FROM OLD.seal)", _UNSEALED),
        ("provider_attempts", "unhashed", "INSERT", f"{row} WHEN (NEW.begun_hash IS NULL)", _UNHASHED),
        ("seals", "update_or_delete", "UPDATE OR DELETE", row, _SEALS_STAY),
        ("seals", "truncate", "TRUNCATE", "FOR EACH STATEMENT", _SEALS_STAY),
        ("seal_heads", "update", "UPDATE", f"{row} WHEN ({_BROKEN_HEAD})", _HEADS_MOVE_ON),
        ("seal_heads", "delete", "DELETE", row, _HEADS_MOVE_ON),
        ("seal_heads", "truncate", "TRUNCATE", "FOR EACH STATEMENT", _HEADS_MOVE_ON),
    ):  # fmt: skip
        op.execute(
            f"CREATE TRIGGER {table}_refuse_{name} BEFORE {change} ON {table}"
            f" {condition} EXECUTE FUNCTION refuse_change('{sentence}')"
        )


def _narrow_rights() -> None:
    """Whoever may update the ledger's tables and does not own them may update what has to change, and no more."""
    query = sa.text(
        "SELECT DISTINCT grantee FROM information_schema.role_table_grants WHERE table_schema = current_schema()"
        " AND table_name = :table AND privilege_type = 'UPDATE' AND grantee <> current_user"
    )
    quote = op.get_bind().dialect.identifier_preparer.quote_identifier
    for table, columns in _MAY_CHANGE.items():
        for role in op.get_bind().execute(query, {"table": table}).scalars().all():
            name = role if role == "PUBLIC" else quote(role)
            op.execute(f"REVOKE UPDATE ON {table} FROM {name}")
            if columns:
                op.execute(f"GRANT UPDATE ({', '.join(columns)}) ON {table} TO {name}")


def _guard_on_sqlite() -> None:
    changed = " OR ".join(f"OLD.{name} IS NOT NEW.{name}" for name in (*_BEGUN, "begun_hash"))
    # INSERT OR REPLACE deletes the row in its way without asking a DELETE trigger: refused before it comes to that.
    for table, name, change, condition, sentence in (
        ("runs", "update", "UPDATE", "1", _RUNS_STAY),
        ("runs", "unhashed", "INSERT", "NEW.run_hash IS NULL", _UNHASHED),
        ("provider_attempts", "update", "UPDATE", f"OLD.outcome <> 'unknown' OR {changed}", _ATTEMPTS_STAY),
        ("provider_attempts", "unsealed", "UPDATE", "NEW.seal IS OLD.seal", _UNSEALED),
        ("provider_attempts", "unhashed", "INSERT", "NEW.begun_hash IS NULL", _UNHASHED),
        ("seals", "update", "UPDATE", "1", _SEALS_STAY),
        ("seals", "delete", "DELETE", "1", _SEALS_STAY),
        ("seals", "insert", "INSERT", _taken("seals", "chain, number", "seal_hash"), _SEALS_STAY),
        ("seal_heads", "update", "UPDATE", _BROKEN_HEAD, _HEADS_MOVE_ON),
        ("seal_heads", "delete", "DELETE", "1", _HEADS_MOVE_ON),
        ("seal_heads", "insert", "INSERT", _taken("seal_heads", "chain"), _HEADS_MOVE_ON),
    ):
        op.execute(
            f"CREATE TRIGGER {table}_refuse_{name} BEFORE {change} ON {table}"
            f" WHEN {condition} BEGIN SELECT RAISE(ABORT, '{sentence}'); END"
        )


def _taken(table: str, *keys: str) -> str:
    """Whether one of the unique keys of the new row is there already."""
    return " OR ".join(
        f"EXISTS (SELECT 1 FROM {table} WHERE ({key}) = (NEW.{key.replace(', ', ', NEW.')}))"  # noqa: S608  constants
        for key in keys
    )
