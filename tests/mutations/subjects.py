"""The inputs that are changed, each with the commands that read it."""

import hashlib
import json
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path, PurePosixPath
from random import Random
from typing import Any

from device_tests.job_state import ask_state
from device_tests.target import Finished
from edge_build.stages import Stages
from runtime_py.manifest import MANIFEST_NAME
from tests.mutations.json_mutations import mutate_bytes, mutate_json
from tests.mutations.judging import Failure, run_command, run_function
from tests.mutations.world import BUNDLE, CHECKPOINT, RECIPE, REPORTS, SHARDED

_TEXT_FILES = ("config.json", "generation_config.json", "tokenizer_config.json", "tokenizer.json")
_BUNDLE_FILES = (
    "golden/onnx.json", "genai_config.json", "generation_config.json", "tokenizer_config.json",
    "tokenizer.json", "chat_template.jinja",
)  # fmt: skip
_TEMPLATE_PARTS = (
    "{{", "}}", "{%", "%}", "{% if x %}", "{% endfor %}", "{{ x.__class__ }}", "{{ 9 ** 9 ** 9 }}",
    "{% for i in range(10 ** 9) %}x{% endfor %}", "{{ raise_exception('\\x1b[31mno') }}",
    "{{ messages[7].content }}", "{{ 'a' * 10 ** 9 }}", "{{ 1 / 0 }}", "{{ eos_token.x.y }}",
    "\x1b[2J", "{{ '\\u009b' }}",
)  # fmt: skip
_TOML_VALUES = (
    '""', '"x"', "0", "-1", "16", "33", "4.0", "true", "[]", "[4]", "1979-05-27", "nan", "inf",
    "9" * 400, '"\\u001b[31m"', '"[!"', "0x20",
)  # fmt: skip

Read = Callable[[Random], Failure | None]


@dataclass(frozen=True)
class Subject:
    """One kind of input.

    Attributes:
        path: of the file that is changed, below the world.
        change: bytes before → bytes after.
        read: runs what reads the file.
        follow: what else follows such a change, as a careful forger would see to it.
        may_remove: whether reading it removes what is damaged, as a build removes its own stages.
    """

    name: str
    path: str
    change: Callable[[bytes, Random], bytes]
    read: Read
    follow: Callable[[Random], None] = lambda random: None
    may_remove: bool = False


def subjects(world: Path) -> tuple[Subject, ...]:
    """Return every kind of input of a world."""
    return (*_checkpoints(world), *_bundles(world), *_others(world))


def _checkpoints(world: Path) -> list[Subject]:
    def dry_run(folder: str) -> Read:
        plan = ("build", str(world / folder), "--out", str(world / "out"), "--dry-run")
        return lambda random: run_command((*plan, "--backend", "onnx", "--context", "64"))

    read, path = dry_run(CHECKPOINT), CHECKPOINT
    return [
        *(Subject(name, f"{path}/{name}", change_json, read) for name in _TEXT_FILES),
        # Most that a checkpoint can say wrongly stands here.
        *(Subject("config.json", f"{path}/config.json", change_json, read) for _ in range(3)),
        Subject("chat_template.jinja", f"{path}/chat_template.jinja", change_template, read),
        Subject("safetensors", f"{path}/model.safetensors", change_header, read),
        Subject("safetensors", f"{SHARDED}/part.safetensors", change_header, dry_run(SHARDED)),
        Subject("index", f"{SHARDED}/model.safetensors.index.json", change_json, dry_run(SHARDED)),
    ]


def _bundles(world: Path) -> list[Subject]:
    folder = str(world / BUNDLE)
    commands = (
        ("inspect", folder),
        ("inspect", folder, "--json"),
        ("fit", folder, "--device", "phone-4gb"),
        ("verify", folder),
        # What a model says is no message of ours: it may hold any character.
        ("run", folder, "--prompt", "a", "--max-new-tokens", "2", "--json"),
    )

    def read(random: Random) -> Failure | None:
        return run_command(random.choice(commands))

    def read_manifest(random: Random) -> Failure | None:
        # Each uses other parts of it.
        ran = (run_command(command) for command in (*commands[:3], random.choice(commands)))
        return next((failure for failure in ran if failure is not None), None)

    def forge(random: Random) -> None:
        if random.random() < 0.9:
            _forge(world / BUNDLE)

    manifest = Subject(
        "manifest.json", f"{BUNDLE}/{MANIFEST_NAME}", change_json, read_manifest, forge
    )
    return [
        *(manifest for _ in range(4)),
        *(
            Subject(
                f"bundle: {name}",
                f"{BUNDLE}/{name}",
                change_template if name.endswith(".jinja") else change_json,
                read,
                lambda random, name=name: _forge(world / BUNDLE, name),  # type: ignore[misc]
            )
            for name in _BUNDLE_FILES
        ),
    ]


