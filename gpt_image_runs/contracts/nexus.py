"""The Nexus service of runs, typed: for workflows in other namespaces that call it. Its handler is in `activities/`."""

import nexusrpc

from gpt_image_runs.contracts import names
from gpt_image_runs.contracts.quote import Quote
from gpt_image_runs.contracts.request import ImageRequest
from gpt_image_runs.contracts.result import RunResult


@nexusrpc.service(name=names.NEXUS_SERVICE)
class ImageRuns:
    """Runs and quotes. With `images` a request of `generate` is an edit."""

    generate: nexusrpc.Operation[ImageRequest, RunResult]
    quote: nexusrpc.Operation[ImageRequest, Quote]
