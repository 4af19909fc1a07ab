"""Rewritten templates render alike, with jinja2's trimming and without."""

from typing import Any

import jinja2
import pytest

from pocketlm.edge_build.runner_files import template_repairs
from pocketlm.edge_build.runner_files.template_writing import runner_template

TRIMMED = (
    "{% if x %}\n  a\n{% endif %}\nb",
    "{% for i in y %}\n    {{ i }}\n    {% if i %}\n  -\n{% endif %}{% endfor %}\n\nend\n",
    "{# about #}\n\n  {% set z = 1 %}  \n{{ z }}",
    "{%- if x -%}\n a {%- endif %}\n\n\nc",
)


def rendered(template: str, trims: bool) -> str:
    environment = jinja2.Environment(trim_blocks=trims, lstrip_blocks=trims)
    variables: dict[str, Any] = {"x": 1, "y": [0, 1, 2]}
    return environment.from_string(template).render(**variables)


@pytest.mark.parametrize("template", TRIMMED)
def test_trimming_stands_in_the_template_itself(template: str) -> None:
    rewritten = template_repairs.load("explicit_trimming")(template)
    assert rewritten != template
    assert rendered(rewritten, False) == rendered(template, True) == rendered(rewritten, True)


@pytest.mark.parametrize(
    "template",
    ["{%- if x -%}\n a\n{%- endif -%}", "{% if", "{% raw %}\n{{ a }}\n{% endraw %}\n", "plain"],
)
def test_a_template_that_needs_no_trimming_or_cannot_be_rewritten_stays(template: str) -> None:
    assert template_repairs.load("explicit_trimming")(template) == template


@pytest.mark.parametrize(
    ("found", "rewritten"),
    [
        ("'</t>' in message.content", "(message.content.split('</t>')|length > 1)"),
        ('"a b" in content', '(content.split("a b")|length > 1)'),
        ("'x' not in m.content", "(m.content.split('x')|length == 1)"),
        # Not the content of a message, or not all of the operand.
        ("'x' in message.role", None),
        ("'x' in message.content[0]", None),
        ("'x' in content.split('y')", None),
        ("x in content", None),
        ("'' in content", None),
        ("message in messages", None),
    ],
)
def test_text_in_a_content_is_looked_for_by_splitting(found: str, rewritten: str | None) -> None:
    template = f"{{% if {found} %}}1{{% endif %}}"
    expected = template if rewritten is None else f"{{% if {rewritten} %}}1{{% endif %}}"
    assert template_repairs.load("split_for_in")(template) == expected


def test_a_rewriting_that_renders_otherwise_is_not_taken() -> None:
    # A list of parts: `in` looks for an element, and a list cannot be split.
    source = (
        "{% for message in messages %}{% set content = [message.content] %}"
        "{% if 'Hi!' in content %}1{% endif %}{% endfor %}"
    )
    assert runner_template(source, {}, ("split_for_in",)) == source


def test_a_rewriting_that_renders_alike_is_taken() -> None:
    source = "{% for m in messages %}{% if 'Hi' in m.content %}1{% endif %}{% endfor %}"
    assert "split('Hi')" in runner_template(source, {}, template_repairs.NAMES)
