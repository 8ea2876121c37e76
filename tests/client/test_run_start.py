"""What a run is started with: its place in the queue."""

from gpt_image_runs.client.start_options import describe_start
from gpt_image_runs.contracts import names as priorities
from gpt_image_runs.contracts.request import ImageRequest


def test_a_run_that_somebody_waits_for_goes_before_a_batch() -> None:
    """Unless a batch says otherwise a run is interactive, and shares its level with the other tenants by its own name."""
    request = ImageRequest(model="gpt-image-2", prompt="A cup", tenant="acme")
    start = describe_start(request, submission="s")
    assert (
        start.priority.priority_key
        == priorities.PRIORITY_INTERACTIVE
        < priorities.PRIORITY_UNSAID
        < priorities.PRIORITY_BATCH
    )
    assert start.priority.fairness_key == "acme"
