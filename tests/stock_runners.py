"""Asks the stock runners of both backends, in a process of their own.

They are slow to import, bring their own logging and write to stdout from C++.
"""

import json
import os
import subprocess
import sys
from typing import Any

_MARK = "answer: "
_ANSWER = f"""
import json, sys
def answer(value):
    print()
    print("{_MARK}" + json.dumps(value))
"""


def ask_stock_runner(script: str, *arguments: object) -> Any:
    """Run a Python script with arguments; return the JSON value that it gives to `answer`.

    ONNX Runtime's attention kernel is the one that our engine asks for: the other adds up in
    another order, which is enough to turn a near tie.
    """
    run = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", _ANSWER + script, *map(str, arguments)],
        env={**os.environ, "ORT_GQA_DISABLE_FLASH_ATTENTION": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.returncode == 0, run.stderr
    line = next(line for line in run.stdout.splitlines() if line.startswith(_MARK))
    return json.loads(line.removeprefix(_MARK))
