import subprocess
from dataclasses import replace
from typing import Any

import pytest

from pocketlm.runtime_py.chat_template import (
    ChatTemplate,
    RenderLimits,
    TemplateError,
    read_chat_template,
)
from pocketlm.runtime_py.errors import RunError
from pocketlm.runtime_py.template_renderer import render_all

HELLO = [{"role": "user", "content": "hello"}]
USUAL = RenderLimits()


def render(source: str, messages: Any = HELLO, **variables: Any) -> str:
    """Render in this process: the same code, without a new interpreter for every test."""
    request = {
        "template": source,
        "chats": [{"messages": messages, "bos_token": "<bos>", **variables}],
        "moment": None,
        "output_limit": 100_000,
    }
    answer = render_all(request)
    result = answer if "error" in answer else answer["rendered"][0]
    if "error" in result:
        raise ValueError(f"{result['kind']}: {result['error']}")
    return str(result["text"])


def error_of(source: str, limits: RenderLimits = USUAL) -> str:
    with pytest.raises(RunError) as caught:
        ChatTemplate(source, {}, limits).render(HELLO)
    return str(caught.value)


def test_messages_and_special_tokens_reach_the_template() -> None:
    template = ChatTemplate("{{ bos_token }}{{ messages[0].content }}", {"bos_token": "<bos>"})
    assert template.render(HELLO) == "<bos>hello"


def test_several_chats_are_rendered_in_order() -> None:
    template = ChatTemplate("{{ messages[0]['content'] }} {{ enable_thinking }}", {})
    other = [{"role": "user", "content": "€🙂"}]
    found = template.render_all([(HELLO, {"enable_thinking": False}), (other, {})])
    assert found == ["hello False", "€🙂 "]


def test_an_answer_is_asked_for_unless_said_otherwise() -> None:
    template = ChatTemplate("{{ add_generation_prompt }} {{ tools }}", {})
    assert template.render(HELLO) == "True None"
    assert template.render(HELLO, {"add_generation_prompt": False}) == "False None"


def test_blocks_are_trimmed_as_transformers_does() -> None:
    assert render("  {% if true %}\nx\n  {% endif %}\ny") == "x\ny"


def test_json_is_written_plainly() -> None:
    assert render("{{ value | tojson }}", value={"b": "<é>", "a": 1}) == '{"b": "<é>", "a": 1}'
    assert render("{{ [1] | tojson(indent=2) }}") == "[\n  1\n]"
    assert render("{{ value | tojson(sort_keys=true) }}", value={"b": 2, "a": 1}) == (
        '{"a": 1, "b": 2}'
    )


def test_loops_can_break_and_generation_blocks_are_seen_through() -> None:
    source = "{% for i in range(9) %}{% if i == 2 %}{% break %}{% endif %}{{ i }}{% endfor %}"
    assert render(source) == "01"
    assert render("{% generation %}a{{ 1 }}{% endgeneration %}b") == "a1b"


def test_the_date_is_at_hand() -> None:
    assert len(render("{{ strftime_now('%Y') }}")) == 4


READS_THE_TIME = [
    "{{ strftime_now('%d %b %Y %H:%M:%S.%f') }}",
    "{{ strftime_now('%s %Z %z') }}",
    "{{ range(99999) | list | random }}",
]


