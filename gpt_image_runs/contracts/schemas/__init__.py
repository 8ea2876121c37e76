"""The contracts as JSON Schemas, for teams that do not use this Python package.

The `.json` files are generated from the contracts by `python -m gpt_image_runs.contracts.schemas` (`make schemas`) and never edited by hand.
"""
