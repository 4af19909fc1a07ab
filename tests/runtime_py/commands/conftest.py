"""How commands are run on the fake bundle."""

from typing import Any

import pytest
from click.testing import CliRunner, Result

from tests.runtime_py.commands.program import PROGRAM, Invoke


@pytest.fixture
def invoke(fake_bundle: Any) -> Invoke:
    """Run a command on the fake bundle; its model answers a chat of "hello" with "fine €."."""
    ids = fake_bundle.tokenizer.encode
    chat = "<bos><start_of_turn>user\nhello<end_of_turn>\n<start_of_turn>model\n"
    fake_bundle.model.answers = {
        tuple(ids(chat)): [*ids("fine €."), 5],
        tuple(ids("<bos>hello")): [*ids(" well"), 5],
        tuple(ids("<bos>ab")): [*ids(" cd"), 1],
    }

    def call(command: str, *arguments: str, stdin: str | bytes | None = None) -> Result:
        result = CliRunner().invoke(
            PROGRAM, [command, str(fake_bundle.folder), *arguments], input=stdin
        )
        unexpected = result.exception
        if unexpected is not None and not isinstance(unexpected, SystemExit):
            raise unexpected
        return result

    return call
