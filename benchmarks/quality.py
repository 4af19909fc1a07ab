"""Question: at equal bytes, how far is an artifact from its float model, beside llama.cpp's types?

Method: two models. Gemma 3 270M, whose published weights come as a Q4_K_M file (`make
test-assets`): "dequantized" is the file's own weights, which lie on the grids of Q4_K_M, and
"off-grid" the same moved off them by uniform noise of half a step of each block of 32, seed 0, so
that no format is favoured. "pico" is the embedded model, without llama.cpp.
Every system reads the same ids, a token at a time, through its own artifact; its logits are
compared with those of the float model. The importance matrix of llama.cpp's types and the
calibration of ours come from the same text. A checkpoint that `pocketlm qat` trained is measured
against the float model that was its teacher.
Unit: KL divergence in nats a token; share of tokens with the same likeliest next token; bytes of
the file that holds the weights.
Command: python -m benchmarks.quality [--trained off-grid=FOLDER]
`make bench-peers PEERS=llama.cpp` sets llama.cpp up.
The last line of stdout is the JSON document that is saved below benchmarks/results/.
"""

import argparse
import hashlib
import json
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from benchmarks.conversion.off_grid import write_off_grid
from benchmarks.conversion.package_texts import package_texts
from benchmarks.documents import RESULTS, save, today, versions
from benchmarks.systems.llama_cpp import PYTHON as LLAMA_PYTHON
from pocketlm.edge_build.calibration.running import measure as measure_inputs
from pocketlm.edge_build.calibration.text import text_sequences
from pocketlm.edge_build.text.checkpoint_files import CheckpointFiles
from pocketlm.edge_build.text_files import read_text_files
from pocketlm.evaluation.logit_rows import LogitRows
from pocketlm.evaluation.measures import measure
from pocketlm.evaluation.passages import Passage, limited, text_passages
from pocketlm.evaluation.subject import artifact_subject, checkpoint_subject
from pocketlm.models.checkpoint import open_checkpoint
from tests.assets import GEMMA3_270M

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
# Text that is measured, and other text that is calibrated on.
MEASURED = "devices.md"
PICO = ROOT / "models" / "pico"
CALIBRATED = ("kv-cache.md", "building.md", "in-an-app.md", "architecture.md", "numerics.md")
_CONTEXT = 2048
_VIEWS = {"attn_q": "attention.q_proj", "attn_k": "attention.k_proj", "attn_v": "attention.v_proj"}
_VIEWS |= {"attn_output": "attention.o_proj", "ffn_gate": "mlp.gate_proj", "ffn_up": "mlp.up_proj"}
_VIEWS |= {"ffn_down": "mlp.down_proj"}
LLAMA_TYPES = {"q4_0": False, "iq4_xs": True, "q4_k_m": True, "q8_0": False}

Figures = dict[str, Any]


@dataclass(frozen=True)
class Recipe:
    """One build of ours.

    Attributes:
        method: None is the recipe's own.
        with_text: calibrated on the text; otherwise on what the method does without one.
        calibration_tokens: of the text; None is what a build reads.
        checkpoint: what is built; None is the float model.
    """

    name: str
    recipe: str
    method: str | None = None
    with_text: bool = False
    calibration_tokens: int | None = None
    checkpoint: Path | None = None


RECIPES = (
    Recipe("int4-g32", "int4-g32"),
    Recipe("int8-head4", "int8-head4"),
    Recipe("int4-g32 gptq", "int4-g32", "gptq", with_text=True),
    Recipe("int4-g32-head8 gptq", "int4-g32-head8", "gptq", with_text=True),
    Recipe("int8-head4 gptq", "int8-head4", "gptq", with_text=True),
    Recipe("int8-head4 awq+gptq", "int8-head4", "awq+gptq", with_text=True),
)
PICO_RECIPES = tuple(
    recipe
    for grid in ("int4-g32", "int4-channel")
    for recipe in (
        Recipe(grid, grid, "round_to_nearest"),
        Recipe(f"{grid} gptq no text", grid, "gptq"),
        # A model of pico's size takes seconds for four times the tokens.
        Recipe(f"{grid} gptq 65536", grid, "gptq", with_text=True, calibration_tokens=65_536),
    )
)


