"""docs/architecture.md names files that are there, and answers what newcomers ask first."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
FOLDERS = (
    "models|edge_build|runtime_py|device_tests|evaluation|training|advisor|pocketlm|tests|benchmarks"
    "|docs|tools"
)


def test_every_path_that_it_names_exists() -> None:
    # `models/families/<model_type>.py` is a pattern, no path.
    named = set(re.findall(rf"`((?:{FOLDERS})/[\w./-]*)`", PAGE))
    assert len(named) > 40
    assert sorted(path for path in named if not (ROOT / path).exists()) == []


@pytest.mark.parametrize(
    ("question", "text"),
    [
        ("ring buffer overwrite", "return position % self.capacity|= position % self.capacity"),
        ("activations of an ONNX bundle", "def activation_bytes"),
        ("quantization recipes", "int4-g32"),
    ],
)
def test_the_file_that_answers_a_question_has_the_answer(question: str, text: str) -> None:
    (row,) = [line for line in PAGE.splitlines() if line.startswith("|") and question in line]
    named = re.findall(r"`([\w./]+\.py)`", row)
    assert len(named) == 1, "one question, one file"
    assert re.search(text, (ROOT / named[0]).read_text(encoding="utf-8"))
