"""GGUF files as checkpoints: weights, config and tokenizer from one file.

The format is read with the package that defines it: https://github.com/ggml-org/llama.cpp, gguf-py.
"""
