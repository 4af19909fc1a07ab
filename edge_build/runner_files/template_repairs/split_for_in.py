"""`'text' in message.content` → `message.content.split('text')|length > 1`.

onnxruntime-genai finds no text in a string: `in` is always false there, so that Qwen3's old
thoughts stay in the history. It splits as jinja2 does. Only for the content of a message, which is
a string.
"""

import re

_IN = re.compile(
    r"""(?P<text>'[^'"\\{}%]+'|"[^'"\\{}%]+")\s+(?P<negated>not\s+)?in\s+"""
    r"""(?P<place>(?:[A-Za-z_]\w*\.)?content)\b(?![.\[(|])"""
)


def _rewrite(template: str) -> str:
    def split(found: re.Match[str]) -> str:
        compared = "== 1" if found["negated"] else "> 1"
        return f"({found['place']}.split({found['text']})|length {compared})"

    return _IN.sub(split, template)


REWRITE = _rewrite
