"""Weights → 4 and 8 bits: what (recipes), how (methods), and the bytes (packing)."""
