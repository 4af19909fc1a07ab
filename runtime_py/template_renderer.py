"""Renders chat templates in a process of its own: JSON in on stdin, JSON out on stdout.

A template is code from whoever made the checkpoint. The sandbox keeps it from Python's insides,
and the process's limits end whatever it makes too large or never finishes. Run by chat_template.py;
imports nothing of ours.
"""

import json
import sys
from collections.abc import Mapping
from contextlib import suppress
from datetime import datetime
from typing import Any, NoReturn

import jinja2
import jinja2.ext
import jinja2.nodes
import jinja2.parser
from jinja2.exceptions import SecurityError, TemplateError, TemplateSyntaxError
from jinja2.sandbox import ImmutableSandboxedEnvironment


class _RefusalError(Exception):
    """The template called raise_exception: the messages do not suit it."""


class _GenerationBlocks(jinja2.ext.Extension):
    """{% generation %} marks what is trained on; here it renders as if it were not there."""

    tags = {"generation"}  # noqa: RUF012  (jinja2 declares it as an instance attribute)

    def parse(self, parser: jinja2.parser.Parser) -> list[jinja2.nodes.Node]:
        next(parser.stream)
        return parser.parse_statements(("name:endgeneration",), drop_needle=True)


class _Sandbox(ImmutableSandboxedEnvironment):
    def unsafe_undefined(self, obj: Any, attribute: str) -> NoReturn:
        # jinja2 itself would print nothing; an attack must not go unnoticed.
        raise SecurityError(f"access to {attribute!r} of {type(obj).__name__}")


def make_environment() -> ImmutableSandboxedEnvironment:
    """Return jinja2 as transformers sets it up for chat templates."""
    environment = _Sandbox(
        trim_blocks=True,
        lstrip_blocks=True,
        extensions=[_GenerationBlocks, jinja2.ext.loopcontrols],
    )
    environment.filters["tojson"] = _to_json
    environment.globals["raise_exception"] = _refuse
    environment.globals["strftime_now"] = _strftime_now
    del environment.globals["lipsum"]
    return environment


def render_all(request: Mapping[str, Any]) -> dict[str, Any]:
    """Render {"template", "chats": [variables], "output_limit"}.

    Returns:
        {"rendered": [text]}, or {"error": what, "kind": "refused", "syntax", "stopped" or
        "failed"}.
    """
    limit = request["output_limit"]
    try:
        template = make_environment().from_string(request["template"])
        rendered = []
        for variables in request["chats"]:
            parts, size = [], 0
            for part in template.generate(variables):
                size += len(part)
                if size > limit:
                    return _failure("stopped", f"its output passed {limit} characters")
                parts.append(part)
            rendered.append("".join(parts))
    except _RefusalError as error:
        return _failure("refused", str(error))
    except SecurityError as error:
        return _failure("stopped", f"not allowed in the sandbox: {error}")
    except (MemoryError, OverflowError, RecursionError) as error:
        return _failure("stopped", f"{type(error).__name__}: {error or 'out of memory'}")
    except TemplateSyntaxError as error:
        return _failure("syntax", f"line {error.lineno}: {error.message}")
    except TemplateError as error:
        return _failure("failed", str(error))
    except Exception as error:  # a template can raise whatever its expressions raise
        return _failure("failed", f"{type(error).__name__}: {error}")
    return {"rendered": rendered}


def main() -> None:
    """Answer one request."""
    request = json.loads(sys.stdin.buffer.read())
    _limit_process(request["memory_limit_bytes"], request["time_limit_s"])
    sys.stdout.write(json.dumps(render_all(request)))


def _limit_process(memory_bytes: int, time_s: int) -> None:
    with suppress(ImportError, ValueError, OSError):  # not POSIX; the parent's clock remains
        import resource

        resource.setrlimit(resource.RLIMIT_CPU, (time_s, time_s))
        resource.setrlimit(resource.RLIMIT_AS, (memory_bytes, memory_bytes))


def _failure(kind: str, error: str) -> dict[str, str]:
    return {"kind": kind, "error": error}


def _to_json(
    value: Any,
    ensure_ascii: bool = False,
    indent: int | None = None,
    separators: tuple[str, str] | None = None,
    sort_keys: bool = False,
) -> str:
    # jinja2's own filter escapes HTML.
    return json.dumps(
        value, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys
    )


def _refuse(message: str) -> NoReturn:
    raise _RefusalError(message)


def _strftime_now(pattern: str) -> str:
    return datetime.now().strftime(pattern)


if __name__ == "__main__":
    main()
