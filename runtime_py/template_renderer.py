"""Renders chat templates in a process of its own: JSON in on stdin, JSON out on stdout.

A template is code from whoever made the checkpoint. The sandbox keeps it from Python's insides,
and the process's limits end whatever it makes too large or never finishes. Run by chat_template.py;
imports nothing of ours.
"""

import json
import os
import random
import sys
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from datetime import datetime
from functools import partial
from typing import Any, NoReturn, TypeVar

import jinja2
import jinja2.ext
import jinja2.meta
import jinja2.nodes
import jinja2.parser
from jinja2.exceptions import SecurityError, TemplateError, TemplateSyntaxError
from jinja2.sandbox import ImmutableSandboxedEnvironment

Result = TypeVar("Result")


class _RefusalError(Exception):
    """The template called raise_exception: the messages do not suit it."""


class _TooLongError(Exception):
    """The output passed its limit."""


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


def make_environment(moment: str | None = None) -> ImmutableSandboxedEnvironment:
    """Return jinja2 as transformers sets it up for chat templates.

    Args:
        moment: what strftime_now reads, in ISO 8601; None is the clock.
    """
    environment = _Sandbox(
        trim_blocks=True,
        lstrip_blocks=True,
        extensions=[_GenerationBlocks, jinja2.ext.loopcontrols],
    )

    def strftime_now(pattern: str) -> str:
        now = datetime.now() if moment is None else datetime.fromisoformat(moment)
        return now.strftime(pattern)

    environment.filters["tojson"] = _to_json
    environment.globals["raise_exception"] = _refuse
    environment.globals["strftime_now"] = strftime_now
    del environment.globals["lipsum"]
    return environment


def render_all(request: Mapping[str, Any]) -> dict[str, Any]:
    """Render {"template", "chats": [variables], "moment", "output_limit"}.

    Returns:
        {"rendered": [result], "names": [variables that the template reads]} or one failure. Each
        result is {"text": what} or a failure: {"error": what, "kind": "refused", "syntax",
        "stopped" or "failed"}.
    """
    environment = make_environment(request["moment"])
    source, limit = request["template"], request["output_limit"]
    compiled = _guarded(
        lambda: (
            environment.from_string(source),
            sorted(jinja2.meta.find_undeclared_variables(environment.parse(source))),
        )
    )
    if isinstance(compiled, dict):
        return compiled
    template, names = compiled
    rendered = []
    for variables in request["chats"]:
        text = _guarded(partial(_render, template, variables, limit))
        rendered.append(text if isinstance(text, dict) else {"text": text})
    return {"rendered": rendered, "names": names}


def _render(template: jinja2.Template, variables: Mapping[str, Any], limit: int) -> str:
    parts, size = [], 0
    for part in template.generate(variables):
        size += len(part)
        if size > limit:
            raise _TooLongError(f"its output passed {limit} characters")
        parts.append(part)
    return "".join(parts)


def _guarded(work: Callable[[], Result]) -> Result | dict[str, str]:
    """Return what the work returns, or a failure in the place of what it raises."""
    try:
        return work()
    except _RefusalError as error:
        return _failure("refused", str(error))
    except SecurityError as error:
        return _failure("stopped", f"not allowed in the sandbox: {error}")
    except _TooLongError as error:
        return _failure("stopped", str(error))
    except (MemoryError, OverflowError, RecursionError) as error:
        return _failure("stopped", f"{type(error).__name__}: {error or 'out of memory'}")
    except TemplateSyntaxError as error:
        return _failure("syntax", f"line {error.lineno}: {error.message}")
    except TemplateError as error:
        return _failure("failed", str(error))
    except Exception as error:  # a template can raise whatever its expressions raise
        return _failure("failed", f"{type(error).__name__}: {error}")


def main() -> None:
    """Answer one request."""
    request = json.loads(sys.stdin.buffer.read())
    _limit_process(request["memory_limit_bytes"], request["time_limit_s"])
    if request["moment"] is not None:
        _fix_surroundings()
    sys.stdout.write(json.dumps(render_all(request)))


def _limit_process(memory_bytes: int, time_s: int) -> None:
    with suppress(ImportError, ValueError, OSError):  # not POSIX; the parent's clock remains
        import resource

        resource.setrlimit(resource.RLIMIT_CPU, (time_s, time_s))
        resource.setrlimit(resource.RLIMIT_AS, (memory_bytes, memory_bytes))


def _fix_surroundings() -> None:
    """Take from templates what differs from run to run besides the time."""
    random.seed(0)  # jinja2's filter `random`
    os.environ["TZ"] = "UTC"  # strftime's %s and %Z
    with suppress(AttributeError):  # not POSIX
        time.tzset()


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


if __name__ == "__main__":
    main()
