"""Lowers a layer of each kind and repeats it: what needs private APIs of ExecuTorch and torch."""
