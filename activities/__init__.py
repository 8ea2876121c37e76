"""Temporal activities: one class for each external system, with its clients injected.

Registered names are in `gpt_image_runs.contracts.names`; `registry` builds the workers. `call_gpt_image` is the paid call,
with its parts in `provider_call/`; `batches/` and `economy/` are the activities of the two kinds of batches.
"""
