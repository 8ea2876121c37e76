"""Timeouts and retry policies of all activities, each with its reason.

Each timeout is longer than the one inside it, so that a slow response always ends with a recorded outcome: first the
provider's client (at most 600 s, `PROVIDER_TIMEOUT_SECONDS`), then the attempt (`CALL_ATTEMPT`, which only a stuck worker
reaches), then six hours of retries (counted in `activities.provider_call.retry_state`), and `CALL_IN_ALL`.
"""

from datetime import timedelta

from temporalio.common import RetryPolicy
from temporalio.workflow import ContinueAsNewVersioningBehavior

from gpt_image_runs.contracts import names

# The check only reads memory: a worker that needs ten seconds is stuck.
CHECK_ATTEMPT = timedelta(seconds=10)
# The check fails only by a defect of ours: the run waits for a repaired worker.
CHECK_RETRY = RetryPolicy(initial_interval=timedelta(seconds=1), maximum_interval=timedelta(seconds=30))

# 600 s for the provider (an image can take 280 s, 4K longer) and a minute to load inputs and save images.
CALL_ATTEMPT = timedelta(minutes=11)
# Includes the time in the queue, which can be days behind a rate limit. It only ends what cannot end in another way, such as a
# call that kills every worker.
CALL_IN_ALL = timedelta(days=30)
# A killed worker is noticed after 30 s. Heartbeats are sent every 10 s, so two may be lost.
CALL_HEARTBEAT = timedelta(seconds=30)
CALL_RETRY = RetryPolicy(
    # One second is enough for a short fault; doubling reaches the maximum after six attempts.
    initial_interval=timedelta(seconds=1),
    backoff_coefficient=2,
    # One attempt a minute during an outage of the provider, so its end is noticed within a minute.
    maximum_interval=timedelta(minutes=1),
    # No maximum_attempts: what must not be sent again (refusals, exhausted quota, too many unknown outcomes) is not
    # retryable by its type. The rest costs nothing to try, and is not retried after six hours.
    # The server rejects a result over 2 MiB; another attempt would not make it smaller.
    non_retryable_error_types=["PayloadsTooLarge"],
)

# It does nothing: after half a minute its worker was killed. The wait in the queue and its attempts have no limit.
SLOT_ATTEMPT = timedelta(seconds=30)
SLOT_RETRY = RetryPolicy(initial_interval=timedelta(seconds=1), maximum_interval=timedelta(seconds=30))

# Two pages of usage and one of costs, for which the client allows a minute each, and a day's attempts from the ledger.
BOOKS_ATTEMPT = timedelta(minutes=5)
# A provider whose reports are unavailable for half a day needs a person. The next day is compared by its own workflow.
BOOKS_IN_ALL = timedelta(hours=12)
BOOKS_RETRY = RetryPolicy(
    # Reading costs nothing, and rarely does a person wait for it.
    initial_interval=timedelta(seconds=2),
    backoff_coefficient=2,
    maximum_interval=timedelta(minutes=10),
)

# 100,000 lines are 200 pages, each read and recorded in well under a second. The next attempt continues with the rest.
BATCH_OPEN_ATTEMPT = timedelta(minutes=30)
# A step takes seconds, plus what is in progress at its end: some calls to Temporal and the database.
BATCH_STEP_ATTEMPT = timedelta(minutes=5)
# A killed worker is noticed after 30 s, as with calls. The runs themselves go on meanwhile.
BATCH_HEARTBEAT = timedelta(seconds=30)
BATCH_RETRY = RetryPolicy(
    # No limit: every run has to be followed to its end, and nothing is started or counted twice.
    initial_interval=timedelta(seconds=1),
    backoff_coefficient=2,
    maximum_interval=timedelta(seconds=30),
)

# For activities that process all lines of a part: checking or claiming 50,000 takes some ten minutes, reading, writing and
# sending 200 MB of images 15. Four times that is a stuck worker. A step through a result file ends after a minute by itself.
ECONOMY_ATTEMPT = timedelta(hours=2)
# As for a call: a killed worker is noticed after 30 s.
ECONOMY_HEARTBEAT = timedelta(seconds=30)
ECONOMY_RETRY = RetryPolicy(
    # No limit: retries pay for nothing twice, and what was paid has to be billed. The wait is visible.
    initial_interval=timedelta(seconds=1),
    backoff_coefficient=2,
    maximum_interval=timedelta(minutes=5),
)
# Small batches are done within minutes, large ones within a day: the provider is polled less often as time passes.
ECONOMY_FIRST_PAUSE = timedelta(minutes=1)
ECONOMY_LONGEST_PAUSE = timedelta(minutes=10)
# Polls after which the pause becomes a minute longer.
ECONOMY_PAUSE_GROWTH = 5

# A price takes microseconds and an entry milliseconds; after 30 s the database hangs.
MONEY_ATTEMPT = timedelta(seconds=30)
MONEY_RETRY = RetryPolicy(
    # No limit: what was paid for has to be billed. A run visibly waits until the ledger is available or a wrong price is
    # corrected, and nothing is sent again meanwhile.
    initial_interval=timedelta(seconds=1),
    backoff_coefficient=2,
    maximum_interval=timedelta(minutes=1),
)

CANCELLED_BILL_RETRY = RetryPolicy(
    # As MONEY_RETRY, but a cancelled run does not wait for an attempt that the ledger does not have.
    initial_interval=timedelta(seconds=1),
    backoff_coefficient=2,
    maximum_interval=timedelta(minutes=1),
    non_retryable_error_types=[names.ATTEMPT_MISSING],
)

# The client allows a receiver 20 s.
NOTIFY_ATTEMPT = timedelta(seconds=30)
# A receiver that fails on a Friday evening is repaired on Monday.
NOTIFY_IN_ALL = timedelta(days=3)
NOTIFY_RETRY = RetryPolicy(
    # Seconds at first, for a short fault or a deployment of the receiver; after eight attempts in five hours, every six hours.
    initial_interval=timedelta(seconds=1),
    backoff_coefficient=4,
    maximum_interval=timedelta(hours=6),
)

# Half of a workflow task's 10 seconds: a database that hangs must not fail the task. The regular activity that follows finds
# what is still written after that.
LOCAL_MONEY_ATTEMPT = timedelta(seconds=5)
LOCAL_MONEY_RETRY = RetryPolicy(
    # After a failure the step becomes a regular activity, which everyone sees.
    maximum_attempts=1
)

# A batch that continues as new does so on the current build, so that an old build need not run for days until its last batch
# has ended. Only the order is passed on, which every build can read.
NEWEST_BUILD = ContinueAsNewVersioningBehavior.AUTO_UPGRADE
