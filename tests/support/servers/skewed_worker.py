"""`python skewed_worker.py SECONDS`: the worker on a host whose clock is wrong by so much. No test here.

The monotonic clock is right, as it is on such a host; only what tells the time of day differs.
"""

import datetime as dt
import runpy
import sys
import time
from datetime import datetime as Moment  # noqa: N812 - what it is before it is replaced below
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[3]
_time = time.time


class _AnyDatetime(type):
    """A moment that was made by C code is a moment too."""

    def __instancecheck__(cls, instance: Any) -> bool:
        return isinstance(instance, Moment)


def skew_clock(seconds: float) -> None:
    """Set the time of day for every module that is imported from now on."""

    class Skewed(Moment, metaclass=_AnyDatetime):
        @classmethod
        def now(cls, tz: dt.tzinfo | None = None) -> Any:
            return Moment.now(tz) + dt.timedelta(seconds=seconds)

    dt.datetime = Skewed  # type: ignore[misc]  # before anything of ours is imported
    time.time = lambda: _time() + seconds


if __name__ == "__main__":
    skew_clock(float(sys.argv.pop(1)))
    sys.path.insert(0, str(ROOT))
    sys.argv[0] = str(ROOT / "worker.py")
    runpy.run_path(sys.argv[0], run_name="__main__")
