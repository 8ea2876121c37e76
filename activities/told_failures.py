"""Which failures of a call its run hears of: enough to say why it waits, few enough for a history that lasts for hours. Pure.

Each costs the run a signal and a workflow task, and a call may fail hundreds of times. A kind of failure that was not told
yet is told at once, another kind than the last one told when there were twice as many, the same when there were four times
as many.
"""

from dataclasses import dataclass, replace

_CHANGED = 2
_SAME = 4


@dataclass(frozen=True, slots=True)
class ToldFailures:
    """How many attempts of a call have failed, which of them was the last that was told, and the kinds told, that one's last."""

    failures: int = 0
    last_told: int = 0
    kinds: tuple[str, ...] = ()

    def count(self, kind: str) -> "ToldFailures":
        """As of one more failure, of this kind."""
        number = self.failures + 1
        if kind in self.kinds:
            patience = _SAME if kind == self.kinds[-1] else _CHANGED
            if number < patience * self.last_told:
                return replace(self, failures=number)
        others = tuple(known for known in self.kinds if known != kind)
        return ToldFailures(number, number, (*others, kind))

    @property
    def tells_the_last(self) -> bool:
        """Whether the failure that was counted last is to be told."""
        return self.failures == self.last_told
