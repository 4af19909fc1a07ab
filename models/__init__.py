"""Model definitions: from a published config to a Decoder. Knows nothing of building or running."""
