"""Tokenizer files that each backend's stock runner reads as our host reads the published ones.

published files → repairs that the backend names, proven to change no id → files in its folder.
"""
