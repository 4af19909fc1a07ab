"""Two processes that torchrun starts follow the losses of one."""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from pocketlm.edge_build.errors import BuildError
from pocketlm.training.processes import Processes
from pocketlm.training.spec import QatSpec
from pocketlm.training.training import refuse_uneven, run_training
from tests.conftest import ROOT

MakeSpec = Callable[..., QatSpec]

# What `torchrun --standalone --nproc-per-node 2 -m pocketlm ...` does, but that both processes are
# forked from its own, which has imported all: torch is loaded once and not three times.
TORCHRUN = """
import sys
from torch.distributed.launcher.api import LaunchConfig, elastic_launch
import pocketlm.training.training, torch.distributed.fsdp
from pocketlm.cli import main

def command(arguments):
    main(arguments, standalone_mode=False)

standalone = {"run_id": "test", "rdzv_backend": "c10d", "rdzv_endpoint": "localhost:0"}
config = LaunchConfig(1, 1, nproc_per_node=2, start_method="fork", max_restarts=0, **standalone)
elastic_launch(config, command)(sys.argv[1:])
"""


def test_two_processes_follow_the_losses_of_one(make_spec: MakeSpec, tmp_path: Path) -> None:
    # The steps of Adam are as large as the learning rate whatever the gradient is, so that small
    # ones keep the last bits of sums apart.
    spec = make_spec(steps=4, learning_rate=0.01)
    alone = run_training(spec)
    assert alone is not None
    out = tmp_path / "together"
    options = {"--out": out, "--text": spec.text, "--method": spec.method, "--device": "cpu"}
    numbers = {"--steps": 4, "--batch": 4, "--sequence-length": 16, "--learning-rate": 0.01}
    arguments = [str(part) for pair in {**options, **numbers}.items() for part in pair]
    subprocess.run(
        [sys.executable, "-c", TORCHRUN, "qat", str(spec.checkpoint), *arguments],
        cwd=ROOT,
        check=True,
        capture_output=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    record = json.loads((out / "training.json").read_text(encoding="utf-8"))
    # Sums over the batch in another order, in float32.
    assert record["losses"] == pytest.approx(list(alone.losses), rel=1e-4)
    for way, points in alone.held_out_kl_nats.items():
        found = [kl for _, kl in record["held_out_kl_nats"][way]]
        assert found == pytest.approx([kl for _, kl in points], rel=1e-3)


def test_a_batch_that_processes_cannot_share(make_spec: MakeSpec) -> None:
    three = Processes(0, 3, "cpu")  # type: ignore[arg-type]
    with pytest.raises(BuildError, match="--batch 4: 3 processes cannot share it evenly"):
        refuse_uneven(make_spec(batch=4), three)
