"""Turn errors of other packages into a command's message. Imported only after a failure."""

import traceback

from temporalio.service import RPCError, RPCStatusCode

from cli.errors import CommandFailed, RequestRefused
from gpt_image_runs.billing.pricing.rate_cards import RateCardError
from gpt_image_runs.client.errors import TemporalUnavailable
from gpt_image_runs.database.errors import LedgerError
from gpt_image_runs.images.backend import StoreFailure
from gpt_image_runs.images.formats import NotAPicture
from gpt_image_runs.images.inputs import InputsRefused
from gpt_image_runs.local_stack.processes import ProcessFailed
from gpt_image_runs.provider.catalog import CatalogError
from gpt_image_runs.settings import SettingsError, load_settings
from gpt_image_runs.temporal.stack_file import StackClaimed

_SENTENCES = (
    SettingsError,
    TemporalUnavailable,
    LedgerError,
    StoreFailure,
    CatalogError,
    RateCardError,
    ProcessFailed,
    StackClaimed,
    NotAPicture,
)
_NOT_LET_IN = (RPCStatusCode.PERMISSION_DENIED, RPCStatusCode.UNAUTHENTICATED)
_GONE = (RPCStatusCode.UNAVAILABLE, RPCStatusCode.DEADLINE_EXCEEDED, RPCStatusCode.CANCELLED)


def explain(error: Exception) -> CommandFailed:
    """Turn an error into the message and exit status of a command."""
    if isinstance(error, InputsRefused):
        return RequestRefused(str(error), error.problems)
    if isinstance(error, RPCError):
        return CommandFailed(_explain_rpc(error))
    if isinstance(error, _SENTENCES):
        return CommandFailed(str(error))
    if isinstance(error, OSError):
        return CommandFailed(
            f"{error.filename or 'What was needed'} cannot be used: {error.strerror or error}."
        )
    return CommandFailed(_describe_defect(error))


def _explain_rpc(error: RPCError) -> str:
    if error.status in _NOT_LET_IN:
        return f"Temporal denied access: {error.message}. Check TEMPORAL_API_KEY, TEMPORAL_TLS_* and TEMPORAL_NAMESPACE."
    if error.status in _GONE:
        return (
            "The Temporal server no longer answers. Runs that were started continue when it is back;"
            " `python starter.py doctor` shows what is reachable."
        )
    return f"Temporal answered {error.status.name}: {error.message.rstrip('.')}."


def _describe_defect(error: Exception) -> str:
    sentence = f"Internal error: {type(error).__name__}: {error}."
    try:
        wanted = load_settings().log_level == "DEBUG"
    except SettingsError:
        wanted = False
    if wanted:
        return f"{sentence}\n{''.join(traceback.format_exception(error))}"
    return f"{sentence} Run again with LOG_LEVEL=DEBUG for a traceback."
