"""Batches and their lines: working tables, which change while a batch runs and have no guards."""

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"

_COUNTERS = (
    "waiting",
    "running",
    "done",
    "failed",
    "cancelled",
    "skipped",
    "images",
    "pending",
    "unknown",
    "charged_micro_usd",
    "reserved_micro_usd",
    "exposed_micro_usd",
)
_ZERO = sa.text("0")


def upgrade() -> None:
    """Makes both tables."""
    op.create_table(
        "batches",
        sa.Column("batch_id", sa.Text(), nullable=False),
        sa.Column("digest", sa.Text(), nullable=False),
        sa.Column("lines", sa.Integer(), nullable=False),
        sa.Column("pages", sa.Integer(), nullable=False),
        sa.Column("pages_registered", sa.Integer(), nullable=False, server_default=_ZERO),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("round", sa.Integer(), nullable=False),
        sa.Column("window", sa.Integer(), nullable=False),
        sa.Column("max_cost_micro_usd", sa.BigInteger()),
        sa.Column("fail_fast", sa.Boolean(), nullable=False),
        sa.Column("failed_before", sa.Integer(), nullable=False, server_default=_ZERO),
        *(sa.Column(name, sa.BigInteger(), nullable=False, server_default=_ZERO) for name in _COUNTERS),
        sa.Column("reason", sa.Text()),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("updated_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("ended_at", sa.DateTime(timezone=True)),
        sa.PrimaryKeyConstraint("batch_id", name="pk_batches"),
        sa.CheckConstraint(
            "state IN ('registering', 'running', 'paused', 'cancelling', 'done', 'stopped', 'capped', 'cancelled')",
            name="ck_batches_state",
        ),
    )
    op.create_index("ix_batches_created_at", "batches", ["created_at"])
    op.create_table(
        "batch_lines",
        sa.Column("batch_id", sa.Text(), nullable=False),
        sa.Column("line", sa.Integer(), nullable=False),
        sa.Column("page", sa.Integer(), nullable=False),
        sa.Column("run_id", sa.Text()),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("round", sa.Integer(), nullable=False),
        sa.Column("workflow_run_id", sa.Text()),
        sa.Column("attached", sa.Boolean(), nullable=False, server_default=sa.false()),
        sa.Column("fingerprint", sa.Text()),
        sa.Column("ceiling_micro_usd", sa.BigInteger()),
        sa.Column("unknown", sa.Integer(), nullable=False, server_default=_ZERO),
        sa.Column("exposed_micro_usd", sa.BigInteger(), nullable=False, server_default=_ZERO),
        sa.Column("error_type", sa.Text()),
        sa.Column("error_message", sa.Text()),
        sa.Column("started_at", sa.DateTime(timezone=True)),
        sa.Column("looked_at", sa.DateTime(timezone=True)),
        sa.Column("ended_at", sa.DateTime(timezone=True)),
        sa.PrimaryKeyConstraint("batch_id", "line", name="pk_batch_lines"),
        sa.ForeignKeyConstraint(["batch_id"], ["batches.batch_id"], name="fk_batch_lines_batch_id_batches"),
        sa.CheckConstraint(
            "state IN ('waiting', 'starting', 'running', 'done', 'failed', 'cancelled', 'skipped')",
            name="ck_batch_lines_state",
        ),
        sa.CheckConstraint("state = 'skipped' OR run_id IS NOT NULL", name="ck_batch_lines_run"),
    )
    op.create_index("ix_batch_lines_batch_id_state_line", "batch_lines", ["batch_id", "state", "line"])
