"""The inputs that are changed, each with the commands that read it."""

import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from random import Random
from typing import Any

from pocketlm.device_tests.job.script import AFTER, BEFORE, ERRORS, OUTPUT, SAMPLES, SPEC
from pocketlm.edge_build.stages import Stages
from pocketlm.runtime_py.manifest import MANIFEST_NAME
from tests.mutations.changes import (
    change_events,
    change_gguf,
    change_header,
    change_json,
    change_recipe,
    change_template,
    change_words,
)
from tests.mutations.checking import Failure, run_command, run_function
from tests.mutations.job_device import JOB, LISTING, STATE, STORED, job_device
from tests.mutations.world import (
    BUNDLE,
    CHECKPOINT,
    CODED,
    DEVICE,
    GGUF,
    QWEN,
    RECIPE,
    REPORTS,
    SHARDED,
    STAGES,
)

_TEXT_FILES = ("generation_config.json", "tokenizer_config.json", "tokenizer.json")
_RUNNER_FILES = tuple(
    f"{backend}/{name}"
    for backend in ("executorch", "onnx")
    for name in ("tokenizer.json", "tokenizer_config.json")
)

_DIGEST = "manifest_sha256"

Change = Callable[[bytes, Random], bytes]
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
    change: Change
    read: Read
    follow: Callable[[Random], None] = lambda random: None
    may_remove: bool = False


@dataclass(frozen=True)
class _Command:
    """A command line, and the folder that it makes."""

    words: tuple[str, ...]
    makes: Path | None = None

    def run(self) -> Failure | None:
        return run_command(self.words, self.makes)


def subjects(world: Path) -> tuple[Subject, ...]:
    """Return every kind of input of a world."""
    return (*_checkpoints(world), *_bundles(world), *_jobs(world), *_others(world))


def _checkpoints(world: Path) -> list[Subject]:
    def plan(folder: str, *more: str) -> _Command:
        words = ("build", str(world / folder), "--out", str(world / "out"), "--dry-run", *more)
        return _Command((*words, "--context", "64"))

    def read(folder: str) -> Read:
        return _any_of([plan(folder, "--backend", "onnx"), plan(folder)])

    def read_config(folder: str) -> Read:
        fit = _Command(("fit", str(world / folder), "--device", "phone-4gb"))
        return _any_of([plan(folder, "--backend", "onnx"), plan(folder), fit])

    found = []
    for folder in (CHECKPOINT, QWEN):
        config = Subject("config.json", f"{folder}/config.json", change_json, read_config(folder))
        template = f"{folder}/chat_template.jinja"
        found += [
            # Most that a checkpoint can say wrongly stands there.
            *(config for _ in range(3)),
            *(Subject(name, f"{folder}/{name}", change_json, read(folder)) for name in _TEXT_FILES),
            Subject("chat_template.jinja", template, change_template, read(folder)),
        ]
    index = f"{SHARDED}/model.safetensors.index.json"
    # Neither has a tokenizer of its own.
    of_gguf = plan(GGUF, "--backend", "onnx", "--tokenizer", str(world / CHECKPOINT))
    inspect_gguf = _Command(("inspect", str(world / GGUF)))
    return [
        *found,
        Subject("safetensors", f"{CHECKPOINT}/model.safetensors", change_header, read(CHECKPOINT)),
        Subject("safetensors", f"{SHARDED}/part.safetensors", change_header, read(SHARDED)),
        Subject("index", index, change_json, read(SHARDED)),
        Subject("gguf", GGUF, change_gguf, _any_of([of_gguf, of_gguf, inspect_gguf])),
        Subject("gptq config", f"{CODED}/config.json", change_json, read(CODED)),
        Subject("gptq header", f"{CODED}/model.safetensors", change_header, read(CODED)),
    ]


