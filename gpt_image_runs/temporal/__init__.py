"""Connect to Temporal and use its operator features. Independent of pictures and money.

`connection` connects, `stack_file` finds the embedded stack, `run_evidence` reads what executions prove about runs.
`search_attributes`, `rate_limits`, `versioning` and `worker_identity` are about namespaces, task queues and workers,
`replay` checks histories against the current code.
"""
