"""Durable image runs on Temporal: the library of this project, and what other services import of it.

A public name is loaded when it is first used: workflows and the ledger import this package without a Temporal client.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from gpt_image_runs.client.batches import StartedBatch
    from gpt_image_runs.client.client import Client
    from gpt_image_runs.client.errors import (
        BatchConflict,
        BatchFailed,
        BatchNotFound,
        BudgetExceeded,
        ClientError,
        DecisionRefused,
        ImageUnavailable,
        NoAnswer,
        RunCancelled,
        RunConflict,
        RunEnded,
        RunFailed,
        RunNotFound,
        RunRefused,
        TemporalUnavailable,
    )
    from gpt_image_runs.client.programs import run_and_exit
    from gpt_image_runs.client.submissions import Submission
    from gpt_image_runs.contracts.batches import BatchOrder, BatchProgress
    from gpt_image_runs.contracts.economy import EconomyOrder, EconomyProgress
    from gpt_image_runs.contracts.names import run_id_for
    from gpt_image_runs.contracts.quote import Quote
    from gpt_image_runs.contracts.request import ImageRequest
    from gpt_image_runs.contracts.result import RunResult, RunStatus
    from gpt_image_runs.contracts.submissions import SubmitReceipt

__all__ = [
    "BatchConflict",
    "BatchFailed",
    "BatchNotFound",
    "BatchOrder",
    "BatchProgress",
    "BudgetExceeded",
    "Client",
    "ClientError",
    "DecisionRefused",
    "EconomyOrder",
    "EconomyProgress",
    "ImageRequest",
    "ImageUnavailable",
    "NoAnswer",
    "Quote",
    "RunCancelled",
    "RunConflict",
    "RunEnded",
    "RunFailed",
    "RunNotFound",
    "RunRefused",
    "RunResult",
    "RunStatus",
    "StartedBatch",
    "Submission",
    "SubmitReceipt",
    "TemporalUnavailable",
    "run_and_exit",
    "run_id_for",
]

_NAMES = {
    "client.batches": ("StartedBatch",),
    "client.client": ("Client",),
    "client.errors": (
        "BatchConflict",
        "BatchFailed",
        "BatchNotFound",
        "BudgetExceeded",
        "ClientError",
        "DecisionRefused",
        "ImageUnavailable",
        "NoAnswer",
        "RunCancelled",
        "RunConflict",
        "RunEnded",
        "RunFailed",
        "RunNotFound",
        "RunRefused",
        "TemporalUnavailable",
    ),
    "client.programs": ("run_and_exit",),
    "client.submissions": ("Submission",),
    "contracts.batches": ("BatchOrder", "BatchProgress"),
    "contracts.economy": ("EconomyOrder", "EconomyProgress"),
    "contracts.names": ("run_id_for",),
    "contracts.quote": ("Quote",),
    "contracts.request": ("ImageRequest",),
    "contracts.result": ("RunResult", "RunStatus"),
    "contracts.submissions": ("SubmitReceipt",),
}
_MODULES = {name: module for module, names in _NAMES.items() for name in names}


def __getattr__(name: str) -> Any:
    """Import a public name from its module.

    Raises:
        AttributeError: the package has no such name.
    """
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"gpt_image_runs.{_MODULES[name]}"), name)
