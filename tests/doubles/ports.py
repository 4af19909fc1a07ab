"""TCP ports of this machine's own loopback for the doubles."""

import socket

# An adb server looks for emulators here by itself.
_SCANNED_BY_ADB = range(5555, 5587)


def bound_socket() -> socket.socket:
    """Return a socket that has a free port of 127.0.0.1 and does not listen yet.

    The port was asked for by its number, so that it stays when the socket stops listening.
    """
    while True:
        port = free_port()
        bound = socket.socket()
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            bound.bind(("127.0.0.1", port))
        except OSError:
            bound.close()
        else:
            return bound


def free_port() -> int:
    """Return a port that nobody had a moment ago."""
    while True:
        with socket.create_server(("127.0.0.1", 0)) as probe:
            port: int = probe.getsockname()[1]
        if port not in _SCANNED_BY_ADB:
            return port
