"""Memory of a run: what was seen, which part of the model it is, and what was predicted."""
