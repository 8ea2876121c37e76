"""Loopback ports: the usual one where it is free, else any free one."""

import socket

LOOPBACK = "127.0.0.1"


def choose_port(preferred: int = 0) -> int:
    """`preferred` if nothing listens there, else a port that the system says is free."""
    for candidate in (preferred, 0):
        with socket.socket() as probe:
            # As servers do: a connection that lingers from the last run does not occupy the port.
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((LOOPBACK, candidate))
            except OSError:
                continue
            return int(probe.getsockname()[1])
    raise OSError("No free port on 127.0.0.1.")
