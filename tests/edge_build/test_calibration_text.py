"""The text that a build is calibrated on: what is read of a file, and what is refused."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from pocketlm.edge_build.build_key import build_key
from pocketlm.edge_build.calibration.text import text_sequences
from pocketlm.edge_build.errors import BuildError
from pocketlm.edge_build.preparation import Preparation, prepare
from pocketlm.edge_build.prompts import open_tokenizer
from pocketlm.edge_build.spec import DEFAULT_CALIBRATION_TOKENS, BuildSpec
from tests.conftest import PICO

TEXT = PICO / "README.md"


@pytest.fixture
def prepared(tmp_path: Path) -> Preparation:
    spec = BuildSpec(PICO, tmp_path / "out", backends=("onnx",), kv="int8", context_length=64)
    return prepare(spec)


def test_a_text_is_read_in_sequences_of_the_context(prepared: Preparation) -> None:
    found = text_sequences(TEXT, prepared.text, 64)
    ids = open_tokenizer(prepared.text).encode_prompt(TEXT.read_text(encoding="utf-8"))
    assert all(ids[0] == sequence[0] and len(sequence) <= 64 for sequence in found)
    assert [token for sequence in found for token in sequence[1:]] == ids[1:]


def test_no_more_is_read_of_a_long_text(prepared: Preparation, tmp_path: Path) -> None:
    path = tmp_path / "long.txt"
    path.write_text("one two three " * 20_000)
    found = text_sequences(path, prepared.text, 4096)
    assert sum(len(sequence) - 1 for sequence in found) == DEFAULT_CALIBRATION_TOKENS - 1
    assert max(map(len, found)) == 2048
    more = text_sequences(path, prepared.text, 4096, 20_000)
    assert sum(len(sequence) - 1 for sequence in more) == 20_000 - 1
    assert more[:4] == found[:4]


def test_a_build_reads_as_many_tokens_as_it_is_told(tmp_path: Path) -> None:
    spec = BuildSpec(PICO, tmp_path / "out", method="gptq", calibration_text=TEXT)
    fewer = prepare(replace(spec, calibration_tokens=300))
    assert sum(len(sequence) - 1 for sequence in fewer.calibration) == 300 - 1
    assert build_key(fewer, "sha256") != build_key(prepare(spec), "sha256")
    fewest = prepare(replace(spec, calibration_tokens=256))
    assert sum(len(sequence) - 1 for sequence in fewest.calibration) == 256 - 1


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"caf\xe9 au lait", r"not text in UTF-8 \(byte 3\)"),
        (b"\x7fELF\0\0\0", "holds NUL characters"),
        (b"", "0 tokens; calibration needs 256 or more"),
        (b"three short words", "tokens; calibration needs 256 or more"),
    ],
)
def test_a_file_that_is_no_text_to_calibrate_on_is_refused(
    content: bytes, message: str, tmp_path: Path
) -> None:
    (tmp_path / "file").write_bytes(content)
    spec = BuildSpec(PICO, tmp_path / "out", method="gptq", calibration_text=tmp_path / "file")
    with pytest.raises(BuildError, match=message):
        prepare(spec)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            {"method": "gptq", "recipe": "none", "calibration_text": TEXT},
            "--method gptq: recipe none keeps float32, so there is nothing to choose",
        ),
        ({"method": "gtpq"}, "method gtpq: unknown; did you mean gptq"),
        (
            {"recipe": "int4-g32", "calibration_text": TEXT},
            "no method of this build needs data; add --method gptq",
        ),
        ({"method": "gptq", "calibration_text": Path("no-such")}, "no-such: cannot be read"),
        (
            {"method": "gptq", "calibration_tokens": 4096},
            "--calibration-tokens 4096: are of a text; give it with --calibrate FILE",
        ),
        (
            {"method": "gptq", "calibration_text": TEXT, "calibration_tokens": 255},
            "--calibration-tokens 255: calibration needs 256 or more",
        ),
    ],
)
def test_a_method_and_its_text_come_together(
    options: dict[str, Any], message: str, tmp_path: Path
) -> None:
    with pytest.raises(BuildError, match=message):
        prepare(BuildSpec(PICO, tmp_path / "out", **options))


def test_another_text_and_another_method_are_another_build(tmp_path: Path) -> None:
    (tmp_path / "other.txt").write_text("other words " * 300)
    spec = BuildSpec(PICO, tmp_path / "out", method="gptq", calibration_text=TEXT)
    others = [
        spec,
        replace(spec, calibration_text=tmp_path / "other.txt"),
        replace(spec, method=None, calibration_text=None),
    ]
    keys = {build_key(prepare(one), "sha256") for one in others}
    assert len(keys) == 3


def test_a_context_of_one_token_can_be_calibrated_for(prepared: Preparation) -> None:
    assert {len(sequence) for sequence in text_sequences(TEXT, prepared.text, 1)} == {2}


def test_a_byte_order_mark_is_no_text(prepared: Preparation, tmp_path: Path) -> None:
    path = tmp_path / "bom.txt"
    path.write_bytes(b"\xef\xbb\xbf" + TEXT.read_bytes())
    assert text_sequences(path, prepared.text, 64) == text_sequences(TEXT, prepared.text, 64)
