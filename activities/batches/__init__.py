"""Activities of batches whose lines are runs: open a batch and its pages, start its runs, follow them."""
