"""Our renderer against transformers', on the templates that the project ships."""

from pathlib import Path
from typing import Any

import pytest

from pocketlm.runtime_py.chat_template import ChatTemplate

rendering = pytest.importorskip("transformers.utils.chat_template_utils")

MODELS = Path(__file__).parents[2] / "models"
TEMPLATES = sorted([*MODELS.glob("chat_templates/*.jinja"), *MODELS.glob("pico/*.jinja")])
TOKENS = {"bos_token": "<bos>", "eos_token": "<eos>"}
CHATS: list[list[dict[str, Any]]] = [
    [{"role": "user", "content": "  What is a tuple?\n"}],
    [
        {"role": "system", "content": "Answer briefly."},
        {"role": "user", "content": "Größe 字 🙂 <b>"},
        {"role": "assistant", "content": "<think>\nhm\n</think>\n\nYes."},
        {"role": "user", "content": "And { this }?"},
    ],
]


@pytest.mark.parametrize("path", TEMPLATES, ids=lambda path: f"{path.parent.name}/{path.name}")
@pytest.mark.parametrize("variables", [{}, {"enable_thinking": False}, {"enable_thinking": True}])
def test_rendered_chats_equal_those_of_transformers(path: Path, variables: dict[str, bool]) -> None:
    source = path.read_text(encoding="utf-8")
    expected, _ = rendering.render_jinja_template(
        CHATS, chat_template=source, add_generation_prompt=True, **TOKENS, **variables
    )
    found = ChatTemplate(source, TOKENS).render_all([(chat, variables) for chat in CHATS])
    assert found == expected
