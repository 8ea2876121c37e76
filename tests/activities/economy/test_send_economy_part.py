"""When the creation of a provider's batch comes too late: by the worker's own clock, whatever the server's says."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from temporalio.exceptions import ApplicationError
from temporalio.testing import ActivityEnvironment

from activities.economy.send import TOO_LATE, _refuse_late_creation


@pytest.mark.parametrize("skew", [timedelta(), timedelta(days=1), timedelta(days=-1)], ids=str)
async def test_creation_is_refused_by_the_time_that_passed_here(skew: timedelta) -> None:
    """A server whose clock is a day apart neither keeps a batch from being created nor lets it be created too late."""
    environment = ActivityEnvironment()
    environment.info = replace(
        environment.info,
        started_time=datetime.now(UTC) + skew,
        start_to_close_timeout=timedelta(minutes=10),
    )

    environment.run(_refuse_late_creation, 500.0)
    with pytest.raises(ApplicationError) as refused:
        environment.run(_refuse_late_creation, 560.0)

    assert refused.value.type == TOO_LATE