@dataclass(frozen=True)
class Run:
    """What every system of one float model shares."""

    checkpoint: Path
    work: Path
    passages: Sequence[Passage]
    calibration: Path
    threads: int
    context: int
    recipes: Sequence[Recipe]
    llama_types: Sequence[str]

    @property
    def ids_sha256(self) -> str:
        """The digest of what is measured."""
        ids = [passage.ids for passage in self.passages]
        return hashlib.sha256(json.dumps(ids).encode()).hexdigest()

    @property
    def vocab_size(self) -> int:
        return open_checkpoint(self.checkpoint).config.vocab_size

    @property
    def reference(self) -> NDArray[np.float32]:
        """Logits of the float model before each measured token, [tokens, V]."""
        path = self.work / "reference.f32"
        count = sum(len(passage.places) for passage in self.passages)
        shape = (count, self.vocab_size)
        if not path.exists() or path.stat().st_size != 4 * count * self.vocab_size:
            with ExitStack() as stack, path.open("wb") as file:
                subject = checkpoint_subject(str(self.checkpoint), self.threads)
                rows = stack.enter_context(subject.load(lambda done, of: None))
                for block in _all_rows(rows, self.passages):
                    file.write(block.numpy().tobytes())
        return np.memmap(path, np.float32, "r", shape=shape)


def _all_rows(rows: LogitRows, passages: Sequence[Passage]) -> Iterator[torch.Tensor]:
    for passage in passages:
        yield from rows.rows(passage)


def compare(run: Run, rows: Iterator[torch.Tensor], size_bytes: int) -> Figures:
    """Return the figures of one system's rows."""
    reference = run.reference
    targets = torch.tensor([token for passage in run.passages for token in passage.targets])
    parts, done = [], 0
    for block in rows:
        stop = done + len(block)
        expected = torch.from_numpy(np.array(reference[done:stop]))
        parts.append(measure(block, targets[done:stop], expected).columns)
        done = stop
    assert done == len(reference), f"{done} rows of {len(reference)}"
    _, kl, top1, _ = np.concatenate(parts, axis=1)
    quantiles = (float(np.quantile(kl, share)) for share in (0.5, 0.99))
    median, most = (float(f"{value:.4g}") for value in quantiles)
    return {
        "size_bytes": size_bytes,
        "kl_nats": {"mean": float(f"{kl.mean():.4g}"), "median": median, "p99": most},
        "kl_standard_error_nats": float(f"{kl.std() / len(kl) ** 0.5:.2g}"),
        "top1_agreement": round(float(top1.mean()), 4),
    }


def _kept(run: Run, name: str, artifact: Path, measure: Callable[[], Figures]) -> Figures:
    """Return the figures of an artifact, measured unless an earlier run measured the same bytes."""
    digest = hashlib.sha256(run.ids_sha256.encode())
    for path in sorted(artifact.glob("*")) if artifact.is_dir() else [artifact]:
        with path.open("rb") as file:
            digest.update(hashlib.file_digest(file, "sha256").digest())
    path = run.work / f"{name}.figures.json"
    if path.exists():
        found: dict[str, Any] = json.loads(path.read_text())
        if found["digest"] == digest.hexdigest():
            kept: Figures = found["figures"]
            return kept
    figures = measure()
    path.write_text(json.dumps({"digest": digest.hexdigest(), "figures": figures}))
    return figures


