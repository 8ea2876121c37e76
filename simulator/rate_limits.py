"""Enforce the organization's images per minute: a sliding window of 60 seconds, the strictest reading of the limit.

Every request counts with its `n`, also one that fails or is refused, so a client that only repeats stays refused.
Input images have a limit of their own. One simulator is one organization.
"""

import math
import time
from collections import deque
from collections.abc import Callable

from simulator.http import ApiError, StartupError

WINDOW_SECONDS = 60.0
Clock = Callable[[], float]


class SlidingWindow:
    """The number of images requested in the last 60 seconds, against a limit. None: no limit."""

    def __init__(self, limit: int | None, clock: Clock = time.monotonic) -> None:
        self.limit = limit
        self._clock = clock
        self._counted: deque[tuple[float, int]] = deque()
        self._used = 0

    @property
    def used(self) -> int:
        """How much of the limit is used, at most all of it."""
        self._drop_expired()
        return self._used if self.limit is None else min(self._used, self.limit)

    def count(self, amount: int) -> None:
        """Count what was requested, whether it fits or not."""
        if amount:
            self._counted.append((self._clock(), amount))
            self._used += amount

    def has_room_for(self, amount: int) -> bool:
        """Return whether `amount` fits now."""
        self._drop_expired()
        return self.limit is None or self._used + amount <= self.limit

    def seconds_until(self, amount: int) -> float:
        """Return the seconds until `amount` fits if nothing else is requested.

        It is a whole window for an amount that never fits.
        """
        self._drop_expired()
        if self.limit is None or self._used + amount <= self.limit:
            return 0.0
        left = self._used
        for when, counted in self._counted:
            left -= counted
            if left + amount <= self.limit:
                return max(0.0, when + WINDOW_SECONDS - self._clock())
        return WINDOW_SECONDS

    def _drop_expired(self) -> None:
        start = self._clock() - WINDOW_SECONDS
        while self._counted and self._counted[0][0] <= start:
            self._used -= self._counted.popleft()[1]


class RateLimits:
    """Both limits. A request that one of them refuses still counts against the other."""

    def __init__(
        self,
        images_per_minute: int | None,
        input_images_per_minute: int | None,
        clock: Clock = time.monotonic,
    ) -> None:
        """Set up both limits.

        Raises:
            StartupError: a limit is less than one image.
        """
        for limit in (images_per_minute, input_images_per_minute):
            if limit is not None and limit < 1:
                raise StartupError(f"{limit} is not a valid limit of images per minute: use at least 1.")
        self.images = SlidingWindow(images_per_minute, clock)
        self.input_images = SlidingWindow(input_images_per_minute, clock)

    def admit(self, model: str, *, images: int, input_images: int) -> None:
        """Count a request against both limits.

        Raises:
            ApiError: 429 `rate_limit_exceeded`, with the time to wait.
        """
        wanted = (
            (self.images, images, "images per min (IPM)"),
            (self.input_images, input_images, "input-images per min"),
        )
        refusals = [
            _refuse(bucket, model, amount, words)
            for bucket, amount, words in wanted
            if amount and not bucket.has_room_for(amount)
        ]
        for bucket, amount, _ in wanted:
            bucket.count(amount)
        if refusals:
            raise max(refusals, key=lambda refusal: int(refusal.headers["retry-after"]))

    def build_headers(self) -> dict[str, str]:
        """Build the `x-ratelimit-*` headers of the limits that are set, with the reset as in "1m0s".

        The names with `input-images` were seen at the provider; those with `images` are not verified.
        """
        headers: dict[str, str] = {}
        for name, bucket in (("images", self.images), ("input-images", self.input_images)):
            if bucket.limit is not None:
                headers |= {
                    f"x-ratelimit-limit-{name}": str(bucket.limit),
                    f"x-ratelimit-remaining-{name}": str(bucket.limit - bucket.used),
                    f"x-ratelimit-reset-{name}": format_duration(bucket.seconds_until(bucket.limit)),
                }
        return headers

    def get_totals(self) -> dict[str, dict[str, int | None]]:
        """Limit and use of each bucket, for the control interface."""
        return {
            name: {"limit": bucket.limit, "used": bucket.used}
            for name, bucket in (("images", self.images), ("input_images", self.input_images))
        }


def format_duration(seconds: float) -> str:
    """Format a duration as in the provider's headers: "120ms", "3.5s", "1m0s"."""
    milliseconds = math.ceil(seconds * 1000)
    if milliseconds < 1000:  # noqa: PLR2004 - a second
        return f"{milliseconds}ms"
    minutes, rest = divmod(milliseconds, 60_000)
    return f"{minutes}m{rest / 1000:g}s" if minutes else f"{rest / 1000:g}s"


def _refuse(bucket: SlidingWindow, model: str, amount: int, words: str) -> ApiError:
    seconds = bucket.seconds_until(amount)
    return ApiError(
        429,
        f"Rate limit reached for {model} in organization org-simulator on {words}: Limit {bucket.limit}, "
        f"Used {bucket.used}, Requested {amount}. Please try again in {format_duration(seconds)}.",
        error_type="images" if "IPM" in words else "input-images",
        code="rate_limit_exceeded",
        headers={"retry-after": str(max(1, math.ceil(seconds)))},
    )
