"""How long each effect may take and how often it is tried again: every number with its reason.

The ladder, from the inside out: the provider's client gives up first (600 s at most, `PROVIDER_TIMEOUT_SECONDS`), so
that a slow answer ends as an outcome that is written down; then the attempt (`CALL_ATTEMPT`), which only ends a worker
that is stuck; then the trying (six hours, counted by the activity: `activities.provider_call.retry_state`); and `CALL_IN_ALL` around it.
"""

from datetime import timedelta

from temporalio.common import RetryPolicy
from temporalio.workflow import ContinueAsNewVersioningBehavior

from gpt_image_runs.contracts import names

CHECK_ATTEMPT = timedelta(seconds=10)
"""The check reads data that is in memory; ten seconds is a worker that is stuck."""
CHECK_RETRY = RetryPolicy(initial_interval=timedelta(seconds=1), maximum_interval=timedelta(seconds=30))
"""The check fails only by our own mistake: the run waits for the mended worker."""

CALL_ATTEMPT = timedelta(minutes=11)
"""600 s for the provider (a picture can take 280 s, 4K longer) and a minute to load inputs and store pictures."""
CALL_IN_ALL = timedelta(days=30)
"""With the time in line, which behind a limit may be days, and in which nothing is wrong. It only ends what can end in no
other way, such as a call that kills each worker."""
CALL_HEARTBEAT = timedelta(seconds=30)
"""A killed worker is noticed after 30 s; heartbeats come every 10 s, so two may be lost."""
CALL_RETRY = RetryPolicy(
    # A first pause long enough for a blip; doubling reaches the cap after six tries.
    initial_interval=timedelta(seconds=1),
    backoff_coefficient=2,
    # One try a minute while the provider is down: it is noticed within a minute of its return.
    maximum_interval=timedelta(minutes=1),
    # No maximum_attempts: what must not be sent again (refusals, exhausted quota, too many unknown outcomes) is
    # non-retryable by its type, the rest costs nothing to try, and becomes so after six hours of trying.
    # The server refuses to keep a result over 2 MiB; trying again would not make it smaller.
    non_retryable_error_types=["PayloadsTooLarge"],
)

SLOT_ATTEMPT = timedelta(seconds=30)
"""Nothing is done in it; half a minute is a worker that was killed. No end to the wait in line, and none to its attempts."""
SLOT_RETRY = RetryPolicy(initial_interval=timedelta(seconds=1), maximum_interval=timedelta(seconds=30))

BOOKS_ATTEMPT = timedelta(minutes=5)
"""Two pages of minutes and one of costs, each given a minute by the client, and a day's attempts from the ledger."""
BOOKS_IN_ALL = timedelta(hours=12)
"""A provider that does not tell its books for half a day needs a person; the next day is compared by its own workflow."""
BOOKS_RETRY = RetryPolicy(
    # Reading costs nothing, and nobody waits for it but a person at a terminal now and then.
    initial_interval=timedelta(seconds=2),
    backoff_coefficient=2,
    maximum_interval=timedelta(minutes=10),
)

BATCH_OPEN_ATTEMPT = timedelta(minutes=30)
"""100,000 lines are 200 pages, each read and written down in well under a second; the next attempt goes on with the rest."""
BATCH_STEP_ATTEMPT = timedelta(minutes=5)
"""A step's seconds, and what is under way when they are over: some calls to Temporal and the database."""
BATCH_HEARTBEAT = timedelta(seconds=30)
"""A killed worker is noticed after 30 s, as with calls: the runs themselves go on meanwhile."""
BATCH_RETRY = RetryPolicy(
    # Never gives up: what runs has to be followed to its end, and nothing is started or counted twice.
    initial_interval=timedelta(seconds=1),
    backoff_coefficient=2,
    maximum_interval=timedelta(seconds=30),
)

ECONOMY_ATTEMPT = timedelta(hours=2)
"""Of what goes over all lines of a part: 50,000 of them checked or claimed take some ten minutes, 200 MB of pictures read, written
and sent a quarter of an hour; four times that is a worker that is stuck. A stretch of a result file ends after a minute by itself."""
ECONOMY_HEARTBEAT = timedelta(seconds=30)
"""As for a call: a killed worker is noticed after 30 s."""
ECONOMY_RETRY = RetryPolicy(
    # Nothing here is paid twice by trying again, and what was paid waits to be billed: no end, and a person sees it wait.
    initial_interval=timedelta(seconds=1),
    backoff_coefficient=2,
    maximum_interval=timedelta(minutes=5),
)
ECONOMY_FIRST_PAUSE = timedelta(minutes=1)
ECONOMY_LONGEST_PAUSE = timedelta(minutes=10)
"""Small batches are done within minutes, large ones within the day: looks come rarer, and then every ten minutes."""
ECONOMY_PAUSE_GROWTH = 5
"""Looks after which the pause is a minute longer."""

MONEY_ATTEMPT = timedelta(seconds=30)
"""A price takes microseconds and an entry milliseconds; 30 s is a database that hangs."""
MONEY_RETRY = RetryPolicy(
    # What was paid for has to be billed, so these never give up: a run waits, visibly, until the ledger is back or a
    # wrong price is mended, and nothing is bought again meanwhile.
    initial_interval=timedelta(seconds=1),
    backoff_coefficient=2,
    maximum_interval=timedelta(minutes=1),
)

CANCELLED_BILL_RETRY = RetryPolicy(
    # As MONEY_RETRY. But a run that somebody has cancelled waits no longer for an attempt that the ledger does not have.
    initial_interval=timedelta(seconds=1),
    backoff_coefficient=2,
    maximum_interval=timedelta(minutes=1),
    non_retryable_error_types=[names.ATTEMPT_MISSING],
)

NOTIFY_ATTEMPT = timedelta(seconds=30)
"""The client gives a receiver 20 s."""
NOTIFY_IN_ALL = timedelta(days=3)
"""A receiver that is broken on a Friday evening is mended on Monday."""
NOTIFY_RETRY = RetryPolicy(
    # Seconds first, for a blip or a deployment of the receiver; after eight attempts, five hours in, one every six hours.
    initial_interval=timedelta(seconds=1),
    backoff_coefficient=4,
    maximum_interval=timedelta(hours=6),
)

LOCAL_MONEY_ATTEMPT = timedelta(seconds=5)
"""Half of a workflow task's 10 seconds: a database that hangs must not cost the task. What it still writes after that is
found by the regular activity that follows."""
LOCAL_MONEY_RETRY = RetryPolicy(
    # What does not work at once waits as a regular activity, which everyone sees.
    maximum_attempts=1
)

NEWEST_BUILD = ContinueAsNewVersioningBehavior.AUTO_UPGRADE
"""A batch that goes on in a new run does so on the build that is current then: a build need not stay for days, until the last batch
that began on it has ended. Between two runs nothing but the order is handed on, which every build reads."""