def llama(run: Run, kind: str) -> Figures:
    """Quantize with llama.cpp's own quantizer and measure."""
    plain, out = run.work / "bf16.gguf", run.work / f"{kind}.gguf"
    if not plain.exists():
        _peer("benchmarks.conversion.gguf_file", run.checkpoint, plain)
    if not out.exists():
        weighted = ("--importance", _importance(run)) if LLAMA_TYPES[kind] else ()
        _peer("benchmarks.conversion.quantized_gguf", plain, out, "--type", kind, *weighted)
    return _kept(run, kind, out, lambda: _measured_llama(run, out))


def _measured_llama(run: Run, file: Path) -> Figures:
    ids, rows = run.work / "passages.json", run.work / "rows.f32"
    ids.write_text(json.dumps([passage.ids for passage in run.passages]))
    size = run.vocab_size
    _peer("benchmarks.workers.llama_passages", file, ids, rows, "--vocab-size", size)
    stored = np.memmap(rows, np.float32, "r").reshape(-1, size)
    blocks = (torch.from_numpy(np.array(stored[n : n + 128])) for n in range(0, len(stored), 128))
    found = compare(run, blocks, file.stat().st_size)
    rows.unlink()
    return found


def _peer(module: str, *arguments: object) -> None:
    command = [str(LLAMA_PYTHON), "-m", module, *map(str, arguments)]
    subprocess.run(command, cwd=ROOT, check=True, stdout=subprocess.DEVNULL)


def _importance(run: Run) -> Path:
    """Write the mean square of each channel of every layer's inputs, of the float model."""
    path, folder = run.work / "importance.npz", run.work / "squares"
    if path.exists():
        return path
    folder.mkdir(exist_ok=True)
    checkpoint = open_checkpoint(run.checkpoint)
    text = read_text_files(CheckpointFiles.of(checkpoint), checkpoint.config)
    sequences = text_sequences(run.calibration, text, run.context)
    store = measure_inputs(checkpoint, sequences, ("squares",), folder)
    found = {}
    for layer in range(checkpoint.config.num_layers):
        for theirs, ours in _VIEWS.items():
            squares = store.inputs(f"layers.{layer}.{ours}").squares
            assert squares is not None, "measured just now"
            found[f"blk.{layer}.{theirs}.weight"] = squares / sum(map(len, sequences))
    np.savez(path, **found)
    return path


def ours(run: Run, recipe: Recipe) -> dict[str, Figures]:
    """Build a bundle, if it is not there, and measure both artifacts."""
    out = run.work / recipe.name.replace(" ", "-")
    if not out.exists():
        options: tuple[str, ...] = ("--recipe", recipe.recipe)
        if recipe.method is not None:
            options += ("--method", recipe.method)
        if recipe.with_text:
            options += ("--calibrate", str(run.calibration))
        if recipe.calibration_tokens is not None:
            options += ("--calibration-tokens", str(recipe.calibration_tokens))
        command = (
            sys.executable,
            "-m",
            "pocketlm",
            "build",
            str(recipe.checkpoint or run.checkpoint),
            "--out",
            str(out),
        )
        size = ("--context", str(run.context), "--golden-tokens", "4")
        subprocess.run([*command, *options, *size], cwd=ROOT, check=True)
    found = {}
    for backend in ("onnx", "executorch"):
        name = f"{out.name}-{backend}"
        measured = partial(_measured_ours, run, out, backend)
        found[backend] = _kept(run, name, (out / backend), measured)
    return found


def _measured_ours(run: Run, bundle: Path, backend: str) -> Figures:
    subject = artifact_subject(str(bundle), backend, run.threads)
    with subject.load(lambda done, of: None) as rows:
        figures = compare(run, _all_rows(rows, run.passages), subject.size_bytes)
    return {**figures, "bits_per_weight": subject.bits_per_weight}


