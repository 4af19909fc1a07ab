"""One module a system: loads one artifact in a fresh process of that system's own interpreter."""
