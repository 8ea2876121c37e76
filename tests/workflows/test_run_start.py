"""What a run is started with: its place in the queue."""

from contracts import priorities
from contracts.request import ImageRequest
from workflows.run_start import describe_start


def test_a_run_that_somebody_waits_for_goes_before_a_batch() -> None:
    """Unless a batch says otherwise a run is interactive, and shares its level with the other tenants by its own name."""
    request = ImageRequest(model="gpt-image-2", prompt="A cup", tenant="acme")
    start = describe_start(request, model="gpt-image-2", fingerprint="f", submission="s")
    assert start.priority.priority_key == priorities.INTERACTIVE < priorities.UNSAID < priorities.BATCH
    assert start.priority.fairness_key == "acme"
