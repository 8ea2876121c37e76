"""Which sizes a picture may have: a fixed list for some models, WIDTHxHEIGHT within limits for the others."""

import re

from simulator.errors import ApiError, refuse_for_model
from simulator.models import Model

_AUTO_SIZE = (1024, 1024)
_WIDTH_X_HEIGHT = re.compile(r"[1-9][0-9]{0,4}x[1-9][0-9]{0,4}")
_STEP, _LONGEST_EDGE, _WIDEST_RATIO = 16, 3840, 3
_FEWEST_PIXELS, _MOST_PIXELS = 655_360, 8_294_400


def read_size(name: str, model: Model) -> tuple[int, int]:
    """Width and height in pixels; "auto" is 1024 x 1024.

    Raises:
        ApiError: 400 `invalid_value`.
    """
    if name == "auto":
        return _AUTO_SIZE
    if model.sizes is not None and name not in model.sizes:
        supported = ", ".join(f"'{size}'" for size in ("auto", *model.sizes))
        raise _invalid(name, f"supported are {supported}")
    if not _WIDTH_X_HEIGHT.fullmatch(name):
        raise _invalid(name, "expected 'auto' or WIDTHxHEIGHT")
    width, height = (int(side) for side in name.split("x"))
    if model.sizes is None:
        _check_limits(name, width, height)
    return width, height


def _check_limits(name: str, width: int, height: int) -> None:
    if width % _STEP or height % _STEP:
        raise _invalid(name, f"width and height must be divisible by {_STEP}")
    if max(width, height) > _LONGEST_EDGE:
        raise _invalid(name, f"no edge may be longer than {_LONGEST_EDGE} pixels")
    if max(width, height) > _WIDEST_RATIO * min(width, height):
        raise _invalid(name, f"the ratio must be between 1:{_WIDEST_RATIO} and {_WIDEST_RATIO}:1")
    if width * height < _FEWEST_PIXELS:
        raise _invalid(name, f"it is below the current minimum pixel budget of {_FEWEST_PIXELS}")
    if width * height > _MOST_PIXELS:
        raise _invalid(name, f"it is above the current maximum pixel budget of {_MOST_PIXELS}")


def _invalid(name: str, problem: str) -> ApiError:
    return refuse_for_model("size", "invalid_value", f"Invalid size '{name[:80]}': {problem}.")
