"""Trains the pico checkpoint; nothing imports this at run time."""
