"""The Python client: submit image requests, wait for results, decide, cancel, start batches.

`client` has the class `Client`, `submissions` the receipt of a request, `runs` operations on an existing run, `batches`
starting batches, `pictures` the bytes of a result's images, `errors` the exceptions, `start_options` the options a run is
started with, `connection_failures` explanations of failed connections, and `programs` how to end a program.
"""
