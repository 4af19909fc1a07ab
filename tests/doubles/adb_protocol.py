"""The few messages of adb's own protocol that the doubles need.

https://android.googlesource.com/platform/packages/modules/adb/+/refs/heads/main/protocol.txt
"""

import socket
import struct

HEADER = struct.Struct("<4s5I")  # command, two arguments, length and sum of the data, magic
_VERSION, _LARGEST_BYTES = 0x01000000, 4096


def message(command: bytes, argument: int, other: int, data: bytes) -> bytes:
    """Return one message."""
    magic = int.from_bytes(command, "little") ^ 0xFFFFFFFF
    return HEADER.pack(command, argument, other, len(data), sum(data), magic) + data


def daemon_answers(port: int, timeout_s: float) -> bool:
    """Whether an adbd behind a port of 127.0.0.1 answers a greeting in time."""
    try:
        with socket.create_connection(("127.0.0.1", port), timeout_s) as connection:
            connection.settimeout(timeout_s)
            connection.sendall(message(b"CNXN", _VERSION, _LARGEST_BYTES, b"host::\0"))
            return connection.recv(4) == b"CNXN"
    except OSError:
        return False
