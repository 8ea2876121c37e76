"""The parts of the activity `call_gpt_image`.

- `attempt`: send one recorded attempt
- `earlier_attempts`: what earlier attempts of a run mean for the next one
- `failure_signal`: report a failed attempt to its run
- `image_saving`: store the images of an answer
- `ledger_watch`: stop spending while the ledger is older than its image store
- `results`: build outcomes and the activity's result
- `retry_state`: what one attempt passes on to the next, and shared back-off
- `tracing`: the span of a request
"""
