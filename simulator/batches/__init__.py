"""Simulate the Batch API: files, batches, and the execution of their lines."""
