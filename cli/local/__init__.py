"""Commands for this machine: the demo, the embedded stack, diagnosis, models, replay."""
