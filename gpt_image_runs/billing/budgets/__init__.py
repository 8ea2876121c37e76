"""What tenants may spend and have spent.

- `budgets`: the budgets, and the refusal of what exceeds them.
- `reservations`: what an attempt reserves until its bill has an amount.
- `spend`: the counters of what was used and reserved.
"""
