"""Reports of a ledger.

- `entries`: entries, and sums by tenant, model or day.
- `month`: sums of some days for finance.
- `health`: numbers for graphs and alerts.
"""
