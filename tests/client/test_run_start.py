"""Start options of a run: its priority."""

from gpt_image_runs.client.start_options import describe_start
from gpt_image_runs.contracts import names as priorities
from gpt_image_runs.contracts.request import ImageRequest


def test_interactive_run_has_priority_over_a_batch() -> None:
    request = ImageRequest(model="gpt-image-2", prompt="A cup", tenant="acme")
    start = describe_start(request, submission="s")
    assert (
        start.priority.priority_key
        == priorities.PRIORITY_INTERACTIVE
        < priorities.PRIORITY_UNSAID
        < priorities.PRIORITY_BATCH
    )
    assert start.priority.fairness_key == "acme"
