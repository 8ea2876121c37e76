"""Usage and rate cards to an amount.

- `usage`: the provider's usage object, checked.
- `rates`, `rate_cards`: prices in integers, and which of them applies.
- `cost`: the cost of a run.
- `estimates`: output tokens of an image without usage.
- `quotes`: the worst case and the expected price of a request.
- `paid_attempt`: the price of an attempt from its own row.
- `flags`: the flags of a cost.
"""
