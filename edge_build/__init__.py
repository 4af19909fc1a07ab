"""Builds a device bundle from a checkpoint."""
