"""Checks that a ledger holds what was written, and that it was right.

- `verify`: one pass over a ledger.
- `snapshot`: its entries as they are stored.
- `checks`: amounts, agreement with run and attempt, chains.
- `pinned_rates`: rates of shipped cards.
- `seals`: rows that are not entries.
- `spend`, `recount`: counters of what tenants have spent.
"""
