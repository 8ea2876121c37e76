"""The database of the ledger: engine and transactions, tables, column types, and migrations."""
