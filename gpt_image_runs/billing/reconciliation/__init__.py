"""Comparison of the ledger with the provider's books.

- `matching`: which attempts the provider has counted.
- `compare`: one day on both sides.
- `history`: the comparisons that were made.
"""
