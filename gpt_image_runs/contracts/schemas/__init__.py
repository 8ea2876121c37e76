"""The contracts as JSON Schemas, for teams that import nothing of ours: the `.json` files here are what they read.

They are made from the contracts by `python -m gpt_image_runs.contracts.schemas` (`make schemas`) and never written by hand.
"""
