"""The commands that run a bundle, one per file. Heavy libraries are imported inside them."""
