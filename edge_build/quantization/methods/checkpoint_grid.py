"""Codes and scales that the checkpoint has; what lies on no grid is rounded to nearest.

The codes do not come through here: apply.py takes them from the checkpoint (own_grid.py).
"""

from pocketlm.edge_build.quantization.methods import Method, round_to_nearest

METHOD = Method(round_to_nearest.prepare)
