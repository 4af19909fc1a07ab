"""The least server that an adb client takes for a phone that has not allowed it: it asks for a
signature, and then for another, for ever. Everything else of a phone is missing.
"""

import os
import socketserver
import struct
import threading

from tests.doubles.adb_protocol import HEADER, message

_TOKEN, _SIGNATURE = 1, 2  # kinds of AUTH messages
_TOKEN_BYTES = 20


class AuthStub:
    """A context in which a device answers that never authorizes anybody.

    Attributes:
        serial: what adb connects to.
    """

    def __init__(self) -> None:
        self._server = _Server(("127.0.0.1", 0), _Phone)
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,))
        self.serial = f"127.0.0.1:{self._server.server_address[1]}"

    def __enter__(self) -> "AuthStub":
        self._thread.start()
        return self

    def __exit__(self, *ended: object) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()


class _Server(socketserver.ThreadingTCPServer):
    daemon_threads = True
    block_on_close = False


class _Phone(socketserver.BaseRequestHandler):
    def handle(self) -> None:
        stream = self.request.makefile("rb")
        try:
            while header := stream.read(HEADER.size):
                command, argument, _, length, _, _ = HEADER.unpack(header)
                stream.read(length)
                # A public key is what the user would be asked about, and is left unanswered.
                if command == b"CNXN" or (command == b"AUTH" and argument == _SIGNATURE):
                    self.request.sendall(message(b"AUTH", _TOKEN, 0, os.urandom(_TOKEN_BYTES)))
        except (OSError, struct.error):
            return  # the client went away
