"""Runs Python scripts in processes that are forked from one which has imported what they need.

A script starts in milliseconds instead of a second. It has a process, streams and limits of its
own, as with subprocess.run, whose place `ForkedPython.run` takes. Used as a program, this module is
the process that forks.
"""

import json
import os
import resource
import runpy
import subprocess
import sys
import traceback
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import import_module
from threading import Lock
from typing import IO, Any

# A script that never ends must not stop the whole run.
_MOST_S = 60
# Few requests come again, those of sound templates, and they come early.
_MOST_KNOWN = 256


@dataclass(frozen=True)
class _Answer:
    """How a script ended; `processor_s` is its own and its children's."""

    returncode: int
    stdout: bytes
    stderr: bytes
    processor_s: float


class ForkedPython:
    """A process with modules imported, and what its forks used.

    Attributes:
        processor_s: processor time of every script so far.
    """

    TimeoutExpired = subprocess.TimeoutExpired
    DEVNULL = subprocess.DEVNULL

    def __init__(self, *modules: str) -> None:
        self.processor_s = 0.0
        self._lock = Lock()
        self._known: dict[tuple[tuple[str, ...], bytes], _Answer] = {}
        self._process = subprocess.Popen(
            [sys.executable, "-m", __name__, *modules],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )

    def __enter__(self) -> "ForkedPython":
        return self

    def __exit__(self, *ended: object) -> None:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.close()
        self._process.stdout.close()
        self._process.wait()

    def run(
        self, arguments: Sequence[str], input: bytes = b"", **options: Any
    ) -> subprocess.CompletedProcess[bytes]:
        """Run [python, script or "-m" module, arguments], as subprocess.run does.

        Args:
            options: what else subprocess.run takes; output is always captured.
        """
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        words = tuple(word for word in arguments[1:] if word != "-P")
        with self._lock:
            answer = self._known.get((words, input))
            if answer is None:
                _send(self._process.stdin, [*words, _text(input)])
                code, out, error, processor_s = json.loads(self._process.stdout.readline())
                answer = _Answer(code, _bytes(out), _bytes(error), processor_s)
                self.processor_s += answer.processor_s
            if input and len(self._known) < _MOST_KNOWN:
                # A renderer's answer depends on what it is given alone.
                self._known[words, input] = answer
        return subprocess.CompletedProcess(
            arguments, answer.returncode, answer.stdout, answer.stderr
        )


def _serve(modules: Sequence[str]) -> None:
    for name in modules:
        import_module(name)
    for line in sys.stdin.buffer:
        *words, given = json.loads(line)
        answer = _answer(words, _bytes(given))
        out, error = _text(answer.stdout), _text(answer.stderr)
        _send(sys.stdout.buffer, [answer.returncode, out, error, answer.processor_s])


def _send(stream: IO[bytes], message: list[Any]) -> None:
    """Write a message, a line of JSON."""
    stream.write(json.dumps(message).encode() + b"\n")
    stream.flush()


def _text(data: bytes) -> str:
    """Return a character for each byte, as JSON can hold it."""
    return data.decode("latin-1")


def _bytes(text: str) -> bytes:
    return text.encode("latin-1")


def _answer(words: Sequence[str], given: bytes) -> _Answer:
    streams = [os.memfd_create(name) for name in ("stdin", "stdout", "stderr")]
    try:
        with os.fdopen(os.dup(streams[0]), "wb") as file:
            file.write(given)
        os.lseek(streams[0], 0, os.SEEK_SET)
        child = os.fork()
        if child == 0:
            for number, stream in enumerate(streams):
                os.dup2(stream, number)
            os._exit(_run(words))
        _, status, used = os.wait4(child, 0)
        written = [_read(stream) for stream in streams[1:]]
    finally:
        for stream in streams:
            os.close(stream)
    code = os.waitstatus_to_exitcode(status)
    return _Answer(code, written[0], written[1], used.ru_utime + used.ru_stime)


def _read(stream: int) -> bytes:
    os.lseek(stream, 0, os.SEEK_SET)
    with os.fdopen(os.dup(stream), "rb") as file:
        return file.read()


def _run(words: Sequence[str]) -> int:
    """Run a script in this process, and return its exit code."""
    resource.setrlimit(resource.RLIMIT_CPU, (_MOST_S, _MOST_S))
    try:
        if words[0] == "-m":
            sys.argv = [*words[1:]]
            runpy.run_module(words[1], run_name="__main__", alter_sys=True)
        else:
            sys.argv = [*words]
            runpy.run_path(words[0], run_name="__main__")
        status = 0
    except SystemExit as end:
        status = end.code if isinstance(end.code, int) else int(end.code is not None)
    except BaseException:
        traceback.print_exc()
        status = 1
    sys.stdout.flush()
    sys.stderr.flush()
    return status


if __name__ == "__main__":
    _serve(sys.argv[1:])
