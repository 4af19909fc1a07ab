"""AWQ: channels with large inputs are scaled up before weights are rounded to nearest.

Lin et al., "AWQ: Activation-aware Weight Quantization for LLM Compression and Acceleration",
arXiv 2306.00978. The scales are divided out of what makes the inputs, so nothing is left to do
when the model runs (folds.py says where, fold_search.py which).
"""

from pocketlm.edge_build.quantization.methods import Method, round_to_nearest

METHOD = Method(round_to_nearest.prepare, folds=True)
