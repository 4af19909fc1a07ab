"""The embedded checkpoint: complete, small, the same in every tokenizer, and trained."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import jinja2
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer

PICO = Path(__file__).parents[2] / "models" / "pico"
FILES = (
    "README.md",
    "chat_template.jinja",
    "config.json",
    "generation_config.json",
    "held_out.txt",
    "model.safetensors",
    "special_tokens_map.json",
    "tokenizer.json",
    "tokenizer.model",
    "tokenizer_config.json",
)
SPECIAL = {
    "<pad>": 0,
    "<eos>": 1,
    "<bos>": 2,
    "<unk>": 3,
    "<start_of_turn>": 4,
    "<end_of_turn>": 5,
}
# Ordinary text, what the vocabulary was made for, and what only bytes can spell.
ORDINARY = (
    "self",
    "return ",
    "    ",
    "\n",
    "\n\n",
    " ",
    "  ",
    "\t",
    "0123",
    "don't",
    '"""',
    "user\n",
)
RARE = ("é", "🎉", "日本", "e\u0301", "\u00a0", "\u2581", "<", "<0x0A>")
PIECES = st.sampled_from((*ORDINARY, *RARE, "<start_of_turn>", "<end_of_turn>"))
TEXT = st.lists(st.one_of(PIECES, st.text(max_size=8)), max_size=20).map("".join)


def read_json(name: str) -> dict[str, Any]:
    value: dict[str, Any] = json.loads((PICO / name).read_text(encoding="utf-8"))
    return value


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    return Tokenizer.from_file(str(PICO / "tokenizer.json"))


@pytest.fixture(scope="module")
def template() -> jinja2.Template:
    def raise_exception(message: str) -> str:
        raise jinja2.TemplateError(message)

    environment = jinja2.Environment(trim_blocks=True, lstrip_blocks=True)
    environment.globals["raise_exception"] = raise_exception
    return environment.from_string((PICO / "chat_template.jinja").read_text(encoding="utf-8"))


def render(template: jinja2.Template, *turns: tuple[str, str], prompt: bool = True) -> str:
    messages = [{"role": role, "content": content} for role, content in turns]
    return template.render(messages=messages, bos_token="<bos>", add_generation_prompt=prompt)


@pytest.mark.parametrize("name", FILES)
def test_every_file_of_a_checkpoint_is_there(name: str) -> None:
    assert (PICO / name).stat().st_size > 0


def test_the_folder_stays_under_sixteen_megabytes() -> None:
    files = [path for path in PICO.rglob("*") if "__pycache__" not in path.parts]
    assert sum(path.stat().st_size for path in files if path.is_file()) <= 16_000_000


def test_every_linear_dimension_is_a_multiple_of_256() -> None:
    config = read_json("config.json")
    heads, kv_heads = config["num_attention_heads"], config["num_key_value_heads"]
    sizes = [config[key] for key in ("hidden_size", "intermediate_size", "vocab_size")]
    sizes += [heads * config["head_dim"], kv_heads * config["head_dim"]]
    assert [size % 256 for size in sizes] == [0] * len(sizes)


def test_the_layer_types_agree_with_the_pattern() -> None:
    config = read_json("config.json")
    pattern = config["sliding_window_pattern"]
    expected = [
        "sliding_attention" if (layer + 1) % pattern else "full_attention"
        for layer in range(config["num_hidden_layers"])
    ]
    assert config["layer_types"] == expected


def test_the_vocabulary_has_a_row_for_every_token(tokenizer: Tokenizer) -> None:
    assert tokenizer.get_vocab_size() <= read_json("config.json")["vocab_size"] == 4096


def test_special_tokens_have_gemmas_first_ids(tokenizer: Tokenizer) -> None:
    assert {text: tokenizer.token_to_id(text) for text in SPECIAL} == SPECIAL


def test_generation_stops_at_the_end_of_a_turn() -> None:
    stops = read_json("generation_config.json")["eos_token_id"]
    assert stops == [SPECIAL["<eos>"], SPECIAL["<end_of_turn>"]]