def _bundles(world: Path) -> list[Subject]:
    folder, app = str(world / BUNDLE), world / "app"
    inspect, fit = _Command(("inspect", folder)), _Command(("fit", folder, "--device", "phone-4gb"))
    as_json = _Command(("inspect", folder, "--json"))
    verify = _Command(("verify", folder))
    # What a model says is no message of ours: it may hold any character.
    run = _Command(("run", folder, "--prompt", "a", "--max-new-tokens", "2", "--json"))
    lint = _Command(("lint", folder))
    exports = [
        _Command(("export", folder, "--for", runtime, "--out", str(app)), app)
        for runtime in ("executorch-android", "genai", "onnxruntime")
    ]
    every = [inspect, as_json, fit, verify, run, lint, *exports]
    # Other runtimes take a while to read some hundred texts.
    text = [run, run, verify, verify, lint, *exports]

    def read_manifest(random: Random) -> Failure | None:
        # Each uses other parts of it.
        commands = (inspect, as_json, fit, random.choice(every))
        return next(filter(None, (command.run() for command in commands)), None)

    def forge(random: Random) -> None:
        if random.random() < 0.9:
            _forge(world / BUNDLE)

    def subject(name: str, commands: Sequence[_Command]) -> Subject:
        change: Change = change_template if name.endswith(".jinja") else change_json
        follow = partial(_follow, world / BUNDLE, name)
        return Subject(f"bundle: {name}", f"{BUNDLE}/{name}", change, _any_of(commands), follow)

    manifest = Subject(
        "manifest.json", f"{BUNDLE}/{MANIFEST_NAME}", change_json, read_manifest, forge
    )
    return [
        *(manifest for _ in range(4)),
        subject("golden/onnx.json", [verify]),
        subject("golden/settings.json", [verify]),
        subject("genai_config.json", [verify, verify, run, lint, *[exports[1]] * 3]),
        subject("generation_config.json", [run, verify, *exports]),
        *(subject(name, text) for name in (*_TEXT_FILES[1:], "chat_template.jinja")),
        *(subject(name, [lint, verify, *exports, *exports]) for name in _RUNNER_FILES),
    ]


def _jobs(world: Path) -> list[Subject]:
    files, out = world / DEVICE, world / "collected"
    on = ("--on", "double")
    look = [_Command(("jobs", *on)), _Command(("jobs", *on, "--json"))]
    collect = [_Command(("jobs", "collect", JOB, "--out", str(out), *on), out)]
    remove = [_Command(("jobs", "remove", JOB, *on)), _Command(("jobs", "remove", "all", *on))]

    def subject(name: str, change: Change, commands: Sequence[_Command]) -> Subject:
        def read(random: Random) -> Failure | None:
            with job_device(files):
                return random.choice(commands).run()

        return Subject(f"job: {name}", f"{DEVICE}/{name}", change, read)

    return [
        subject(STORED, change_words, [*look, *collect, *remove]),
        subject(SPEC, change_json, collect),
        *(subject(name, change_words, collect) for name in (STATE, LISTING, BEFORE, AFTER, ERRORS)),
        *(subject(name, change_events, collect) for name in (OUTPUT, SAMPLES)),
    ]


def _others(world: Path) -> list[Subject]:
    recipe = ("--recipe", str(world / RECIPE))
    fit = _Command(("fit", "gemma-3-270m", "--device", "phone-4gb", *recipe))
    plan = ("build", str(world / CHECKPOINT), "--out", str(world / "out"), "--dry-run")
    before, after = (str(world / name) for name in REPORTS)
    compare = _Command(("profile", "--compare", before, after))
    return [
        Subject("recipe", RECIPE, change_recipe, _any_of([fit, _Command((*plan, *recipe))])),
        *(Subject("report", name, change_json, _any_of([compare])) for name in REPORTS),
        Subject(
            "stage",
            f"{STAGES}/quantize.finished.json",
            change_json,
            partial(_take_over, world / STAGES),
            may_remove=True,
        ),
    ]


def _any_of(commands: Sequence[_Command]) -> Read:
    return lambda random: random.choice(commands).run()


def _follow(bundle: Path, changed: str, random: Random) -> None:
    _forge(bundle, changed)


def _forge(bundle: Path, changed: str | None = None) -> None:
    """Make the manifest list a changed file, and its digest fit, where it can still be read."""
    path = bundle / MANIFEST_NAME
    try:
        document: dict[str, Any] = json.loads(path.read_text())
        if changed is not None:
            data = (bundle / changed).read_bytes()
            (entry,) = (file for file in document["files"] if file["path"] == changed)
            entry |= {"sha256": hashlib.sha256(data).hexdigest(), "size_bytes": len(data)}
        # The digest is of the text without its own line.
        document[_DIGEST] = ""
        text = json.dumps(document, indent=1, sort_keys=True) + "\n"
        line = f' "{_DIGEST}": "",\n'
        digest = hashlib.sha256(text.replace(line, "", 1).encode()).hexdigest()
        path.write_text(text.replace(line, line.replace('""', f'"{digest}"'), 1))
    except (ValueError, TypeError, AttributeError, RecursionError):
        return


def _take_over(folder: Path, random: Random) -> Failure | None:
    return run_function(lambda: Stages(folder, "key", ("quantize",), lambda event: None))
