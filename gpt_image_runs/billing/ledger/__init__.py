"""Bills and their corrections.

- `ledger`: the bill of a run, written once.
- `corrections`: entries that correct a bill.
- `heads`: append an entry to its tenant's chain.
- `queries`: bills, runs that wait, paid attempts without a bill.
"""
