"""How fast a batch goes, and what that means for its end: from what was seen of it lately. Pure."""

from collections import deque
from dataclasses import dataclass

from contracts.batches import BatchProgress
from contracts.money import format_usd, parse_usd

_LATELY_SECONDS = 60.0


@dataclass(frozen=True, slots=True)
class Pace:
    """`forecast_usd` is what the batch will come to if its lines go on costing what they have cost so far."""

    images_per_minute: float | None
    seconds_left: float | None
    forecast_usd: str | None


class PaceKeeper:
    """Remembers the last minute of one batch."""

    def __init__(self) -> None:
        self._seen: deque[tuple[float, int, int]] = deque()

    def note(self, progress: BatchProgress, now: float) -> Pace:
        """The pace with this news, at a moment in seconds of any steady clock."""
        ended = progress.done + progress.failed + progress.cancelled
        self._seen.append((now, progress.images, ended))
        while now - self._seen[0][0] > _LATELY_SECONDS:
            self._seen.popleft()
        since, images, lines = self._seen[0]
        left = progress.waiting + progress.running
        seconds = now - since
        pace = (ended - lines) / seconds if seconds else 0
        return Pace(
            images_per_minute=(progress.images - images) / seconds * 60 if seconds else None,
            seconds_left=left / pace if pace > 0 else None,
            forecast_usd=_forecast(progress, left),
        )


def _forecast(progress: BatchProgress, left: int) -> str | None:
    if not progress.done:
        return None
    charged = parse_usd(progress.charged_usd)
    return format_usd(charged + charged * left // progress.done)
