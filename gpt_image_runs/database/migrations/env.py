"""Alembic's environment: run the migrations in the transaction that `gpt_image_runs.database.migrate` has begun."""

from alembic import context

context.configure(connection=context.config.attributes["connection"])
with context.begin_transaction():
    context.run_migrations()
