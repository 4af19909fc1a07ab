#!/usr/bin/env bash
# Surprise: in a program that ExecuTorch runs, torch.remainder (and `%`) of a negative integer has the
# sign of the dividend, as in C. PyTorch gives it the sign of the divisor, eagerly and after export,
# and documents that (https://docs.pytorch.org/docs/stable/generated/torch.remainder.html). Floats
# are right in both.
#
# Seen with executorch 1.5.1 and torch 2.13.0 (pip wheels, Linux x86-64), portable kernels. Nothing
# warns: export, lowering and loading succeed.
# Why it matters here: slot = remainder(position, capacity) is how a ring-buffer cache finds its
# slots. remainder(newest - slot, capacity), the age of a slot, starts below zero before the ring
# has wrapped; there a program and its eager model hold different ages.
#
# Prints what stands in `expected` below, and fails when that changes. Needs Python 3.11 or newer,
# 2 GB of disk and the network.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
"${PYTHON:-python3}" -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet torch==2.13.0 executorch==1.5.1
cd "$folder"
cat >expected <<'TEXT'
torch     int64   [3, 4, 0, 1, 2]
exported  int64   [3, 4, 0, 1, 2]
runtime   int64   [-2, -1, 0, 1, 2]
torch     float32 [3.0, 4.0, 0.0, 1.0, 2.0]
exported  float32 [3.0, 4.0, 0.0, 1.0, 2.0]
runtime   float32 [3.0, 4.0, 0.0, 1.0, 2.0]
TEXT
venv/bin/python - 2>/dev/null >output <<'PYTHON'
import torch
from executorch.exir import to_edge
from executorch.runtime import Runtime
from torch.export import export


class Remainder(torch.nn.Module):
    def forward(self, x):
        return torch.remainder(x, 5)


for kind in (torch.int64, torch.float32):
    x = torch.tensor([-7, -1, 0, 1, 7], dtype=kind)
    exported = export(Remainder(), (x,))
    with open("remainder.pte", "wb") as file:
        file.write(to_edge(exported).to_executorch().buffer)
    method = Runtime.get().load_program("remainder.pte").load_method("forward")
    results = {
        "torch": Remainder()(x),
        "exported": exported.module()(x),
        "runtime": method.execute([x])[0],
    }
    for name, result in results.items():
        print(f"{name:9} {str(kind).removeprefix('torch.'):7} {result.tolist()}")
PYTHON
cat output
diff expected output
