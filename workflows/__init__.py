"""Temporal workflows: the order of effects, their timeouts and retry policies. No I/O, no clock, no prices."""