def _others(world: Path) -> list[Subject]:
    recipe = str(world / RECIPE)
    plan = ("fit", "gemma-3-270m", "--device", "phone-4gb", "--recipe", recipe)
    before, after = (str(world / name) for name in REPORTS)
    compare = ("profile", "--compare", before, after)
    state, record = world / "state.txt", world / "stages"
    return [
        Subject("recipe", RECIPE, change_recipe, lambda random: run_command(plan)),
        *(
            Subject("report", name, change_json, lambda random: run_command(compare))
            for name in REPORTS
        ),
        Subject("job state", state.name, change_lines, partial(_ask, state)),
        Subject(
            "stage",
            "stages/quantize.finished.json",
            change_json,
            partial(_take_over, record),
            may_remove=True,
        ),
    ]


def change_json(data: bytes, random: Random) -> bytes:
    return mutate_json(data.decode(), random)


def change_template(data: bytes, random: Random) -> bytes:
    if random.random() < 0.3:
        return mutate_bytes(data, random)
    text = data.decode()
    place = random.randrange(len(text) + 1)
    return (text[:place] + random.choice(_TEMPLATE_PARTS) + text[place:]).encode()


def change_lines(data: bytes, random: Random) -> bytes:
    return mutate_bytes(mutate_bytes(data, random), random)


def change_header(data: bytes, random: Random) -> bytes:
    """Change the header of a safetensors file; mostly its length follows."""
    length = int.from_bytes(data[:8], "little")
    header, body = data[8 : 8 + length], data[8 + length :]
    if random.random() < 0.1:
        return mutate_bytes(data[:8], random) + header + body
    changed = mutate_json(header.decode(), random)
    if random.random() < 0.1:
        body = body[: random.randrange(len(body))]
    return len(changed).to_bytes(8, "little") + changed + body


def change_recipe(data: bytes, random: Random) -> bytes:
    if random.random() < 0.2:
        return mutate_bytes(data, random)
    lines = data.decode().splitlines()
    places = [i for i, line in enumerate(lines) if " = " in line]
    place = random.choice(places)
    key = lines[place].split(" = ")[0]
    value = random.choice(_TOML_VALUES)
    changes = (f"{key} = {value}", f"{key}s = {value}", f"rules = {value}", "", "[[rules]]")
    lines[place] = random.choices(changes, (8, 1, 1, 1, 1))[0]
    return "\n".join(lines).encode()


def _forge(bundle: Path, changed: str | None = None) -> None:
    """Make the manifest list a changed file, and its digest fit, where it can still be read."""
    path = bundle / MANIFEST_NAME
    try:
        document: dict[str, Any] = json.loads(path.read_text())
        if changed is not None:
            data = (bundle / changed).read_bytes()
            (entry,) = (file for file in document["files"] if file["path"] == changed)
            entry |= {"sha256": hashlib.sha256(data).hexdigest(), "size_bytes": len(data)}
        document.pop("manifest_sha256", None)
        text = json.dumps(document, indent=1, sort_keys=True) + "\n"
        digest = hashlib.sha256(text.encode()).hexdigest()
        if digest:
            document["manifest_sha256"] = digest
            path.write_text(json.dumps(document, indent=1, sort_keys=True) + "\n")
    except (ValueError, TypeError, AttributeError, RecursionError):
        return


class _Answering:
    """A device that answers everything with one text."""

    name = "double"

    def __init__(self, output: str) -> None:
        self.output = output

    def run(self, command: str, *, timeout_s: float = 30) -> Finished:
        return Finished(0, self.output)


def _ask(state: Path, random: Random) -> Failure | None:
    target: Any = _Answering(state.read_bytes().decode("utf-8", "replace"))
    return run_function(lambda: ask_state(target, PurePosixPath("/jobs/1"), 0, timeout_s=1))


def _take_over(folder: Path, random: Random) -> Failure | None:
    return run_function(lambda: Stages(folder, "key", ("quantize",), lambda event: None))
