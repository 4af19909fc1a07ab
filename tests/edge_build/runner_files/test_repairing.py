"""Repairs change what a stock runner misreads, and no id of the `tokenizers` library."""

import json
from pathlib import Path
from typing import Any

import pytest
import tokenizers
from tokenizers import AddedToken

from pocketlm.edge_build.runner_files import repairs
from pocketlm.edge_build.runner_files.repairing import RunnerFiles, write_repaired
from pocketlm.edge_build.runner_files.tokenizer_repair import Tokenizer

SPACE = "\u2581"


def published(**changes: Any) -> dict[str, Any]:
    """Return a small tokenizer of Gemma's kind: runs of spaces are merged, and are added tokens."""
    letters = [SPACE, "a", "b", "\n", "\u00e9", "e", "\u0301"]
    vocabulary = {text: i for i, text in enumerate([*letters, SPACE * 2, SPACE * 4, "<s>"])}
    model = tokenizers.models.BPE(
        vocab=vocabulary,
        merges=[(SPACE, SPACE), (SPACE * 2, SPACE * 2)],
        unk_token="a",
        fuse_unk=True,
    )
    tokenizer = tokenizers.Tokenizer(model)
    tokenizer.normalizer = tokenizers.normalizers.Replace(" ", SPACE)
    runs = [AddedToken(SPACE * length, normalized=False) for length in (2, 4)]
    tokenizer.add_tokens([*runs, AddedToken("<s>", normalized=False, special=True)])
    return {**json.loads(tokenizer.to_str()), **changes}


def repaired(tmp_path: Path, document: dict[str, Any], *names: str) -> tuple[Any, Any]:
    path, out = tmp_path / "tokenizer.json", tmp_path / "out"
    path.write_text(json.dumps(document), encoding="utf-8")
    out.mkdir()
    config = {"added_tokens_decoder": {"7": {"content": SPACE * 2}, "9": {"content": "<s>"}}}
    write_repaired(path, [RunnerFiles(out, config, names or repairs.NAMES)])
    return tuple(json.loads((out / p).read_bytes()) for p in (path.name, "tokenizer_config.json"))


def test_runs_of_spaces_leave_the_added_tokens_and_the_config(tmp_path: Path) -> None:
    tokenizer, config = repaired(tmp_path, published())
    assert [entry["content"] for entry in tokenizer["added_tokens"]] == ["<s>"]
    assert list(config["added_tokens_decoder"]) == ["9"]
    read = tokenizers.Tokenizer.from_str(json.dumps(tokenizer))
    assert read.encode("a    b").tokens == ["a", SPACE * 4, "b"]


def test_a_run_that_merging_does_not_reach_stays_an_added_token(tmp_path: Path) -> None:
    document = published()
    document["model"]["merges"].pop()
    # Text that holds U+2581 itself finds the added token; spaces never did.
    document["normalizer"] = None
    document["pre_tokenizer"] = None
    document["added_tokens"][1]["content"] = "    "
    document["model"]["vocab"]["    "] = document["model"]["vocab"][SPACE * 4]
    tokenizer, _ = repaired(tmp_path, document)
    assert tokenizer["added_tokens"] == document["added_tokens"]


def test_a_special_token_is_never_left_out(tmp_path: Path) -> None:
    document = published()
    for entry in document["added_tokens"]:
        entry["special"] = True
    tokenizer, _ = repaired(tmp_path, document)
    assert tokenizer["added_tokens"] == document["added_tokens"]


@pytest.mark.parametrize(
    ("normalizer", "left"),
    [
        ({"type": "NFC"}, None),
        ({"type": "Sequence", "normalizers": [{"type": "NFC"}]}, None),
        (
            {"type": "Sequence", "normalizers": [{"type": "NFC"}, {"type": "Lowercase"}]},
            {"type": "Sequence", "normalizers": [{"type": "Lowercase"}]},
        ),
        ({"type": "Lowercase"}, {"type": "Lowercase"}),
        (None, None),
    ],
)
def test_nfc_is_left_out_alone_and_in_a_sequence(normalizer: Any, left: Any) -> None:
    files = Tokenizer(published(normalizer=normalizer), {})
    applied = repairs.load("no_nfc").apply(files)
    assert (applied or files).tokenizer["normalizer"] == left


def test_padding_and_truncation_of_training_are_left_out(tmp_path: Path) -> None:
    padding = {
        "strategy": {"Fixed": 8},
        "direction": "Left",
        "pad_to_multiple_of": None,
        "pad_id": 1,
        "pad_type_id": 0,
        "pad_token": "a",
    }
    tokenizer, _ = repaired(tmp_path, published(padding=padding), "no_padding")
    assert tokenizer["padding"] is None


def test_a_tokenizer_that_needs_nothing_is_the_same_without_indentation(tmp_path: Path) -> None:
    document = published(added_tokens=published()["added_tokens"][2:])
    tokenizer, _ = repaired(tmp_path, document)
    assert tokenizer == document


def test_of_several_repairs_one_that_changes_ids_is_left_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def wrong(files: Tokenizer) -> Tokenizer:
        model = {**files.tokenizer["model"], "merges": []}
        return Tokenizer({**files.tokenizer, "model": model}, files.config)

    real = repairs.load
    monkeypatch.setattr(
        repairs,
        "load",
        lambda name: repairs.Repair("", wrong, lambda _: True) if name == "wrong" else real(name),
    )
    tokenizer, _ = repaired(tmp_path, published(), "spaces_as_merges", "wrong")
    assert len(tokenizer["model"]["merges"]) == 2
    assert [entry["content"] for entry in tokenizer["added_tokens"]] == ["<s>"]
