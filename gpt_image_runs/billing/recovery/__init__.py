"""What a ledger has lost since it was restored from an older copy, and how it is recovered.

- `receipts`: attempts as the image store holds them.
- `notes`: the heads that the image store has noted, and accepted losses.
- `recovery`: find losses, restore attempts and bill them.
"""
