"""The Python client: submit image requests, await their results, decide, cancel, start batches.

`client` has the class `Client`, `submissions` the receipt of a request, `runs` what is done with a run that exists, `batches` the
start of a batch, `pictures` the bytes of a result's images, `errors` what a caller can catch, `start_options` what a run is started
with, `connection_failures` why no connection came about, and `programs` how a program ends.
"""
