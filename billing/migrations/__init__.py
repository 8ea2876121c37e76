"""The history of the ledger's schema, run by Alembic through `billing.migrate`. A migration that was released never changes."""
