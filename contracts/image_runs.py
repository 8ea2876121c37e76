"""The Nexus service of runs, typed: for workflows in other namespaces that call it. Its handler is in `activities/`."""

import nexusrpc

from contracts import names
from contracts.quote import Quote
from contracts.request import ImageRequest
from contracts.result import RunResult


@nexusrpc.service(name=names.NEXUS_SERVICE)
class ImageRuns:
    """Runs and quotes. With `images` a request of `generate` is an edit."""

    generate: nexusrpc.Operation[ImageRequest, RunResult]
    quote: nexusrpc.Operation[ImageRequest, Quote]
