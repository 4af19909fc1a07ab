"""Builds a device bundle from a checkpoint. Knows nothing of running one."""
