"""pico with codes chosen by GPTQ: proven as every bundle, and closer to the checkpoint."""

from dataclasses import replace
from pathlib import Path

import pytest

from pocketlm.edge_build.build import build
from pocketlm.edge_build.spec import BuildSpec
from pocketlm.evaluation.evaluation import evaluate
from pocketlm.evaluation.kept_passages import KeptPassages
from pocketlm.evaluation.passages import limited, text_passages
from pocketlm.evaluation.subject import artifact_subject, checkpoint_subject
from pocketlm.runtime_py import open_bundle
from pocketlm.runtime_py.verification import verify
from tests.conftest import PICO, made_once

TEXT = (PICO / "held_out.txt").read_text(encoding="utf-8")
MEASURED, CALIBRATED = TEXT[:2000], TEXT[-12_000:]
assert len(TEXT) > len(MEASURED) + len(CALIBRATED)


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same build as `pico_bundle`, but for the method."""
    text = tmp_path_factory.mktemp("gptq") / "text.txt"
    text.write_text(CALIBRATED, encoding="utf-8")
    spec = BuildSpec(
        PICO,
        Path("pico"),
        backends=("onnx",),
        recipe="int4-g32",
        chunk=32,
        context_length=512,
        golden_tokens=2,
        method="gptq",
        calibration_text=text,
    )
    return made_once(spec, lambda folder: build(replace(spec, out=folder / "pico"))) / "pico"


def test_it_is_verified(bundle: Path) -> None:
    result = verify(open_bundle(bundle), "onnx")
    assert result.passed, result


def test_it_is_closer_to_the_checkpoint_at_the_same_bytes(
    bundle: Path, pico_bundle: Path, tmp_path: Path
) -> None:
    against = checkpoint_subject(str(PICO))
    divergence, sizes = [], []
    for name, folder in (("gptq", bundle), ("nearest", pico_bundle)):
        subject = artifact_subject(str(folder), "onnx", 1)
        passages = limited(text_passages(MEASURED, subject.tokenizer, 512), 400)
        kept = KeptPassages(tmp_path / name)
        found = evaluate(subject, against, passages, kept, lambda *done: None)
        divergence.append(float(found.measures.kl_nats.mean()))
        sizes.append(subject.size_bytes)
    assert sizes[0] == sizes[1]
    # 0.70 when this was written.
    assert divergence[0] < 0.8 * divergence[1]
