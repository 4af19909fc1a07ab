"""Benchmarks: questions about speed and memory, each with its command. Imports nothing."""
