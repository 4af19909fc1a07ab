"""The float model on a text → what methods and caches need to know of its activations."""
