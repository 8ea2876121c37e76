"""End a program that uses a Temporal client with a reliable exit status."""

import asyncio
import os
import sys
import traceback
from collections.abc import Coroutine
from typing import Any, NoReturn

from gpt_image_runs.client.errors import ClientError


def run_and_exit(main: Coroutine[Any, Any, int | None]) -> NoReturn:
    """Run `main` and end the process: with its return value (None is 0), or with 1 and the reason on stderr.

    Skips Python's shutdown, in which the SDK's threads may crash a finished process (temporalio/sdk-python#300). Functions
    registered with `atexit` are not called.
    """
    status = 1
    try:
        status = asyncio.run(main) or 0
    except ClientError as error:
        sys.stderr.write(f"{type(error).__name__}: {error}\n")
    except BaseException:  # noqa: BLE001 - whatever ends the program, it ends here
        traceback.print_exc()
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except OSError:
            status = status or 1
    os._exit(status)