def test_encoding_adds_one_bos(tokenizer: Tokenizer) -> None:
    assert tokenizer.encode("import os").ids.count(SPECIAL["<bos>"]) == 1
    assert tokenizer.encode("import os").ids[0] == SPECIAL["<bos>"]


def test_its_trained_model_is_written_as_tokenizer_json() -> None:
    pytest.importorskip("sentencepiece")
    from tools.pico_training.tokenizer import to_tokenizer_json

    written = to_tokenizer_json((PICO / "tokenizer.model").read_bytes())
    assert written.encode("utf-8") == (PICO / "tokenizer.json").read_bytes()


@settings(deadline=None, max_examples=300, derandomize=True, database=None)
@given(text=TEXT)
def test_both_tokenizer_files_give_the_same_ids(tokenizer: Tokenizer, text: str) -> None:
    sentencepiece = pytest.importorskip("sentencepiece")
    processor = sentencepiece.SentencePieceProcessor(str(PICO / "tokenizer.model"))
    assert tokenizer.encode(text, add_special_tokens=False).ids == processor.encode(text)


@settings(deadline=None, max_examples=200, derandomize=True, database=None)
@given(text=TEXT)
def test_decoding_gives_the_text_back(tokenizer: Tokenizer, text: str) -> None:
    # U+2581 stands for a space inside the tokenizer, as in Gemma's own.
    ids = tokenizer.encode(text, add_special_tokens=False).ids
    assert tokenizer.decode(ids, skip_special_tokens=False) == text.replace("\u2581", " ")


@pytest.mark.parametrize("length", range(1, 40))
def test_a_run_of_spaces_takes_one_token_for_every_sixteen(
    tokenizer: Tokenizer, length: int
) -> None:
    ids = tokenizer.encode(" " * length + "x", add_special_tokens=False).ids
    runs = -(-length // 16)
    assert len(ids) in (runs, runs + 1)  # A single last space may belong to the word.


def test_a_chat_renders_as_gemma_renders_it(template: jinja2.Template) -> None:
    turns = [("system", "Be brief. "), ("user", " hi "), ("assistant", "yo"), ("user", "b")]
    assert render(template, *turns) == (
        "<bos><start_of_turn>user\nBe brief.\n\nhi<end_of_turn>\n"
        "<start_of_turn>model\nyo<end_of_turn>\n"
        "<start_of_turn>user\nb<end_of_turn>\n"
        "<start_of_turn>model\n"
    )


def test_without_a_generation_prompt_the_last_turn_ends_the_text(
    template: jinja2.Template,
) -> None:
    rendered = render(template, ("user", "hi"), prompt=False)
    assert rendered == "<bos><start_of_turn>user\nhi<end_of_turn>\n"


@pytest.mark.parametrize(
    "turns",
    [
        [("user", "a"), ("user", "b")],
        [("assistant", "a")],
        [("system", "s"), ("assistant", "a")],
    ],
)
def test_roles_that_do_not_alternate_are_refused(
    template: jinja2.Template, turns: list[tuple[str, str]]
) -> None:
    with pytest.raises(jinja2.TemplateError, match="must alternate"):
        render(template, *turns)


def test_the_checkpoint_predicts_text_it_never_saw(tokenizer: Tokenizer) -> None:
    torch = pytest.importorskip("torch")
    transformers = pytest.importorskip("transformers")
    network = transformers.AutoModelForCausalLM.from_pretrained(PICO, dtype=torch.float32)
    text = (PICO / "held_out.txt").read_text(encoding="utf-8")
    windows = torch.tensor(tokenizer.encode(text).ids[1:4093]).view(4, 1023)
    windows = torch.cat((torch.full((4, 1), SPECIAL["<bos>"]), windows), dim=1)
    with torch.no_grad():
        loss = network(input_ids=windows, labels=windows).loss.item()
    # 3.124 on these beginnings of files; an untrained network scores ln 4096 = 8.3.
    assert loss < 3.2
