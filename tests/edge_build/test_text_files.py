"""Stop ids, BOS and templates as a build reads them."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from pocketlm.edge_build.errors import BuildError
from pocketlm.edge_build.text.checkpoint_files import CheckpointFiles
from pocketlm.edge_build.text_files import TextFiles, read_text_files
from pocketlm.models.checkpoint import open_checkpoint
from pocketlm.models.errors import ModelError


@pytest.fixture
def folder(tmp_path: Path, tiny_checkpoint: Callable[[str], Path]) -> Path:
    return Path(shutil.copytree(tiny_checkpoint("gemma3_text"), tmp_path / "checkpoint"))


def edit(path: Path, **changes: object) -> None:
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


def read(folder: Path) -> TextFiles:
    opened = open_checkpoint(folder)
    return read_text_files(CheckpointFiles.read(folder, opened.config_json), opened.config)


def test_stop_ids_come_from_the_generation_config(folder: Path) -> None:
    edit(folder / "generation_config.json", eos_token_id=[1, 6])
    assert read(folder).stop_ids == (1, 6)


def test_the_end_of_a_turn_is_added_when_the_checkpoint_forgot_it(folder: Path) -> None:
    edit(folder / "generation_config.json", eos_token_id=1)
    text = read(folder)
    assert len(text.stop_ids) == 2
    assert "<end_of_turn> added to the stop ids" in " ".join(text.notes)


def test_config_json_is_asked_when_there_is_no_generation_config(folder: Path) -> None:
    (folder / "generation_config.json").unlink()
    edit(folder / "config.json", eos_token_id=[1, 6])
    assert read(folder).stop_ids == (1, 6)


def test_a_checkpoint_that_never_stops_is_refused(folder: Path) -> None:
    (folder / "generation_config.json").unlink()
    (folder / "chat_template.jinja").unlink()
    edit(folder / "config.json", eos_token_id=None)
    edit(folder / "tokenizer_config.json", eos_token=None)
    with pytest.raises(BuildError, match="would never stop"):
        read(folder)


def test_gemma_prompts_begin_with_bos_and_qwen_prompts_do_not(
    folder: Path, tiny_checkpoint: Callable[[str], Path]
) -> None:
    assert read(folder).bos_id == 2
    assert read(tiny_checkpoint("qwen3")).bos_id is None


def test_a_template_inside_the_tokenizer_config_is_found(folder: Path) -> None:
    (folder / "chat_template.jinja").unlink()
    edit(folder / "tokenizer_config.json", chat_template="{{ bos_token }}hi")
    assert read(folder).chat_template == "{{ bos_token }}hi"


def test_special_tokens_beyond_the_model_are_tolerated_and_noted(folder: Path) -> None:
    path = folder / "tokenizer.json"
    document = json.loads(path.read_text())
    document["added_tokens"].append(
        {
            "id": 512, "content": "<image_soft_token>", "single_word": False, "lstrip": False,
            "rstrip": False, "normalized": False, "special": True,
        }
    )  # fmt: skip
    path.write_text(json.dumps(document))
    text = read(folder)
    assert text.tokenizer_size == 512
    assert "<image_soft_token>" in " ".join(text.notes)


def test_a_sentencepiece_file_alone_is_not_enough(folder: Path) -> None:
    (folder / "tokenizer.json").rename(folder / "tokenizer.model")
    with pytest.raises(BuildError, match=r"tokenizer\.model but no tokenizer\.json"):
        read(folder)


def test_no_tokenizer_at_all_is_named(folder: Path) -> None:
    (folder / "tokenizer.json").unlink()
    with pytest.raises(ModelError, match="tokenizer"):
        read(folder)


def test_broken_json_is_named(folder: Path) -> None:
    (folder / "generation_config.json").write_text("{")
    with pytest.raises(BuildError, match=r"generation_config\.json: cannot be read as JSON"):
        read(folder)


def test_files_are_copied_and_a_generation_config_is_made(folder: Path, tmp_path: Path) -> None:
    edit(folder / "config.json", eos_token_id=[1, 6])
    (folder / "generation_config.json").unlink()
    bundle = tmp_path / "bundle"
    bundle.mkdir()
    read(folder).copy_to(bundle)
    assert json.loads((bundle / "generation_config.json").read_text())["eos_token_id"] == [1, 6]
    assert (bundle / "tokenizer.json").read_bytes() == (folder / "tokenizer.json").read_bytes()
