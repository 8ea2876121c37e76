"""Commands of batches: `batch run`, `status`, `watch`, `pause`, `resume`, `cancel`, `retry`, `results`, `list`."""
