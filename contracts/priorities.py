"""Which runs go first where runs wait: Temporal's priority keys, 1 before 5. Fairness between tenants is within a level."""

from typing import Final

FIRST: Final = 1
"""For runs that have begun to take their share of the provider's limit: to finish is before to begin. Start none with it."""
INTERACTIVE: Final = 2
"""Somebody waits for the picture."""
UNSAID: Final = 3
"""What the server takes where a starter says nothing."""
BATCH: Final = 4
"""Many runs that nobody waits for one by one."""
