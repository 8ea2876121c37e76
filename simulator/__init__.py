"""Serve an OpenAI-compatible Images API on loopback, offline and stricter than the real one.

It returns real images with realistic usage, injects scripted faults, and keeps its own request log ("the books").
It imports nothing of this project, so that what it counts and prices can be compared with the project's own ledger.
"""
