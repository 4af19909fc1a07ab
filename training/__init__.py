"""Quantization-aware training: a student on the grid that ships learns from its float teacher."""
