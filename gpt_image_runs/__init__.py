"""Durable image runs on Temporal: the library of this project, and what other services import of it.

A public name is loaded when it is first used: workflows and the ledger import this package without a Temporal client.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from gpt_image_runs.contracts.quote import Quote
    from gpt_image_runs.contracts.request import ImageRequest
    from gpt_image_runs.contracts.result import RunResult, RunStatus

__all__ = ["ImageRequest", "Quote", "RunResult", "RunStatus"]

_MODULES = {
    "ImageRequest": "contracts.request",
    "Quote": "contracts.quote",
    "RunResult": "contracts.result",
    "RunStatus": "contracts.result",
}


def __getattr__(name: str) -> Any:
    """Import a public name from its module.

    Raises:
        AttributeError: the package has no such name.
    """
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"gpt_image_runs.{_MODULES[name]}"), name)
