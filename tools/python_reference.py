"""Writes docs/python-api.md from the package itself: python -m tools.python_reference."""

import inspect
import re
from collections.abc import Iterator
from dataclasses import fields, is_dataclass
from pathlib import Path

import pocketlm
from pocketlm.advisor.advice import Advice, Compared
from pocketlm.advisor.limits import DeviceMemory
from pocketlm.advisor.record import Machine, Record, Speed
from pocketlm.device_tests.fit.fitting import Fit, FitResult
from pocketlm.device_tests.profiling.document import Report
from pocketlm.evaluation.result import EvalResult, KlNats
from pocketlm.runtime_py.bundle import Bundle
from pocketlm.runtime_py.generation import GenerationResult
from pocketlm.runtime_py.session import Session
from pocketlm.runtime_py.text import Chat, StreamedText, TextModel
from pocketlm.runtime_py.verification_result import VerificationResult

PAGE = Path(__file__).parents[1] / "docs" / "python-api.md"
_HEAD = """\
# Python

`python -m tools.python_reference` writes this page from the package. Results are frozen
dataclasses. `import pocketlm` loads neither torch nor a runtime: each function imports what it
needs when it is called.

```python chat
import pocketlm

greedy = pocketlm.SamplingOptions()  # without it, the checkpoint's own defaults
with pocketlm.open_chat("pico", sampling=greedy) as chat:
    for piece in chat.stream("Which module has Counter?"):
        print(piece, end="", flush=True)
    print()
    print(chat.stream("Which module has deque?").text)
```

```python generate
import pocketlm

greedy = pocketlm.SamplingOptions()
result = pocketlm.generate("pico", "The function returns a", max_new_tokens=8, sampling=greedy)
print(result.text, result.reason, result.decode_tokens_per_s)
```

A bundle is built from a checkpoint's folder, a hub id, or `"pico"`, the model that comes with the
package. Every other function takes the result of `build` or a folder:

```python build
import pocketlm

bundle = pocketlm.build("pico", "pico", backends=["onnx"], context_length=1024)
print(bundle.folder, bundle.manifest.recipe)
```

```python verify
import pocketlm

for result in pocketlm.verify("pico", backends=["onnx"], strict=False):
    print(result.backend, result.passed, result.max_logit_error_std)
```

```python fit
import pocketlm

for fit in pocketlm.fit("gemma-3-1b", devices=["phone-6gb"], kv="int8"):
    print(fit.backend, fit.result.status, fit.prediction.peak_bytes)
```

```python profile
import pocketlm

report = pocketlm.profile("pico", "adb")
print(report.verdict, report.to_json())
```

```python advise
import pocketlm

advice = pocketlm.advise("pico", "book.txt", candidates=["int4-g32"], backends=["onnx"], tokens=300)
if advice.chosen:
    print(advice.chosen.name, advice.chosen.record.kl_nats, advice.build_command)
```

Token ids in, logits out:

```python session
import pocketlm

with pocketlm.open_session("pico", backend="onnx") as session:
    logits = session.prefill([2, 105, 2364])  # float32 [V]
    logits = session.decode(int(logits.argmax()))
    session.rewind(2)
    print(session.position)
```

**Errors.** Wrong input raises `ModelError` (a checkpoint), `BuildError` (a build), `RunError` (a
bundle, a prompt) or `DeviceError` (a device). The message states what was asked, what was found
and what to do. All are `pocketlm.` names.

**Log.** The library prints nothing. It logs under the name `pocketlm`:
`logging.getLogger("pocketlm").setLevel(logging.INFO)` shows what it loads, downloads and builds,
once the program has a handler (`logging.basicConfig()`).

**The process.** The library does not change the process: no allocator setting, no threads of
BLAS, no file descriptor, no log level and no environment variable. `tune_process=True` allows the
changes that the commands make: packed weights in huge pages, for which thresholds of the allocator
are fixed; one BLAS thread below ExecuTorch's attention, if torch is not imported yet; no notices of
the C++ code on stderr. Decoding on ExecuTorch may be faster with it.
"""
_FUNCTIONS = ("open_chat", "generate", "open_model", "open_session")
_OTHERS = ("build", "verify", "fit", "profile", "advise")
_CLASSES = (
    Chat, StreamedText, GenerationResult, TextModel, Session, pocketlm.SamplingOptions, Bundle,
    VerificationResult, Fit, FitResult, Report, Advice, Compared, DeviceMemory, Record, EvalResult,
    KlNats, Speed, Machine,
)  # fmt: skip
_SECTIONS = {"Args": "argument", "Attributes": "attribute"}


