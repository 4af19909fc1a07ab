"""Emulated devices that the tests of this package run on (README.md)."""
