"""One class for each outside system, its clients injected; the registered names are those of `gpt_image_runs.contracts.names`."""
