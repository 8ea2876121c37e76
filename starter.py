"""The command line's front door: `python starter.py COMMAND`, see `--help`. Wiring only; the commands are in `cli/`."""

import os
import sys

from cli.app import main

if __name__ == "__main__":
    status = main(sys.argv[1:])
    sys.stderr.flush()
    # The native runtime of a process that was a Temporal client may crash at interpreter exit and spoil the status.
    os._exit(status)
