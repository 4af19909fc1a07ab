"""What the tokenizers library fails at, and a panic of it, is an error of ours everywhere."""

import ast
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NoReturn

import pytest
import tokenizers
from click.testing import CliRunner

from pocketlm import main
from pocketlm.edge_build.errors import BuildError
from pocketlm.runtime_py.errors import RunError
from pocketlm.runtime_py.tokenizer import Tokenizer
from pocketlm.runtime_py.tokenizer_library import AddedToken, LibraryTokenizer, TokenizerError
from tests.conftest import MakeCheckpoint
from tests.text_variants import read

ROOT = Path(__file__).parents[2]
# It runs in a process of its own, whose end is its message.
# It reads no file of others.
MAKES_ITS_OWN = "models/random_tokenizer.py"
APART = "edge_build/runner_files/repairing.py"
METHODS: dict[str, Any] = {
    "to_text": lambda t: t.to_text(),
    "remove_limits": lambda t: t.remove_limits(),
    "encode": lambda t: t.encode("a"),
    "encode_as_text": lambda t: t.encode_as_text("a"),
    "decode": lambda t: t.decode([1]),
    "token_to_id": lambda t: t.token_to_id("a"),
    "id_to_token": lambda t: t.id_to_token(1),
    "vocabulary": lambda t: t.vocabulary(),
    "added_tokens": lambda t: t.added_tokens(),
    "add_tokens": lambda t: t.add_tokens([AddedToken("a")]),
}


class PanicException(BaseException):
    """As pyo3 raises it: no Exception, and of a class that cannot be imported."""


class Failing:
    """A tokenizer of the library that fails whatever is asked of it."""

    padding = truncation = None

    def __init__(self, error: BaseException) -> None:
        self.error = error

    def __getattr__(self, name: str) -> Any:
        def fail(*arguments: object, **options: object) -> NoReturn:
            raise self.error

        return fail


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("kind", [PanicException, Exception])
def test_what_the_library_fails_at_is_told_with_the_file(
    method: str, kind: type[BaseException]
) -> None:
    failing: Any = Failing(kind("no entry\nfound"))
    with pytest.raises(TokenizerError) as caught:
        METHODS[method](LibraryTokenizer(failing, "some/tokenizer.json"))
    told = str(caught.value)
    assert told.startswith("some/tokenizer.json: cannot be ")
    assert told.endswith("fails (no entry); take the file that was published with the weights")


@pytest.mark.parametrize("token_id", [-1, 2**32 - 1, 2**32, 10**12, 10**310])
def test_an_id_that_no_tokenizer_has_names_no_token(token_id: int, tokenizer: Tokenizer) -> None:
    assert tokenizer.token(token_id) == f"no token {token_id}"


@pytest.mark.parametrize("error", [KeyboardInterrupt(), SystemExit(), OverflowError(), TypeError()])
def test_what_is_no_fault_of_the_file_passes(error: BaseException) -> None:
    failing: Any = Failing(error)
    with pytest.raises(type(error)):
        LibraryTokenizer(failing).encode("a")


@pytest.mark.parametrize("kind", [PanicException, Exception, ValueError])
def test_a_file_that_the_library_cannot_open_is_told(
    kind: type[BaseException], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    library = SimpleNamespace(Tokenizer=Failing(kind("")))
    monkeypatch.setattr("pocketlm.runtime_py.tokenizer_library.tokenizers", library)
    for open_it in (
        lambda: LibraryTokenizer.from_file(tmp_path / "tokenizer.json"),
        lambda: LibraryTokenizer.from_text("{}"),
    ):
        with pytest.raises(TokenizerError, match=rf"read as a tokenizer \({kind.__name__}\); copy"):
            open_it()


class PanicsLater:
    """The library with files that open, and then fail."""

    class Tokenizer:
        @staticmethod
        def from_str(text: str) -> Failing:
            tokenizers.Tokenizer.from_str(text)
            return Failing(PanicException("no entry found for key"))


@pytest.fixture
def panicking(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pocketlm.runtime_py.tokenizer_library.tokenizers", PanicsLater)


@pytest.mark.usefixtures("panicking")
def test_a_build_refuses_a_file_on_which_the_library_panics(
    tiny_checkpoint: MakeCheckpoint, tmp_path: Path
) -> None:
    folder = tiny_checkpoint("gemma3_text")
    with pytest.raises(BuildError, match=r"tokenizer\.json: cannot be used"):
        read(folder)
    command = ["build", str(folder), "--out", str(tmp_path / "out"), "--dry-run"]
    shown = CliRunner().invoke(main, command)
    assert shown.exit_code == 2
    assert shown.stderr.count("\n") == 1


def test_a_run_refuses_a_text_on_which_the_library_panics(
    tokenizer: Tokenizer, monkeypatch: pytest.MonkeyPatch
) -> None:
    failing = Failing(PanicException("index out of bounds"))
    monkeypatch.setattr(tokenizer, "_tokenizer", LibraryTokenizer(failing))  # type: ignore[arg-type]
    for use in (lambda: tokenizer.encode("a"), lambda: tokenizer.decode([1])):
        with pytest.raises(RunError, match="the tokenizers library fails"):
            use()


def test_nothing_else_calls_the_library() -> None:
    importing = [
        path.relative_to(ROOT).as_posix()
        for package in ("models", "edge_build", "runtime_py", "device_tests")
        for path in (ROOT / package).rglob("*.py")
        if _imports_tokenizers(path)
    ]
    assert sorted(importing) == [APART, MAKES_ITS_OWN, "runtime_py/tokenizer_library.py"]


def _imports_tokenizers(path: Path) -> bool:
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        names = [name.name for name in node.names] if isinstance(node, ast.Import) else []
        names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
        if any(name.partition(".")[0] == "tokenizers" for name in names):
            return True
    return False
