"""Sends a bundle to a device, runs it there, and measures each part of its memory."""
