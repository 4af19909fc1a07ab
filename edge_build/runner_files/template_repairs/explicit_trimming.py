"""White space that `trim_blocks` and `lstrip_blocks` take away, taken away in the template itself.

Chat templates are written for jinja2 with both set; onnxruntime-genai has neither, so every line
with a block leaves a line break. jinja2's own lexer says what goes. A line break that stays behind
a block is written `{{ '\\n' }}`, so that the result renders alike with both settings.
"""

import jinja2

_BREAK = "{{ '\\n' }}"
_COMMENT = ("comment_begin", "comment", "comment_end")
_ENDS = ("block_end", "comment_end")


def _rewrite(template: str) -> str:
    try:
        trimming = [*_environment(True).lex(template)]
        plain = [*_environment(False).lex(template)]
    except jinja2.TemplateSyntaxError:
        return template
    kinds = {kind for _, kind, _ in trimming}
    if _texts(trimming) == _texts(plain) or "raw_begin" in kinds:
        return template
    parts: list[str] = []
    behind_end = False
    for _, kind, value in trimming:
        if kind == "data" and behind_end and value.startswith("\n"):
            parts.append(_BREAK + value[1:])
        elif kind == "block_end":
            parts.append("-%}" if value.startswith("-") else "%}")
        elif kind not in _COMMENT:
            parts.append("{%" if value == "{%+" else value)
        behind_end = kind in _ENDS
    return "".join(parts)


def _environment(trims: bool) -> jinja2.Environment:
    return jinja2.Environment(trim_blocks=trims, lstrip_blocks=trims, autoescape=False)


def _texts(tokens: list[tuple[int, str, str]]) -> str:
    return "".join(value if kind == "data" else "\0" for _, kind, value in tokens)


REWRITE = _rewrite
