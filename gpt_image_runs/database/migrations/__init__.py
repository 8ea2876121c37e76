"""The history of the ledger's schema, run by Alembic through `gpt_image_runs.database.migrate`. A migration that was released never changes."""
