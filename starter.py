"""The command line's front door: `python starter.py COMMAND`, see `--help`. Wiring only; the commands are in `cli/`."""

import os
import signal
import sys
from pathlib import Path

if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # Ctrl-C while modules are loaded ends without a traceback
    # A stream that is closed would leave its number to the next file that is opened, such as the ledger.
    sys.stdin, sys.stdout, sys.stderr = (
        stream or Path(os.devnull).open(mode)  # noqa: SIM115 - open until the process ends
        for stream, mode in ((sys.stdin, "r"), (sys.stdout, "w"), (sys.stderr, "w"))
    )
    from cli.app import main

    signal.signal(signal.SIGINT, signal.default_int_handler)
    # SIGTERM ends a command as Ctrl-C does: servers are stopped, and a sentence says what goes on.
    signal.signal(signal.SIGTERM, lambda *_: signal.raise_signal(signal.SIGINT))
    status = main(sys.argv[1:])
    sys.stderr.flush()
    # The native runtime of a process that was a Temporal client may crash at interpreter exit and spoil the status.
    os._exit(status)
