"""Runs and their attempts, recorded before anything is sent.

- `runs`: the identity of a run.
- `attempts`: the attempts of a run, and their outcomes.
- `call_terms`: checks of a call's input against its request.
- `exposure`: attempts that may have been paid for nothing.
"""