def measure_reference(run: Run, systems: Sequence[str]) -> dict[str, Figures]:
    """Measure every system against one float model."""
    found: dict[str, Figures] = {}
    for kind in run.llama_types:
        if not systems or kind in systems:
            found[f"llama.cpp {kind}"] = llama(run, kind)
            _say(f"llama.cpp {kind}", found[f"llama.cpp {kind}"])
    for recipe in run.recipes:
        if not systems or recipe.name in systems:
            for backend, figures in ours(run, recipe).items():
                found[f"{recipe.name} {backend}"] = figures
                _say(f"{recipe.name} {backend}", figures)
    return found


def _say(name: str, figures: Figures) -> None:
    kl = figures["kl_nats"]
    print(
        f"{name:32} {figures['size_bytes'] / 1e6:6.1f} MB  KL {kl['mean']:.4f} "
        f"± {figures['kl_standard_error_nats']:.4f}  median {kl['median']:.4f}  "
        f"top-1 {figures['top1_agreement']:.1%}",
        file=sys.stderr,
        flush=True,
    )


def _run(name: str, given: argparse.Namespace) -> Run:
    """Return what is measured against one float model, and make what is missing of it."""
    work: Path = given.work / name
    work.mkdir(parents=True, exist_ok=True)
    calibration = work / "calibration.txt"
    recipes, llama_types, context = RECIPES, tuple(LLAMA_TYPES), _CONTEXT
    if name == "pico":
        checkpoint, recipes, llama_types = PICO, PICO_RECIPES, ()
        measured, tokens, context = PICO / "held_out.txt", given.pico_tokens, 1024
        calibration.write_text(package_texts(given.pico_bytes, with_sources=True), "utf-8")
    else:
        measured, tokens = DOCS / MEASURED, given.tokens
        pages = [(DOCS / page).read_text(encoding="utf-8") for page in CALIBRATED]
        calibration.write_text("\n".join(pages), encoding="utf-8")
        checkpoint = GEMMA3_270M.path
        if name == "off-grid":
            checkpoint = write_off_grid(checkpoint, given.work / "off-grid-checkpoint")
    trained = [
        Recipe(f"{Path(folder).name} trained", "checkpoint-grid", checkpoint=Path(folder))
        for reference, _, folder in (pair.partition("=") for pair in given.trained)
        if reference == name
    ]
    tokenizer = checkpoint_subject(str(checkpoint)).tokenizer
    passages = text_passages(measured.read_text(encoding="utf-8"), tokenizer, context)
    return Run(
        checkpoint,
        work,
        limited(passages, tokens),
        calibration,
        given.threads,
        context,
        (*recipes, *trained),
        llama_types,
    )


def main() -> None:
    """Measure, save and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--references", default="dequantized,off-grid,pico")
    parser.add_argument("--systems", default="", help="comma-separated; default: all")
    parser.add_argument("--trained", action="append", default=[], metavar="REFERENCE=FOLDER")
    parser.add_argument("--tokens", type=int, default=2304)
    parser.add_argument("--pico-tokens", type=int, default=4096)
    parser.add_argument("--pico-bytes", type=int, default=1_200_000, help="of calibration text")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--work", type=Path, default=ROOT / "build" / "quality")
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    given.work.mkdir(parents=True, exist_ok=True)
    document: dict[str, Any] = {
        "date": today(),
        "versions": versions("pocketlm", "torch", "executorch", "onnxruntime"),
        "references": {},
    }
    for name in given.references.split(","):
        run = _run(name, given)
        tokens = sum(len(passage.places) for passage in run.passages)
        print(f"{name}: {tokens} tokens", file=sys.stderr, flush=True)
        document["references"][name] = {
            "tokens": tokens,
            "ids_sha256": run.ids_sha256,
            "calibration_sha256": hashlib.sha256(run.calibration.read_bytes()).hexdigest(),
            "systems": measure_reference(run, [*filter(None, given.systems.split(","))]),
        }
    save(document, RESULTS / f"{document['date']}-quality.json")
    print(json.dumps(document))


if __name__ == "__main__":
    main()
