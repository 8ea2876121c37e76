"""The runs of a plan: what each asks for, and the faults that strike its requests to the provider. Pure.

Faults belong to a run and not to an order of arrival: whatever overtakes what, the same ones strike the same run.
"""

import base64
import io
import random
from dataclasses import dataclass
from typing import Any

from PIL import Image

from gpt_image_runs.contracts import names

# Answered and not carried out: tried again as often as need be.
FREE = (
    "rate_limited,seconds=0.2,header=retry-after-ms",
    "rate_limited,seconds=1,header=http-date",
    "slow_down,seconds=1",
    "server_error",
    "overloaded",
    "conflict",
)
# Nobody can tell whether they were paid, and they say so at once.
LOST = (
    "reset_before",
    "reset_after_payment",
    "truncated",
    "bad_gateway",
    "bad_gateway,paid=true",
    "gateway_timeout,paid=true",
)
# Late answers, one that never comes, and one that is lost late: a worker that is killed meanwhile loses them all.
SLOW = ("delay=1.5", "delay=4", "hang", "reset_after_payment,delay_seconds=2")
USAGE = ("missing_usage", "null_usage")
# After these a run fails.
FINAL = (
    "malformed_json",
    "plain_text",
    "no_data",
    "bad_base64",
    "not_an_image",
    "moderation_blocked",
    "insufficient_quota",
)

# One more than UNKNOWN_OUTCOME_RESENDS, whose default is 2: such a run fails with its exposure listed.
_LOST_FOR_GOOD = 3
# Every so many runs would rather be held than sent again.
_EACH_HELD = 4
# Of 100 runs; each kind has at least one.
_SHARES: dict[str, int] = {"clean": 50, "one": 25, "several": 12, "usage": 8, "final": 3, "doomed": 2}
_TENANTS = ("acme", "globex", "initech")
_PICTURES = (
    ("gpt-image-1", "1024x1024", "low"),
    ("gpt-image-1", "1536x1024", "medium"),
    ("gpt-image-1-mini", "1024x1536", "low"),
    ("gpt-image-1.5", "1024x1024", "low"),
    ("gpt-image-2", "1024x1024", "medium"),
    ("gpt-image-2.6-flare", "1024x1024", "low"),
)
_FORMATS = ("png", "jpeg", "webp")


@dataclass(frozen=True, kw_only=True)
class PlannedRun:
    """One request, and the faults that strike its requests to the provider: the first, the second, and so on."""

    run_id: str
    mark: str
    payload: dict[str, Any]
    faults: tuple[str, ...]


def plan_runs(seed: int, count: int, dice: random.Random) -> tuple[PlannedRun, ...]:
    """Plan this many runs, of every kind that there is."""
    profiles = _deal_profiles(count, dice)
    return tuple(_plan_run(seed, number, profile, dice) for number, profile in enumerate(profiles))


def _deal_profiles(runs: int, dice: random.Random) -> list[str]:
    rare = [
        name for name, share in _SHARES.items() if name != "clean" for _ in range(max(1, runs * share // 100))
    ]
    profiles = (rare + ["clean"] * runs)[:runs]
    dice.shuffle(profiles)
    return profiles


def _plan_run(seed: int, number: int, profile: str, dice: random.Random) -> PlannedRun:
    tenant, mark = dice.choice(_TENANTS), f"Run {number:05d}."
    model, size, quality = dice.choice(_PICTURES)
    payload: dict[str, Any] = {
        "tenant": tenant,
        "model": model,
        "prompt": f"{mark} {'A still life with pears. ' * dice.randint(1, 4)}".strip(),
        "n": dice.choice((1, 1, 1, 2)),
        "size": size,
        "quality": quality,
        "output_format": dice.choice(_FORMATS),
        "missing_usage": dice.choice(("estimate", "estimate", "hold")),
        "unknown_outcome": "hold" if number % _EACH_HELD == 0 else "resend",
    }
    if dice.random() < 1 / 8:
        payload["images"] = [_draw_input(dice)]
    return PlannedRun(
        run_id=names.run_id_for(tenant, f"chaos-{seed}-{number:05d}"),
        mark=mark,
        payload=payload,
        faults=_FAULTS_OF[profile](dice),
    )


def _draw_input(dice: random.Random) -> str:
    """Draw a small image to edit, as a `data:` URI."""
    color = (dice.randrange(256), dice.randrange(256), dice.randrange(256))
    file = io.BytesIO()
    Image.new("RGB", (256, 256), color).save(file, "PNG")
    return f"data:image/png;base64,{base64.b64encode(file.getvalue()).decode()}"


def _one(dice: random.Random) -> tuple[str, ...]:
    return (dice.choice(dice.choice((FREE, LOST, SLOW))),)


def _several(dice: random.Random) -> tuple[str, ...]:
    faults = [dice.choice(FREE), dice.choice(dice.choice((FREE, LOST))), dice.choice(SLOW)]
    dice.shuffle(faults)
    return tuple(faults)


def _usage(dice: random.Random) -> tuple[str, ...]:
    return (*dice.choice(((), (dice.choice(FREE),), (dice.choice(LOST),))), dice.choice(USAGE))


def _final(dice: random.Random) -> tuple[str, ...]:
    return (*dice.choice(((), (dice.choice(FREE),))), dice.choice(FINAL))


def _doomed(dice: random.Random) -> tuple[str, ...]:
    return tuple(dice.choice(LOST) for _ in range(_LOST_FOR_GOOD))


_FAULTS_OF = {
    "clean": lambda _: (),
    "one": _one,
    "several": _several,
    "usage": _usage,
    "final": _final,
    "doomed": _doomed,
}
