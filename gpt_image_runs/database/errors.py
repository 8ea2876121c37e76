"""Errors of the ledger, with messages for people. No message contains a password.

LedgerError
  LedgerUnavailable    not reachable, busy or full: try again later
  LedgerNotReady       reachable, but its schema is not the one that this version needs
  LedgerRefused        the database's own rules refused a change: a defect of the caller
  AttemptMissing       a bill for an attempt that the ledger does not have: it may have been restored from an older copy
  LedgerBehind         the ledger has lost what the image store kept: nothing is spent until somebody says how to go on
  RunConflict          the request id already stands for another request
  AttemptConflict      an attempt already has another outcome
  CorrectionRefused    a correction of a bill that would not be true
  BudgetExceeded       an attempt that its tenant's budget does not allow
  BatchConflict        the batch's id already stands for other lines
"""

from typing import ClassVar


class LedgerError(Exception):
    """Anything that is wrong with the ledger. `retryable`: an activity that fails with it is tried again."""

    retryable: ClassVar[bool] = True


class LedgerUnavailable(LedgerError):
    """The database does not answer, cannot be written to, or its URL is not valid. Trying again may help."""


class LedgerNotReady(LedgerError):
    """The database answers, but has to be migrated first (or this program has to be updated)."""


class LedgerRefused(LedgerError):
    """The database refused a change that breaks its rules. Trying again does not help."""


class AttemptMissing(LedgerError):
    """A bill for an attempt that the ledger does not have."""


class LedgerBehind(LedgerError):
    """The ledger has lost what the image store kept of it. Nothing is spent until somebody says how to go on."""


class RunConflict(LedgerError):
    """A request id that already stands for something else: nothing may be sent for it."""

    retryable = False


class AttemptConflict(LedgerError):
    """An outcome that contradicts the one which an attempt already has."""


class CorrectionRefused(LedgerError):
    """A correction that may not be made, or cannot be yet. Nothing was written."""

    retryable = False


class BudgetExceeded(LedgerError):
    """An attempt that could cost more than its tenant may spend. Nothing was written, and nothing may be sent."""

    retryable = False


class BatchConflict(LedgerError):
    """A batch whose id already stands for other lines, or a round that cannot be: nothing was started."""

    retryable = False
