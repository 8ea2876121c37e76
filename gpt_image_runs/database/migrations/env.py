"""What Alembic runs around the migrations: they go into the transaction that `gpt_image_runs.database.migrate` has begun."""

from alembic import context

context.configure(connection=context.config.attributes["connection"])
with context.begin_transaction():
    context.run_migrations()
