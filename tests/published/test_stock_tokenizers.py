"""Published tokenizers, read by stock runtimes from a bundle's files as transformers reads them.

What is left are traits of these releases; each is counted here, so that the table of known
differences stays true.
"""

import json
import sysconfig
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import pytest

pytest.importorskip("pytorch_tokenizers")
pytest.importorskip("onnxruntime_genai")

from pocketlm.runtime_py.lint import readers
from pocketlm.runtime_py.lint.answering import answers_of
from pocketlm.runtime_py.lint.edge_cases import edge_case_chats, edge_case_texts
from pocketlm.runtime_py.lint.known_differences import explained
from pocketlm.runtime_py.lint.reader import Questions, ReaderOutput
from tests.assets import TOKENIZERS, tokenizer_of
from tests.text_bundles import text_bundle

# A vocabulary of a quarter of a million takes each runtime seconds to load.
FAMILIES = [
    pytest.param(name, marks=() if name == "qwen3" else pytest.mark.assets_heavy)
    for name in TOKENIZERS
]
VERSIONS = {"executorch": "1.5.0", "genai": "0.18.0"}
_PYTHON_FILES = 120
_LARGEST_BYTES = 40_000


@dataclass(frozen=True)
class Read:
    """What one runtime and transformers make of the same texts."""

    expected: Sequence[Sequence[int]]
    answers: ReaderOutput


@cache
def python_files() -> tuple[str, ...]:
    """Return sources of the standard library, as editors show them."""
    folder = Path(sysconfig.get_path("stdlib"))
    paths = [p for p in sorted(folder.glob("*.py")) if 1000 < p.stat().st_size < _LARGEST_BYTES]
    texts = tuple(path.read_text(encoding="utf-8") for path in paths[:_PYTHON_FILES])
    assert len(texts) == _PYTHON_FILES
    return texts


@cache
def texts() -> tuple[str, ...]:
    return (*(text.text for text in edge_case_texts()), *python_files())


@cache
def expected(family: str) -> list[list[int]]:
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(tokenizer_of(family))
    return [tokenizer.encode(text, add_special_tokens=False) for text in texts()]


@cache
def read(family: str, runtime: str) -> Read:
    asked = Questions(texts(), [(chat.messages, chat.variables) for chat in edge_case_chats()])
    answers = answers_of(runtime, text_bundle(tokenizer_of(family)), asked)
    return Read(expected(family), answers)


def differing(family: str, runtime: str) -> list[str]:
    found = read(family, runtime)
    pairs = zip(texts(), found.expected, found.answers.ids, strict=True)
    return [text for text, ids, others in pairs if list(ids) != list(others or ())]


# Texts of each kind that are read otherwise, of edge-case texts and of 120 Python files together.
NAMED: dict[tuple[str, str], dict[str, int]] = {
    ("gemma3", "executorch"): {
        "text that holds U+2581": 1,
        "text that spells a byte token": 1,
    },
    ("gemma3", "genai"): {
        "text with NUL": 2,
        "text that holds U+2581": 1,
        "32 or more spaces in a row": 76,
        "long text without a space or line break": 4,
    },
    ("gemma2", "executorch"): {
        "text that holds U+2581": 1,
        "text that spells a byte token": 1,
    },
    ("gemma2", "genai"): {
        "text with NUL": 2,
        "text that holds U+2581": 1,
        "32 or more spaces in a row": 60,
        "long text without a space or line break": 5,
        "runs of punctuation or carriage returns": 38,
    },
    ("qwen3", "executorch"): {"text that is not NFC": 13},
    ("qwen3", "genai"): {
        "text that is not NFC": 13,
        "text with NUL": 2,
        "line breaks between white space": 6,
    },
}


@pytest.mark.parametrize(
    ("family", "runtime"),
    [
        pytest.param(*key, marks=() if key[0] == "qwen3" else pytest.mark.assets_heavy)
        for key in NAMED
    ],
)
def test_ids_equal_transformers_but_for_named_differences(family: str, runtime: str) -> None:
    kinds: Counter[str] = Counter()
    for text in differing(family, runtime):
        row = explained(readers.load(runtime).known, VERSIONS[runtime], "text", text)
        kinds[row.kind if row else f"not explained: {text[:60]!a}"] += 1
    assert kinds == NAMED[family, runtime]


@pytest.mark.parametrize("family", FAMILIES)
def test_host_s_ids_equal_transformers(family: str) -> None:
    assert differing(family, "pocketlm") == []


@pytest.mark.parametrize("family", FAMILIES)
def test_executorch_reads_every_python_file_as_transformers_does(family: str) -> None:
    assert not set(differing(family, "executorch")) & set(python_files())


@pytest.mark.parametrize("family", FAMILIES)
def test_genai_prints_what_the_host_prints(family: str) -> None:
    theirs, ours = read(family, "genai").answers, read(family, "pocketlm").answers
    control = {text.text for text in edge_case_texts() if text.kind == "control tokens"}
    for i, text in enumerate(texts()):
        # Other ids are the test above's; runners leave out other control tokens than the host.
        if text not in control and theirs.ids[i] == ours.ids[i]:
            assert theirs.decoded[i] == ours.decoded[i]


@pytest.mark.parametrize("family", FAMILIES)
def test_genai_renders_every_chat_as_the_host_does_but_for_named_ones(family: str) -> None:
    chats = edge_case_chats()
    assert len(chats) >= 12
    differing_kinds, known = [], readers.load("genai").known
    ours, theirs = read(family, "pocketlm").answers.chats, read(family, "genai").answers.chats
    for chat, expected_text, found in zip(chats, ours, theirs, strict=True):
        if expected_text is not None and found != expected_text:
            asked = json.dumps([chat.messages, chat.variables], ensure_ascii=False)
            assert explained(known, VERSIONS["genai"], "chat", asked), chat.kind
            differing_kinds.append(chat.kind)
    # Gemma trims messages; Qwen3 reads a variable.
    assert differing_kinds == ["thinking off" if family == "qwen3" else "white space around"]


def test_old_thoughts_leave_the_history_in_genai() -> None:
    bundle = text_bundle(tokenizer_of("qwen3"))
    published = json.loads((bundle / "tokenizer_config.json").read_bytes())
    assert "'</think>' in message.content" in published["chat_template"]
    (rendered,) = [
        text
        for chat, text in zip(edge_case_chats(), read("qwen3", "genai").answers.chats, strict=True)
        if chat.kind == "thought in the history"
    ]
    assert rendered is not None and "It greets." not in rendered
