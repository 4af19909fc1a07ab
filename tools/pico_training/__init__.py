"""Trains the pico checkpoint, which pocketlm ships with."""

from pathlib import Path

FOLDER = Path(__file__).parents[2] / "models" / "pico"
