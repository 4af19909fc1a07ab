"""Measures how fast a bundle runs here, with the tests and columns of llama-bench."""
