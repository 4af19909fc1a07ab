"""AWQ's scales of input channels first, then GPTQ on the weights that have them."""

from dataclasses import replace

from pocketlm.edge_build.quantization.methods import gptq

METHOD = replace(gptq.METHOD, folds=True)