@pytest.mark.parametrize("source", READS_THE_TIME)
@pytest.mark.parametrize("zone", ["UTC", "Asia/Tokyo"])
def test_with_a_moment_nothing_depends_on_time_and_place(
    source: str, zone: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TZ", zone)
    moment = "2001-02-03T04:05:06"
    texts = {ChatTemplate(source, {}, moment=moment).render(HELLO) for _ in range(2)}
    assert texts <= {"03 Feb 2001 04:05:06.000000", "981173106  ", "50494"}
    assert len(texts) == 1


def test_without_a_moment_the_clock_is_read() -> None:
    template = ChatTemplate("{{ strftime_now('%Y') }}", {})
    assert int(template.render(HELLO)) >= 2026


def test_what_a_template_reads_is_listed() -> None:
    template = ChatTemplate("{% set a = bos_token %}{{ a }}{{ messages }}", {})
    assert template.try_all([]).names == {"bos_token", "messages"}
    broken = ChatTemplate("{% if %}", {}).try_all([(HELLO, {})])
    assert [result.kind for result in broken.results if not isinstance(result, str)] == ["syntax"]
    assert broken.names == frozenset()


def test_one_chat_that_fails_leaves_the_others() -> None:
    source = "{{ raise_exception('no') if refuse }}{{ messages[0].content }}"
    found = ChatTemplate(source, {}).try_all([(HELLO, {"refuse": True}), (HELLO, {})]).results
    assert isinstance(found[0], TemplateError)
    assert (found[0].kind, found[0].reason) == ("refused", "no")
    assert found[1] == "hello"


def test_gemma_s_and_qwen_s_idioms_work() -> None:
    source = (
        "{%- set ns = namespace(last=0) -%}"
        "{%- for m in messages[::-1] -%}{%- set ns.last = loop.index0 -%}{%- endfor -%}"
        "{%- if messages[0].content is string and 'ell' in messages[0].content -%}"
        "{{- messages[0].content.split('l')[0].rstrip('\\n').lstrip() -}}{%- endif -%}"
        "{{- ns.last -}}{%- if enable_thinking is defined and enable_thinking is false -%}"
        "{{- '<think>\\n\\n</think>' -}}{%- endif -%}"
    )
    assert render(source) == "he0"
    assert render(source, enable_thinking=False) == "he0<think>\n\n</think>"


def test_a_refusal_carries_the_template_s_words() -> None:
    message = error_of("{{ raise_exception('roles must alternate') }}")
    assert message == (
        "the chat template refuses these messages: roles must alternate; change them, or use --raw"
    )


def test_a_syntax_error_names_the_line() -> None:
    message = error_of("a\n{% if %}")
    assert "has a syntax error: line 2: Expected an expression" in message
    assert "repair it in the checkpoint" in message


@pytest.mark.parametrize("source", ["{{ missing.field }}", "{{ 1 + 'a' }}", "{% include 'x' %}"])
def test_a_template_that_fails_is_an_error_of_its_own(source: str) -> None:
    assert "the chat template failed: " in error_of(source)


ATTACKS = [
    "{{ ''.__class__ }}",
    "{{ ''.__class__.__mro__[1].__subclasses__() }}",
    "{{ messages.append.__globals__ }}",
    "{{ ''['__class__'] }}",
    "{{ '' | attr('__class__') }}",
    "{{ '{0.__class__}'.format('') }}",
    "{{ '{x.__class__}'.format_map({'x': 1}) }}",
    "{{ raise_exception.__globals__ }}",
    "{{ strftime_now.__globals__['subprocess'] }}",
    "{{ self.__init__.__globals__ }}",
    "{{ cycler.__init__.__globals__.os }}",
    "{{ dict.__base__ }}",
    "{{ namespace.__init__ }}",
    "{{ messages.append(1) }}",
    "{{ messages[0].update({'role': 'x'}) }}",
    "{% for i in range(10 ** 9) %}{% endfor %}",
    "{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}",
    "{{ lipsum.__globals__ }}",
    "{% for i in range(99999) %}{{ 'x' * 9999 }}{% endfor %}",
]


@pytest.mark.parametrize("source", ATTACKS)
def test_an_attack_on_the_sandbox_fails(source: str) -> None:
    with pytest.raises(ValueError, match=r"^(stopped|failed): "):
        render(source)


@pytest.mark.parametrize("source", ["{{ ''.__class__ }}", "{{ messages.append(1) }}"])
def test_a_stopped_template_is_not_to_be_trusted(source: str) -> None:
    message = error_of(source)
    assert "the chat template was stopped: not allowed in the sandbox: access to" in message
    assert "do not trust this checkpoint, or use --raw" in message


# Enough for jinja2, far too little for what these ask for.
SMALL = RenderLimits(output_chars=1000, memory_bytes=256 << 20, time_s=1)
PATIENT = RenderLimits(memory_bytes=256 << 20)
DOUBLING = "{% set ns = namespace(x='aaaaaaaa') %}{% for i in range(60) %}"
BOMBS = [
    "{{ ('a' * 10 ** 9) | length }}",
    "{{ ([0] * 10 ** 9) | length }}",
    "{{ 'a' | center(10 ** 10) | length }}",
    "{{ ('%0999999999d' % 1) | length }}",
    DOUBLING + "{% set ns.x = ns.x ~ ns.x %}{% endfor %}",
]


@pytest.mark.parametrize("source", BOMBS)
def test_a_memory_bomb_is_stopped(source: str) -> None:
    assert "the chat template was stopped: MemoryError" in error_of(source, PATIENT)


@pytest.mark.parametrize(
    "source",
    [
        "{% for i in range(99999) %}{% for j in range(99999) %}{% endfor %}{% endfor %}",
        "{{ 10 ** (10 ** 9) }}",
        DOUBLING + "{% set ns.x = [ns.x, ns.x] %}{% endfor %}{{ ns.x | string | length }}",
    ],
)
def test_a_template_that_never_ends_is_stopped(source: str) -> None:
    message = error_of(source, SMALL)
    assert "the chat template was stopped: it took more than 1 s of processor time" in message


def test_too_much_output_is_stopped() -> None:
    message = error_of("{% for i in range(999) %}abc{% endfor %}", SMALL)
    assert "the chat template was stopped: its output passed 1000 characters" in message


def test_a_renderer_that_sleeps_is_stopped_by_the_clock(monkeypatch: pytest.MonkeyPatch) -> None:
    def expire(*arguments: Any, **options: Any) -> None:
        raise subprocess.TimeoutExpired("renderer", options["timeout"])

    monkeypatch.setattr(subprocess, "run", expire)
    assert "it took more than 2 s of processor time" in error_of("x")


def test_a_renderer_that_dies_is_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    done = subprocess.CompletedProcess([], 1, b"", b"Traceback\nImportError: no jinja2\n")
    monkeypatch.setattr(subprocess, "run", lambda *_, **__: done)
    assert "the renderer ended with ImportError: no jinja2" in error_of("x")
    monkeypatch.setattr(subprocess, "run", lambda *_, **__: replace_stderr(done, b""))
    assert "the renderer ended with no message" in error_of("x")


def replace_stderr(done: Any, stderr: bytes) -> Any:
    return subprocess.CompletedProcess([], done.returncode, done.stdout, stderr)


def test_a_bundle_s_template_comes_with_its_special_tokens(fake_bundle: Any) -> None:
    template = read_chat_template(fake_bundle.open())
    assert template is not None
    # Written as a plain text and as an object, both occur.
    assert template.special_tokens == {"bos_token": "<bos>", "eos_token": "<eos>"}
    assert template.render(HELLO) == (
        "<bos><start_of_turn>user\nhello<end_of_turn>\n<start_of_turn>model\n"
    )


def test_a_rendered_chat_has_one_bos(fake_bundle: Any, tokenizer: Any) -> None:
    template = read_chat_template(fake_bundle.open())
    assert template is not None
    ids = tokenizer.encode(template.render(HELLO))
    assert ids.count(2) == 1
    assert tokenizer.encode_prompt(template.render(HELLO)) == ids


def test_a_bundle_without_a_template_has_none(fake_bundle: Any) -> None:
    fake_bundle.remove("chat_template.jinja")
    assert read_chat_template(fake_bundle.open()) is None


def test_a_bundle_without_a_tokenizer_config_has_no_special_tokens(fake_bundle: Any) -> None:
    fake_bundle.remove("tokenizer_config.json")
    template = read_chat_template(fake_bundle.open())
    assert template == replace(template, special_tokens={})
