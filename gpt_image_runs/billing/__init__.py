"""What runs cost: attempts, prices, budgets, the ledger of bills, its verification, reports and recovery.

- `records`: an attempt, before it is sent and after.
- `hash_chain`, `seals`: the hashes that entries and other rows carry.
- `attempts`: runs and their attempts, recorded before anything is sent.
- `pricing`: usage and rate cards to an amount.
- `budgets`: what tenants may spend and have spent.
- `ledger`: bills and their corrections.
- `verification`: checks of all of these.
- `reconciliation`: comparison with the provider's books.
- `reports`: sums and health of a ledger.
- `recovery`: what a restored ledger has lost.
"""
