"""The tokenizers of random-weight checkpoints, with the real special tokens and templates."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import jinja2
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jinja2.sandbox import ImmutableSandboxedEnvironment
from tokenizers import Tokenizer

from pocketlm.models import shapes
from pocketlm.models.config import ModelConfig
from pocketlm.models.errors import ModelError
from pocketlm.models.random_tokenizer import write_tokenizer

# Large vocabularies take seconds to load, so Gemma 2 stands here with a small one.
VOCABULARIES = {"gemma-2-2b": 4096, "gemma-3-4b": 262_208, "qwen3-0.6b": 151_936}
SHAPES = list(VOCABULARIES)
SYSTEM = {"role": "system", "content": " Be brief. "}
ASK = {"role": "user", "content": " Hi "}
ANSWER = {"role": "assistant", "content": "<think>\nwell\n</think>\n\nHello"}


def written(folder: Path, model_type: str, config: ModelConfig) -> Tokenizer:
    write_tokenizer(folder, model_type, config)
    return Tokenizer.from_file(str(folder / "tokenizer.json"))


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    made = {}
    for name in SHAPES:
        made[name] = tmp_path_factory.mktemp(name)
        shape = shapes.load(name)
        config = replace(shape.config, vocab_size=VOCABULARIES[name])
        write_tokenizer(made[name], shape.model_type, config)
    return made


@pytest.fixture(scope="module")
def tokenizers(folders: dict[str, Path]) -> dict[str, Tokenizer]:
    return {
        name: Tokenizer.from_file(str(folder / "tokenizer.json"))
        for name, folder in folders.items()
    }


def render(folder: Path, messages: list[dict[str, Any]], **options: Any) -> str:
    def refuse(reason: str) -> None:
        raise jinja2.TemplateError(reason)

    environment = ImmutableSandboxedEnvironment(trim_blocks=True, lstrip_blocks=True)
    environment.globals["raise_exception"] = refuse
    template = environment.from_string((folder / "chat_template.jinja").read_text())
    return template.render(
        messages=messages, bos_token="<bos>", **{"add_generation_prompt": True, **options}
    )


@pytest.mark.parametrize(
    ("name", "ids"),
    [
        ("gemma-2-2b", {"<pad>": 0, "<eos>": 1, "<bos>": 2, "<start_of_turn>": 106}),
        ("gemma-2-2b", {"<end_of_turn>": 107, "\n": 108, "\n\n": 109}),
        ("gemma-3-4b", {"<pad>": 0, "<eos>": 1, "<bos>": 2, "<unk>": 3, "<mask>": 4}),
        ("gemma-3-4b", {"<start_of_turn>": 105, "<end_of_turn>": 106, "\n\n": 108}),
        ("gemma-3-4b", {"<start_of_image>": 255_999, "<image_soft_token>": 262_144}),
        ("qwen3-0.6b", {"<|endoftext|>": 151_643, "<|im_start|>": 151_644}),
        ("qwen3-0.6b", {"<|im_end|>": 151_645, "<think>": 151_667, "</think>": 151_668}),
    ],
)
def test_special_tokens_have_their_published_ids(
    name: str, ids: dict[str, int], tokenizers: dict[str, Tokenizer]
) -> None:
    for token, number in ids.items():
        assert tokenizers[name].token_to_id(token) == number
        assert number in tokenizers[name].encode(f"a{token}b").ids


@pytest.mark.parametrize("name", SHAPES)
def test_ids_are_dense_and_within_the_models_vocabulary(
    name: str, tokenizers: dict[str, Tokenizer]
) -> None:
    ids = sorted(tokenizers[name].get_vocab().values())
    assert ids == list(range(len(ids)))
    assert len(ids) <= VOCABULARIES[name]


@pytest.mark.parametrize("name", SHAPES)
@given(text=st.text(alphabet=st.characters(exclude_categories=["Cs"])))
@settings(deadline=None)
def test_any_text_survives_encoding_and_decoding(
    name: str, text: str, tokenizers: dict[str, Tokenizer]
) -> None:
    tokenizer = tokenizers[name]
    if "gemma" in name:
        text = text.replace("▁", " ")  # the spelling of a space, as in the real tokenizer
    else:
        text = tokenizer.normalizer.normalize_str(text)
    ids = tokenizer.encode(text, add_special_tokens=False).ids
    assert tokenizer.decode(ids, skip_special_tokens=False) == text


@pytest.mark.parametrize("name", SHAPES)
def test_merges_shorten_english(name: str, tokenizers: dict[str, Tokenizer]) -> None:
    text = "The quick brown fox jumps over the lazy dog and reads the documentation"
    ids = tokenizers[name].encode(text, add_special_tokens=False).ids
    assert len(ids) < 0.6 * len(text)


@pytest.mark.parametrize(
    ("name", "stops"),
    [
        ("gemma-2-2b", [1, 107]),
        ("gemma-3-4b", [1, 106]),
        ("qwen3-0.6b", [151_645, 151_643]),
    ],
)
def test_stop_ids_are_the_published_ones(
    name: str, stops: list[int], folders: dict[str, Path]
) -> None:
    defaults = json.loads((folders[name] / "generation_config.json").read_text())
    assert defaults["eos_token_id"] == stops
    assert (defaults["top_p"], defaults["do_sample"]) == (0.95, True)


def test_gemma_adds_its_first_token_and_qwen_none(tokenizers: dict[str, Tokenizer]) -> None:
    assert tokenizers["gemma-3-4b"].encode("a").ids[0] == 2
    assert len(tokenizers["qwen3-0.6b"].encode("a").ids) == 1


@pytest.mark.parametrize("name", ["gemma-2-2b", "gemma-3-1b", "qwen3-0.6b"])
def test_transformers_loads_them(name: str, tmp_path: Path) -> None:
    transformers = pytest.importorskip("transformers")
    shape = shapes.load(name)
    ours = written(tmp_path, shape.model_type, replace(shape.config, vocab_size=1024))
    (tmp_path / "config.json").write_text(json.dumps(dict(shape.published)))
    theirs = transformers.AutoTokenizer.from_pretrained(tmp_path)
    assert len(theirs) == ours.get_vocab_size()
    assert theirs("hello there").input_ids == ours.encode("hello there").ids
    rendered = theirs.apply_chat_template([ASK], tokenize=False, add_generation_prompt=True)
    assert rendered == render(tmp_path, [ASK])


def test_gemma_folds_the_system_message_into_the_first_turn(folders: dict[str, Path]) -> None:
    assert render(folders["gemma-3-4b"], [SYSTEM, ASK]) == (
        "<bos><start_of_turn>user\nBe brief.\n\nHi<end_of_turn>\n<start_of_turn>model\n"
    )


def test_gemma_renders_the_assistant_as_the_model(folders: dict[str, Path]) -> None:
    turns = [ASK, {"role": "assistant", "content": "Hello"}]
    assert render(folders["gemma-3-4b"], turns, add_generation_prompt=False) == (
        "<bos><start_of_turn>user\nHi<end_of_turn>\n<start_of_turn>model\nHello<end_of_turn>\n"
    )


def test_gemma_takes_text_parts(folders: dict[str, Path]) -> None:
    parts = [{"type": "text", "text": "Hi"}]
    spelled_out = [{"role": "system", "content": parts}, {"role": "user", "content": parts}]
    assert "user\nHi\n\nHi<end_of_turn>" in render(folders["gemma-3-4b"], spelled_out)


@pytest.mark.parametrize(
    "messages", [[ASK, ASK], [ANSWER], [SYSTEM, ANSWER], [ASK, ANSWER, ANSWER], [ASK, SYSTEM]]
)
def test_gemma_refuses_roles_that_do_not_alternate(
    messages: list[dict[str, Any]], folders: dict[str, Path]
) -> None:
    with pytest.raises(jinja2.TemplateError, match="must alternate"):
        render(folders["gemma-3-4b"], messages)


def test_qwen3_thinks_unless_told_not_to(folders: dict[str, Path]) -> None:
    folder = folders["qwen3-0.6b"]
    opened = "<|im_start|>user\n Hi <|im_end|>\n<|im_start|>assistant\n"
    assert render(folder, [ASK]) == opened
    assert render(folder, [ASK], enable_thinking=True) == opened
    assert render(folder, [ASK], enable_thinking=False) == f"{opened}<think>\n\n</think>\n\n"


def test_qwen3_has_a_system_turn_and_no_default_one(folders: dict[str, Path]) -> None:
    assert render(folders["qwen3-0.6b"], [SYSTEM, ASK]).startswith(
        "<|im_start|>system\n Be brief. <|im_end|>\n<|im_start|>user\n"
    )


def test_qwen3_drops_old_thoughts_and_keeps_those_of_the_last_question(
    folders: dict[str, Path],
) -> None:
    rendered = render(folders["qwen3-0.6b"], [ASK, ANSWER, ASK, ANSWER])
    assert rendered.count("<|im_start|>assistant\nHello<|im_end|>") == 1
    assert rendered.count("<think>\nwell\n</think>\n\nHello<|im_end|>") == 1


@pytest.mark.parametrize("name", ["gemma-3-1b", "qwen3-0.6b"])
def test_a_small_vocabulary_keeps_the_special_tokens(name: str, tmp_path: Path) -> None:
    published = {**shapes.load(name).published, "vocab_size": 512}
    shape = shapes.shape_of("small", published)
    tokenizer = written(tmp_path, shape.model_type, shape.config)
    assert max(tokenizer.get_vocab().values()) < 512
    defaults = json.loads((tmp_path / "generation_config.json").read_text())
    tokens = [tokenizer.id_to_token(number) for number in defaults["eos_token_id"]]
    assert tokens in (["<eos>", "<end_of_turn>"], ["<|im_end|>", "<|endoftext|>"])
    text = "Grüße 🙂\n\nab"
    assert tokenizer.decode(tokenizer.encode(text).ids) == text


def test_a_vocabulary_without_room_for_bytes_is_refused(tmp_path: Path) -> None:
    published = {**shapes.load("gemma-3-1b").published, "vocab_size": 97}
    shape = shapes.shape_of("tiny", published)
    with pytest.raises(ModelError, match="vocab_size=97: a tokenizer with a token for every byte"):
        write_tokenizer(tmp_path, shape.model_type, shape.config)
