"""Writes other systems' files from a checkpoint; each module runs in that system's interpreter."""
