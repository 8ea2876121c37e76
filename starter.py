"""Start the command line: `python starter.py COMMAND`, see `--help`. The commands are in `cli/`."""

import os
import signal
import sys
from pathlib import Path

if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # Ctrl-C during the imports ends without a traceback
    # The number of a closed stream would be given to the next file that is opened, such as the ledger.
    sys.stdin, sys.stdout, sys.stderr = (
        stream or Path(os.devnull).open(mode)  # noqa: SIM115 - open until the process ends
        for stream, mode in ((sys.stdin, "r"), (sys.stdout, "w"), (sys.stderr, "w"))
    )
    from cli.app import main

    signal.signal(signal.SIGINT, signal.default_int_handler)
    # SIGTERM ends a command as Ctrl-C does: servers are stopped, and a message says what keeps running.
    signal.signal(signal.SIGTERM, lambda *_: signal.raise_signal(signal.SIGINT))
    status = main(sys.argv[1:])
    sys.stderr.flush()
    # The native runtime of a process that was a Temporal client may crash at interpreter exit and spoil the status.
    os._exit(status)
