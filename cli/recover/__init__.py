"""The command `recover`: runs from stored responses, and a ledger from the image store and Temporal."""
