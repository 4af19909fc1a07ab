"""Ports of this machine's own loopback."""

import socket

import pytest

from tests.doubles.ports import bound_socket, free_port


def test_a_free_port_is_none_that_adb_scans() -> None:
    assert free_port() not in range(5555, 5587)


def test_a_bound_port_refuses_until_it_listens_and_again_when_it_does_not() -> None:
    with bound_socket() as bound:
        address = bound.getsockname()
        assert address[0] == "127.0.0.1"
        for _ in range(2):
            with pytest.raises(ConnectionRefusedError):
                socket.create_connection(address, 5)
            bound.listen()
            with socket.create_connection(address, 5), bound.accept()[0]:
                pass
            bound.shutdown(socket.SHUT_RDWR)
            assert bound.getsockname() == address
