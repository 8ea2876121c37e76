"""What polls each task queue: a worker, with activities put together from the settings. Wiring only."""