def render() -> str:
    """Return the page, Markdown."""
    functions = (_function(name) for name in (*_FUNCTIONS, *_OTHERS))
    return "\n".join(
        (_HEAD, "## Functions", "", *functions, "## Values", "", *map(_class, _CLASSES))
    )


def _function(name: str) -> str:
    function = getattr(pocketlm, name)
    parameters, returns = _parts(function)
    lines = (f"pocketlm.{name}(", *(f"    {each}," for each in parameters), f") -> {returns}")
    return "\n".join((f"### {name}", "", "```", *lines, "```", "", *_doc(function)))


def _class(kind: type) -> str:
    lines = [f"### {kind.__name__}", "", *_doc(kind)]
    members = list(_members(kind))
    if members:
        lines += ["| | |", "|---|---|", *members, ""]
    return "\n".join(lines)


def _members(kind: type) -> Iterator[str]:
    """Yield a row for each field, property and method that is public."""
    if is_dataclass(kind):
        for field in fields(kind):
            yield f"| `{field.name}: {_type(field.type)}` | |".replace(" | None", " or None")
    for name, value in vars(kind).items():
        if name.startswith("_"):
            continue
        if isinstance(value, property):
            yield f"| `{name}` | {_first(value)} |"
        elif inspect.isfunction(value):
            yield f"| `{name}{_signature(value, with_self=True)}` | {_first(value)} |".replace(
                " | None", " or None"
            )


def _first(value: object) -> str:
    return " ".join((inspect.getdoc(value) or "").split("\n\n")[0].split())


def _signature(function: object, with_self: bool = False) -> str:
    parameters, returns = _parts(function)
    return f"({', '.join(parameters[1:] if with_self else parameters)}) -> {returns}"


def _parts(function: object) -> tuple[list[str], str]:
    """Return each parameter of a function, and what it returns, as a reader would write them."""
    assert callable(function)
    signature = inspect.signature(function)
    shown: list[str] = []
    for parameter in signature.parameters.values():
        if parameter.kind is parameter.KEYWORD_ONLY and "*" not in shown:
            shown.append("*")
        typed = parameter.replace(annotation=_Shown(_type(parameter.annotation)))
        # A function would be shown with its address.
        if inspect.isfunction(parameter.default):
            typed = typed.replace(default=_Shown(parameter.default.__name__))
        shown.append(str(typed))
    return shown, _type(signature.return_annotation)


class _Shown(str):
    """An annotation that a signature shows as it is, without quotes."""

    def __repr__(self) -> str:
        return str(self)


def _type(annotation: object) -> str:
    text = annotation if isinstance(annotation, str) else inspect.formatannotation(annotation)
    # Where a class is defined says nothing to a reader.
    text = re.sub(r"\b[a-z_]\w*(?:\.\w+)*\.(?=[A-Za-z_])", "", text.strip("'\""))
    return text.replace("ndarray[tuple[Any, ...], dtype[float32]]", "NDArray[float32]")


def _doc(documented: object) -> Iterator[str]:
    """Yield a docstring as Markdown: its sections become lists."""
    for paragraph in (inspect.getdoc(documented) or "").split("\n\n"):
        first, *rest = paragraph.split("\n")
        if first.endswith(":") and rest and first[:-1] in (*_SECTIONS, "Returns", "Raises"):
            yield from _section(first[:-1], inspect.cleandoc("\n".join(rest)))
        else:
            yield " ".join(paragraph.split())
            yield ""


def _section(title: str, text: str) -> Iterator[str]:
    if title in ("Returns", "Raises"):
        yield f"{title}: {' '.join(text.split())}"
        yield ""
        return
    # A line that is not indented begins an entry.
    for entry in re.split(r"\n(?=\S)", text):
        names, _, said = entry.partition(": ")
        yield f"* `{names}`: {' '.join(said.split())}"
    yield ""


if __name__ == "__main__":
    PAGE.write_text(render(), encoding="utf-8")
