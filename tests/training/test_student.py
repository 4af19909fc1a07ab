"""The student computes what ships: its losses are those of the eager reference, which artifacts
are compared with."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from pocketlm.edge_build import backends
from pocketlm.edge_build.progress import silent
from pocketlm.edge_build.quantization.apply import quantize_weights
from pocketlm.edge_build.reference import ReferenceModel
from pocketlm.models.checkpoint import load_decoder
from pocketlm.training.preparation import prepare_training
from pocketlm.training.processes import Processes
from pocketlm.training.spec import QatSpec
from pocketlm.training.trainer import Start, _Trainer

MakeSpec = Callable[..., QatSpec]


@pytest.mark.parametrize("family", ["gemma3_text", "gemma2", "qwen3"])
@pytest.mark.parametrize("backend", backends.names())
def test_its_loss_is_that_of_the_eager_reference(
    make_spec: MakeSpec, tmp_path: Path, family: str, backend: str
) -> None:
    prepared = prepare_training(make_spec(family, backends=(backend,)))
    start = prepared.start
    store = quantize_weights(start.checkpoint, start.rules, tmp_path, silent).weights
    trainer = _Trainer(
        prepared, Start(start.checkpoint, store, None), Processes(0, 1, torch.device("cpu"))
    )
    (way,) = trainer.ways.values()
    tokens = prepared.text.train[:3]
    found = trainer.model(tokens, way, None, 0).detach()

    plan = start.caches_of(start.backends[0])
    attention = start.backends[0].attention(start.checkpoint.config, plan)
    activations = start.backends[0].activations
    reference = ReferenceModel(start.checkpoint.config, store, activations, attention)
    teacher = load_decoder(start.checkpoint)
    parts = []
    for row in tokens.tolist():
        reference.reset()
        logits = torch.log_softmax(reference.run(row), -1)
        expected = torch.log_softmax(teacher(torch.tensor([row]))[0], -1)
        parts.append((expected.exp() * (expected - logits)).sum(-1).mean())
    # Sums of products in another order; an activation on the edge of two codes may turn.
    torch.testing.assert_close(found, torch.stack(parts).mean(), rtol=2e-3, atol=1e-6)


def test_int8_caches_are_rounded(make_spec: MakeSpec, tmp_path: Path) -> None:
    whole, rounded = (
        prepare_training(make_spec(backends=("executorch",), kv=kv)) for kv in ("float32", "int8")
    )
    store = quantize_weights(whole.start.checkpoint, whole.start.rules, tmp_path, silent).weights
    trainers = [
        _Trainer(
            one, Start(one.start.checkpoint, store, None), Processes(0, 1, torch.device("cpu"))
        )
        for one in (whole, rounded)
    ]
    losses = [
        float(t.model(whole.text.train[:3], t.ways["executorch"], None, 0).detach())
        for t in trainers
    ]
    assert losses[0] != losses[1]
    # Eight bits of keys and values move little.
    assert losses[1] == pytest.approx(losses[0], rel=0.2)


def test_every_parameter_is_trained(make_spec: MakeSpec, tmp_path: Path) -> None:
    spec = make_spec("qwen3")
    prepared = prepare_training(replace(spec, sequence_length=16))
    start = prepared.start
    store = quantize_weights(start.checkpoint, start.rules, tmp_path, silent).weights
    trainer = _Trainer(
        prepared, Start(start.checkpoint, store, None), Processes(0, 1, torch.device("cpu"))
    )
    way = next(iter(trainer.ways.values()))
    trainer.model(prepared.text.train[:4], way, None, 0).backward()
    still = [n for n, p in trainer.model.student.named_parameters() if not bool(p.grad.any())]
    assert still == []
    assert all(p.grad is None for p in trainer.model.teacher.parameters())
    trained = {id(p) for group in trainer.optimizer.param_groups for p in group["params"]}
    assert trained == {id(p) for p in trainer.model.student.parameters()}
