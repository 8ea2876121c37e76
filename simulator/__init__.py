"""The provider, offline: an OpenAI-compatible Images API on loopback, stricter than the real one.

Real pictures, real-sized usage, scripted faults and books of its own. It knows nothing of this project: what it counts
and prices is an independent party's word.
"""
