"""One file for each step of the schema, in order. There are no steps back: the ledger only grows."""
