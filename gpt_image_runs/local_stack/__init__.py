"""Run Temporal, the simulator and a worker on one machine, without setup.

`stack` runs all of them, `temporal_server` finds and starts Temporal, `processes` supervises child processes,
`data_folder` restricts DATA_DIR to its owner.
"""
