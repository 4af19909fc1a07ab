"""Question: how far are artifacts from the eager model, and how large is what they round away?

Method: pico's held-out text, 384 tokens (past three ring wraps at chunk 32). For each backend, the
logits of every position from the artifact, token by token, against the eager model with the same
codes and the same rounding of activations; and that eager model against itself without the
rounding of activations, and against the unquantized model. docs/numerics.md reads the figures.
Unit: difference of a logit over the standard deviation of its row; the row's largest, then median,
90th percentile and maximum over the positions.
Command: python -m benchmarks.artifact_error BUNDLE
The last line of stdout is the JSON document that is saved below benchmarks/results/.
"""

import argparse
import json
import tempfile
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from benchmarks.documents import RESULTS, save, today, versions
from pocketlm.edge_build.progress import silent
from pocketlm.edge_build.quantization import recipes
from pocketlm.edge_build.quantization.apply import quantize_weights
from pocketlm.edge_build.quantization.rules import choose_rules
from pocketlm.edge_build.quantization.weight import WeightStore
from pocketlm.edge_build.reference import ReferenceModel
from pocketlm.models.checkpoint import Checkpoint, open_checkpoint
from pocketlm.runtime_py import open_bundle, open_session
from pocketlm.runtime_py.tokenizer import read_tokenizer

ROOT = Path(__file__).parents[1]
TOKENS = 384

Rows = NDArray[np.float32]


def spread(rows: Rows, reference: Rows) -> dict[str, float]:
    """Return the largest difference of each row in units of the reference row's std."""
    errors = np.abs(rows - reference).max(-1) / reference.std(-1)
    return {
        "median": float(f"{np.median(errors):.3g}"),
        "p90": float(f"{np.percentile(errors, 90):.3g}"),
        "max": float(f"{errors.max():.3g}"),
    }


def eager(checkpoint: Checkpoint, weights: WeightStore, kind: str, tokens: list[int]) -> Rows:
    """Return the eager model's logits, [T, V]."""
    model = ReferenceModel(checkpoint.config, weights, kind)  # type: ignore[arg-type]
    return model.run(tokens).numpy()


def store(checkpoint: Checkpoint, recipe: str, folder: str) -> WeightStore:
    rules = choose_rules(checkpoint.shapes, recipes.load(recipe))
    return quantize_weights(checkpoint, rules, Path(folder), silent).weights


def measure(folder: Path) -> dict[str, object]:
    """Compare every backend of a pico bundle."""
    bundle = open_bundle(folder)
    recipe = bundle.manifest.recipe
    text = (ROOT / "models" / "pico" / "held_out.txt").read_text(encoding="utf-8")
    tokens = read_tokenizer(bundle).encode_prompt(text)[:TOKENS]
    checkpoint = open_checkpoint(ROOT / "models" / "pico")
    backends: dict[str, object] = {}
    with tempfile.TemporaryDirectory() as plain, tempfile.TemporaryDirectory() as codes:
        exact = eager(checkpoint, store(checkpoint, "none", plain), "none", tokens)
        weights = store(checkpoint, recipe, codes)
        unrounded = eager(checkpoint, weights, "none", tokens)
        for name, entry in bundle.manifest.backends.items():
            reference = eager(checkpoint, weights, entry.activation_quantization, tokens)
            with open_session(bundle, backend=name) as session:
                artifact = np.stack([session.decode(token) for token in tokens])
            backends[name] = {
                "artifact_against_eager_std": spread(artifact, reference),
                "activation_rounding_std": spread(reference, unrounded),
                "quantization_std": spread(reference, exact),
                "same_greedy_id": float(
                    f"{(artifact.argmax(-1) == reference.argmax(-1)).mean():.4f}"
                ),
                "same_greedy_id_as_unquantized": float(
                    f"{(artifact.argmax(-1) == exact.argmax(-1)).mean():.4f}"
                ),
            }
    return {"recipe": recipe, "tokens": len(tokens), "backends": backends}


def main() -> None:
    """Measure, save and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("bundle", type=Path)
    torch.set_grad_enabled(False)
    document = measure(parser.parse_args().bundle)
    document["date"] = today()
    document["versions"] = versions("pocketlm", "torch", "executorch", "onnxruntime")
    name = f"{document['date']}-artifact-error-pico-{document['recipe']}.json"
    save(document, RESULTS / name)
    print(json.dumps(document))


if __name__ == "__main__":
    main()
