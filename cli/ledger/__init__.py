"""Commands for the ledger: entries, costs, budgets, corrections, open items, verification, provider comparison."""
