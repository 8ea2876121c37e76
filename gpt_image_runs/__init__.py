"""Every value that crosses a Temporal boundary, and every name by which two processes find each other.

Frozen pydantic models and constants; no I/O and nothing else of ours. Amounts of money are decimal strings here
(`gpt_image_runs.contracts.money`), because a boundary is an outside.
"""
