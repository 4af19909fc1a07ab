"""The first process of a qemu-user double: makes its small world and runs one daemon there.

A program of its own, started by `namespace.py`, in namespaces of users, mounts, processes and
network. The network has nothing but its own loopback; the one way in is a listening socket that
was opened outside and that this process relays to the daemon. When its input ends, whatever ended
the parent, it ends, and with it the kernel ends every process in here. Needs the standard library
alone.

Input: one JSON line that is a `World`, then one command a line; each is answered by one line.
"""

import asyncio
import contextlib
import json
import os
import signal
import socket
import sys

from tests.doubles.world import Mount, World, become_root, clear, make, unshare

_CHUNK_BYTES = 1 << 18


def main(listener_fd: int) -> None:
    """Unshare, wait until the parent has mapped the users, and become the first process."""
    unshare()
    _answer("unshared")
    world = _read_world(sys.stdin.readline())
    child = os.fork()
    if child:
        os.close(listener_fd)
        # The child reads the same input, and ends when that does.
        _, status = os.waitpid(child, 0)
        os._exit(os.waitstatus_to_exitcode(status) & 0xFF)
    become_root()
    make(world)
    asyncio.run(_Daemon(world, socket.socket(fileno=listener_fd)).serve())
    clear(world)
    # Not by way of Python's own end: nothing here is worth waiting for.
    os._exit(0)


class _Daemon:
    """Runs the daemon, relays to it, and does what the parent says."""

    def __init__(self, world: World, listener: socket.socket) -> None:
        self._world = world
        self._listener = listener
        self._listener.setblocking(False)
        self._listener.set_inheritable(False)
        self._pid: int | None = None
        self._exited = asyncio.Event()
        self._relays: set[asyncio.Task[None]] = set()

    async def serve(self) -> None:
        loop = asyncio.get_running_loop()
        loop.add_signal_handler(signal.SIGCHLD, self._reap)
        reader = asyncio.StreamReader()
        await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
        _answer("made")
        while command := (await reader.readline()).decode().strip():
            try:
                await self._obey(command)
            except OSError as error:
                _answer(f"failed: {error or type(error).__name__}")
            else:
                _answer("done")

    async def _obey(self, command: str) -> None:
        if command == "start" and self._pid is None:
            await self._start()
        elif command == "kill" and self._pid is not None:
            os.kill(self._pid, signal.SIGKILL)
            await asyncio.wait_for(self._exited.wait(), 10)
            await self._cut()
        elif command == "freeze" and self._pid is not None:
            os.kill(-1, signal.SIGSTOP)  # all in here but this one
        elif command == "resume" and self._pid is not None:
            os.kill(-1, signal.SIGCONT)
        else:
            raise OSError(f"cannot {command} now")

    async def _start(self) -> None:
        self._exited.clear()
        self._pid = os.fork()
        if not self._pid:
            self._become_daemon()
        async with asyncio.timeout(20):
            while self._pid is not None:
                with contextlib.suppress(OSError):
                    (await self._connect()).close()
                    break
                await asyncio.sleep(0.02)
            else:
                raise OSError("the daemon ended at once")
        self._listener.listen()
        asyncio.get_running_loop().add_reader(self._listener, self._accept)

    def _become_daemon(self) -> None:
        try:
            os.setsid()
            signal.signal(signal.SIGPIPE, signal.SIG_DFL)  # Python ignores it, and exec keeps that
            null = os.open("/dev/null", os.O_RDONLY)
            os.dup2(null, 0)
            os.dup2(2, 1)
            os.chroot(self._world.root)
            os.chdir("/")
            os.setgroups([])
            os.setresgid(self._world.uid, self._world.uid, self._world.uid)
            os.setresuid(self._world.uid, self._world.uid, self._world.uid)
            os.umask(0)
            os.execve(self._world.command[0], self._world.command, self._world.env)
        except OSError as error:
            os.write(2, f"{self._world.command[0]}: {error}\n".encode())
        finally:
            os._exit(127)

    def _refuse(self) -> None:
        """Let the port be as closed as a device's whose daemon is gone."""
        # Only while it listens: shut down twice, it would hand out connections that are shut down.
        if asyncio.get_running_loop().remove_reader(self._listener):
            self._listener.shutdown(socket.SHUT_RDWR)

    def _reap(self) -> None:
        with contextlib.suppress(ChildProcessError):
            while (pid := os.waitpid(-1, os.WNOHANG)[0]) != 0:
                if pid == self._pid:
                    self._pid = None
                    self._refuse()
                    self._exited.set()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            client, _ = self._listener.accept()
            task = asyncio.get_running_loop().create_task(self._relay(client))
            self._relays.add(task)
            task.add_done_callback(self._relays.discard)

    async def _cut(self) -> None:
        """End every connection: those of sshd have processes of their own, which outlive it."""
        relays = tuple(self._relays)
        for relay in relays:
            relay.cancel()
        await asyncio.gather(*relays, return_exceptions=True)

    async def _connect(self) -> socket.socket:
        server = socket.socket()
        server.setblocking(False)
        try:
            await asyncio.get_running_loop().sock_connect(server, ("127.0.0.1", self._world.port))
        except OSError:
            server.close()
            raise
        return server

    async def _relay(self, client: socket.socket) -> None:
        client.setblocking(False)
        with client, contextlib.suppress(OSError), await self._connect() as server:
            for end in (client, server):
                end.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            pumps = [asyncio.ensure_future(_pump(client, server)),
                     asyncio.ensure_future(_pump(server, client))]  # fmt: skip
            try:
                await asyncio.wait(pumps, return_when=asyncio.FIRST_COMPLETED)
            finally:
                for pump in pumps:
                    pump.cancel()
                # Both have let go of the sockets before those are closed.
                await asyncio.gather(*pumps, return_exceptions=True)


async def _pump(source: socket.socket, sink: socket.socket) -> None:
    loop = asyncio.get_running_loop()
    buffer = memoryview(bytearray(_CHUNK_BYTES))
    while count := await loop.sock_recv_into(source, buffer):
        await loop.sock_sendall(sink, buffer[:count])


def _read_world(line: str) -> World:
    document = json.loads(line)
    document["mounts"] = tuple(Mount(**entry) for entry in document["mounts"])
    return World(**document)


def _answer(text: str) -> None:
    os.write(1, f"{text}\n".encode())


if __name__ == "__main__":
    main(int(sys.argv[1]))
