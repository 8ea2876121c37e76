"""One class for each outside system, its clients injected; the registered names are those of `contracts.names`."""
